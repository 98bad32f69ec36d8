"""Where a function or class is written: "module:qualname" in the project. Lambdas and nested functions get a name."""

from __future__ import annotations

import ast
import functools
import inspect
import math
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FunctionType, MethodType, ModuleType
from typing import Any

from blake3 import blake3

from mainspring.core.syntax import parsed
from mainspring.pipeline import live
from mainspring.pipeline.modules import (
    ModuleText,
    Project,
    canonical_name,
    is_installed,
    is_project_namespace,
    namespace_of,
)
from mainspring.pipeline.scopes import FUNCTIONS
from mainspring.pipeline.units import meaning, parse

_PLAIN = (bool, int, str, bytes, type(None), type(...))
_CODE = (FunctionType, type, functools.partial)
_DEEPEST = 12
_MAINS = ("__main__", "__mp_main__")
GIVEN_NAME = "entry_"
"""How the names begin that lambdas and nested functions are given."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a walk starts. reference: "module:qualname", empty where there is none (a library's; code without source).

    texts: the modules that had to be extended by a name for it. opaque: what stands for code whose source can't be
    had. module: one that counts as a whole, for a function in it can't be taken alone. asked: it was asked for itself,
    not found inside an object that was.
    """

    reference: str
    texts: Mapping[str, ModuleText] = field(default_factory=dict)
    libraries: tuple[str, ...] = ()
    opaque: str = ""
    module: str = ""
    notes: tuple[str, ...] = ()
    asked: bool = True


def entries(things: Sequence[Any], project: Project) -> list[Entry]:
    """An entry for each of *things*, in order, and more for the functions and classes that objects among them hold."""
    texts: dict[str, ModuleText] = {}
    found = []
    for thing in things:
        if _is_code(thing):
            found.append(_entry(thing, project, texts))
            if not found[-1].reference:
                parts = [part for part in _made_of(thing) if part is not thing]
                found += [replace(_entry(part, project, texts), asked=False) for part in parts]
        else:
            found.append(_entry(type(thing), project, texts))
            found += [replace(_entry(part, project, texts), asked=False) for part in held(thing)]
    return found


def named(name: str, project: Project) -> Entry:
    """An entry for "module:qualname", as kept values note the code that they hold; without a qualname that a statement
    binds, for the whole module. What nobody finds is another each time."""
    module, _, qualname = name.partition(":")
    if module in _MAINS:
        module = canonical_name(vars(sys.modules["__main__"]))
    text = project(module)
    if text is None:
        root = module.partition(".")[0]
        if is_installed(root):
            return Entry("", libraries=(root,))
        return Entry("", opaque=uuid.uuid4().hex, notes=(f"{name} can't be found, though a value holds it",))
    if qualname.partition(".")[0] in parse(text.text).binders:
        return Entry(f"{text.name}:{qualname}")
    return Entry("", module=text.name)


def locate(things: Sequence[Any], project: Project | None = None) -> tuple[str, ...]:
    """The "module:qualname" of each of *things* in its Reach; empty where it has none (see `Reach.widened` for why)."""
    found = entries(things, Project() if project is None else project)
    return tuple(entry.reference for entry in found if entry.asked)


def references(thing: Any, project: Project | None = None) -> dict[int, tuple[Any, str]]:
    """The user's functions and classes inside object *thing*, by id, each with its "module:qualname" in a Reach."""
    parts = held(thing)
    return {id(part): (part, where) for part, where in zip(parts, locate(parts, project), strict=True)}


def _made_of(thing: Any) -> list[Any]:
    """The user's functions and classes that a function without a name closes over, has as defaults, or uses."""
    found: dict[int, Any] = {}
    ahead, seen = [thing], set[int]()
    while ahead:
        function = ahead.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        for part in live.parts(function):
            for each in [part] if isinstance(part, FunctionType) else held(part):
                found[id(each)] = each
                if isinstance(each, FunctionType) and live.is_sourceless(each):
                    ahead.append(each)
    return list(found.values())


def held(thing: Any) -> list[Any]:
    """The user's functions and classes that object *thing* consists of, each once."""
    return list({id(part): part for part in _held(thing, set(), 0)}.values())


def _is_code(thing: Any) -> bool:
    return isinstance(thing, _CODE) or inspect.isbuiltin(thing) or hasattr(thing, "__wrapped__")


def _held(thing: Any, seen: set[int], depth: int) -> Iterator[Any]:
    """The user's functions and classes inside an object, such as the steps of a pipeline."""
    if id(thing) in seen or depth > _DEEPEST or isinstance(thing, str | bytes | int | float | ModuleType):
        return
    seen.add(id(thing))
    if isinstance(thing, type | FunctionType):
        if is_project_namespace(namespace_of(thing)):
            yield thing
        return
    if isinstance(thing, MethodType):
        yield from _held(thing.__func__, seen, depth + 1)
        yield from _held(thing.__self__, seen, depth + 1)
        return
    yield from _held(type(thing), seen, depth + 1)
    for part in _parts(thing):
        yield from _held(part, seen, depth + 1)


