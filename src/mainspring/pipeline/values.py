"""Values that the user's modules made as they were imported, as pieces of code, where the text alone doesn't tell them.

A plain value counts as it is, and so does what the user's objects and classes hold. Another counts only where something
outside may have gone into it: a file, the environment, a library that may read. One that can't be told differs from
every other, so its step runs each time.
"""

from __future__ import annotations

import ast
import inspect
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import EnumMeta
from pathlib import PurePath
from types import FunctionType
from typing import Any

from mainspring.pipeline import altered, live
from mainspring.pipeline.codebase import Codebase
from mainspring.pipeline.effects import WHOLE, Global, Source
from mainspring.pipeline.fingerprint import digest, path
from mainspring.pipeline.importing import may_read
from mainspring.pipeline.modules import ModuleText
from mainspring.pipeline.names import Unit
from mainspring.pipeline.pieces import Piece, Place
from mainspring.pipeline.running import module_of, value_of
from mainspring.pipeline.scopes import FUNCTIONS, IMPORTS

_Get = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Made:
    """Something that a unit makes: a part of what the global *name* means. by: the expressions; none: all the unit.
    chosen: a function or class, which a decorator or a base class may make another."""

    source: Source
    name: str
    by: tuple[ast.AST, ...] = ()
    part: str = ""
    get: _Get = lambda value: value
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class _Held:
    """What the object called *name* holds now; of a class, made by statement *unit*, what its text doesn't tell."""

    text: ModuleText
    name: str
    roots: tuple[str, ...]
    unit: Unit | None = None

    @property
    def key(self) -> str:
        return f"{self.text.name}:{self.name}"

    @property
    def module(self) -> object:
        return module_of(self.text)

    def digest(self) -> str | None:
        there, value = value_of(self.text, self.name)
        found = None
        if there:
            found = altered.state(value) if self.unit is None else altered.state_of(altered.members(self.unit, value))
        return None if found is None else _steady(found, self.roots)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A function or class that more than its text has made, and what it closes over: a step that runs may fill that."""

    text: ModuleText
    made: _Made

    @property
    def key(self) -> str:
        return f"{self.text.name}:{self.made.name}{self.made.part} (chosen)"

    @property
    def module(self) -> object:
        return module_of(self.text)

    def digest(self) -> str | None:
        there, value = value_of(self.text, self.made.name)
        return live.digest_of(self.made.get(value)) if there else None


def values_of(project: Codebase, source: Source, index: int, *, at_import: bool) -> Iterator[tuple[Global, Piece]]:
    """What a unit made beside its text: each global that has it, and the piece.

    at_import: its module is imported with the step's own; otherwise a function imports it first, as it runs."""
    unit = source.parsed.units[index]
    if isinstance(unit.node, IMPORTS):
        return
    for made in _made(project, source, index):
        found = _digest(project, source, index, made, at_import)
        if found is not None:
            name = f"{made.name}{made.part}"
            place = Place("value", name, made.source.text.path, unit.line)
            yield (made.source.name, made.name), Piece(f"{made.source.name}:{name} (value)", found, place)
    if at_import and isinstance(unit.node, ast.ClassDef):
        found = altered.lasting(_Held(source.text, unit.name, _roots(project), unit))
        if found is not None:
            place = Place("value", f"{unit.name} (attributes)", source.text.path, unit.line)
            yield (source.name, unit.name), Piece(f"{source.name}:{unit.name} (attributes)", found, place)


def _digest(project: Codebase, source: Source, index: int, made: _Made, at_import: bool) -> str | None:
    """None: it follows from the code, or isn't this unit's to tell."""
    unit, text = source.parsed.units[index], made.source.text
    there, value = value_of(text, made.name)
    if made.chosen:
        reads = there and may_read(project, source, index, made.by, True)
        return altered.lasting(_Chosen(text, made)) if reads else None
    own = unit.data and made.source is source and made.name in unit.binds
    if there:
        if own and unit.gives(made.name, value):
            return None
        code: list[Any] = []
        steady = _steady(made.get(value), _roots(project), code)
        if own and code and may_read(project, source, index):
            return altered.lasting(_Chosen(text, made))
        if own and at_import and steady is not None:
            return steady
        if steady is not None and unit.data and not own and not isinstance(value, FunctionType):
            return None  # it is told where the global is bound
        if may_read(project, source, index, made.by):
            return steady or live.digest_of(made.get(value))
        return altered.lasting(_Held(text, made.name, _roots(project))) if own and at_import else None
    unread = module_of(text) is None and bool(text.path) and may_read(project, source, index, made.by)
    return uuid.uuid4().hex if unread else None


