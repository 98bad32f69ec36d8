"""Append-only files of checksummed frames: written whole, cut where a crash tore them, read by position."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
import stat
import struct
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from mainspring.core.errors import StoreError
from mainspring.store import durable
from mainspring.store.turns import Turn

_log = logging.getLogger(__name__)
MAGIC = b"\xf5MSf"
HEADER = struct.Struct("<4sII")  # magic, length of the payload, its CRC-32 that starts from the file's own random id
_NAME = re.compile(r"(?P<kind>[a-z]+)-(?P<sequence>\d{10})-(?P<id>[0-9a-f]{8})\.seg")
_SYNC_SECONDS = 0.02
_MOST_WRITERS = 64
_BELIEVED, _DOUBTED = 0o600, 0o600 | stat.S_ISVTX
"""The modes of a file: by the sticky bit all processes, the next ones too, see that an fsync of it failed."""

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
    A file has its first frame before the next one is made, so a position that names a file knows all before it.

    shared: all processes write the newest file, each in its `turn`: the frames have one order. `sync` is for all of
    them.
    """

    def __init__(self, folder: Path, kind: str, *, rotate_bytes: int = 64 << 20, shared: bool = False) -> None:
        self.folder, self.kind, self._shared = folder, kind, shared
        self.damage: set[str] = set()
        self._rotate_bytes = rotate_bytes
        self._write_lock, self._sync_lock = threading.Lock(), threading.Lock()
        self._file: Path | None = None
        self._descriptor = -1
        self._seed = self._end = self._written = self._synced = 0
        self._dirty: threading.Event | None = None
        self._unsafe_since: float | None = None
        self._left = False
        self._full: list[tuple[Path, int]] = []
        self._named = True

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
        """Write one frame by one write(2); raises StoreError, with nothing written, when there is no room. Of shared
        files: only in a turn."""
        with self._write_lock, self._told():
            if self._shared:
                self._join()
            if self._file is not None and self._end < self._rotate_bytes:
                return self._frame(payload)
            with nullcontext() if self._shared else self._turn():
                self._open()
                return self._frame(payload)

    def turn(self, *, wait: bool = False) -> Turn | None:
        """The right to append to shared files, to be ended soon; None while another has it and nobody waits."""
        with self._told():
            self.folder.mkdir(parents=True, exist_ok=True)
            return Turn.take(self.folder / f"{self.kind}.turn", wait=wait)

    def join(self) -> None:
        """In a turn: take in what others have appended, so that `sync` is for that too; cut off what a killed one
        left half written."""
        with self._write_lock, self._told():
            self._join()

    def step_aside(self, distance: int) -> None:
        """Leave a file behind which there are *distance* newer ones, for it keeps them all from being compacted."""
        with self._write_lock:
            if self._file is None or not self._end:
                return
            files = self.files()
            if files and _sequence(files[-1]) >= _sequence(self._file) + distance:
                with self._told():
                    self._leave()

    def sync(self) -> None:
        """Everything appended before this call is on the disk when it returns; callers at one time share one fsync."""
        wanted = self._written
        with self._sync_lock:
            if not self._full and (self._synced >= wanted or self._descriptor < 0):
                return
            with self._write_lock:
                reached, full = self._written, len(self._full)
                current = [] if self._file is None else [(self._file, self._descriptor)]
                files = [(path, os.dup(each)) for path, each in (*self._full, *current)]
                since, self._unsafe_since = self._unsafe_since, None
            try:
                self._make_durable(files)
            except OSError as error:
                self._unsafe_since = since
                raise StoreError(f"{self.folder} can't be made durable ({error.strerror}); check the disk") from error
            finally:
                for _, descriptor in files:
                    os.close(descriptor)
            for _, descriptor in self._full[:full]:
                os.close(descriptor)
            del self._full[:full]
            self._synced = reached

    def _make_durable(self, files: Sequence[tuple[Path, int]]) -> None:
        """The files, and their names, which come first: what is in a file that can't be found is lost."""
        if not self._named:
            self._named = True
            try:
                self._sync_names()
            except OSError:
                self._named = False
                raise
        for path, descriptor in files:
            self._sync_file(path, descriptor)

    def _sync_file(self, path: Path, descriptor: int) -> None:
        """What is in the file is on the disk. After an fsync that failed the kernel may take what it didn't write for
        written: the next one is believed, by any process, only when all has been written again before it."""
        if not _doubted(descriptor):
            try:
                os.fdatasync(descriptor)
                if not _doubted(descriptor):  # another process's may have failed meanwhile
                    return
            except OSError as error:
                os.fchmod(descriptor, _DOUBTED)
                _log.error("%s can't be made durable (%s); it is written again", path, error.strerror)
        self._write_again(path)
        os.fdatasync(descriptor)
        os.fchmod(descriptor, _BELIEVED)

    def _write_again(self, path: Path) -> None:
        """The frames of *path*, in their places; raises OSError where one is gone, or might be erased meanwhile."""
        alone, damage = Turn.take(self.folder / "compacting"), len(self.damage)
        if alone is None:
            raise OSError(errno.EAGAIN, "its records are being compacted or erased")
        descriptor, end = os.open(path, os.O_WRONLY), 0  # one to append to would put them at the end
        try:
            size = os.fstat(descriptor).st_size
            for frame in self.frames_of(path, 0):
                os.pwrite(descriptor, _framed(frame.payload, seed_of(path)), frame.start)
                end = frame.end
        finally:
            os.close(descriptor)
            alone.end()
        if len(self.damage) > damage or (end < size and path == self._file):
            raise OSError(errno.EIO, "what was written is gone")

    def _sync_names(self) -> None:
        durable.sync(self.folder)
        durable.sync(self.folder.parent)  # which may have the folder's name since just now

    def sync_soon(self) -> None:
        """What was appended is on the disk within 50 ms, unless the disk itself is slower."""
        if self._dirty is None:
            self._dirty = threading.Event()
            threading.Thread(
                target=self._sync_always, args=(self._dirty,), name=f"sync {self.kind}", daemon=True
            ).start()
        if not self._dirty.is_set():  # it is cleared before what has been written is counted
            self._dirty.set()

    def lag_seconds(self) -> float:
        """The age of the oldest frame that a loss of power would take; 0 where there is none."""
        since = self._unsafe_since
        return 0.0 if since is None else time.monotonic() - since

    def place(self) -> tuple[str, int]:
        """The file, without its random id where it isn't made yet, and the offset at which the next frame goes. What a
        killed writer left is taken up and made safe for it."""
        with self._write_lock, self._told():
            if self._file is None:
                with self._turn():
                    self._go_on()
            if self._file is not None:
                return self._file.name, self._end
            return f"{self.kind}-{self._next():010d}-", 0

    def close(self) -> None:
        """Sync, and leave the file to the next writer."""
        self.sync()
        with self._write_lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._file, self._descriptor = None, -1

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.folder} can't be written ({error.strerror}); make room, then try again") from error

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Alone while files are made."""
        turn = self.turn(wait=True)
        assert turn is not None
        try:
            yield
        finally:
            turn.end()

    def _frame(self, payload: bytes) -> Frame:
        assert self._file is not None
        file, start = self._file, self._end
        try:
            self._write(_framed(payload, self._seed))
        except OSError:
            if start == 0:  # no file is there without a frame
                file.unlink(missing_ok=True)
                self._leave()
            raise
        self._note_unsafe()
        return Frame(file.name, start, self._end, payload)

    def _note_unsafe(self) -> None:
        self._written += 1
        if self._unsafe_since is None:
            self._unsafe_since = time.monotonic()

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
        """The next file; for a writer that begins, what the last one left. Only in a turn."""
        if self._file is None and not self._left:
            self._go_on()
        if self._file is None or self._end >= self._rotate_bytes:
            later = self._dirty is not None and not self._shared
            self._leave(later=later)
            self._begin(self._next(), later=later)

    def _next(self) -> int:
        files = self.files()
        return _sequence(files[-1]) + 1 if files else 1

    def _leave(self, *, later: bool = False) -> None:
        """Be done with the file. later: `sync`, which comes soon, makes it durable, which no request waits for."""
        if self._file is not None:
            if later:
                self._full.append((self._file, self._descriptor))
            else:
                self._sync_file(self._file, self._descriptor)
                os.close(self._descriptor)
            self._left = True
        self._file, self._descriptor = None, -1

    def _join(self) -> None:
        files = self.files()
        if files and files[-1] != self._file:  # another writer has begun it
            self._leave()
            if self._take_up(files[-1]):
                self._note_unsafe()
        elif self._file is not None and (size := os.fstat(self._descriptor).st_size) != self._end:
            self._end = max((frame.end for frame in self.frames_of(self._file, self._end)), default=self._end)
            if self._end < size:
                os.ftruncate(self._descriptor, self._end)
            self._note_unsafe()

    def _go_on(self) -> None:
        """Where the last writer ended, if it has ended."""
        files = self.files()
        for path in files[-_MOST_WRITERS:-1]:  # of killed writers of which others have gone on
            with suppress(FileNotFoundError), open(path, "rb") as file:
                self._sync_file(path, file.fileno())
        if files:
            self._take_up(files[-1])

    def _take_up(self, path: Path) -> bool:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        if not _locked(descriptor, self._shared):
            os.close(descriptor)
            return False
        end = max((frame.end for frame in self.frames_of(path, 0)), default=0)
        if end < os.fstat(descriptor).st_size and end < self._rotate_bytes:
            os.ftruncate(descriptor, end)
        self._sync_file(path, descriptor)  # what a killed writer had written may soon be told to be safe
        if end >= self._rotate_bytes:
            os.close(descriptor)
            return False
        self._use(path, descriptor, end)
        return True

    def _begin(self, sequence: int, *, later: bool) -> None:
        path = self.folder / f"{self.kind}-{sequence:010d}-{secrets.token_hex(4)}.seg"
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        _locked(descriptor, self._shared)
        if later:
            self._named = False
        else:
            self._sync_names()
        self._use(path, descriptor, 0)

    def _use(self, path: Path, descriptor: int, end: int) -> None:
        self._file, self._descriptor, self._end, self._seed = path, descriptor, end, seed_of(path)

    def remove(self, path: Path) -> bool:
        """Remove a file that nobody needs any more; False while a process writes it, or one compacts or erases."""
        alone = Turn.take(self.folder / "compacting")
        if alone is None:
            return False
        try:
            with open(path, "rb") as file:
                if not _locked(file.fileno(), shared=False):
                    return False
                path.unlink()
            durable.sync(self.folder)
        finally:
            alone.end()
        return True

    # -------------------------------------------------------------------------------------------------- reading

    def frames(self, after: Position | None = None) -> Iterator[Frame]:
        """The frames beyond position *after*, in the order of the files, each in the order of writing."""
        for path in self.files():
            begun = (after or {}).get(path.name, 0)
            with suppress(FileNotFoundError):  # compacted since the files were listed
                if not begun or path.stat().st_size > begun:
                    yield from self.frames_of(path, begun)

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


def _framed(payload: bytes, seed: int) -> bytes:
    return HEADER.pack(MAGIC, len(payload), crc32(payload, seed)) + payload


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


def _doubted(descriptor: int) -> bool:
    return bool(os.fstat(descriptor).st_mode & stat.S_ISVTX)


def _locked(descriptor: int, shared: bool) -> bool:
    """Whether no one else writes the file; shared: no one who wants it alone."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
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
