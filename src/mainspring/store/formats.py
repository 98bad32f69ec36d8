"""The formats of what isn't plain: frames in Parquet, arrays as npy, foreign objects as pickles signed by this home.

A format lives in a module of its own that loads only when a value needs it.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib
import os
import pickle
import secrets
from collections.abc import Iterator
from typing import Any

from mainspring.core.errors import HomeDamaged, MainspringError, StoreError
from mainspring.store.home import Home

PICKLE = "pickle"
_MODULES = {
    "frame": "mainspring.store.frames",
    "series": "mainspring.store.frames",
    "array": "mainspring.store.arrays",
    "number": "mainspring.store.arrays",
    "objects": "mainspring.store.arrays",
}
_PLAIN = frozenset([type(None), bool, int, float, str])
_MAC_BYTES = 32


class Key:
    """The secret with which this home signs its pickles; made when it is first needed, readable by its owner only."""

    def __init__(self, home: Home) -> None:
        self._path = home.path / "pickle.key"
        self._known: bytes | None = None

    def sign(self, content: bytes) -> bytes:
        """*content* behind its signature."""
        return hmac.digest(self._secret(), content, hashlib.sha256) + content

    def verified(self, signed: bytes) -> bytes:
        """The content of *signed*; raises HomeDamaged when this home hasn't signed it."""
        mac, content = signed[:_MAC_BYTES], signed[_MAC_BYTES:]
        if not hmac.compare_digest(mac, hmac.digest(self._secret(), content, hashlib.sha256)):
            raise HomeDamaged(
                "a pickled object isn't signed by this home and isn't loaded; run the step that made it again"
            )
        return content

    def _secret(self) -> bytes:
        if self._known is None:
            if not self._path.exists():
                _make(self._path)
            self._known = self._path.read_bytes()
        return self._known


def write(value: Any, key: Key) -> tuple[str, bytes]:
    """The format for *value*, and its content in that format."""
    format = _format(value)
    if format != PICKLE:
        return format, _module(format).write(format, value)
    return PICKLE, key.sign(_pickled(value))


def read(format: str, content: bytes, key: Key) -> Any:
    """The value of *content*. Raises HomeDamaged when it can't be read."""
    try:
        if format == PICKLE:
            return pickle.loads(key.verified(content))
        if format in _MODULES:
            return _module(format).read(format, content)
    except MainspringError:
        raise
    except Exception as error:
        raise HomeDamaged(
            f"a kept {format} can't be read any more ({type(error).__name__}: {error}); run the step that made it again"
        ) from error
    raise HomeDamaged(f"format {format!r} is unknown to this version; upgrade, or run the step that made it again")


def _format(value: Any) -> str:
    library = type(value).__module__.partition(".")[0]
    if library == "polars":
        return _polars_format(value, type(value).__name__)
    if library == "numpy":
        return _numpy_format(value, type(value).__name__)
    return PICKLE


def _polars_format(value: Any, name: str) -> str:
    if name == "LazyFrame":
        raise StoreError("a polars LazyFrame is a plan without its rows and can't be kept; return .collect()")
    if name == "DataFrame" and value.width and "Object" not in str(value.dtypes):
        return "frame"
    return "series" if name == "Series" and "Object" not in str(value.dtype) else PICKLE


def _numpy_format(value: Any, name: str) -> str:
    if name != "ndarray":
        return "number" if hasattr(value, "dtype") and hasattr(value, "item") and not hasattr(value, "mask") else PICKLE
    if value.dtype.hasobject:
        return "objects" if _PLAIN.issuperset(map(type, value.ravel().tolist())) else PICKLE
    return "array"


def _module(format: str) -> Any:
    return importlib.import_module(_MODULES[format])


def _pickled(value: Any) -> bytes:
    if isinstance(value, Iterator):
        raise StoreError(
            f"a {type(value).__name__} gives its content only once and can't be kept; return a list or a frame"
        )
    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:
        raise StoreError(
            f"a value of type {type(value).__module__}.{type(value).__qualname__} can't be kept ({error}); "
            f"return plain values, frames, arrays or an object that pickles"
        ) from error


def _make(path: os.PathLike[str]) -> None:
    """Make the key; of several processes that try at once, one wins and all use its key."""
    temporary = f"{os.fspath(path)}.{secrets.token_hex(4)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(descriptor)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(temporary)
