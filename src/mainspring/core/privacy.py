"""What a user declares of personal data: which columns are dropped, masked, made coarser or pseudonymised on the way
in, who a row is about, why it is kept and for how long. Applying it is `store/protection.py`'s work."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mainspring.core.errors import DeclarationError
from mainspring.core.quantities import seconds

Rule = tuple[Any, ...]
"""What is done to a column's values, and its parameters, as JSON has it: ("bands", 10), ("pseudonym", "env:KEY")."""

_REFERENCE = re.compile(r"(env|file):.+")
_MASK = re.compile(r"all|email|(first|last):[1-9]\d?")
_PREFIX = re.compile(r"prefix:([1-9]\d?)")


@dataclass(frozen=True, slots=True)
class Privacy:
    """What happens to personal data before anything is written.

    drop: columns that are left out. mask: columns whose values become ***, or {column: rule}: "all", "email" (keeps the
    domain), "first:N", "last:N". generalize: {column: rule}: a number is the width of a band, a list its edges,
    "prefix:3" keeps so many characters, "month" and "year" the beginning of those. pseudonymize: columns whose values
    become keyed digests (HMAC-SHA256). key: where the key is, "env:NAME" or "file:PATH"; without, this installation's
    own. keys: several of them to rotate: the first makes pseudonyms, by the others old ones are still found.

    subject: the column that names whom a row is about, for `mainspring erase`. purpose: why the data is kept, for
    people. retention: how long rows and records are kept, such as "2y", by the loop's time column. detect: what is done
    about other columns that look personal: "warn", "block" the ingest, or "off".
    """

    drop: Sequence[str] = ()
    mask: Sequence[str] | Mapping[str, str] = ()
    generalize: Mapping[str, Any] = field(default_factory=dict)
    pseudonymize: Sequence[str] = ()
    key: str | None = None
    keys: Sequence[str] = ()
    subject: str | None = None
    purpose: str = ""
    retention: str | float | None = None
    detect: Literal["warn", "block", "off"] = "warn"

    def __post_init__(self) -> None:
        for name in ("drop", "mask", "pseudonymize", "keys"):
            if isinstance(value := getattr(self, name), str):
                raise DeclarationError(f"Privacy({name}={value!r}) must be a list: {name}=[{value!r}]")
        if not isinstance(self.generalize, Mapping):
            raise DeclarationError(f"Privacy(generalize={self.generalize!r}) must say how: generalize={{'age': 10}}")
        if self.detect not in ("warn", "block", "off"):
            raise DeclarationError(f"Privacy(detect={self.detect!r}) is unknown; choose 'warn', 'block' or 'off'")
        if self.retention is not None and seconds(self.retention) <= 0:
            raise DeclarationError(f"Privacy(retention={self.retention!r}) must be longer than 0, such as '2y'")
        self._check_keys()
        named: dict[str, str] = {}
        for name, rule in self._all():
            if named.setdefault(name, rule[0]) != rule[0]:
                raise DeclarationError(f"Privacy names column {name!r} twice; one rule is enough")
        if self.subject is not None and named.get(self.subject, "pseudonym") != "pseudonym":
            raise DeclarationError(
                f"Privacy(subject={self.subject!r}) couldn't be found again by `mainspring erase` if that column is "
                "dropped, masked or generalized; pseudonymize it"
            )

    @property
    def rules(self) -> dict[str, Rule]:
        """Column -> what is done to its values."""
        return dict(self._all())

    @property
    def personal(self) -> frozenset[str]:
        """The columns that still tell of whom a row is, of which no value is shown."""
        masked = {name for name, rule in self._all() if rule[0] in ("mask", "pseudonym")}
        return frozenset(masked if self.subject is None else {*masked, self.subject})

    def _all(self) -> Iterator[tuple[str, Rule]]:
        for name in self.drop:
            yield name, ("drop",)
        masks = self.mask if isinstance(self.mask, Mapping) else dict.fromkeys(self.mask, "all")
        for name, how in masks.items():
            if not isinstance(how, str) or not _MASK.fullmatch(how):
                raise DeclarationError(
                    f"Privacy(mask={{{name!r}: {how!r}}}) is unknown; choose 'all', 'email', 'first:N' or 'last:N'"
                )
            yield name, ("mask", how)
        for name, how in self.generalize.items():
            yield name, _coarser(name, how)
        for name in self.pseudonymize:
            yield name, ("pseudonym", *self._references)

    @property
    def _references(self) -> tuple[str, ...]:
        return tuple(self.keys) if self.key is None else (self.key,)

    def _check_keys(self) -> None:
        if self.key is not None and self.keys:
            raise DeclarationError("Privacy(key=..., keys=[...]): give one of them; keys= is for several")
        for reference in self._references:
            if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
                raise DeclarationError("a key of Privacy must be a reference, env:NAME or file:PATH, never a key")
        if self._references and not self.pseudonymize:
            raise DeclarationError("Privacy(key=...) does nothing without pseudonymize=[columns]; name some")


def _coarser(name: str, how: Any) -> Rule:
    """The rule of generalize= for one column."""
    if isinstance(how, str) and how in ("month", "year"):
        return (how,)
    if isinstance(how, str) and (found := _PREFIX.fullmatch(how)):
        return ("prefix", int(found[1]))
    if _number(how) and how > 0:
        return ("bands", how)
    edges = list(how) if isinstance(how, list | tuple) else []
    if edges and all(_number(edge) for edge in edges) and edges == sorted(set(edges)):
        return ("edges", *edges)
    raise DeclarationError(
        f"Privacy(generalize={{{name!r}: {how!r}}}) is unknown; give a width such as 10, growing edges such as "
        "[0, 18, 65], 'prefix:3', 'month' or 'year'"
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_privacy(privacy: Privacy, roles: Any, source: Any) -> None:
    """Refuse what would take from a loop what it needs of its *roles*, or keep in a cursor what *privacy* hides."""
    allowed = {
        "key": ("pseudonym", "prefix"),
        "group": ("pseudonym", "prefix", "bands", "edges"),
        "time": ("month", "year"),
    }
    for role in ("target", "key", "time", "group", "weight"):
        rule = privacy.rules.get(getattr(roles, role) or "")
        if rule is not None and rule[0] not in allowed.get(role, ()):
            raise DeclarationError(
                f"Privacy would {_DOES[rule[0]]} {role}={getattr(roles, role)!r}, which the loop needs as it is; take "
                f"it out{', or pseudonymize it' if role in ('key', 'group') else ''}"
            )
    if privacy.retention is not None and roles.time is None:
        raise DeclarationError(
            f"Privacy(retention={privacy.retention!r}) needs to know how old a row is; write time='COLUMN' in the Loop"
        )
    for cursor in _cursors(source):
        if cursor in privacy.rules:
            raise DeclarationError(
                f"column {cursor!r} is the cursor of the source, whose last value is kept; Privacy can't hide it: "
                "choose another cursor, or read the source without one"
            )


def _cursors(source: Any) -> Iterator[str]:
    for side in ("left", "right"):
        if hasattr(source, side):
            yield from _cursors(getattr(source, side))
    if name := getattr(source, "cursor", None):
        yield name
    if isinstance(since := getattr(source, "since", None), tuple):
        yield since[1]


_DOES = {"drop": "drop", "mask": "mask", "pseudonym": "pseudonymize"} | dict.fromkeys(
    ("bands", "edges", "prefix", "month", "year"), "generalize"
)
