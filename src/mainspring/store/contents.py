"""Which classes and functions a value holds: "module:qualname" of each, "module:" for one that no name finds.

What a kept value does for who takes it follows from their code, which isn't in the value. Python's own count for
nothing, installed libraries with their root only: `sklearn:`.
"""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

_FUNCTIONS = (FunctionType, BuiltinFunctionType)
_COMPILED = frozenset(["cython_function_or_method", "fused_cython_function", "nb_func"])
"""What compilers call the classes of their functions, in modules that nobody can import."""
_PLAIN = frozenset([type(None), bool, int, float, str, bytes, complex])
_OURS = "mainspring"
_INSTALLED = ("site-packages", "dist-packages")


class Pickler(pickle.Pickler):
    """A pickler that keeps the *names* of the classes and functions that it writes."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.names: set[str] = set()
        self._known: dict[type, bool] = {}

    def reducer_override(self, thing: Any) -> Any:
        kind = type(thing)
        if _is_code(thing):
            self.names.update(name_of(thing))
            return NotImplemented
        reduces = self._known.get(kind)
        if reduces is None:
            self.names.update(name_of(kind))
            reduces = self._known[kind] = _reduces_itself(kind)
        if not reduces:
            return NotImplemented
        reduced = thing.__reduce_ex__(5)
        if isinstance(reduced, str):  # it is found again by its own name, not made anew
            self.names.add(f"{thing.__module__}:{reduced}")
        return reduced


def name_of(thing: Any) -> Iterator[str]:
    """The name of a class or function, if somebody may edit or upgrade it."""
    module, name = getattr(thing, "__module__", None), str(getattr(thing, "__qualname__", ""))
    if not isinstance(module, str) or not module:
        return
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names or root == _OURS:
        return
    if _is_installed(root):
        yield f"{root}:"
    else:
        yield f"{module}:" if "<" in name else f"{module}:{name}"


def names_in(*things: Any) -> set[str]:
    """The names of all that *things* consist of, for a value that isn't pickled."""
    found: set[str] = set()
    ahead, seen = list(things), dict[int, Any]()
    while ahead:
        at = ahead.pop()
        if type(at) in _PLAIN or id(at) in seen or isinstance(at, ModuleType):
            continue
        seen[id(at)] = at
        code = _is_code(at)
        found.update(name_of(at if code else type(at)))
        ahead += _closed_over(at) if code else _parts(at)
    return found


def _is_code(thing: Any) -> bool:
    kind = type(thing)
    return issubclass(kind, type) or kind in _FUNCTIONS or kind.__name__ in _COMPILED


def _closed_over(thing: Any) -> Iterator[Any]:
    for cell in getattr(thing, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a name that the enclosing function hasn't bound
            continue


def _parts(thing: Any) -> Iterable[Any]:
    if isinstance(thing, functools.partial):
        return (thing.func, thing.args, thing.keywords)
    if isinstance(thing, MethodType):
        return (thing.__func__, thing.__self__)
    parts: list[Any] = []
    if isinstance(thing, dict):
        parts += [*thing.keys(), *thing.values()]
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        parts += thing
    elif getattr(getattr(thing, "dtype", None), "hasobject", False):  # an array of objects
        parts += thing.tolist()
    parts += getattr(thing, "__dict__", {}).values()
    for kind in type(thing).__mro__:
        slots = vars(kind).get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            parts.append(getattr(thing, slot, None))
    return parts


def _reduces_itself(kind: type) -> bool:
    """Whether a class of nobody's library says itself how it is pickled."""
    if kind in copyreg.dispatch_table or kind.__module__.partition(".")[0] in sys.stdlib_module_names:
        return False
    return any("__reduce_ex__" in vars(each) or "__reduce__" in vars(each) for each in kind.__mro__[:-1])


@functools.lru_cache(maxsize=1024)
def _is_installed(root: str) -> bool:
    file = getattr(sys.modules.get(root), "__file__", None)
    return isinstance(file, str) and any(folder in file for folder in _INSTALLED)
