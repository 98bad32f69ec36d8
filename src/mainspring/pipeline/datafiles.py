"""`mainspring.file("data/cities.csv")`: a data file that the steps which name it depend on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from blake3 import blake3

from mainspring.core.errors import SourceNotFound
from mainspring.pipeline.fingerprint import MISSING

_MARKS = (".mainspring", "mainspring.toml", "pyproject.toml", ".git")
_SKIPPED = frozenset({"__pycache__", "node_modules", "venv", "mlruns"})
_COMPILED = (".pyc",)
_CODE = (".py", *_COMPILED)
_MOST = 10_000
_KNOWN: dict[str, tuple[tuple[int, ...], str]] = {}
_mine: ContextVar[dict[str, None] | None] = ContextVar("named", default=None)
_at_work: dict[int, dict[str, None]] = {}
"""Of the calls at work in this process, for threads, and tasks left over, of which nobody knows whose they are."""


def file(path: str | os.PathLike[str]) -> Path:
    """The data file, or folder, *path*, looked for beside the file that says so, then upwards to the project's folder.

    A step that reaches this call depends on the file's content, and runs again when that changes; of a folder on all
    that lies in it, but for hidden folders, `venv`, `node_modules` and `mlruns`. Write the path as a literal: for a
    computed one everything in the folder that it begins with counts, but Python files, and `plan` says so. A step that
    gets a file here which its code doesn't tell runs each time, and `plan` names the file. Raises SourceNotFound when
    it isn't there.
    """
    caller = sys._getframe(1).f_globals.get("__file__")
    here = Path(caller).resolve() if isinstance(caller, str) and os.path.isfile(caller) else None
    found = _find(os.fspath(path), here)
    if found is None:
        places = ", ".join(map(str, _folders(here)))
        raise SourceNotFound(f"no file {os.fspath(path)!r} in {places}; give its path from the file that names it")
    mine = _mine.get()
    for named in [mine] if mine is not None and id(mine) in _at_work else list(_at_work.values()):
        named[str(found)] = None
    return found


class naming:
    """Gathers the paths that `file` gives in the block, in whatever way it is called."""

    __slots__ = ("_named", "_token")

    def __enter__(self) -> dict[str, None]:
        self._named: dict[str, None] = {}
        _at_work[id(self._named)] = self._named
        self._token = _mine.set(self._named)
        return self._named

    def __exit__(self, *error: object) -> None:
        _mine.reset(self._token)
        del _at_work[id(self._named)]


def counts(found: str, path: str, here: Path | None) -> bool:
    """Whether the digest of *path*, named in file *here*, tells the content of *found*."""
    place = _find(path, here)
    if place is None or not path.endswith("/"):
        return place is not None and str(place) == found
    folder, real = os.path.realpath(place), os.path.realpath(found)
    if not f"{real}{os.sep}".startswith(f"{folder.rstrip(os.sep)}{os.sep}"):
        return False
    parts = Path(real).relative_to(folder).parts
    skipped = any(name.startswith(".") or name in _SKIPPED for name in (parts if os.path.isdir(real) else parts[:-1]))
    return not (skipped or real.endswith(_CODE))


def digest(path: str, here: Path | None) -> str:
    """The digest of the content of *path*, named in file *here* (None: in a notebook); one that ends in "/" is a folder
    in which a computed path begins, and may have no file yet."""
    found = _find(path, here)
    if found is None:
        return MISSING
    return _of_folder(found, code=not path.endswith("/")) if found.is_dir() else _of_file(found)


def _find(path: str, here: Path | None) -> Path | None:
    expanded = Path(path).expanduser()
    if expanded.is_absolute():
        return expanded if expanded.exists() else None
    return next((place for folder in _folders(here) if (place := folder / expanded).exists()), None)


def _folders(here: Path | None) -> list[Path]:
    """Where a relative path is looked for: the folder of the file that names it, upwards to the project's."""
    if here is None:
        return [Path.cwd()]
    folders = list(here.parents)
    marked = next((index for index, folder in enumerate(folders) if _is_project(folder)), 0)
    return folders[: marked + 1]


def _is_project(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in _MARKS)


def _of_folder(folder: Path, *, code: bool) -> str:
    """The digest of what lies in *folder*; Python files count where it was named itself."""
    hashed = blake3()
    for number, path in enumerate(_below(folder, _COMPILED if code else _CODE)):
        if number >= _MOST:
            raise SourceNotFound(
                f"{folder} has more than {_MOST} files, too many to depend on as a whole; name one by a literal path"
            )
        content = _of_file(path)
        if content == MISSING and path.is_symlink():  # to a folder, or to nothing
            content = os.readlink(path)
        hashed.update(f"{path.relative_to(folder)}\0{content}\0".encode())
    return hashed.hexdigest()


def _below(folder: Path, skipped: tuple[str, ...]) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        yield from (path for name in folders if (path := Path(at, name)).is_symlink())
        yield from (Path(at, name) for name in sorted(files) if not name.endswith(skipped))


def _of_file(path: Path) -> str:
    """The digest of a file's content; it is read again only when the file system says that it was written."""
    try:
        found = path.stat()
        state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)
        known = _KNOWN.get(str(path))
        if known is None or known[0] != state:
            known = _KNOWN[str(path)] = state, blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()
    except OSError:
        return MISSING
    return known[1]
