"""What of the user's project a function reaches: found by walking the code, never by running it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from blake3 import blake3

from mainspring.pipeline import datafiles, live
from mainspring.pipeline.codebase import Codebase
from mainspring.pipeline.effects import Effects, Source
from mainspring.pipeline.entries import entries, locate, references
from mainspring.pipeline.fingerprint import digest
from mainspring.pipeline.names import Unit
from mainspring.pipeline.running import value_of
from mainspring.pipeline.units import canonical
from mainspring.pipeline.walk import Walk

__all__ = ["Place", "Reach", "locate", "reach", "references"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece of code stands. kind: function, class, constant, import, statement, value or module."""

    kind: str
    name: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Reach:
    """The code that some functions and classes need, cut out of the user's project.

    digest: equal for equal code, whatever its comments, docstrings and formatting. modules: module -> its source, cut
    down to the top-level statements that are reached. libraries: installed packages that those import, by import name.
    entry_points: "module:qualname" of each thing asked for, in order; empty for a library's. pieces: "module:name" ->
    digest of each statement reached, to tell what changed; places: where each of them stands. widened: where the code
    couldn't be followed and more was taken than may be needed. files: the data files that it names by
    `mainspring.file`, as they are written -> digest of their content.
    """

    digest: str
    modules: Mapping[str, str]
    libraries: tuple[str, ...]
    entry_points: tuple[str, ...]
    pieces: Mapping[str, str] = field(default_factory=dict)
    widened: tuple[str, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def reach(things: Sequence[Any], project: Codebase | None = None) -> Reach:
    """The code that *things* reach: functions, classes, or objects (their class, and the functions that they hold).

    project: where modules are found; the folders of the things' own files and `sys.path` unless told.

    >>> reach([len]).modules
    {}
    """
    project = Codebase() if project is None else project
    found = entries(things, project)
    walk = Walk(project, {name: text for entry in found for name, text in entry.texts.items()})
    for entry in found:
        walk.enter(entry)
    walk.finish()
    points = tuple(entry.reference for entry in found if entry.asked)
    reached = walk.reached()
    kept: list[set[tuple[str, str]]] = []
    pieces = [piece for name, indices in reached.items() for piece in _pieces(walk, name, indices, kept)]
    return Reach(
        digest=_digest([*sorted(walk.found.opaque), *points, *(f"{piece.key} {piece.digest}" for piece in pieces)]),
        modules=_Cuts(walk, reached),
        libraries=tuple(sorted(walk.found.libraries)),
        entry_points=points,
        pieces={piece.key: piece.digest for piece in pieces},
        widened=tuple(walk.found.notes),
        places={piece.key: piece.place for piece in pieces},
        files=_files(walk),
    )


@dataclass(frozen=True, slots=True)
class _Piece:
    key: str
    digest: str
    place: Place


class _Cuts(Mapping[str, str]):
    """The modules, each cut when it is asked for."""

    def __init__(self, walk: Walk, reached: Mapping[str, list[int]]) -> None:
        self._sources = {
            name: (source, indices)
            for name, indices in reached.items()
            if (source := walk.source(name)) is not None and not _is_folder(source)
        }
        self._cut: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        if name not in self._cut:
            self._cut[name] = _cut(*self._sources[name])
        return self._cut[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __eq__(self, other: object) -> bool:
        return dict(self) == other

    __hash__ = None  # type: ignore[assignment]


def _pieces(walk: Walk, name: str, indices: list[int], kept: list[set[tuple[str, str]]]) -> Iterator[_Piece]:
    """Each statement reached under a name of its own, with its digest; and values that no statement tells."""
    source = walk.source(name)
    if source is None:
        return
    if source.parsed.futures:
        place = Place("import", "__future__", source.text.path, 1)
        yield _Piece(f"{name}:__future__", _digest([source.parsed.futures]), place)
    known = walk.project.pieces if walk.project.source(name) is source else {}
    values = walk.imports(name)
    seen: dict[str, int] = {}
    for index in indices:
        piece = known.get((name, index))
        if piece is None:
            piece = known[name, index] = _piece(source, index)
        seen[piece.key] = number = seen.get(piece.key, 0) + 1
        yield piece if number == 1 else replace(piece, key=f"{piece.key} ({number})")
        if values and source.parsed.units[index].data:
            yield from _values(walk, source, index, kept)


def _piece(source: Source, index: int) -> _Piece:
    unit = source.parsed.units[index]
    key = f"{source.name}:{unit.name}"
    return _Piece(key, _digest([canonical(unit)]), Place(unit.kind, unit.name, source.text.path, unit.line))


def _values(walk: Walk, source: Source, index: int, kept: list[set[tuple[str, str]]]) -> Iterator[_Piece]:
    """What the names of a unit mean by now, where its text alone doesn't tell. A value that functions which are
    reached alter themselves, as they run, isn't what the code made of it."""
    known = walk.project.values
    if (source.name, index) not in known:
        known[source.name, index] = dict(_values_of(walk, source, source.parsed.units[index]))
    for name, piece in known[source.name, index].items():
        if not kept:
            kept.append(_kept(walk))
        if (source.name, name) not in kept[0]:
            yield piece


def _values_of(walk: Walk, source: Source, unit: Unit) -> Iterator[tuple[str, _Piece]]:
    for name in sorted(unit.binds):
        there, value = value_of(source.text, name)
        if not there or unit.gives(name, value):
            continue
        found = _steady(value, walk)
        if found is None and walk.project.effects.outside(source, unit):
            found = live.digest_of(value)
        if found is not None:
            place = Place("value", name, source.text.path, unit.line)
            yield name, _Piece(f"{source.name}:{name} (value)", found, place)


def _kept(walk: Walk) -> set[tuple[str, str]]:
    """What functions that are reached alter themselves as they run."""
    known = walk.project.kept
    found: set[tuple[str, str]] = set()
    for key in walk.found.units:
        source = walk.project.source(key[0])
        if source is None or key[1] >= len(source.parsed.units):  # a nested function, which was given a name
            found.update(Effects(walk.source).kept_by(*key))
            continue
        if key not in known:
            known[key] = frozenset(walk.project.effects.kept_by(*key))
        found |= known[key]
    return found


def _steady(value: Any, walk: Walk) -> str | None:
    """The digest of a plain value, wherever the project lies; None for another."""
    try:
        return digest(_relative(value, [str(root) for root in walk.project.roots]), other=_refuse, code=_path)
    except (TypeError, AttributeError, RecursionError):
        return None


def _relative(value: Any, roots: list[str]) -> Any:
    if isinstance(value, PurePath):
        return ("path", _relative(str(value), roots))
    if isinstance(value, str):
        root = next((root for root in roots if value == root or value.startswith(f"{root}{os.sep}")), None)
        return value if root is None else f"<project>{value[len(root) :]}"
    if type(value) in (list, tuple):
        return [type(value).__name__, *(_relative(each, roots) for each in value)]
    if type(value) is dict:
        return {_relative(key, roots): _relative(each, roots) for key, each in value.items()}
    return value


def _refuse(value: Any) -> str:
    raise TypeError(f"a {type(value).__name__} isn't plain")


def _path(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}"


def _files(walk: Walk) -> dict[str, str]:
    found = {}
    for module, path, folder in walk.found.asked:
        source = walk.source(module)
        here = Path(source.text.path) if source is not None and source.text.path else None
        name = f"{folder or '.'}/" if path is None else path
        found[name] = datafiles.digest(name, here)
        walk.project.files[name, str(here or "")] = found[name]
    return dict(sorted(found.items()))


def _is_folder(source: Source) -> bool:
    return bool(source.text.compiled) or (not source.text.text and os.path.isdir(source.text.path))


def _cut(source: Source, indices: list[int]) -> str:
    if source.parsed.error:
        return source.text.text
    parts = [source.parsed.futures, *(source.parsed.units[index].source for index in indices)]
    return "\n".join(part for part in parts if part) + "\n"


def _digest(parts: Iterable[str]) -> str:
    hashed = blake3()
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        hashed.update(len(content).to_bytes(8, "little") + content)
    return hashed.hexdigest()
