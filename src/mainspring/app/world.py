"""All that the answer of a FILE depends on beside the home: sources, libraries, folders, data files, settings."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

import mainspring
from mainspring.app import config
from mainspring.pipeline import datafiles
from mainspring.pipeline.fingerprint import hashed

_GONE = "gone"


@dataclass(frozen=True, slots=True)
class Named:
    """What to look at. files: modules of the project; folders: where a new module could hide one of them; data: data
    files, each (path, the file that names it); sources: the patterns of source files."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    data: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"files": self.files, "folders": self.folders, "data": self.data, "sources": self.sources}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Named:
        data = tuple((path, by) for path, by in kept["data"])
        return cls(tuple(kept["files"]), tuple(kept["folders"]), data, tuple(kept["sources"]))


def state(named: Named, file: Path, home: str | None) -> str:
    """The digest of all that is *named*, and of what every FILE depends on, as it is now."""
    return hashed("world", *_parts(named, file, home))


def _parts(named: Named, file: Path, home: str | None) -> Iterable[str]:
    yield f"{mainspring.__version__} {sys.version} {sys.executable} {sys.flags} {os.getcwd()} {config.read(home=home)}"
    yield _stated(Path(mainspring.__file__).parent)
    yield from search_path(file)
    for folder in named.folders:
        yield f"{folder} {_names(folder)}"
    for path in named.files:
        yield f"{path} {_content(path)}"
    for path, by in named.data:
        yield f"{path} {datafiles.digest(path, Path(by) if by else None)}"
    for pattern in named.sources:
        found = sorted(glob.glob(os.path.expanduser(pattern), recursive=True))
        yield f"{pattern} {[(path, datafiles.digest(os.path.abspath(path), None)) for path in found]}"


def search_path(file: Path) -> Sequence[str]:
    """`sys.path` as it is once FILE is loaded."""
    folder = str(file.parent)
    return sys.path if folder in sys.path else [folder, *sys.path]


def _names(folder: str) -> str:
    """The names in *folder* that an import may find, installed distributions with their versions among them."""
    try:
        with os.scandir(folder or ".") as entries:
            kept = (".py", ".so", ".pyd", ".pth", ".pyc", ".dist-info", ".egg-info", ".egg-link")
            names = [
                entry.name
                for entry in entries
                if entry.name.endswith(kept) or ("." not in entry.name and entry.name != "__pycache__")
            ]
    except OSError:
        return _GONE
    return "\n".join(sorted(names))


def _content(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return blake3(file.read()).hexdigest()
    except OSError:
        return _GONE


def _stated(package: Path) -> str:
    """mainspring's own files by size and time: an upgrade replaces them."""
    found = []
    for folder, _, names in os.walk(package):
        for name in names:
            if name.endswith(".py"):
                status = os.stat(path := os.path.join(folder, name))
                found.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(sorted(found))