def _made(project: Codebase, source: Source, index: int) -> Iterator[_Made]:
    unit = source.parsed.units[index]
    node = unit.node
    if isinstance(node, FUNCTIONS):
        yield from _defaults(source, node, node.name, "", lambda value: value)
        yield from _decorated(source, node, node.name, "", lambda value: value)
    elif isinstance(node, ast.ClassDef):
        by = (*node.decorator_list, *node.bases, *(each.value for each in node.keywords))
        if by:
            yield _Made(source, node.name, by, " (bases)", _base_of, chosen=True)
        yield from _attributes(source, node)
    else:
        yield from (_Made(source, name) for name in sorted(unit.binds))
        for (module, name), indices in project.effects.of(source).items():
            other = project.source(module) if module and name != WHOLE and index in indices else None
            if other is not None and name not in unit.binds:
                yield _Made(other, name, get=_altered)


def _defaults(
    source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, part: str, get: _Get
) -> Iterator[_Made]:
    by = [each for each in (*node.args.defaults, *node.args.kw_defaults) if each is not None]
    if by and not all(isinstance(each, ast.Constant) for each in by):
        yield _Made(source, name, tuple(by), f"{part} (defaults)", lambda value: _defaults_of(get(value)))


def _decorated(
    source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, part: str, get: _Get
) -> Iterator[_Made]:
    if node.decorator_list:
        yield _Made(source, name, tuple(node.decorator_list), f"{part} (decorated)", get, chosen=True)


def _base_of(kind: Any) -> Any:
    if not isinstance(kind, type):
        return kind
    return kind, repr(vars(kind).get("__dataclass_params__")), sorted(vars(kind))


def _attributes(source: Source, node: ast.ClassDef) -> Iterator[_Made]:
    for each in node.body:
        if isinstance(each, FUNCTIONS):
            yield from _defaults(source, each, node.name, f".{each.name}", _attribute(each.name))
            yield from _decorated(source, each, node.name, f".{each.name}", _attribute(each.name))
        elif isinstance(each, ast.Assign | ast.AnnAssign) and each.value is not None:
            if isinstance(each.value, ast.Constant):
                continue
            for target in each.targets if isinstance(each, ast.Assign) else [each.target]:
                if isinstance(target, ast.Name):
                    yield _Made(source, node.name, (each.value,), f".{target.id}", _attribute(target.id))


def _attribute(name: str) -> _Get:
    def get(value: Any) -> Any:
        if isinstance(value, EnumMeta) and name in value.__members__:
            return value.__members__[name].value
        return inspect.getattr_static(value, name, None)

    return get


def _defaults_of(function: Any) -> Any:
    function = function.__func__ if isinstance(function, staticmethod | classmethod) else function
    function = inspect.unwrap(function) if callable(function) else function
    return (getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None))


def _altered(value: Any) -> Any:
    """What can have been altered in a class or function: its attributes."""
    if isinstance(value, type):
        return {name: each for name, each in vars(value).items() if not name.startswith("__") and not _is_code(each)}
    return vars(value) if isinstance(value, FunctionType) else value


def _is_code(thing: Any) -> bool:
    return callable(thing) or hasattr(type(thing), "__get__")


def _roots(project: Codebase) -> tuple[str, ...]:
    return tuple(str(root) for root in project.roots)


def _steady(value: Any, roots: tuple[str, ...], code: list[Any] | None = None) -> str | None:
    """The digest of a plain value, wherever the project lies; None for another. code: takes the functions in it."""

    def named(thing: Any) -> str:
        if code is not None and isinstance(thing, FunctionType | type):
            code.append(thing)
        return path(thing)

    try:
        return digest(_relative(value, roots), other=_refuse, code=named)
    except (TypeError, AttributeError, RecursionError):
        return None


def _relative(value: Any, roots: tuple[str, ...]) -> Any:
    if isinstance(value, PurePath):
        return ("path", _relative(str(value), roots))
    if isinstance(value, str):
        root = next((root for root in roots if value == root or value.startswith(f"{root}{os.sep}")), None)
        return value if root is None else f"<project>{value[len(root) :]}"
    if type(value) in (list, tuple):
        return [type(value).__name__, *(_relative(each, roots) for each in value)]
    if type(value) is dict:
        return {_relative(key, roots): _relative(each, roots) for key, each in value.items()}
    return value


def _refuse(value: Any) -> str:
    raise TypeError(f"a {type(value).__name__} isn't plain")
