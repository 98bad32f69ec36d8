"""What objects and classes of the user's hold now, whoever altered them: `for model in MODELS: model.rate = 3`.

Names in the code don't always tell what a statement of another module alters; once modules are imported, what their
objects hold does. It is read, never copied or called, and must be the same in every process.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, SimpleNamespace
from typing import Any, Protocol

from mainspring.pipeline import live
from mainspring.pipeline.fingerprint import path
from mainspring.pipeline.modules import canonical_name, is_project_namespace, namespace_of
from mainspring.pipeline.names import Unit
from mainspring.pipeline.running import attributes_of

_MOST = 50_000
_DEEPEST = 60
_PLAIN = (bool, int, float, complex, str, bytes, type(None), date, time, timedelta, Decimal, PurePath)
_SHARES_STATE = ("abc", "builtins", "collections", "dataclasses", "pydantic", "sklearn", "types", "typing")
"""Libraries whose classes keep in an object what its own class put there, and nothing of the process."""


def state(value: Any) -> Any:
    """What *value* holds, as plain values; None where it has no object of the user's and no estimator, or too much."""
    reader = _Reader()
    told = reader.tell(value)
    return told if reader.objects and not reader.full else None


def members(unit: Unit, kind: Any) -> dict[str, Any]:
    """The attributes of class *kind* that the statement which made it doesn't tell, by name."""
    if not isinstance(unit.node, ast.ClassDef) or not isinstance(kind, type) or issubclass(kind, Enum):
        return {}
    if kind.__qualname__ != unit.name:
        return {}
    written = dict(_written(unit.node))
    found = [(name, value) for name, value in list(vars(kind).items()) if not name.startswith("__")]
    return {name: value for name, value in found if not _told(unit, written.get(name), kind, value)}


def state_of(attributes: Mapping[str, Any]) -> Any:
    """Such attributes as plain values; None where there are none."""
    reader = _Reader()
    told = [[name, reader.tell(attributes[name])] for name in sorted(attributes)]
    return None if reader.full else told or None


class Held(Protocol):
    """Something that a module holds. module: what stands for one import of it."""

    @property
    def key(self) -> str: ...

    @property
    def module(self) -> object: ...

    def digest(self) -> str | None: ...


@dataclass(slots=True)
class _Seen:
    """What something held: when its module had been imported, and now."""

    held: Held
    module: object
    first: str | None
    now: str | None


_SEEN: dict[str, _Seen] = {}


def lasting(held: Held) -> str | None:
    """The digest of *held*, save for what steps have altered as they ran in this process."""
    now, known = held.digest(), _SEEN.get(held.key)
    if known is None or known.module is not held.module or known.now != now:
        known = _SEEN[held.key] = _Seen(held, held.module, now, now)
    return known.first


def settle() -> None:
    """What has been altered since it was looked at was altered by steps that ran."""
    for known in list(_SEEN.values()):
        known.now = known.held.digest()


