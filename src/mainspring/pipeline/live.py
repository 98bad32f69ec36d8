"""Functions whose source doesn't tell all, known by what they are made of: bytecode, defaults, closure, globals."""

from __future__ import annotations

import copyreg
import functools
import inspect
import pickle
import sys
import types
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from blake3 import blake3

from mainspring.pipeline import fingerprint
from mainspring.pipeline.modules import is_project_namespace, namespace_of

_HAS_DOCSTRING = 0x4000000
_LAZY = ("dask.", "duckdb.", "fsspec.", "ibis.", "pyarrow._dataset.", "pyspark.", "tables.", "xarray.", "zarr.")


def is_sourceless(function: Any) -> bool:
    """Whether *function* was typed at a prompt or made by exec."""
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename.startswith("<") and not code.co_filename.startswith("<frozen")


def parts(thing: Any) -> Iterator[Any]:
    """The values that *thing* is made of, and for one without source those that it reads from its globals."""
    if isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
        return
    if isinstance(thing, MethodType):
        yield from (thing.__func__, thing.__self__)
        return
    function = inspect.unwrap(thing)
    if function is not thing:
        yield function
    for each in {id(one): one for one in (thing, function) if isinstance(one, FunctionType)}.values():
        yield from _cells(each)
        yield from each.__defaults__ or ()
        yield from (each.__kwdefaults__ or {}).values()
        if is_sourceless(each):
            yield from (each.__globals__[name] for name in sorted(_names(each.__code__)) if name in each.__globals__)


def digest(thing: Any) -> str:
    """The digest of what *thing* is made of; a function that has a source counts by its name only."""
    return blake3(repr(_of(thing, [])).encode("utf-8", "surrogatepass")).hexdigest()


def digest_of(value: Any) -> str:
    """The digest of any value by what it would be copied from, the same in every process; one that can't be copied, or
    that reads its content only when asked, differs from every other."""
    try:
        return fingerprint.digest(value, other=_copied, code=_Which())
    except RecursionError:  # it refers to itself
        return _pickled(value)
    except Exception:  # any object may refuse to be copied, in any way
        return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class _Which:
    """Tells functions and classes of the user's from others of their name: what a decorator or a factory made of them,
    which of two definitions was taken. What they hold counts as far as it can be told."""

    known: dict[int, str] = field(default_factory=dict)

    def __call__(self, thing: Any) -> str:
        if id(thing) not in self.known:
            self.known[id(thing)] = fingerprint.path(thing)  # meanwhile: it may hold itself
            self.known[id(thing)] = self._told(thing)
        return self.known[id(thing)]

    def _told(self, thing: Any) -> str:
        name = fingerprint.path(thing)
        if isinstance(thing, FunctionType) and is_project_namespace(thing.__globals__):
            beside = {key: each for key, each in sorted(vars(thing).items()) if not key.startswith("__")}
            held = (*_cells(thing), thing.__defaults__, thing.__kwdefaults__, beside)
            return fingerprint.hashed("function", name, _bytecode(thing.__code__), *map(self._held, held))
        if isinstance(thing, type) and _is_own(thing):
            return fingerprint.hashed("class", name, *map(self, thing.__mro__[1:]), *self._members(thing))
        return name

    def _members(self, kind: type) -> Iterator[str]:
        """What the functions of a class do and hold, and its other attributes that are written as such."""
        for name, value in sorted(vars(kind).items()):
            for part in _unbound(value):
                if isinstance(part, FunctionType):
                    yield from (name, _bytecode(part.__code__), self(part))
                elif not (name.startswith("__") and name.endswith("__")):
                    yield from (name, self._held(part))

    def _held(self, value: Any) -> str:
        try:
            return fingerprint.digest(value, other=_copied, code=self)
        except Exception:  # any object may refuse to be copied, in any way
            return fingerprint.path(type(value))