def _parts(thing: Any) -> Iterator[Any]:
    if isinstance(thing, functools.partial):
        yield from (thing.func, thing.args, thing.keywords)
    elif isinstance(thing, Mapping):
        yield from thing.values()
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from thing
    elif isinstance(getattr(thing, "__dict__", None), dict):
        yield from vars(thing).values()


def _entry(thing: Any, project: Project, texts: dict[str, ModuleText]) -> Entry:
    function = (
        thing.func if isinstance(thing, functools.partial) else inspect.unwrap(thing) if callable(thing) else thing
    )
    text = project.enter(function)
    if text is None:
        return _foreign(thing, function)
    text = texts.setdefault(text.name, text)
    name = _top_level_name(thing, text)
    if name is not None:
        return Entry(f"{text.name}:{name}", {text.name: text})
    return _hoisted(thing, text, project, texts)


def _foreign(thing: Any, function: Any) -> Entry:
    """A library's function needs no code of the user's; one made by exec or typed at a prompt has no source."""
    module = str(getattr(function, "__module__", None) or "")
    if not live.is_sourceless(function) and module not in (*_MAINS, ""):
        return Entry("", libraries=(module.partition(".")[0],))
    name = getattr(function, "__qualname__", repr(thing))
    note = f"{name}: its source can't be had; write it in a file"
    return Entry("", opaque=live.digest(function), notes=(note,))


# --------------------------------------------------------------------------------------------------- names at top level


def _top_level_name(thing: Any, text: ModuleText) -> str | None:
    """The name under which *thing* can be had from its module once that is imported."""
    binders = parse(text.text).binders
    name = str(getattr(thing, "__qualname__", ""))
    namespace = namespace_of(inspect.unwrap(thing)) if callable(thing) else {}
    if name and "<" not in name and name.split(".")[0] in binders and _is(_attribute(namespace, name), thing):
        return name
    if isinstance(thing, functools.partial):
        namespace = namespace_of(thing.func)
    return next((key for key, value in namespace.items() if value is thing and key in binders), None)


def _attribute(namespace: Mapping[str, Any], name: str) -> Any:
    first, *rest = name.split(".")
    found = namespace.get(first)
    for part in rest:
        found = inspect.getattr_static(found, part, None)
    return found.__func__ if isinstance(found, staticmethod | classmethod) else found


def _is(found: Any, thing: Any) -> bool:
    """Whether a module's name still means *thing*; a copy that travelled between processes has equal code."""
    if found is None or found is thing:
        return True
    code = getattr(inspect.unwrap(thing), "__code__", None)
    return code is not None and getattr(found, "__code__", None) == code


def reference(thing: Any, project: Project) -> tuple[str, str] | None:
    """(module, qualname) by which top-level function or class *thing* can be imported, the user's or a library's."""
    text = project.enter(inspect.unwrap(thing))
    if text is not None:
        name = _top_level_name(thing, text)
        return None if name is None else (text.name, name)
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not module or not name or "<" in name or module in _MAINS:
        return None
    return str(module), str(name)


# ---------------------------------------------------------------------------------- naming lambdas and nested functions


def _hoisted(thing: Any, text: ModuleText, project: Project, texts: dict[str, ModuleText]) -> Entry:
    """Give a lambda or a nested function a name at top level, with the values that it closes over."""
    try:
        body, result = _Expression(project, text).factory(thing)
    except _Unwritable as problem:
        title = getattr(thing, "__qualname__", type(thing).__name__)
        note = f"{title} closes over {problem}; define it at the top level of its module, with what it needs"
        return Entry("", opaque=" ".join([problem.digest, live.digest(thing)]), module=text.name, notes=(note,))
    meant = meaning("\n".join([body, result]))
    name = f"{GIVEN_NAME}{blake3(meant.encode()).hexdigest(length=4)}"
    source = f"\n\ndef {name}():\n" + "".join(f"    {line}\n" for line in [*body.splitlines(), f"return {result}"])
    source += f"{name} = {name}()\n"
    if source not in text.text:
        code = getattr(inspect.unwrap(thing), "__code__", None)
        given = {**text.given, name: 0 if code is None else code.co_firstlineno}
        texts[text.name] = ModuleText(text.name, text.text + source, text.package, text.path, given=given)
    return Entry(f"{text.name}:{name}", {text.name: texts[text.name]})


class _Unwritable(Exception):
    """A value that can't be written as source."""

    def __init__(self, name: str, value: Any) -> None:
        super().__init__(f"{name!r}, a {type(value).__name__}, which can't be written into a bundle")
        self.digest = live.digest(value)


