"""Files that survive a crash and a loss of power: whole or not at all."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Make the content of the file *path* durable; of a folder, the names in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes, *, staging: Path | None = None, mode: int = 0o666) -> None:
    """Write *content* so that after a crash *path* holds all of it or what it held before. staging: a folder of the
    same file system for the unfinished file, where nobody may see one beside *path*."""
    os.replace(_written(path, content, staging or path.parent, mode), path)
    sync(path.parent)


def claim(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """As `write`, but a file that is there stays: of several processes that try at once, one wins."""
    temporary = _written(path, content, path.parent, mode)
    try:
        with suppress(FileExistsError):
            os.link(temporary, path)  # unlike a rename, it never replaces
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _written(path: Path, content: bytes, folder: Path, mode: int) -> Path:
    temporary = folder / f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
