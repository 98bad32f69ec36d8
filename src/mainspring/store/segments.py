"""Append-only files of checksummed frames: written whole, cut where a crash tore them, read by position."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from mainspring.core.errors import StoreError
from mainspring.store.home import sync_folder

_log = logging.getLogger(__name__)
MAGIC = b"\xf5MSf"
HEADER = struct.Struct("<4sII")  # magic, length of the payload, its CRC-32 that starts from the file's own random id
_NAME = re.compile(r"(?P<kind>[a-z]+)-(?P<sequence>\d{10})-(?P<id>[0-9a-f]{8})\.seg")
_SYNC_SECONDS = 0.02

Position = Mapping[str, int]
"""How far a reader has come: an offset for each file. JSON-able; an empty one is the beginning."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One batch as it was appended, and where it ends."""

    file: str
    start: int
    end: int
    payload: bytes


class Segments:
    """The segment files of one kind in one folder: any number of readers, one writing process a file.

    A writer takes up the newest file that no living process writes (kernel lock), cuts a torn tail off, and goes on in
    it; so restarts don't leave a trail of small files. After `append` a kill loses nothing; after `sync`, a power cut.
    """

    def __init__(self, folder: Path, kind: str, *, rotate_bytes: int = 64 << 20) -> None:
        self.folder, self.kind = folder, kind
        self.damage: set[str] = set()
        self._rotate_bytes = rotate_bytes
        self._write_lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._file: Path | None = None
        self._descriptor = -1
        self._seed = self._end = self._written = self._synced = 0
        self._dirty: threading.Event | None = None
        self._unsafe_since: float | None = None

    def files(self) -> list[Path]:
        """The files, the oldest first."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        matches = [match for name in sorted(names) if (match := _NAME.fullmatch(name))]
        return [self.folder / match[0] for match in matches if match["kind"] == self.kind]

    # -------------------------------------------------------------------------------------------------- writing

    def append(self, payload: bytes) -> Frame:
        """Write one frame by one write(2); raises StoreError, with nothing written, when there is no room."""
        with self._write_lock:
            try:
                if self._file is None or self._end >= self._rotate_bytes:
                    self._open()
                assert self._file is not None
                start = self._end
                self._write(HEADER.pack(MAGIC, len(payload), crc32(payload, self._seed)) + payload)
            except OSError as error:
                raise StoreError(
                    f"{self.folder} can't be written ({error.strerror}); make room, then try again"
                ) from error
            self._written += 1
            if self._unsafe_since is None:
                self._unsafe_since = time.monotonic()
            return Frame(self._file.name, start, self._end, payload)

    def sync(self) -> None:
        """Everything appended before this call is on the disk when it returns; callers at one time share one fsync."""
        wanted = self._written
        with self._sync_lock:
            if self._synced >= wanted or self._descriptor < 0:
                return
            with self._write_lock:
                reached, descriptor = self._written, os.dup(self._descriptor)
                since, self._unsafe_since = self._unsafe_since, None
            try:
                os.fdatasync(descriptor)
            except OSError as error:
                self._unsafe_since = since
                raise StoreError(f"{self.folder} can't be made durable ({error.strerror}); check the disk") from error
            finally:
                os.close(descriptor)
            self._synced = reached

    def sync_soon(self) -> None:
        """What was appended is on the disk within 50 ms, unless the disk itself is slower."""
        if self._dirty is None:
            self._dirty = threading.Event()
            threading.Thread(
                target=self._sync_always, args=(self._dirty,), name=f"sync {self.kind}", daemon=True
            ).start()
        self._dirty.set()

    def lag_seconds(self) -> float:
        """The age of the oldest frame that a loss of power would take; 0 where there is none."""
        since = self._unsafe_since
        return 0.0 if since is None else time.monotonic() - since

    def place(self) -> tuple[str, int]:
        """The file and the offset at which the next frame goes; the writer's file is opened for it."""
        with self._write_lock:
            if self._file is None:
                self._open()
            assert self._file is not None
            return self._file.name, self._end

    def close(self) -> None:
        """Sync, and leave the file to the next writer."""
        self.sync()
        with self._write_lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._file, self._descriptor = None, -1

    def _write(self, frame: bytes) -> None:
        try:
            written = os.write(self._descriptor, frame)
            while written < len(frame):  # a nearly full disk takes a part; the next write then says why
                written += os.write(self._descriptor, frame[written:])
        except OSError:
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(frame)

    def _sync_always(self, dirty: threading.Event) -> None:
        while True:
            dirty.wait()
            time.sleep(_SYNC_SECONDS)
            dirty.clear()
            try:
                self.sync()
            except StoreError as error:
                _log.error("%s", error)

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)
            os.close(self._descriptor)
            self._file, self._descriptor = None, -1
        files = self.files()
        if not (files and self._take_up(files[-1])):
            self._begin(_sequence(files[-1]) + 1 if files else 1)

    def _take_up(self, path: Path) -> bool:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        if not _locked(descriptor):
            os.close(descriptor)
            return False
        end = max((frame.end for frame in self.frames_of(path, 0)), default=0)
        if end >= self._rotate_bytes:
            os.close(descriptor)
            return False
        if end < os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, end)
        os.fsync(descriptor)  # what a killed writer had written may soon be told to be safe
        self._use(path, descriptor, end)
        return True

    def _begin(self, sequence: int) -> None:
        path = self.folder / f"{self.kind}-{sequence:010d}-{secrets.token_hex(4)}.seg"
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        if not _locked(descriptor):  # another starting writer was quicker to take the file that we made
            os.close(descriptor)
            self._begin(sequence + 1)
            return
        sync_folder(self.folder)
        sync_folder(self.folder.parent)  # which may have the folder's name since just now
        self._use(path, descriptor, 0)

    def _use(self, path: Path, descriptor: int, end: int) -> None:
        self._file, self._descriptor, self._end, self._seed = path, descriptor, end, seed_of(path)

    # -------------------------------------------------------------------------------------------------- reading

    def frames(self, after: Position | None = None) -> Iterator[Frame]:
        """The frames beyond position *after*, in the order of the files, each in the order of writing."""
        for path in self.files():
            with suppress(FileNotFoundError):  # compacted since the files were listed
                yield from self.frames_of(path, (after or {}).get(path.name, 0))

    def end(self) -> dict[str, int]:
        """The position behind everything written by now."""
        sizes = {}
        for path in self.files():
            with suppress(FileNotFoundError):
                sizes[path.name] = path.stat().st_size
        return sizes

    def frames_of(self, path: Path, offset: int) -> Iterator[Frame]:
        """The frames of one file from *offset* on. Raises FileNotFoundError before the first when it is gone."""
        first, seed = offset, seed_of(path)
        with open(path, "rb", buffering=1 << 18) as file:
            size = os.fstat(file.fileno()).st_size
            while offset < size:
                payload = _payload(file, offset, size, seed)
                if payload is None:
                    following = _next_frame(file, offset + 1, size, seed)
                    if following is None:
                        return  # torn, or just being written
                    if offset > first or first == 0:  # a reader may have begun in the middle of a frame
                        self._report(f"{path}: bytes {offset} to {following} are damaged; their records are lost")
                    offset = following
                    continue
                end = offset + HEADER.size + len(payload)
                yield Frame(path.name, offset, end, payload)
                offset = end

    def _report(self, damage: str) -> None:
        if damage not in self.damage:
            self.damage.add(damage)
            _log.error("%s", damage)


def advanced(position: Position | None, frame: Frame) -> dict[str, int]:
    """*position* moved behind *frame*."""
    return {**(position or {}), frame.file: frame.end}


def _payload(file: BinaryIO, offset: int, size: int, seed: int) -> bytes | None:
    """The payload of the frame at *offset*; None when no whole and sound frame stands there."""
    file.seek(offset)
    header = file.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    magic, length, checksum = HEADER.unpack(header)
    if magic != MAGIC or not 0 < length <= size - offset - HEADER.size:
        return None
    payload = file.read(length)
    return payload if len(payload) == length and crc32(payload, seed) == checksum else None


def _next_frame(file: BinaryIO, offset: int, size: int, seed: int) -> int | None:
    """Where the next sound frame begins, at or after *offset*."""
    block = 1 << 20
    while offset < size:
        file.seek(offset)
        found = file.read(block).find(MAGIC)
        if found < 0:
            offset += block - len(MAGIC) + 1
        elif _payload(file, offset + found, size, seed) is not None:
            return offset + found
        else:
            offset += found + 1
    return None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sequence(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match["sequence"])


def seed_of(path: Path) -> int:
    """A checksum starts from the file's random id, so that no request can carry bytes that pass for a frame."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return crc32(match["id"].encode())
