"""What of the user's project a function reaches: found by walking the code, never by running it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mainspring.pipeline import datafiles
from mainspring.pipeline.codebase import Codebase
from mainspring.pipeline.effects import Effects, Global, Source
from mainspring.pipeline.entries import Entry, entries, locate, named, references
from mainspring.pipeline.fingerprint import hashed
from mainspring.pipeline.names import Unit
from mainspring.pipeline.pieces import Group, Key, Piece, Place
from mainspring.pipeline.trace import Trace, held_by
from mainspring.pipeline.units import canonical
from mainspring.pipeline.values import values_of

__all__ = ["Place", "Reach", "locate", "reach", "reach_names", "references"]


@dataclass(frozen=True, slots=True)
class Reach:
    """The code that some functions and classes need, cut out of the user's project.

    digest: equal for equal code, whatever its comments, docstrings and formatting. modules: module -> its source, cut
    down to the top-level statements that are reached. libraries: installed packages that those import, by import name.
    entry_points: "module:qualname" of each thing asked for, in order; empty for a library's. pieces: "module:name" ->
    digest of each statement reached, to tell what changed; places: where each of them stands. widened: where the code
    couldn't be followed and more was taken than may be needed. files: the data files that it names by
    `mainspring.file`, as they are written -> digest of their content. digests: module -> that of all its pieces.
    asked: each of the data files as it is written, with the file that does so ("" in a notebook).
    """

    digest: str
    modules: Mapping[str, str]
    libraries: tuple[str, ...]
    entry_points: tuple[str, ...]
    pieces: Mapping[str, str] = field(default_factory=dict)
    widened: tuple[str, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    asked: frozenset[tuple[str, str]] = frozenset()


def reach(things: Sequence[Any], project: Codebase | None = None) -> Reach:
    """The code that *things* reach: functions, classes, or objects (their class, and the functions that they hold).

    project: where modules are found; the folders of the things' own files and `sys.path` unless told.

    >>> reach([len]).modules
    {}
    """
    project = Codebase() if project is None else project
    return _reached(entries(things, project), project)


def reach_names(names: Sequence[str], project: Codebase) -> Reach:
    """The code that *names* reach, each "module:qualname": what kept values note of the code they hold."""
    return _reached([named(name, project) for name in names], project)


def _reached(found: list[Entry], project: Codebase) -> Reach:
    trace = Trace(project, {name: text for entry in found for name, text in entry.texts.items()})
    for entry in found:
        trace.enter(entry)
    trace.finish()
    points = tuple(entry.reference for entry in found if entry.asked)
    reached = trace.reached()
    groups = _groups(trace, reached)
    digests = {name: group.digest for name, group in groups.items()}
    files, asked = _files(trace)
    return Reach(
        digest=hashed("reach", *sorted(trace.found.opaque), *points, *map(" ".join, digests.items())),
        modules=_Cuts(trace, reached),
        libraries=tuple(sorted(trace.found.libraries)),
        entry_points=points,
        pieces=_united([group.pieces for group in groups.values()]),
        digests=digests,
        widened=tuple(trace.found.notes),
        places=_united([group.places for group in groups.values()]),
        files=files,
        asked=asked,
    )


def _united(several: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    return several[0] if len(several) == 1 else {name: value for each in several for name, value in each.items()}


class _Cuts(Mapping[str, str]):
    """The modules, each cut when it is asked for."""

    def __init__(self, trace: Trace, reached: Mapping[str, list[int]]) -> None:
        self._trace, self._reached = trace, reached
        self._cut: dict[str, str] = {}

    @cached_property
    def _sources(self) -> dict[str, tuple[Source, list[int]]]:
        return {
            name: (source, indices)
            for name, indices in self._reached.items()
            if (source := self._trace.source(name)) is not None and not _is_folder(source)
        }

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


def _groups(trace: Trace, reached: Mapping[str, list[int]]) -> dict[str, Group]:
    """The pieces of each module that has any; those of one that many reach alike are gathered once."""
    found: dict[str, Group] = {}
    kept: list[set[Global]] = []
    for name, indices in reached.items():
        source = trace.source(name)
        if source is None:
            continue
        at_import = trace.imports(name)
        key = (name, tuple(indices), at_import)
        shared = trace.project.source(name) is source
        several = shared and len(indices) > 1
        group = trace.project.groups.get(key) if several else None
        if group is None:
            group, steady = _group(trace, source, indices, at_import, kept, trace.project.pieces if shared else {})
            if steady and several:
                trace.project.groups[key] = group
        if group.pieces:
            found[name] = group
    return found


def _group(
    trace: Trace,
    source: Source,
    indices: list[int],
    at_import: bool,
    kept: list[set[Global]],
    known: dict[Key, Piece],
) -> tuple[Group, bool]:
    """The pieces of a module, and whether they are the same whoever reaches these units."""
    pieces = _pieces(source, indices, known)
    values = [value for index in indices for value in _values(trace, source, index, at_import)]
    if values and not kept:
        kept.append(_kept(trace))
    pieces += [piece for place, piece in values if place not in kept[0]]
    digest = hashed("module", "\n".join(f"{each.key} {each.digest}" for each in pieces))
    told = {piece.key: piece.digest for piece in pieces}
    return Group(told, {piece.key: piece.place for piece in pieces}, digest), not values


def _pieces(source: Source, indices: list[int], known: dict[Key, Piece]) -> list[Piece]:
    """Each statement reached under a name of its own, with its digest."""
    name, found = source.name, list[Piece]()
    if source.parsed.futures:
        place = Place("import", "__future__", source.text.path, 1)
        found.append(Piece(f"{name}:__future__", hashed("futures", source.parsed.futures), place))
    seen: dict[str, int] = {}
    for index in indices:
        piece = known.get((name, index))
        if piece is None:
            piece = known[name, index] = _piece(source, index)
        seen[piece.key] = number = seen.get(piece.key, 0) + 1
        found.append(piece if number == 1 else replace(piece, key=f"{piece.key} ({number})"))
    return found


def _piece(source: Source, index: int) -> Piece:
    unit = source.parsed.units[index]
    name = unit.name
    line = source.text.given.get(name, unit.line)
    place = Place(unit.kind, name, source.text.path, line)
    return Piece(f"{source.name}:{name}", hashed("unit", canonical(unit)), place)


def _values(trace: Trace, source: Source, index: int, at_import: bool) -> tuple[tuple[Global, Piece], ...]:
    """The values that a unit made. One that functions which are reached alter themselves, as they run, isn't what the
    code made of it."""
    known = trace.project.values
    key = ((source.name, index), at_import)
    if key not in known:
        known[key] = tuple(values_of(trace.project, source, index, at_import=at_import))
    return known[key]


def _kept(trace: Trace) -> set[Global]:
    """What functions that are reached alter themselves as they run; not what one alters that is only called as its
    module is imported."""
    known, found = trace.project.kept, set[Global]()
    keys = [(name, index) for name, indices in trace.reached().items() for index in indices]
    called = _called(trace, keys)
    for key in keys:
        source = trace.project.source(key[0])
        if source is None or key[1] >= len(source.parsed.units):  # a nested function, which was given a name
            found.update(Effects(trace.source).kept_by(*key))
            continue
        if key not in known:
            known[key] = frozenset(trace.project.effects.kept_by(*key))
        if known[key] and (key in called or not source.parsed.units[key[1]].defines):
            found |= known[key]
    return found


def _called(trace: Trace, keys: list[Key]) -> set[Key]:
    """The units of *keys* that steps may call: those asked for, and what these use or hold, however deep; not what only
    statements call as their module is imported."""
    effects, found, ahead = trace.project.effects, set[Key](), list(trace.asked())
    units = {key: unit for key in keys if (unit := _unit(trace, key)) is not None}
    if whole := [key for key in units if key[0] in trace.found.whole]:  # any of theirs, by a computed name
        at_import = {chain[-1] for unit in units.values() for chain in unit.calls}
        ahead += [key for key in whole if not units[key].binds & at_import]
    while ahead:
        key = ahead.pop()
        if key in units and units[key].binds and key not in found:
            found.add(key)
            ahead += [*effects.uses(*key), *held_by(trace.project, key).units]
    return found


def _unit(trace: Trace, key: Key) -> Unit | None:
    source = trace.project.source(key[0])
    return source.parsed.units[key[1]] if source is not None and key[1] < len(source.parsed.units) else None


def _files(trace: Trace) -> tuple[Mapping[str, str], frozenset[tuple[str, str]]]:
    """What each name stands for, and who writes it; one that modules in several folders write has the digests of all of
    theirs."""
    if not trace.found.asked:
        return {}, frozenset()
    found: dict[str, dict[str, str]] = {}
    asked: set[tuple[str, str]] = set()
    for module, path, folder in trace.found.asked:
        source = trace.source(module)
        here = Path(source.text.path) if source is not None and source.text.path else None
        name = f"{folder or '.'}/" if path is None else path.rstrip("/") or path
        asked.add(by := (name, str(here or "")))
        digest = trace.project.files[by] = datafiles.digest(name, here)
        found.setdefault(name, {})[str(here and here.parent)] = digest
    told = {name: " ".join(each for _, each in sorted(digests.items())) for name, digests in sorted(found.items())}
    return told, frozenset(asked)


def _is_folder(source: Source) -> bool:
    return bool(source.text.compiled) or (not source.text.text and os.path.isdir(source.text.path))


def _cut(source: Source, indices: list[int]) -> str:
    if source.parsed.error:
        return source.text.text
    parts = [source.parsed.futures, *(source.parsed.units[index].source for index in indices)]
    return "\n".join(part for part in parts if part) + "\n"
