"""The formats of what isn't plain, by a value's type: frames, tables, arrays, estimators, types of the user's own.

A format lives in a module of its own that loads only when a value needs it. Each turns a value into bytes and bytes
into a value: equal values give equal bytes, also after they were read back, and nothing in the bytes is ever run.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mainspring.core.errors import BundleError, DeclarationError, HomeDamaged, MainspringError, StoreError
from mainspring.store import pickles
from mainspring.store.contents import names_in
from mainspring.store.pickles import Key

Buffer = bytes | memoryview

PICKLE = "pickle"
_MODULES = {
    "frame": "mainspring.store.frames",
    "series": "mainspring.store.frames",
    "arrow-frame": "mainspring.store.frames",
    "arrow-series": "mainspring.store.frames",
    "array": "mainspring.store.arrays",
    "number": "mainspring.store.arrays",
    "objects": "mainspring.store.arrays",
    "arrow-table": "mainspring.store.arrow",
    "arrow-batch": "mainspring.store.arrow",
    "pandas-frame": "mainspring.store.arrow",
    "pandas-series": "mainspring.store.arrow",
    "skops": "mainspring.store.estimators",
}
_PLAIN = frozenset([type(None), bool, int, float, str])
_ARROW = {
    ("pyarrow", "Table"): "arrow-table",
    ("pyarrow", "RecordBatch"): "arrow-batch",
    ("pandas", "DataFrame"): "pandas-frame",
    ("pandas", "Series"): "pandas-series",
}
_SUFFIX = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class Unfit(Exception):
    """A format can't give this value back as it is; says why."""


@dataclass(frozen=True, slots=True)
class Written:
    """A value's content in its format. why: why it is a pickle; names: the code that it holds, see `contents`."""

    format: str
    content: bytes
    why: str = ""
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Format:
    """How values of one type of the user's become bytes, and values again."""

    type: type
    suffix: str
    write: Callable[[Any], bytes]
    read: Callable[[bytes], Any]


_registered: dict[type, Format] = {}
_by_name: dict[str, Format] = {}


def register_format(kind: type, suffix: str, write: Callable[[Any], bytes], read: Callable[[bytes], Any]) -> None:
    """Keep values of type *kind*, subclasses included, as what *write* gives; *read* makes a value of it again.

    Call it beside the class, so that whoever imports the class knows its format. Equal values must give equal bytes;
    `mainspring.testing.check_format` tries it. suffix: the format's name, lower case.

    >>> class Colour:
    ...     def __init__(self, code: str) -> None:
    ...         self.code = code
    >>> register_format(Colour, "colour", write=lambda colour: colour.code.encode(), read=lambda b: Colour(b.decode()))
    """
    if not isinstance(kind, type):
        raise DeclarationError(f"register_format({kind!r}): the first argument must be a class")
    if not isinstance(suffix, str) or not _SUFFIX.fullmatch(suffix):
        raise DeclarationError(f"register_format(..., {suffix!r}): the name must match {_SUFFIX.pattern}")
    name = f"user:{suffix}"
    known = _by_name.get(name)
    if known is not None and _path(known.type) != _path(kind):  # a module that was loaded anew comes again
        raise DeclarationError(
            f"register_format({kind.__name__}, {suffix!r}): {_path(known.type)} has that name; choose another"
        )
    _by_name[name] = _registered[kind] = Format(kind, suffix, write, read)


def registered(kind: type) -> Format | None:
    """The format of *kind*, or of the nearest of its parents that has one."""
    if not _registered:
        return None
    return next((_registered[parent] for parent in kind.__mro__ if parent in _registered), None)


def write(value: Any, key: Key) -> Written:
    """*value* in the format for its type."""
    own = registered(type(value))
    if own is not None:
        return Written(f"user:{own.suffix}", _written(own, value), names=frozenset(names_in(value, own.read)))
    format = _format(value)
    reason = "it has no format"
    if format != PICKLE:
        try:
            content = _module(format).write(format, value)
            return Written(format, content, names=frozenset(names_in(value) if format == "skops" else ()))
        except Unfit as unfit:
            reason = str(unfit)
    content, names = pickles.write(value, key)
    return Written(PICKLE, content, reason, names)


def read(format: str, content: Buffer, key: Key) -> Any:
    """The value of *content*. Raises HomeDamaged when it can't be read."""
    try:
        if format == PICKLE:
            return pickles.read(bytes(content), key)
        if format in _MODULES:
            return _module(format).read(format, content)
        if format in _by_name:
            return _by_name[format].read(bytes(content))
    except BundleError as error:
        raise HomeDamaged(f"a kept estimator can't be read: {error}") from error
    except MainspringError:
        raise
    except Exception as error:
        raise HomeDamaged(
            f"a kept {format} can't be read any more ({type(error).__name__}: {error}); run the step that made it again"
        ) from error
    if format.startswith("user:"):
        raise HomeDamaged(
            f"format {format[5:]!r} isn't registered in this process; import the module that calls "
            f"mainspring.register_format for it, or run the step that made it again"
        )
    raise HomeDamaged(f"format {format!r} is unknown to this version; upgrade, or run the step that made it again")


def _written(own: Format, value: Any) -> bytes:
    try:
        content = own.write(value)
    except Exception as error:
        raise StoreError(
            f"format {own.suffix!r} can't write a {type(value).__name__} ({type(error).__name__}: {error}); "
            f"mend the write= that was given to register_format"
        ) from error
    if not isinstance(content, bytes):
        raise StoreError(
            f"format {own.suffix!r}: write= gave {type(content).__name__} for a {type(value).__name__}; return bytes"
        )
    return content


def _format(value: Any) -> str:
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    if library == "polars":
        return _polars_format(value, kind.__name__)
    if library == "numpy":
        return _numpy_format(value, kind)
    if (library, kind.__name__) in _ARROW:
        return _ARROW[library, kind.__name__]
    estimator = any(each.__name__ == "BaseEstimator" and each.__module__ == "sklearn.base" for each in kind.__mro__)
    return "skops" if estimator else PICKLE


def _polars_format(value: Any, name: str) -> str:
    if name == "LazyFrame":
        raise StoreError("a polars LazyFrame is a plan without its rows and can't be kept; return .collect()")
    if name == "DataFrame" and (value.width or not value.height) and "Object" not in str(value.dtypes):
        return "arrow-frame" if _module("frame").mapped(value) else "frame"
    if name == "Series" and "Object" not in str(value.dtype):
        return "arrow-series" if _module("series").mapped(value.to_frame()) else "series"
    return PICKLE


def _numpy_format(value: Any, kind: type) -> str:
    if any(each.__name__ == "generic" and each.__module__ == "numpy" for each in kind.__mro__):
        return PICKLE if value.dtype.hasobject else "number"
    if kind.__name__ not in ("ndarray", "memmap"):
        return PICKLE
    if value.dtype.hasobject:
        return "objects" if _PLAIN.issuperset(map(type, value.ravel().tolist())) else PICKLE
    return "array"


def _module(format: str) -> Any:
    return importlib.import_module(_MODULES[format])


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
