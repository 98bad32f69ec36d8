"""What this process has imported, beside what its source says now: values made at import, and sources edited since."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from blake3 import blake3

from mainspring.core.errors import CodeChanged
from mainspring.pipeline.bytecode import CurrentSource, drop_doubtful, is_doubtful
from mainspring.pipeline.modules import ModuleText, canonical_name
from mainspring.pipeline.notebook import NOTEBOOK

_MOST = 20_000
_LOOKED_AT: dict[str, tuple[Any, str]] = {}
"""Module -> what marks one import of it, and the digest of its source when it was first looked at."""


_real = functools.lru_cache(maxsize=4096)(os.path.realpath)


def module_of(text: ModuleText) -> ModuleType | None:
    """The module that this process has made of *text*'s file."""
    for name in (text.name, "__main__", "__mp_main__"):
        module = sys.modules.get(name)
        if not isinstance(module, ModuleType):
            continue
        if text.name == NOTEBOOK and isinstance(vars(module).get("In"), list):
            return module
        file = vars(module).get("__file__")
        if text.path and isinstance(file, str) and _real(file) == text.path:
            return module
    return None


def check(text: ModuleText) -> None:
    """Raises CodeChanged when this process imported *text*'s file before it was edited: the old code would run."""
    module = module_of(text)
    if module is None or not text.path.endswith(".py"):
        return
    mark = vars(module).get("__spec__") or module
    digest = blake3(text.text.encode("utf-8", "surrogatepass")).hexdigest()
    known = _LOOKED_AT.get(text.path)
    if known is None or known[0] is not mark:
        if (written_since_start(text.path) or is_doubtful(text.path)) and _differs(module, text):
            with suppress(OSError):
                drop_doubtful(text.path)
            raise _changed(module, text)
        _LOOKED_AT[text.path] = mark, digest
    elif known[1] != digest:
        raise _changed(module, text)


def _changed(module: ModuleType, text: ModuleText) -> CodeChanged:
    mend = (
        "start it again"
        if module.__name__ in ("__main__", "__mp_main__")
        else (f"restart the process, or importlib.reload({module.__name__})")
    )
    return CodeChanged(f"{text.path} was edited after this process imported it, so the old code would run; {mend}")


def written_since_start(path: str) -> bool:
    """Whether the file may have changed since this process began."""
    try:
        return os.stat(path).st_ctime >= _STARTED
    except OSError:
        return True


def _started() -> float:
    """When this process began; 0.0, which is before everything, where that can't be told."""
    try:
        with open("/proc/self/stat") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
    return time.time() - (since_boot - ticks / os.sysconf("SC_CLK_TCK")) - 1.0


_STARTED = _started()


def _differs(module: ModuleType, text: ModuleText) -> bool:
    """Whether *module* can be seen to come from another text: by its bytecode file, or by its functions. (A constant
    that isn't what its source says counts with its value.)"""
    loader = getattr(vars(module).get("__spec__"), "loader", None)
    if loader is not None and type(loader) not in (
        SourceFileLoader,
        CurrentSource,
    ):  # it makes other code of the same text
        return False
    if isinstance(loader, CurrentSource) and loader.ran == text.text:
        return False
    if _older_bytecode(module, text):
        return True
    try:
        code = compile(text.text, text.path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return True
    return any(
        old.co_filename == text.path and old.co_qualname == new.co_qualname and _meaning(old) != _meaning(new)
        for name, new in _functions(code, "")
        if (old := _code_at(module, name)) is not None
    )


def _functions(code: CodeType, prefix: str) -> Iterator[tuple[str, CodeType]]:
    """The functions and methods in a module's code, by qualified name; those with a namesake are left out."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType) and not each.co_name.startswith("<")]
    named = Counter(each.co_name for each in inner)
    for each in inner:
        if named[each.co_name] == 1:
            if each.co_flags & inspect.CO_NEWLOCALS:
                yield f"{prefix}{each.co_name}", each
            else:
                yield from _functions(each, f"{prefix}{each.co_name}.")


def _code_at(module: ModuleType, qualname: str) -> CodeType | None:
    found: Any = module
    for part in qualname.split("."):
        found = inspect.getattr_static(found, part, None)
    found = found.__func__ if isinstance(found, staticmethod | classmethod) else found
    return found.__code__ if isinstance(found, FunctionType) else None


def _older_bytecode(module: ModuleType, text: ModuleText) -> bool:
    """Whether the file of bytecode that the import wrote or read was made from another version of the source."""
    cached = vars(module).get("__cached__") or ""
    try:
        with open(cached, "rb") as file:
            head = file.read(16)
        if int.from_bytes(head[4:8], "little") & 1:
            source = text.text.encode()
            return bool(head[8:16] != importlib.util.source_hash(source))
        found = os.stat(text.path)
        wanted = (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
        return (int.from_bytes(head[8:12], "little"), int.from_bytes(head[12:16], "little")) != wanted
    except (OSError, TypeError):
        return False


def _meaning(code: CodeType) -> Any:
    """What *code* does, wherever it stands in its file."""
    constants = tuple(_meaning(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts)
    return (
        code.co_code,
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        code.co_flags & 0xFFFF,
        constants,
    )


# ------------------------------------------------------------------------------------------------ values made at import


def value_of(text: ModuleText, name: str) -> tuple[bool, Any]:
    """Whether this process has a value for *name* of that module, and which."""
    module = module_of(text)
    if module is None or name not in vars(module):
        return False, None
    return True, vars(module)[name]


def functions_in(value: Any) -> Iterator[tuple[str, str, int]]:
    """The functions and classes inside containers and objects: module, name in it, and line.

    Raises OverflowError when there is too much to look through."""
    ahead, seen = [value], set[int]()
    while ahead:
        at = ahead.pop()
        if id(at) in seen or isinstance(at, str | bytes | int | float | complex | ModuleType) or at is None:
            continue
        seen.add(id(at))
        if len(seen) > _MOST:
            raise OverflowError
        if isinstance(at, FunctionType):
            code = at.__code__
            ahead += [cell.cell_contents for cell in at.__closure__ or () if _is_filled(cell)]
            yield canonical_name(at.__globals__), at.__qualname__.partition(".")[0], code.co_firstlineno
        elif isinstance(at, type):
            module = sys.modules.get(at.__module__)
            if isinstance(module, ModuleType):
                yield canonical_name(vars(module)), at.__qualname__.partition(".")[0], 0
        elif isinstance(at, Mapping):
            ahead += [*at.keys(), *at.values()]
        elif isinstance(at, list | tuple | set | frozenset):
            ahead += at
        else:
            ahead += _inside(at)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def attributes_of(thing: Any) -> Any:
    """The dictionary of an object's attributes, whatever its class answers for it; None where it has none."""
    try:
        return object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return None


def _inside(thing: Any) -> Iterator[Any]:
    """What an object of the user's, a method or a partial holds; a library's own objects are left alone."""
    for name in ("func", "args", "keywords", "__func__", "__self__", "__wrapped__"):
        if type(thing).__module__ in ("functools", "builtins") and hasattr(thing, name):
            yield getattr(thing, name)
    yield type(thing)
    held = attributes_of(thing)
    file = getattr(sys.modules.get(type(thing).__module__), "__file__", None) or ""
    if isinstance(held, dict) and (type(thing).__module__ == "__main__" or Path(file).suffix == ".py"):
        yield from held.values()