def _is_own(kind: type) -> bool:
    """Whether a class is of the user's, as also those are that Python's `types` makes for its callers."""
    own = kind.__module__ == types.__name__ and getattr(types, kind.__qualname__, None) is not kind
    return own or is_project_namespace(namespace_of(kind))


def _unbound(value: Any) -> tuple[Any, ...]:
    """What an attribute of a class is made of."""
    if isinstance(value, property):
        return (value.fget, value.fset, value.fdel)
    if isinstance(value, functools.cached_property):
        return (value.func,)
    return (value.__func__,) if isinstance(value, staticmethod | classmethod) else (value,)


def _copied(value: Any) -> str:
    kind = type(value)
    if kind is ModuleType:
        return str(value.__name__)
    if f"{kind.__module__}.".startswith(_LAZY) or kind.__name__ == "LazyFrame":
        raise TypeError(f"a {kind.__name__} reads its content when it is asked")
    reduce = copyreg.dispatch_table.get(kind)
    made = value.__reduce_ex__(4) if reduce is None else reduce(value)
    if isinstance(made, str):
        return made
    function, arguments, state, items, pairs = (*made, None, None, None)[:5]
    whole = (fingerprint.path(function), arguments, state, list(items or ()), list(map(list, pairs or ())))
    return fingerprint.digest(whole, other=_copied, code=fingerprint.path)


def _pickled(value: Any) -> str:
    try:
        return blake3(pickle.dumps(value, protocol=5)).hexdigest()
    except Exception:  # as above
        return uuid.uuid4().hex


def _of(thing: Any, active: list[Any]) -> Any:
    if any(thing is each for each in active):
        return "again"
    inside = [*active, thing]
    if isinstance(thing, ModuleType):
        return ("module", thing.__name__)
    if isinstance(thing, functools.partial):
        keywords = [(key, _of(value, inside)) for key, value in sorted(thing.keywords.items())]
        return ("partial", _of(thing.func, inside), [_of(each, inside) for each in thing.args], keywords)
    if isinstance(thing, FunctionType):
        code = _bytecode(thing.__code__) if is_sourceless(thing) else thing.__module__
        return ("function", thing.__qualname__, code, [_of(part, inside) for part in parts(thing)])
    if isinstance(thing, type):
        if thing.__module__ != "__main__":
            return ("class", thing.__module__, thing.__qualname__)
        members = sorted((key, value) for key, value in vars(thing).items() if isinstance(value, FunctionType))
        return ("class", thing.__module__, thing.__qualname__, [(key, _of(each, inside)) for key, each in members])
    if inspect.isbuiltin(thing):
        return ("builtin", thing.__module__, thing.__qualname__)
    if type(thing) in (list, tuple, set, frozenset):
        return (type(thing).__name__, [_of(each, inside) for each in thing])
    if type(thing) is dict:
        return ("dict", [(_of(key, inside), _of(value, inside)) for key, value in thing.items()])
    return ("value", digest_of(thing), _of(type(thing), inside))


def _cells(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that the enclosing function hasn't bound
            continue


def _names(code: CodeType) -> set[str]:
    return {*code.co_names, *(name for each in code.co_consts if isinstance(each, CodeType) for name in _names(each))}


def _bytecode(code: CodeType) -> str:
    """What *code* does, wherever it stands; its docstring doesn't count."""
    nested = [_constant(each) for each in code.co_consts[_has_docstring(code) :]]
    return blake3(repr((code.co_code, code.co_names, code.co_varnames, nested)).encode()).hexdigest()


def _has_docstring(code: CodeType) -> bool:
    """Whether its first constant is its docstring, or None in the place of one."""
    if code.co_name.startswith("<"):
        return False
    if sys.version_info >= (3, 13):
        return bool(code.co_flags & _HAS_DOCSTRING)
    return any(isinstance(each, str | None) for each in code.co_consts[:1])


def _constant(value: Any) -> str:
    if isinstance(value, CodeType):
        return _bytecode(value)
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
