"""Pickles that this home has signed: the last resort for objects that have no format. None is read unsigned."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mainspring.core.errors import HomeDamaged, StoreError
from mainspring.store import durable
from mainspring.store.contents import Pickler
from mainspring.store.home import Home

_KEY_BYTES = 32
_MAC_BYTES = 32


class Key:
    """The secret with which this home signs its pickles; made when it is first needed, readable by its owner only."""

    def __init__(self, home: Home) -> None:
        self._path = home.path / "pickle.key"
        self._known: bytes | None = None

    def sign(self, content: bytes) -> bytes:
        """*content* behind its signature."""
        return self._mac(content) + content

    def verified(self, signed: bytes) -> bytes:
        """The content of *signed*; raises HomeDamaged when this home hasn't signed it."""
        mac, content = signed[:_MAC_BYTES], signed[_MAC_BYTES:]
        import hmac

        if not hmac.compare_digest(mac, self._mac(content)):
            raise HomeDamaged(
                "a pickled object isn't signed by this home and isn't loaded; run the step that made it again"
            )
        return content

    def _mac(self, content: bytes) -> bytes:
        import hmac  # here and above: it loads OpenSSL, which most runs and workers never need

        return hmac.digest(self._secret(), content, "sha256")

    def _secret(self) -> bytes:
        if self._known is None:
            try:
                if not self._path.exists():
                    _make(self._path)
                self._known = _read(self._path)
            except OSError as error:
                raise StoreError(
                    f"{self._path} can't be read or made ({error.strerror}); mend its permissions, or make room"
                ) from error
        return self._known


def write(value: Any, key: Key) -> tuple[bytes, frozenset[str]]:
    """*value* as a signed pickle, and the names of the code it holds. Raises StoreError for what can't be pickled."""
    if isinstance(value, Iterator):
        raise StoreError(
            f"a {type(value).__name__} gives its content only once and can't be kept; return a list or a frame"
        )
    pickler = Pickler(file := io.BytesIO())
    try:
        pickler.dump(value)
        return key.sign(file.getvalue()), frozenset(pickler.names)
    except StoreError:
        raise
    except Exception as error:
        raise StoreError(
            f"a value of type {type(value).__module__}.{type(value).__qualname__} can't be kept ({error}); "
            f"return plain values, frames, arrays or an object that pickles"
        ) from error


def read(content: bytes, key: Key) -> Any:
    """The value of a pickle, if this home has signed it."""
    return pickle.loads(key.verified(content))


def _read(path: Path) -> bytes:
    """The key; one that was emptied or cut off signs nothing: it is put aside, and what it had signed made again."""
    secret = path.read_bytes()
    if len(secret) == _KEY_BYTES:
        return secret
    os.replace(path, path.with_name(f"{path.name}.damaged"))
    _make(path)
    return path.read_bytes()


def _make(path: Path) -> None:
    """Make the key; of several processes that try at once, one wins and all use its key."""
    durable.claim(path, os.urandom(_KEY_BYTES), mode=0o600)
