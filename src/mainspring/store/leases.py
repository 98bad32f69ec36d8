"""Leases: which process is at work on what, told by the kernel, so that a killed process holds nothing.

A lease is a lock on one byte of one file. Such a lock ends with its process, whatever ends it, survives no reboot, and
is seen across containers; it is what SQLite itself relies on.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from mainspring.core.errors import HomeUnwritable

_guard = threading.Lock()
_open: dict[str, int] = {}
"""A process has these locks, not a file object: closing any descriptor of the file would end them all."""
_held: set[tuple[int, str, int]] = set()


class Leases:
    """Numbered leases in the file *path*."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, number: int) -> bool:
        """Whether the lease could be taken; this process holds it until `release`, or until it ends."""
        with _guard:
            if (os.getpid(), str(self._path), number) in _held or not self._lock(number):
                return False
            _held.add((os.getpid(), str(self._path), number))
            return True

    def release(self, number: int) -> None:
        with _guard:
            if (os.getpid(), str(self._path), number) in _held:
                _held.discard((os.getpid(), str(self._path), number))
                fcntl.lockf(self._descriptor(), fcntl.LOCK_UN, 1, number)

    def free(self, number: int) -> bool:
        """Whether no living process holds the lease."""
        with _guard:
            if (os.getpid(), str(self._path), number) in _held:
                return False
            if not self._lock(number):
                return False
            fcntl.lockf(self._descriptor(), fcntl.LOCK_UN, 1, number)
            return True

    def _lock(self, number: int) -> bool:
        try:
            fcntl.lockf(self._descriptor(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _descriptor(self) -> int:
        known = _open.get(str(self._path))
        if known is not None and _same(known, self._path):
            return known
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HomeUnwritable(
                f"{self._path} can't be opened ({error.strerror}); make room or mend it, then run again"
            ) from error
        _open[str(self._path)] = descriptor
        return descriptor


def myself() -> dict[str, Any]:
    """This process, for people: machine, boot, number and start (in ticks of that boot)."""
    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "started": _started()}


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started() -> int | None:
    try:
        return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None
