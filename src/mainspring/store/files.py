"""The object store: files named by the digest of their content, whole or not there."""

from __future__ import annotations

import mmap
import os
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from blake3 import blake3

from mainspring.core.errors import HomeDamaged, NotInStore, StoreError
from mainspring.store import durable
from mainspring.store.home import Home

_CHUNK = 1 << 20
_PREFIX = "object-"
_MAPPED_BYTES = 1 << 20
_STALE_SECONDS = 86400.0


class Files:
    """Content by digest, in the home's `objects/`."""

    def __init__(self, home: Home) -> None:
        self.folder = home.folder("objects")
        self._temporary = home.folder("tmp")

    def write(self, content: bytes | Path) -> str:
        """Keep *content*, whole for every reader from now on; it survives a loss of power only after `sync`."""
        try:
            return self._put(content)
        except OSError as error:
            raise self._unwritable(error) from error

    def sync(self, digests: Collection[str]) -> None:
        """Make what was written under *digests* durable, names included. Also what lay there before it was written:
        whoever put it there may have been killed before he could."""
        try:
            for digest in digests:
                self._sync(digest)
            if digests:
                durable.sync(self.folder)
        except OSError as error:
            raise self._unwritable(error) from error

    def _sync(self, digest: str) -> None:
        try:
            durable.sync(self._path(digest))
        except OSError:  # what is in memory can't be trusted to reach the disk by another try
            self._path(digest).unlink(missing_ok=True)
            raise

    def path(self, digest: str) -> Path:
        """The file of *digest*, which must be there; its content isn't looked at."""
        path = self._path(digest)
        try:
            if not path.is_file():
                raise self._missing(digest)
        except OSError as error:
            raise self._unreadable(digest, error) from error
        return path

    def read(self, digest: str) -> bytes:
        """The content of *digest*, checked against it."""
        try:
            content = self._path(digest).read_bytes()
        except (FileNotFoundError, IsADirectoryError) as error:
            raise self._missing(digest) from error
        except OSError as error:
            raise self._unreadable(digest, error) from error
        if blake3(content).hexdigest() != digest:
            raise self._changed(digest)
        return content

    def view(self, digest: str) -> bytes | memoryview:
        """The content of *digest*, checked against it. A big one is mapped into memory: a page is read when touched,
        and what is written into it stays in this process."""
        try:
            if os.path.getsize(self._path(digest)) < _MAPPED_BYTES:
                return self.read(digest)
            with open(self._path(digest), "rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except FileNotFoundError:
            return self.read(digest)
        except (OSError, ValueError) as error:
            raise self._unreadable(digest, error) from error
        if blake3(content, max_threads=blake3.AUTO).hexdigest() != digest:
            raise self._changed(digest)
        return memoryview(content)

    def sound(self, digest: str) -> bool:
        """Whether *digest* is there with the right content."""
        try:
            return _digest_of(self._path(digest)) == digest
        except (OSError, ValueError, NotInStore):
            return False

    def remove(self, digest: str) -> None:
        """Forget *digest*; nothing happens when it isn't there."""
        self._path(digest).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what writers that were killed have left behind."""
        before = time.time() - _STALE_SECONDS
        for path in self._temporary.glob(f"{_PREFIX}*"):
            with suppress(FileNotFoundError):  # its writer has just put it in its place
                if path.stat().st_mtime < before:
                    path.unlink()

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(f"{self.folder} can't be written ({error.strerror}); make room or mend it, then run again")

    def _missing(self, digest: str) -> NotInStore:
        return NotInStore(f"object {digest[:12]} isn't in {self.folder}; run the step that made it again")

    def _unreadable(self, digest: str, error: OSError | ValueError) -> HomeDamaged:
        why = error.strerror if isinstance(error, OSError) else error
        return HomeDamaged(f"object {digest[:12]} can't be read ({why}); run the step that made it again")

    def _changed(self, digest: str) -> HomeDamaged:
        return HomeDamaged(
            f"object {digest[:12]} in {self.folder} was changed or damaged; run the step that made it again"
        )

    def _path(self, digest: str) -> Path:
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise NotInStore(f"{digest!r} is no digest of an object; it has 64 hexadecimal digits")
        return self.folder / digest

    def _put(self, content: bytes | Path) -> str:
        digest = blake3(content).hexdigest() if isinstance(content, bytes) else _digest_of(content)
        if self.sound(digest):
            return digest
        temporary = self._temporary / f"{_PREFIX}{uuid.uuid4().hex}"
        try:
            written = _write(temporary, content)
            if written != digest:
                raise StoreError(f"{content!r} changed while it was read; run again when nothing writes to it")
            os.replace(temporary, self.folder / digest)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return digest


def _write(path: Path, content: bytes | Path) -> str:
    hashed = blake3()
    with open(path, "xb") as file:
        if isinstance(content, bytes):
            file.write(content)
            hashed.update(content)
        else:
            with open(content, "rb") as source:
                while chunk := source.read(_CHUNK):
                    file.write(chunk)
                    hashed.update(chunk)
    return hashed.hexdigest()


def _digest_of(path: Path) -> str:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return blake3(b"").hexdigest()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return blake3(content, max_threads=blake3.AUTO).hexdigest()
