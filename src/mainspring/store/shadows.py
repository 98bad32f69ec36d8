"""What a shadowing candidate would have said: append-only batches beside the loop's records, which they never touch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from mainspring.store.home import Home
from mainspring.store.records import ROTATE_BYTES
from mainspring.store.segments import Frame, Position, Segments


class ShadowRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """One mirrored row. id: of the prediction that was answered with *label*; said: what the candidate says instead.

    error: why it says nothing. latency_ms: of its model call, which answered nobody.
    """

    id: str
    at: datetime
    unit: str
    label: Any
    said: Any = None
    error: str | None = None
    latency_ms: float = 0.0
    row: Mapping[str, Any] = {}


class ShadowBatch(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Rows that were mirrored together; dropped: rows before them for which the queue had no place."""

    version: int
    revision: int
    dropped: int
    records: list[ShadowRecord]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ShadowBatch).decode


class Shadows:
    """The shadow records of one loop, in `records/<loop>/` of the home."""

    def __init__(self, home: Home, loop: str, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self._segments = Segments(home.folder("records") / loop, "shadows", rotate_bytes=rotate_bytes)

    def append(self, batch: ShadowBatch) -> None:
        """Write *batch* whole. Raises StoreError."""
        self._segments.append(_encode(batch))

    def batches(self, after: Position | None = None) -> Iterator[tuple[Frame, ShadowBatch]]:
        """The batches beyond position *after*."""
        return ((frame, _decode(frame.payload)) for frame in self._segments.frames(after))

    def end(self) -> dict[str, int]:
        """The position behind everything written by now."""
        return self._segments.end()

    def older(self) -> list[Path]:
        """The files before the newest."""
        return self._segments.files()[:-1]

    def remove(self, path: Path) -> bool:
        """Remove one that nobody needs any more, unless a process writes it, or one compacts or erases."""
        return self._segments.remove(path)

    def close(self) -> None:
        """Leave the files to the next writer."""
        self._segments.close()
