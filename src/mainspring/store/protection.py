"""What a loop's Privacy does to values, in one way for tables, for requests and for the keys that feedback names.

Doing it twice is doing it once: a pseudonym's pseudonym is itself, and so with bands, prefixes and masks. So rows that
come back, from records or from quarantine, may pass here again.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import polars as pl

from mainspring.core.errors import SettingsError, StoreError
from mainspring.core.instants import instant
from mainspring.core.privacy import Rule
from mainspring.core.schema import Schema
from mainspring.store import durable
from mainspring.store.places import configuration
from mainspring.store.secrets import secret

SECRET = "privacy.key"
"""The key of pseudonyms where none is declared: in the user's configuration folder, beside the signing key."""
PSEUDONYM = re.compile(r"ps-([0-9a-f]{6})-[0-9a-f]{32}")
"""A pseudonym: the name of its key, and the first half of the HMAC."""
_LEAST_KEY = 16
_STARS = "***"


class Protection:
    """The rules of a loop's columns. erased: digests of the values of column *subject* whose rows are left out.

    >>> protection = Protection({"age": ("bands", 10), "name": ("drop",)})
    >>> protection.rows([{"age": 37, "name": "Ada", "fare": 7.25}])
    [{'age': 30, 'fare': 7.25}]
    """

    def __init__(
        self, rules: Mapping[str, Rule], subject: str | None = None, erased: Collection[str] = frozenset()
    ) -> None:
        self.rules, self._subject, self._erased = dict(rules), subject, erased
        self._made = {name: _function(rule) for name, rule in self.rules.items() if rule[0] != "drop"}
        self._dropped = frozenset(self.rules) - frozenset(self._made)

    def __bool__(self) -> bool:
        return bool(self.rules)

    def frame(self, rows: pl.DataFrame, names: Mapping[str, str] | None = None) -> pl.DataFrame:
        """*rows* as they may be kept; a value that its rule can't read is missing.

        names: what columns are called in the rules, where *rows* calls them otherwise.
        """
        if not self.rules and not self._erased:
            return rows
        called = {name: name for name in rows.columns} if names is None else names
        about = [name for name, rule in called.items() if rule == self._subject and name in rows.columns]
        if about and self._erased:  # as it came too: under a new key the pseudonym is another
            rows = self._without_erased(rows, about[0])
        made = [
            _mapped(rows[name], self._made[rule], _dtype(self.rules[rule]))
            for name, rule in called.items() if rule in self._made
        ]  # fmt: skip
        kept = rows.with_columns(made).drop(name for name, rule in called.items() if rule in self._dropped)
        return self._without_erased(kept, about[0]) if about and self._erased else kept

    def _without_erased(self, rows: pl.DataFrame, name: str) -> pl.DataFrame:
        known = rows[name].drop_nulls().unique()
        gone = [value for value in known.to_list() if erased_digest(canonical(value)) in self._erased]
        theirs = rows[name].is_in(pl.Series(gone, dtype=known.dtype).implode()).fill_null(False)
        return rows.filter(~theirs) if gone else rows

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """A request's rows as they may be kept; a value that its rule can't read stays, for the contract refuses it."""
        return [self._row(row) for row in rows] if self.rules else rows

    def value(self, name: str | None, value: Any) -> Any:
        """One *value* of column *name*, as JSON has it."""
        function = self._made.get(name or "")
        if function is None or value is None or isinstance(value, dict | list):
            return value
        try:
            made = function(value)
        except (ValueError, TypeError, OverflowError):
            return value
        return made.isoformat() if isinstance(made, date) else made

    def forms(self, name: str | None, value: Any) -> list[Any]:
        """All that *value* of column *name* may be kept as: of a pseudonym, by each of the keys, the newest first."""
        rule = self.rules.get(name or "", ())
        if not rule or rule[0] != "pseudonym" or value is None or isinstance(value, dict | list):
            return [self.value(name, value)]
        return [pseudonym(value, key) for key in _keys(rule[1:])]

    def ready(self) -> None:
        """Return when all keys can be read; else a request would be the first to be told."""
        for rule in self.rules.values():
            if rule[0] == "pseudonym":
                _keys(rule[1:])

    def _row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.value(name, value) for name, value in row.items() if name not in self._dropped}


NONE = Protection({})
"""Nothing is done."""


def protection_of(inputs: Schema) -> Protection:
    """The rules that the columns of a model's requests have."""
    return Protection({column.name: column.private for column in inputs if column.private})


def pseudonym(value: Any, key: bytes) -> str:
    """The pseudonym of *value*; of one it is itself.

    >>> pseudonym(7, b"k" * 32) == pseudonym("7", b"k" * 32) == pseudonym(7.0, b"k" * 32)
    True
    """
    text = canonical(value)
    if PSEUDONYM.fullmatch(text):
        return text
    return f"ps-{_name(key)}-{hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:32]}"