@dataclass(slots=True)
class _Expression:
    """Writes values as source: literals, imports, and functions with what they close over."""

    project: Project
    text: ModuleText
    lines: list[str] = field(default_factory=list)
    active: list[Any] = field(default_factory=list)

    def factory(self, thing: Any) -> tuple[str, str]:
        """Statements and the name or expression that is *thing* after them."""
        result = self.value(getattr(thing, "__name__", "it"), thing)
        return "\n".join(self.lines), result

    def value(self, name: str, value: Any) -> str:
        if isinstance(value, _PLAIN) or (isinstance(value, float) and math.isfinite(value)):
            return repr(value)
        if isinstance(value, float):
            return f"float({str(value)!r})"
        if type(value) in (list, tuple, set, frozenset):
            return self._sequence(name, value)
        if type(value) is dict:
            pairs = (f"{self.value(name, key)}: {self.value(name, item)}" for key, item in value.items())
            return "{" + ", ".join(pairs) + "}"
        if isinstance(value, ModuleType):
            return self._import(value.__name__, None, name)
        if isinstance(value, functools.partial):
            return self._partial(name, value)
        if isinstance(value, FunctionType | type) or inspect.isbuiltin(value) or hasattr(value, "__wrapped__"):
            return self._code(name, value)
        raise _Unwritable(name, value)

    def _sequence(self, name: str, value: Any) -> str:
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        inside = "".join(f"{self.value(name, item)}, " for item in items)
        if isinstance(value, list | tuple):
            return f"[{inside}]" if isinstance(value, list) else f"({inside})"
        return f"{type(value).__name__}([{inside}])"

    def _import(self, module: str, member: str | None, name: str) -> str:
        alias = name if name.isidentifier() else f"it_{len(self.lines)}"
        line = f"import {module} as {alias}" if member is None else f"from {module} import {member} as {alias}"
        if line not in self.lines:
            self.lines.append(line)
        return alias

    def _partial(self, name: str, value: functools.partial[Any]) -> str:
        alias = self._import("functools", "partial", f"partial_{len(self.lines)}")
        keywords = "".join(f", {key}={self.value(key, item)}" for key, item in value.keywords.items())
        given = "".join(f", {self.value(name, item)}" for item in value.args)
        return f"{alias}({self.value(f'{name}_function', value.func)}{given}{keywords})"

    def _code(self, name: str, value: Any) -> str:
        known = reference(value, self.project)
        if known is None:
            return self._nested(name, value)
        module, member = known
        first, *rest = member.split(".")
        if module == self.text.name:
            return member
        return ".".join([self._import(module, first, name if not rest else f"{name}_{first}"), *rest])

    def _nested(self, name: str, value: Any) -> str:
        """A nested function, with the values of its free variables and defaults in front of it."""
        function = inspect.unwrap(value)
        text = self.project.enter(function) if isinstance(function, FunctionType) else None
        if text is None or text.name != self.text.name or any(function is other for other in self.active):
            raise _Unwritable(name, value)
        node = _find(function, self.text)
        if node is None:
            raise _Unwritable(name, value)
        self.active.append(function)
        for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._bind(variable, cell, function)
        _set_defaults(node.args, function, lambda default: self.value(name, default))
        if isinstance(node, ast.Lambda):
            return f"({ast.unparse(node)})"
        self.lines += ast.unparse(node).splitlines()
        return node.name

    def _bind(self, variable: str, cell: Any, function: Any) -> None:
        try:
            value = cell.cell_contents
        except ValueError:  # a name that the enclosing function hasn't bound
            return
        if value is function:
            return
        written = self.value(variable, value)
        if written != variable:
            self.lines.append(f"{variable} = {written}")


def _find(function: FunctionType, text: ModuleText) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None:
    """The node that made *function*, by name and place."""
    code = function.__code__
    for node in ast.walk(parsed(text.text)):
        if isinstance(node, FUNCTIONS) and node.name == code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == code.co_firstlineno:
                return node
        if isinstance(node, ast.Lambda) and code.co_name == "<lambda>" and _spans(node.body, code):
            return node
    return None


def _spans(body: ast.expr, code: Any) -> bool:
    """Whether some instruction of *code* covers exactly the lambda's *body*."""
    place = (body.lineno, body.end_lineno, body.col_offset, body.end_col_offset)
    return any(position == place for position in code.co_positions())


def _set_defaults(arguments: ast.arguments, function: FunctionType, write: Callable[[Any], str]) -> None:
    """Defaults were computed when the function was made: write their values, not how they came about."""
    for index, value in enumerate(function.__defaults__ or ()):
        if not isinstance(arguments.defaults[index], ast.Constant):
            arguments.defaults[index] = parsed(write(value), mode="eval").body
    for index, name in enumerate(argument.arg for argument in arguments.kwonlyargs):
        if name in (function.__kwdefaults__ or {}) and not isinstance(arguments.kw_defaults[index], ast.Constant):
            arguments.kw_defaults[index] = parsed(write((function.__kwdefaults__ or {})[name]), mode="eval").body
