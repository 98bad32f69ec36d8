"""The fingerprint of a step: what its result depends on, as digests that can be compared and named."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from functools import cached_property, partial
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any
from uuid import UUID

from blake3 import blake3

from mainspring.core.errors import DeclarationError, StoreError
from mainspring.core.protocols import UNCOUNTED
from mainspring.core.wording import brief
from mainspring.pipeline.step import Step

MISSING = "missing"
"""Stands for the digest of a data file that isn't there."""
UNTOLD = "named as it ran"
"""Stands for the digest of a data file that the step named in a way that its code doesn't tell."""
HELD = "what its inputs hold"
"""Stands for what is in no piece of the code that a step's inputs hold."""

Digest = Callable[[Any], str]

_NOTHING: Mapping[str, str] = {}
_WRITTEN_IN = ("builtins", "datetime", "decimal", "fractions", "pathlib", "uuid", "zoneinfo")
_WRITTEN = (datetime, date, time, timedelta, Decimal, Fraction, PurePath, UUID, complex, range)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a step is stale, or skipped.

    kind: new, code, file, parameter, library, state, input, upstream, forced, uncached, lost, unknown or condition.
    where: the piece of code, data file, parameter, input or library; old and new: what it was and is. what: what a
    piece of code is, such as "helper fix_age"; file, line: where it stands.
    """

    kind: str
    where: str = ""
    old: Any = None
    new: Any = None
    what: str = ""
    file: str = ""
    line: int | None = None

    def to_json(self) -> dict[str, Any]:
        told = {"kind": self.kind, "where": self.where, "old": self.old, "new": self.new}
        return {**told, "file": self.file, "line": self.line} if self.file else told

    def __str__(self) -> str:
        if self.kind == "code" and self.what:
            place = f", {self.file}:{self.line}," if self.line is not None else f", {self.file}," if self.file else ""
            return f"{self.what}{place} {_change(self.old, self.new)}"
        if self.kind == "file" and self.old == UNTOLD:
            told = f"names {self.where} in a way that its code doesn't tell, so it runs each time"
            return f"{told}; give mainspring.file a literal path"
        if self.kind == "file":
            return f"file {self.where} {'is missing' if self.new == MISSING else _change(self.old, self.new)}"
        if self.kind == "input" and isinstance(self.old, int) and isinstance(self.new, int):
            return f"{self.where}: {_rows(self.new - self.old)}"
        if self.kind in ("parameter", "library") and (self.old, self.new) != (None, None) and self.old != self.new:
            return f"{self.where} {self.old} -> {self.new}"
        if self.kind == "state" and len(change := f"state {self.old} -> {self.new}") <= _READABLE:
            return change
        return (
            _SENTENCES.get(self.kind, "{kind} {where}").format(kind=self.kind, where=self.where, new=self.new).strip()
        )


def _change(old: Any, new: Any) -> str:
    return "is new" if old is None else "is gone" if new is None else "changed"


def _rows(more: int) -> str:
    if more == 0:
        return "other rows, as many as before"
    return f"{abs(more):,} {'new' if more > 0 else 'fewer'} row{'s' if abs(more) > 1 else ''}"


LOST = "its kept output is missing or damaged"
_READABLE = 60
"""A longer change of state is for `--json`."""
_SENTENCES = {
    "new": "has never run",
    "code": "code changed: {where}",
    "input": "input {where} changed",
    "parameter": "parameter {where} changed",
    "state": "what it reads outside has changed",
    "forced": "forced",
    "lost": LOST,
    "uncached": "cache=False: it runs in every run",
    "unknown": "{new}",
    "upstream": "input {where} may change",
    "condition": "{new}",
}


@dataclass(frozen=True)
class Parts:
    """What a fingerprint was made of. parameters: name -> (digest, short text); libraries: name -> version;
    inputs: name -> digest; state: JSON; code: name -> digest of each piece of code (one piece: the step's own name);
    files: data file -> digest; held: name -> digest of each piece of code that the values of its inputs hold; reached:
    parameter -> the same of each piece that functions in it reach, for its digest covers them: to say what changed."""

    code: Mapping[str, str]
    libraries: Mapping[str, str]
    parameters: Mapping[str, tuple[str, str]]
    inputs: Mapping[str, str]
    state: Any = None
    files: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, str] = field(default_factory=dict)
    reached: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        known = {name: digest for name, (digest, _) in self.parameters.items()}
        told: list[str] = []
        for group in (self.code, self.libraries, known, self.inputs, self.files, self.held):
            told += [f"{len(name)}:{name}{len(group[name])}:{group[name]}" for name in sorted(group)]
            told.append(";")
        return hashed("step", "".join(told), "" if self.state is None else digest(self.state))

    def to_json(self) -> dict[str, Any]:
        return {
            "code": dict(self.code),
            "libraries": dict(self.libraries),
            "parameters": {name: list(pair) for name, pair in self.parameters.items()},
            "inputs": dict(self.inputs),
            "state": self.state,
            **({"files": dict(self.files)} if self.files else {}),
            **({"held": dict(self.held)} if self.held else {}),
            **({"reached": {name: dict(pieces) for name, pieces in self.reached.items()}} if self.reached else {}),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Parts:
        parameters = {name: (pair[0], pair[1]) for name, pair in kept["parameters"].items()}
        files, held = kept.get("files", {}), kept.get("held", {})
        reached = kept.get("reached", {})
        return cls(kept["code"], kept["libraries"], parameters, kept["inputs"], kept["state"], files, held, reached)

    def differences(self, old: Parts) -> list[Reason]:
        """What has changed since *old*, the step's own matters before its inputs."""
        before, now = {**old.held, **old.code}, {**self.held, **self.code}
        found = [Reason("code", name, before.get(name), now.get(name)) for name in _changed(before, now)]
        for name in _changed(old.files, self.files):
            found.append(Reason("file", name, old.files.get(name), self.files.get(name)))
        for name in _changed(old.parameters, self.parameters):
            found.extend(self._parameter(old, name))
        for name in _changed(old.libraries, self.libraries):
            found.append(Reason("library", name, old.libraries.get(name), self.libraries.get(name)))
        if old.state != self.state:
            found.append(Reason("state", "", old.state, self.state))
        for name in _changed(old.inputs, self.inputs):
            found.append(Reason("input", name, old.inputs.get(name), self.inputs.get(name)))
        return found

    def _parameter(self, old: Parts, name: str) -> list[Reason]:
        """Why parameter *name* isn't as in *old*: the pieces of code in it that changed, if it looks the same."""
        before, now = old.reached, self.reached
        reason = Reason("parameter", name, _shown(old.parameters, name), _shown(self.parameters, name))
        if reason.old != reason.new or name not in before or name not in now:
            return [reason]
        pieces = _changed(before[name], now[name])
        return [Reason("code", piece, before[name].get(piece), now[name].get(piece)) for piece in pieces] or [reason]


def telling(step: str, reasons: Iterable[Reason]) -> list[Reason]:
    """*reasons* without those that stand for all code, where the changed pieces of it are named."""
    found = list(reasons)
    whole = [reason for reason in found if reason.kind == "code" and reason.where in (step, HELD)]
    named = sum(reason.kind == "code" for reason in found) > len(whole)
    return [reason for reason in found if not (named and reason in whole)]


def parts(
    step: Step,
    code_digest: str | Mapping[str, str],
    inputs: Mapping[str, str],
    state: Any = None,
    libraries: Mapping[str, str] | None = None,
    parameters: Mapping[str, Any] | None = None,
    other: Digest | None = None,
    code: Digest | None = None,
    files: Mapping[str, str] | None = None,
    held: Mapping[str, str] | None = None,
    pieces_of: Callable[[Any], Mapping[str, str]] | None = None,
) -> Parts:
    """What the fingerprint of *step* is made of.

    inputs: digests of its inputs' values. parameters: the run parameters it takes, added to its own. other: the digest
    of a value that isn't plain (frames, arrays); code: of a function or class among the parameters. files: digests of
    the data files that its code names. held: the pieces of code that the values of its inputs hold. pieces_of: those
    that a function or class among the parameters reaches.
    """
    pieces = {step.name: code_digest} if isinstance(code_digest, str) else code_digest
    known: dict[str, tuple[str, str]] = {}
    reached: dict[str, dict[str, str]] = {}
    for name, value in sorted({**step.parameters, **(parameters or {})}.items()):
        try:
            things: list[Any] = []
            known[name] = (digest(value, other=other, code=_noting(code, things)), brief(value, 80))
            within = {piece: each for thing in things for piece, each in (pieces_of or _none)(thing).items()}
            reached |= {name: within} if within else {}
        except (TypeError, AttributeError, pickle.PicklingError, RecursionError, StoreError) as error:
            raise DeclarationError(
                f"step {step.name!r}: parameter {name}={brief(value, 80)} can't be fingerprinted ({error}); "
                f"give plain values, or make it inside the step"
            ) from error
    return Parts(pieces, libraries or _NOTHING, known, inputs, state, files or _NOTHING, held or _NOTHING, reached)


def _noting(code: Digest | None, things: list[Any]) -> Digest:
    """*code*, that adds each thing it is asked for to *things*."""

    def noted(thing: Any) -> str:
        things.append(thing)
        return (code or path)(thing)

    return noted


def _none(thing: Any) -> Mapping[str, str]:
    return {}


def digest(value: Any, *, other: Digest | None = None, code: Digest | None = None) -> str:
    """The digest of *value*, equal in every process for equal values of the same types.

    >>> digest({"trees": 100}) == digest({"trees": 100})
    True
    >>> digest(1) == digest(1.0), digest(0.0) == digest(-0.0), digest(True) == digest(1)
    (False, False, False)
    """
    return _Canonical(other or _pickled, code or path).digest(value)


@dataclass(frozen=True, slots=True)
class _Canonical:
    other: Digest
    code: Digest

    def digest(self, value: Any) -> str:
        kind = type(value)
        if value is None or kind in (bool, int, str, bytes):
            return hashed(kind.__name__, value.hex() if kind is bytes else str(value))
        if kind is float:
            return hashed("float", value.hex())
        if kind in (list, tuple):
            return hashed(kind.__name__, *map(self.digest, value))
        if kind is dict:
            return hashed("dict", *(self.digest(part) for item in value.items() for part in item))
        if kind in (set, frozenset):
            return hashed(kind.__name__, *sorted(map(self.digest, value)))
        return self._object(value, kind)

    def _object(self, value: Any, kind: type) -> str:
        if isinstance(value, Enum):
            several = [self.digest(value.value)] if isinstance(value, Flag) else []
            return hashed("enum", self._class(kind), str(value.name), *several)
        if isinstance(value, MethodType):
            return hashed("method", *map(self.digest, (value.__func__, value.__self__)))
        if isinstance(value, type | FunctionType | BuiltinFunctionType):
            return hashed("code", self.code(value))
        if isinstance(value, partial):
            return hashed("partial", *map(self.digest, (value.func, value.args, value.keywords, vars(value))))
        if (
            isinstance(value, _WRITTEN)
            and kind.__module__ in _WRITTEN_IN
            and _is_written(getattr(value, "tzinfo", None))
        ):
            return hashed("written", path(kind), repr(value))
        if is_dataclass(value):
            names = [each.name for each in fields(value)]
            named = {each.name: getattr(value, each.name) for each in fields(value) if UNCOUNTED not in each.metadata}
            return hashed("dataclass", self._class(kind), *self._named(named), *self._named(_beside(value, names)))
        if callable(getattr(kind, "get_params", None)):
            return self._estimator(value, kind)
        beside = _beside(value, ()) if isinstance(value, _WRITTEN) else {}  # a copy of such a one has none of it
        return hashed("other", self._class(kind), self.other(value), *self._named(beside))

    def _named(self, values: Mapping[str, Any]) -> list[str]:
        return [part for name, value in values.items() for part in (name, self.digest(value))]

    def _estimator(self, value: Any, kind: type) -> str:
        """An estimator is its class, its parameters and what it holds beside them; one that was fitted is its whole
        content too."""
        parameters = value.get_params(deep=False)
        named = self._named({name: parameters[name] for name in sorted(parameters)})
        beside = _beside(value, parameters)
        if any(name.endswith("_") and not name.startswith("_") for name in beside):
            return hashed("estimator", self._class(kind), *named, self.other(value))
        return hashed("estimator", self._class(kind), *named, *self._named(beside))

    def _class(self, kind: type) -> str:
        """A class of the user's own counts with its code, a library's or ours by its name."""
        return hashed("class", path(kind), self.code(kind))


def _beside(value: Any, names: Collection[str]) -> dict[str, Any]:
    """What an object holds beside the attributes *names*; what it only remembers, to be quicker, doesn't count."""
    kind, found = type(value), dict(getattr(value, "__dict__", {}))
    for each in kind.__mro__:
        slots = vars(each).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if slot not in ("__dict__", "__weakref__") and hasattr(value, slot):
                found[slot] = getattr(value, slot)
    return {
        name: found[name]
        for name in sorted(found)
        if name not in names and not isinstance(inspect.getattr_static(kind, name, None), cached_property)
    }


def _is_written(zone: Any) -> bool:
    return zone is None or type(zone).__module__ in _WRITTEN_IN


def hashed(kind: str, *parts: str) -> str:
    """The digest of these parts, each with its length before it."""
    told = "".join([kind, *[f"{len(part)}:{part}" for part in parts]])
    return blake3(told.encode("utf-8", "surrogatepass")).hexdigest()


def _pickled(value: Any) -> str:
    return blake3(pickle.dumps(value, protocol=5)).hexdigest()


def path(thing: Any) -> str:
    """The name of a function or class, with its module."""
    return f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}"


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [name for name in dict.fromkeys([*new, *old]) if _first(old.get(name)) != _first(new.get(name))]


def _first(part: Any) -> Any:
    return part[0] if isinstance(part, tuple) else part


def _shown(parameters: Mapping[str, tuple[str, str]], name: str) -> str | None:
    return parameters[name][1] if name in parameters else None
