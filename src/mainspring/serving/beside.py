"""What the serving processes beside this one have counted: each has a place of its own in memory that all share."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping
from zlib import crc32

import msgspec

Lines = Mapping[str, list[str]]
"""The lines of each measure, as `Measures.lines` gives them."""

_PLACE_BYTES = 1 << 20
_HEAD = struct.Struct("<II")
_EVERY_SECONDS = 0.5
_decode = msgspec.json.Decoder(dict[str, list[str]]).decode


class Beside:
    """The places of *many* processes in the file *fd*; this is process *number*. A full disk doesn't reach it."""

    def __init__(self, fd: int, number: int, many: int) -> None:
        self._fd, self._number, self._many = fd, number, many

    def put(self, lines: Lines) -> None:
        """Tell the others; what doesn't fit they don't see."""
        told = msgspec.json.encode(lines)
        if len(told) <= _PLACE_BYTES - _HEAD.size:
            os.pwrite(self._fd, _HEAD.pack(len(told), crc32(told)) + told, self._number * _PLACE_BYTES)

    def others(self) -> list[Lines]:
        """What each of the others told last; nothing of one that is just telling it for the first time."""
        return [lines for number in range(self._many) if number != self._number and (lines := self._of(number))]

    async def keep_telling(self, lines: Callable[[], Lines]) -> None:
        """Tell the others again and again, for as long as this runs."""
        while True:
            self.put(lines())
            await asyncio.sleep(_EVERY_SECONDS)

    def _of(self, number: int) -> Lines | None:
        for _ in range(5):  # it may just be written
            head = os.pread(self._fd, _HEAD.size, number * _PLACE_BYTES)
            if len(head) < _HEAD.size:
                return None
            size, checksum = _HEAD.unpack(head)
            told = os.pread(self._fd, size, number * _PLACE_BYTES + _HEAD.size)
            if size and crc32(told) == checksum:
                return _decode(told)
        return None


def shared_memory() -> int:
    """A file without a name, in memory where the system has that."""
    if sys.platform == "linux":
        return os.memfd_create("mainspring-measures")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