def _written(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for each in node.body:
        if isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None:
            for target in each.targets if isinstance(each, ast.Assign) else [each.target]:
                if isinstance(target, ast.Name):
                    yield target.id, each.value


def _told(unit: Unit, written: ast.expr | None, kind: type, value: Any) -> bool:
    """Whether the text of the class says what its attribute *value* is."""
    if isinstance(value, type):
        return path(value).startswith(f"{path(kind)}.")
    code = getattr(function_of(value), "__code__", None)
    if code is not None:
        own = getattr(function_of(value), "__module__", None) == kind.__module__
        return own and unit.line <= code.co_firstlineno <= (unit.node.end_lineno or unit.line)
    if written is None:
        return False
    try:
        literal = ast.literal_eval(written)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return type(literal) is type(value) and repr(literal) == repr(value)


def function_of(value: Any) -> Any:
    """The function of a property or a method that needs no object; else *value* itself."""
    if isinstance(value, property):
        return value.fget
    return value.__func__ if isinstance(value, staticmethod | classmethod) else value


class _Reader:
    """Reads values. objects: whether it has met one that statements elsewhere can alter."""

    def __init__(self) -> None:
        self.objects = False
        self._left = _MOST
        self._inside: list[Any] = []
        self._kinds: dict[int, tuple[str, bool]] = {}

    @property
    def full(self) -> bool:
        return self._left < 0

    def tell(self, value: Any) -> Any:
        self._left -= 1
        if self.full:
            return "..."
        if issubclass(type(value), Enum):  # not isinstance, which asks the object itself for its class
            return [self._kind(type(value))[0], value.name]
        if issubclass(type(value), _PLAIN):
            return value
        self._left -= _MOST if len(self._inside) > _DEEPEST else 0
        if self.full or any(value is each for each in self._inside):
            return "..."
        self._inside.append(value)
        try:
            return [self._kind(type(value))[0], self._parts(value)]
        finally:
            self._inside.pop()

    def _kind(self, kind: type) -> tuple[str, bool]:
        """The name of a class, and whether its objects hold what the user's code put there; looked up once."""
        if id(kind) not in self._kinds:
            self._kinds[id(kind)] = _name(kind), _holds(kind)
        return self._kinds[id(kind)]

    def _parts(self, value: Any) -> Any:
        kind = type(value)
        if issubclass(kind, type | FunctionType | BuiltinFunctionType):
            return _name(value)
        if issubclass(kind, MethodType):
            return [_name(value.__func__), self.tell(value.__self__)]
        if issubclass(kind, functools.partial):
            return [self.tell(value.func), self._each(value.args), self._pairs(value.keywords)]
        if issubclass(kind, property | staticmethod | classmethod):
            return self.tell(function_of(value))
        if issubclass(kind, set | frozenset):
            return sorted(self._each(value), key=repr)
        if issubclass(kind, dict):
            return [self._pairs(value), self._attributes(value)]
        if issubclass(kind, list | tuple | deque):
            return [self._each(value), self._attributes(value)]
        return self._attributes(value)

    def _each(self, values: Any) -> list[Any]:
        """The items, whatever the class of the user's makes of them; another thread may add some meanwhile."""
        kind = next(kind for kind in (list, tuple, set, frozenset, deque) if issubclass(type(values), kind))
        return [self.tell(value) for value in self._few(list(kind.__iter__(values)))]

    def _pairs(self, values: dict[Any, Any]) -> list[Any]:
        """The items in an order of their own: a set may have given them theirs, another one in each process."""
        told = ([self.tell(key), self.tell(value)] for key, value in self._few(list(dict.items(values))))
        return sorted(told, key=repr)

    def _few(self, values: list[Any]) -> list[Any]:
        """*values* where they aren't too many to be told."""
        if len(values) <= self._left:
            return values
        self._left = -1
        return []

    def _attributes(self, thing: Any) -> Any:
        """What the attributes of an object of the user's hold; of an estimator its parameters; else nothing."""
        kind = type(thing)
        if kind.__module__ == "numpy":
            return live.digest_of(thing)
        if kind is SimpleNamespace or self._kind(kind)[1]:
            self.objects = True
            return self._pairs(dict(sorted(_held(thing), key=lambda pair: pair[0])))
        if isinstance(getattr(kind, "get_params", None), FunctionType):
            self.objects = True
            try:
                return self._pairs(thing.get_params(deep=False))
            except Exception:  # any object may refuse, in any way
                return None
        return None


def _held(thing: Any) -> Iterator[tuple[str, Any]]:
    attributes = attributes_of(thing)
    if isinstance(attributes, dict):
        yield from ((str(name), value) for name, value in list(attributes.items()))
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else list(slots):
            private = name.startswith("__") and not name.endswith("__")
            place = f"_{kind.__name__.lstrip('_')}{name}" if private else name
            try:
                yield str(name), object.__getattribute__(thing, place)
            except (AttributeError, TypeError):
                continue


def _holds(kind: type) -> bool:
    """Whether objects of *kind* are the user's, and hold what the user's code put there."""
    return _is_own(kind) and all(map(_keeps_to_itself, kind.__mro__))


def _is_own(kind: type) -> bool:
    return is_project_namespace(_namespace(kind))


def _namespace(thing: Any) -> Mapping[str, Any]:
    if not isinstance(thing, type):
        return namespace_of(thing)
    module = sys.modules.get(thing.__module__)
    return {} if module is None else vars(module)


def _keeps_to_itself(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in _SHARES_STATE or _is_own(kind)


def _name(thing: Any) -> str:
    """The name of a function or class; a module that runs as a program has that of its file."""
    namespace = _namespace(thing)
    module = canonical_name(namespace) if is_project_namespace(namespace) else getattr(thing, "__module__", "")
    return f"{module}:{getattr(thing, '__qualname__', '')}"