def canonical(value: Any) -> str:
    """*value* as a text that is the same whether it came from a table or in a request."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, datetime):
        return (value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)).isoformat()
    return value.isoformat() if isinstance(value, date) else str(value).strip()


def own_key() -> bytes:
    """This installation's key, made on first use, readable by its owner only."""
    path = configuration() / SECRET
    if not path.exists():
        _make(path)
    return _checked(path.read_text(encoding="utf-8").strip(), str(path))


def erased_digest(form: str) -> str:
    """What is kept of an erased subject: a digest by this installation's key, without which it can't be guessed."""
    return hmac.new(own_key(), b"erased:" + form.encode(), hashlib.sha256).hexdigest()[:40]


# ---------------------------------------------------------------------------------------------------------- the rules


def _mapped(values: pl.Series, function: Callable[[Any], Any], kind: pl.DataType) -> pl.Series:
    """Each distinct value is looked at once."""
    if values.dtype == pl.Null:
        return values
    if values.dtype.is_nested() or values.dtype in (pl.Object, pl.Binary):
        return pl.Series(values.name, [_read(function, value) for value in values.to_list()], dtype=kind)
    known = values.drop_nulls().unique()
    made = pl.Series([_read(function, value) for value in known.to_list()], dtype=kind)
    if not len(known):
        return pl.Series(values.name, [None], dtype=kind).new_from_index(0, len(values))
    return values.replace_strict(known, made, default=None, return_dtype=kind)


def _read(function: Callable[[Any], Any], value: Any) -> Any:
    try:
        return None if value is None else function(value)
    except (ValueError, TypeError, OverflowError):
        return None


def _dtype(rule: Rule) -> pl.DataType:
    if rule[0] in ("month", "year"):
        return pl.Date()
    if rule[0] in ("bands", "edges"):
        return pl.Int64() if all(isinstance(number, int) for number in rule[1:]) else pl.Float64()
    return pl.String()


def _function(rule: Rule) -> Callable[[Any], Any]:
    kind, parameters = rule[0], rule[1:]
    match kind:
        case "mask":
            return partial(_masked, how=parameters[0])
        case "prefix":
            return lambda value: canonical(value)[: parameters[0]].strip()
        case "bands":
            return lambda value: math.floor(_number(value) / parameters[0]) * parameters[0]
        case "edges":
            return lambda value: parameters[max(0, bisect_right(parameters, _number(value)) - 1)]
        case "month":
            return lambda value: _day(value).replace(day=1)
        case "year":
            return lambda value: _day(value).replace(month=1, day=1)
        case "pseudonym":
            newest = _Newest(parameters)
            return lambda value: pseudonym(value, newest.key)
    raise StoreError(f"privacy rule {kind!r} is unknown to this version; upgrade this installation")


def _number(value: Any) -> float:
    number = float(value)
    if math.isnan(number):
        raise ValueError("no number")
    return number


def _day(value: Any) -> date:
    if isinstance(value, str):
        value = instant(value)
    if isinstance(value, datetime):
        return (value if value.tzinfo is None else value.astimezone(UTC)).date()
    if isinstance(value, date):
        return value
    raise TypeError("no date")


def _masked(value: Any, how: str) -> str:
    text, (kind, _, many) = canonical(value), how.partition(":")
    if kind == "email" and "@" in text:
        return f"{_STARS}@{text.rpartition('@')[2]}"
    if kind in ("first", "last"):
        size = int(many)
        shown = re.compile(rf"\*\*\*.{{{size}}}" if kind == "last" else rf".{{{size}}}\*\*\*", re.DOTALL)
        if shown.fullmatch(text):
            return text
        if len(text) > size and text != _STARS:
            return f"{_STARS}{text[-size:]}" if kind == "last" else f"{text[:size]}{_STARS}"
    return _STARS


# ----------------------------------------------------------------------------------------------------------- the keys


class _Newest:
    """The key that makes pseudonyms, read when it is first needed."""

    def __init__(self, references: Sequence[str]) -> None:
        self._references = references

    @cached_property
    def key(self) -> bytes:
        return _keys(self._references)[0]


def _keys(references: Sequence[str]) -> list[bytes]:
    return [_checked(secret(each), each) for each in references] if references else [own_key()]


def _checked(text: str, where: str) -> bytes:
    if len(text) < _LEAST_KEY:
        raise SettingsError(
            f"the key {where!r} is shorter than {_LEAST_KEY} characters, so that names could be guessed from "
            "pseudonyms; make one: python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    return text.encode()


@lru_cache(maxsize=64)
def _name(key: bytes) -> str:
    return hashlib.sha256(b"mainspring pseudonyms" + key).hexdigest()[:6]


def _make(path: Path) -> None:
    """A new key; of two processes that come at once one wins and both use its key."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.claim(path, secrets.token_hex(32).encode(), mode=0o600)
    except OSError as error:
        raise StoreError(f"no key of pseudonyms can be made at {path} ({error.strerror}); name one: key=") from error
