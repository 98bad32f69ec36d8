"""The code of a step, as its fingerprint knows it: pieces with digests, and the libraries they import with versions."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import FunctionType, MappingProxyType
from typing import Any

from blake3 import blake3

from mainspring.core import collector
from mainspring.core.errors import DeclarationError
from mainspring.pipeline import datafiles, fingerprint
from mainspring.pipeline.codebase import Codebase
from mainspring.pipeline.fingerprint import HELD, Parts
from mainspring.pipeline.reach import Place, Reach, reach, reach_names
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
    """pieces: what the step's function reaches, name -> digest; places: where those stand. libraries: installed
    distribution -> version. files: data files named by `mainspring.file` -> digest. widened: where more was taken than
    may be needed, because the code couldn't be followed. asked: each data file with the file that names it."""

    pieces: Mapping[str, str]
    libraries: Mapping[str, str]
    places: Mapping[str, Place] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    widened: tuple[str, ...] = ()
    asked: frozenset[tuple[str, str]] = frozenset()

    def stated(self) -> list[str]:
        """All of it, as texts that differ when it does."""
        groups = (self.pieces, self.libraries, self.files)
        return [f"{name} {value}" for group in groups for name, value in sorted(group.items())]


class Codes:
    """The code of the steps of one run; each function is walked once."""

    def __init__(self) -> None:
        self.project = Codebase()
        self._known: dict[str, tuple[Any, Code]] = {}
        self._things: dict[tuple[int, Any], str] = {}
        self._within: dict[tuple[int, Any], Code] = {}
        self._held: dict[tuple[str, ...], Code] = {}

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

    def pieces_of(self, thing: Any) -> Mapping[str, str]:
        """The pieces of the project's code that a function or class among a step's parameters reaches."""
        found = self._within.get((id(thing), thing))
        return {} if found is None else found.pieces

    @property
    def places(self) -> Mapping[str, Place]:
        """Where the pieces of code stand that functions among parameters reach."""
        return {name: place for found in self._within.values() for name, place in found.places.items()}

    def held(self, names: tuple[str, ...]) -> Code:
        """The code that values hold, by the names that their artifacts note."""
        if names not in self._held:
            found = reach_names(names, self.project)
            self._held[names] = _code(HELD, found)
        return self._held[names]

    def untold(self, codes: Iterable[Code], parts: Parts, named: Iterable[str]) -> list[str]:
        """The data files *named* by a step as it ran that neither *codes* nor functions among parameters tell."""
        reached = {piece for pieces in parts.reached.values() for piece in pieces.items()}
        within = (found for found in self._within.values() if found.pieces.items() <= reached)
        told = {each for found in (*codes, *within) for each in found.asked}
        asked = [(path, Path(by) if by else None) for path, by in told]
        return [path for path in named if not any(datafiles.counts(path, *each) for each in asked)]

    def _of(self, step: Step) -> Code:
        if isinstance(step.function, str):
            return _named(step.name, step.function)
        with collector.paused():
            found = reach([step.function], self.project)
        return _code(step.name, found, self._object(step))

    def follow(self, steps: Iterable[Step]) -> None:
        """Follow the code of *steps* in one go; what can't be told is an error when it is asked for."""
        with collector.paused():
            for step in steps:
                with suppress(Exception):
                    self(step)

    def _object(self, step: Step) -> dict[str, str]:
        """The object of a bound method, whose values count beside its code."""
        if isinstance(step.function, FunctionType) or not hasattr(step.function, "__self__"):
            return {}
        try:
            return {f"{step.name}.__self__": fingerprint.digest(step.function.__self__, code=self.digest)}
        except (TypeError, AttributeError, pickle.PicklingError, RecursionError) as error:
            raise DeclarationError(
                f"step {step.name!r}: the object of its method can't be fingerprinted ({error}); use a plain function"
            ) from error

    def _digest(self, thing: Any) -> str:
        module = str(getattr(thing, "__module__", ""))
        name = f"{module}:{getattr(thing, '__qualname__', thing)}"
        library = module.partition(".")[0]
        if library in (_OURS, "builtins"):
            return name
        found = _code(name, reach([thing], self.project))
        if found.places:
            named = {piece: digest for piece, digest in found.pieces.items() if piece != name or piece in found.places}
            self._within[id(thing), thing] = replace(found, pieces=named)
        return " ".join([name, *replace(found, libraries={**found.libraries, **versions([library])}).stated()])


def _code(name: str, found: Reach, more: Mapping[str, str] = MappingProxyType({})) -> Code:
    """Each piece by name, or each module where there are many, and *more*; *name* stands for what is in no piece."""
    named = found.pieces if len(found.pieces) <= _MOST_PIECES else found.digests
    pieces = {name: found.digest, **named, **more}
    return Code(pieces, versions(found.libraries), found.places, found.files, found.widened, found.asked)


@cache
def _named(name: str, function: str) -> Code:
    """The code of "module:function": the module's file, or of mainspring's own all rooms that it can import."""
    module = function.partition(":")[0]
    files = _room_files(module) if module.startswith(f"{_OURS}.") else [_file(module, name)]
    hashed = blake3(function.encode())
    imported: set[str] = set()
    for file in files:
        content, names = _read(file)
        hashed.update(content)
        imported.update(names)
    found = (_installed(name) for name in sorted(imported - {_OURS}))
    return Code({function: hashed.hexdigest()}, dict(each for each in found if each is not None))


@cache
def _read(file: Path) -> tuple[bytes, frozenset[str]]:
    """What *file* holds, and what it imports; mainspring's own are read for one stage after the other."""
    text = file.read_text()
    return text.encode(), frozenset(_IMPORTS.findall(text))


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


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """The installed versions of *libraries*, import names, by the name of the distribution that each comes from."""
    return dict(found for name in libraries if name != _OURS for found in [_version(name)])


@cache
def _version(library: str) -> tuple[str, str]:
    """The distribution of *library* and its version; "" when it is part of Python, or nobody's package."""
    found = _installed(library)
    if found is not None or library in sys.stdlib_module_names:
        return found or (library, "")
    from importlib import metadata  # here and below: a run whose steps use no library needn't load it

    names = _distributions().get(library, [])
    return (names[0], metadata.version(names[0])) if names else (library, "")


@cache
def _installed(library: str) -> tuple[str, str] | None:
    """The distribution that is called as *library* is imported, or as it is known to be."""
    from importlib import metadata

    for name in (_INSTALLED_AS.get(library, library), library.replace("_", "-")):
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


@cache
def _distributions() -> Mapping[str, list[str]]:
    from importlib import metadata

    return metadata.packages_distributions()
