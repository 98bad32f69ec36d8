"""The code of a step, as its fingerprint knows it: pieces with digests, and the libraries they import with versions."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from blake3 import blake3

from mainspring.core.errors import DeclarationError
from mainspring.pipeline.modules import Project
from mainspring.pipeline.reach import Reach, reach
from mainspring.pipeline.step import Step

_OURS = "mainspring"
_FLOORS = ("core", "statistics", "store", "pipeline")
_MOST_PIECES = 100
_IMPORTS = re.compile(r"^\s*(?:import|from)\s+([a-zA-Z_]\w*)", re.MULTILINE)
_INSTALLED_AS = {
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
}


@dataclass(frozen=True, slots=True)
class Code:
    """pieces: what the step's function reaches, name -> digest. libraries: name -> installed version."""

    pieces: Mapping[str, str]
    libraries: Mapping[str, str]


class Codes:
    """The code of the steps of one run; each function is walked once."""

    def __init__(self) -> None:
        self._project = Project()
        self._known: dict[str, tuple[Any, Code]] = {}
        self._things: dict[tuple[int, Any], str] = {}

    def __call__(self, step: Step) -> Code:
        """The code of *step*."""
        known = self._known.get(step.name)
        if known is None or known[0] is not step.function:
            known = self._known[step.name] = step.function, self._of(step)
        return known[1]

    def digest(self, thing: Any) -> str:
        """The digest of a function or class among a step's parameters; a library's counts by name and version."""
        key = (id(thing), thing)
        if key not in self._things:
            self._things[key] = self._digest(thing)
        return self._things[key]

    def _of(self, step: Step) -> Code:
        if isinstance(step.function, str):
            return _named(step.name, step.function)
        found = reach([step.function], self._project)
        return Code(_pieces(step.name, found), {name: _version(name) for name in found.libraries if name != _OURS})

    def _digest(self, thing: Any) -> str:
        module = str(getattr(thing, "__module__", ""))
        name = f"{module}:{getattr(thing, '__qualname__', thing)}"
        library = module.partition(".")[0]
        if library in (_OURS, "builtins"):
            return name
        found = reach([thing], self._project)
        versions = [f"{each} {_version(each)}" for each in (*found.libraries, library) if each != _OURS]
        return " ".join([name, found.digest, *versions])


def _pieces(name: str, found: Reach) -> dict[str, str]:
    """Each piece by name, or each module where there are many; *name* stands for what is in no piece."""
    if len(found.pieces) <= _MOST_PIECES:
        return {name: found.digest, **found.pieces}
    return {name: found.digest, **{module: blake3(text.encode()).hexdigest() for module, text in found.modules.items()}}


@cache
def _named(name: str, function: str) -> Code:
    """The code of "module:function": the module's file, or of mainspring's own all rooms that it can import."""
    module = function.partition(":")[0]
    files = _room_files(module) if module.startswith(f"{_OURS}.") else [_file(module, name)]
    hashed = blake3(function.encode())
    imported: set[str] = set()
    for file in files:
        text = file.read_text()
        hashed.update(text.encode())
        imported.update(_IMPORTS.findall(text))
    versions = {found: version for found in sorted(imported - {_OURS}) if (version := _version(found))}
    return Code({function: hashed.hexdigest()}, versions)


def _room_files(module: str) -> list[Path]:
    """The sources of the rooms on the floors below a stage, and of its own; of all rooms for what stands above them."""
    root = Path(__file__).resolve().parent.parent
    room = module.split(".")[1]
    above = [path.name for path in root.iterdir() if path.is_dir() and path.name not in ("app", "testing")]
    rooms = above if room == "loop" else [*_FLOORS, room]
    return sorted(path for each in rooms for path in (root / each).glob("*.py"))


def _file(module: str, step: str) -> Path:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        raise DeclarationError(f"step {step!r}: module {module!r} can't be found; is its folder importable?")
    return Path(spec.origin)


@cache
def _version(library: str) -> str:
    """The installed version of *library*, by import name; "" when it is part of Python, or nobody's package."""
    for name in (_INSTALLED_AS.get(library, library), library.replace("_", "-")):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""
