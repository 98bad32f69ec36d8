"""The user's code as a whole: its modules parsed once, and what the imported ones alter in each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mainspring.pipeline.effects import Effects, Global, Source
from mainspring.pipeline.modules import ModuleText, Project
from mainspring.pipeline.pieces import Group, Key, Needs, Piece
from mainspring.pipeline.running import check
from mainspring.pipeline.units import parse


@dataclass(slots=True)
class Imported:
    """Modules that are imported together, and what their statements alter. A module is added with all it imports."""

    codebase: Codebase
    modules: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    altered: dict[Global, list[tuple[str, int]]] = field(default_factory=dict)

    def add(self, name: str) -> Iterator[Global]:
        """Add module *name*; gives the places that it, and what it imports, alter. Each module's importers are kept."""
        ahead: list[tuple[str, tuple[str, int] | None]] = [(name, None)]
        while ahead:
            at, by = ahead.pop()
            source = self.codebase.source(at)
            if source is None:
                continue
            known = at in self.modules
            importers = self.modules.setdefault(at, [])
            if by is not None:
                importers.append(by)
            if known:
                continue
            for place, indices in self.codebase.effects.of(source).items():
                self.altered.setdefault(place, []).extend((at, index) for index in indices)
                yield place
            ahead += [(found, importer) for found, importer in imports_of(source)]


def imports_of(source: Source) -> Iterator[tuple[str, tuple[str, int] | None]]:
    """The modules that are imported with *source*, each with the module and unit that import it."""
    if "." in source.name:
        yield source.name.rpartition(".")[0], None
    for index, unit in enumerate(source.parsed.units):
        for target in unit.loads:
            name = target.absolute(source.text.parent)
            yield name, (source.name, index)
            if target.name is not None:
                yield f"{name}.{target.name}", (source.name, index)


@dataclass(slots=True)
class Codebase(Project):
    """The project, with what several walks through it share.

    needs, held, pieces, values, reading, kept: what was found of each unit (values: for a module that is imported with
    the step's own, or not); groups: of several units of a module. reached: the `Closure` of what *counted* modules have
    imported. files: the data files that were asked for, (path, the file that names it) -> digest. whole: all there is,
    by the roots."""

    needs: dict[Key, Needs] = field(default_factory=dict)
    held: dict[Key, Needs] = field(default_factory=dict)
    pieces: dict[Key, Piece] = field(default_factory=dict)
    values: dict[tuple[Key, bool], tuple[tuple[Global, Piece], ...]] = field(default_factory=dict)
    groups: dict[tuple[str, tuple[int, ...], bool], Group] = field(default_factory=dict)
    reading: dict[Key, bool] = field(default_factory=dict)
    kept: dict[Key, frozenset[Global]] = field(default_factory=dict)
    files: dict[tuple[str, str], str] = field(default_factory=dict)
    whole: dict[tuple[str, ...], Needs] = field(default_factory=dict)
    reached: Any = None
    counted: int = 0
    _sources: dict[str, Source] = field(default_factory=dict)
    _effects: Effects | None = None
    _imported: Imported | None = None
    _closures: dict[str, frozenset[str]] = field(default_factory=dict)
    _imports: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _looked_in: int = -1

    @property
    def effects(self) -> Effects:
        if self._effects is None:
            self._effects = Effects(self.source)
        return self._effects

    def source(self, name: str) -> Source | None:
        """Module *name* of the project, parsed."""
        known, text = self._sources.get(name), self._found.get(name)
        if known is not None and known.text is text:  # asked thousands of times for each module
            return known
        text = self(name) if name else None
        if text is None:
            return None
        if known is None or known.text is not text:
            check(text)
            known = self._sources[name] = Source(text, parse(text.text))
        return known

    def imported(self, entered: Mapping[str, ModuleText]) -> Imported:
        """What this process has imported of the project, and the modules *entered*."""
        if self._imported is None:
            self._imported = Imported(self)
        if len(self.roots) != self._looked_in:  # roots are only ever added
            self._looked_in = len(self.roots)
            for text in self.running():
                self._take(text.name)
        for name in entered:
            self._take(name)
        return self._imported

    def known(self) -> Iterator[ModuleText]:
        """The project's modules that were looked at, or that this process has imported."""
        for text in self.running():
            self.source(text.name)
        yield from (text for text in self._found.values() if text is not None)

    def closure(self, name: str) -> frozenset[str]:
        """Module *name* and those that it imports as it is imported itself."""
        if name not in self._closures:
            found, ahead = {name}, [name]
            while ahead:
                for each in self._edges(ahead.pop()):
                    if each not in found:
                        found.add(each)
                        ahead.append(each)
            self._closures[name] = frozenset(found)
        return self._closures[name]

    def _edges(self, name: str) -> tuple[str, ...]:
        """The project's modules that *name* imports as it is imported itself."""
        if name not in self._imports:
            source = self.source(name)
            named = dict.fromkeys(each for each, _ in imports_of(source)) if source is not None else {}
            self._imports[name] = tuple(each for each in named if self.source(each) is not None)
        return self._imports[name]

    def _take(self, name: str) -> None:
        if self._imported is not None and name not in self._imported.modules:
            for _ in self._imported.add(name):
                pass
