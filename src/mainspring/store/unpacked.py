"""Files that a library reads from a folder: unpacked for as long as their owner lives, cleared after a kill."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_PREFIX = "mainspring-unpacked-"
_FRESH_SECONDS = 60.0
"""So young a folder may be one that its process is about to lock."""


def unpacked(files: Mapping[str, bytes], owner: Any) -> Path:
    """A folder of this process's own with *files* (their paths with "/"), gone when *owner* is or the process ends."""
    _clear()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    weakref.finalize(owner, _given_up, folder, _locked(folder), os.getpid())
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def _clear() -> None:
    """Remove what processes left that were killed: the kernel took their locks."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # a process that lives holds it
            about = folder.lstat()
            if about.st_uid == os.getuid() and time.time() - about.st_mtime > _FRESH_SECONDS:
                _remove(folder, _locked(folder))


def _locked(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _given_up(folder: Path, descriptor: int, process: int) -> None:
    if os.getpid() == process:  # not a fork of it
        _remove(folder, descriptor)


def _remove(folder: Path, descriptor: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(descriptor)
