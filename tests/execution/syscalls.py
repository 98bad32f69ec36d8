"""Faults at system calls: a small library in front of the C library counts, ends, tears, fails or logs the calls that
change files below one folder. What it is told and what it has seen stands in a file that both sides map."""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("syscalls.c")
COUNT, BEFORE, AFTER, TORN, FAIL, FAIL_ON = range(6)
ALL, ONE = range(2)
# all: the command with all its processes; one: only the process that makes the call
_FIELDS = ("at", "error", "mode", "scope", "count", "logged", "log_size", "lock", "leader")
_NUMBERS = struct.Struct(f"{len(_FIELDS)}q")
_ROOT, _LAST, _HEAD = _NUMBERS.size, _NUMBERS.size + 1024, _NUMBERS.size + 1024 + 256
_RECORD = struct.Struct("6q16s")


@dataclass(frozen=True, slots=True)
class Call:
    """One call that succeeded, or that changed nothing ("none"). length of an open: 1 when it emptied the file."""

    number: int
    name: str
    path: str
    target: str
    inode: int
    offset: int
    data: bytes
    length: int


def compiler() -> str | None:
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build(folder: Path) -> Path:
    """The compiled library."""
    library = folder / "syscalls.so"
    command = [str(compiler()), "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, timeout=60)
    return library


class Syscalls:
    """The shared file of one run at a time."""

    def __init__(self, path: Path, *, log_bytes: int = 0) -> None:
        self.path = path
        self._log_bytes = log_bytes
        with path.open("wb") as file:
            file.truncate(_HEAD + log_bytes)
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 0)

    def tell(
        self, root: Path, mode: int = COUNT, at: int = 0, error: int = 0, scope: int = ALL, log: bool = False
    ) -> None:
        """What happens at the *at*-th call below *root* from now on."""
        values = (at, error, mode, scope, 0, 0, self._log_bytes if log else 0, 0, 0)
        self._shared[:_ROOT] = _NUMBERS.pack(*values)
        self._shared[_ROOT:_LAST] = str(root).encode().ljust(1024, b"\0")
        self._shared[_LAST:_HEAD] = bytes(256)

    @property
    def count(self) -> int:
        return self._number("count")

    @property
    def hit(self) -> str:
        """The call that was ended, torn or failed."""
        return self._shared[_LAST:_HEAD].rstrip(b"\0").decode(errors="replace")

    def calls(self) -> Iterator[Call]:
        """The log."""
        place, end = _HEAD, _HEAD + self._number("logged")
        while place < end:
            number, inode, offset, length, first, second, name = _RECORD.unpack_from(self._shared, place)
            place += _RECORD.size
            path = self._shared[place : place + first].decode()
            target = self._shared[place + first : place + first + second].decode()
            place += first + second
            kind = name.rstrip(b"\0").decode()
            data = self._shared[place : place + length] if kind == "write" else b""
            place += len(data)
            yield Call(number, kind, path, target, inode, offset, data, length)

    def _number(self, name: str) -> int:
        return int(_NUMBERS.unpack_from(self._shared)[_FIELDS.index(name)])
