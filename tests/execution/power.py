"""Power loss: from the log of a run's system calls, the files as the disk would have them if the power failed then.

What was synced is there: a file's content by fsync of the file, a name by fsync of its folder. Of the rest any part may
be there or not, in any order; chance says which.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from syscalls import Call


class File:
    def __init__(self) -> None:
        self._synced = bytearray()
        self._pending: list[tuple[int, bytes | None]] = []

    def write(self, offset: int, data: bytes) -> None:
        self._pending.append((offset, data))

    def resize(self, size: int) -> None:
        self._pending.append((size, None))

    def sync(self) -> None:
        self._synced = self.content(1.0, random.Random(0))
        self._pending.clear()

    def content(self, share: float, chance: random.Random) -> bytearray:
        """What was synced, and about a *share* of the rest."""
        content = bytearray(self._synced)
        for place, data in self._pending:
            if chance.random() >= share:
                continue
            if data is None:
                content = content[:place].ljust(place, b"\0")
            else:
                content = content.ljust(place, b"\0")
                content[place : place + len(data)] = data
        return content


class Folder:
    def __init__(self) -> None:
        self.now: dict[str, File | Folder] = {}
        self._synced: dict[str, File | Folder] = {}
        self._pending: list[tuple[str, File | Folder | None]] = []

    def put(self, name: str, what: File | Folder | None) -> None:
        self.now.pop(name, None)
        if what is not None:
            self.now[name] = what
        self._pending.append((name, what))

    def sync(self) -> None:
        self._synced, self._pending = dict(self.now), []

    def names(self, share: float, chance: random.Random) -> dict[str, File | Folder]:
        found = dict(self._synced)
        for name, what in self._pending:
            if chance.random() < share:
                found.pop(name, None)
                if what is not None:
                    found[name] = what
        return found

    def materialise(self, path: Path, share: float, chance: random.Random) -> None:
        """Write this folder to *path*."""
        path.mkdir()
        for name, what in self.names(share, chance).items():
            if isinstance(what, Folder):
                what.materialise(path / name, share, chance)
            else:
                (path / name).write_bytes(what.content(share, chance))


class Disk:
    """A folder *root*, empty at first and known to the disk, that calls happen to."""

    def __init__(self, root: Path) -> None:
        self._root, self._top = root, Folder()
        self._inodes: dict[int, File] = {}

    def materialise(self, share: float, chance: random.Random) -> None:
        """The root, from now on, as it is after a power loss."""
        self._top.materialise(self._root, share, chance)

    def happen(self, calls: Iterable[Call]) -> None:
        for call in calls:
            if Path(call.path).is_relative_to(self._root):
                getattr(self, f"_{call.name}", self._nothing)(call)

    def _nothing(self, call: Call) -> None:
        """Permissions, and calls that failed."""

    def _open(self, call: Call) -> None:
        folder, name = self._place(call.path)
        if name not in folder.now:
            folder.put(name, File())
        file = folder.now[name]
        assert isinstance(file, File)
        self._inodes[call.inode] = file
        if call.length:
            file.resize(0)

    def _write(self, call: Call) -> None:
        self._inodes[call.inode].write(call.offset, call.data)

    def _ftruncate(self, call: Call) -> None:
        self._inodes[call.inode].resize(call.offset)

    def _fsync(self, call: Call) -> None:
        folder, name = self._place(call.path)
        what = self._top if call.path == str(self._root) else folder.now.get(name)
        if isinstance(what, Folder):
            what.sync()
        elif call.inode in self._inodes:
            self._inodes[call.inode].sync()

    def _mkdir(self, call: Call) -> None:
        if call.path != str(self._root):
            folder, name = self._place(call.path)
            folder.put(name, Folder())

    def _unlink(self, call: Call) -> None:
        folder, name = self._place(call.path)
        folder.put(name, None)

    _rmdir = _unlink

    def _rename(self, call: Call) -> None:
        folder, name = self._place(call.path)
        other, target = self._place(call.target)
        other.put(target, folder.now[name])
        folder.put(name, None)

    def _link(self, call: Call) -> None:
        folder, name = self._place(call.path)
        other, target = self._place(call.target)
        other.put(target, folder.now[name])

    def _place(self, path: str) -> tuple[Folder, str]:
        folder = self._top
        *above, name = Path(path).relative_to(self._root).parts or ("",)
        for part in above:
            inner = folder.now[part]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, name
