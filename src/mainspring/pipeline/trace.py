"""The trace of the user's code: from statement to statement, until nothing new is reached."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mainspring.pipeline.altered import function_of, members
from mainspring.pipeline.closure import Closure
from mainspring.pipeline.codebase import Codebase, Imported
from mainspring.pipeline.effects import WHOLE, Global, Source
from mainspring.pipeline.entries import Entry
from mainspring.pipeline.following import Following
from mainspring.pipeline.modules import ModuleText
from mainspring.pipeline.names import Unit
from mainspring.pipeline.notebook import NOTEBOOK
from mainspring.pipeline.pieces import NOTHING, Key, Needs
from mainspring.pipeline.running import functions_in, value_of
from mainspring.pipeline.units import parse


@dataclass(slots=True)
class Trace:
    """One walk, and what it has reached: units by module, and the rest as in `Needs`."""

    project: Codebase
    texts: Mapping[str, ModuleText]
    found: Needs = field(default_factory=Needs)
    excluded: set[Key] = field(default_factory=set)
    _entries: list[Entry] = field(default_factory=list)
    _extended: dict[str, Source] = field(default_factory=dict)
    _queue: list[Key] = field(default_factory=list)
    _altering: dict[str, None] = field(default_factory=dict)
    _imported: tuple[Imported, ...] = ()
    _jumped: dict[str, list[int]] | None = None
    _together: frozenset[str] | None = None

    def enter(self, entry: Entry) -> None:
        """Start from *entry*."""
        self._entries.append(entry)

    def finish(self) -> None:
        """Walk until nothing new is reached."""
        self._extended = {
            name: Source(text, parse(text.text)) for name, text in self.texts.items() if self.project(name) is not text
        }
        if self._is_plain() and self._jump():
            return
        self._start()
        while self._exclude_replaced():
            self.found = Needs()
            self._start()

    def source(self, name: str) -> Source | None:
        """Module *name*, extended by the names that entries were given."""
        return self._extended[name] if name in self._extended else self.project.source(name)

    def reached(self) -> dict[str, list[int]]:
        """The units reached, by module."""
        if self._jumped is not None:
            return self._jumped
        found: dict[str, list[int]] = {name: [] for name in sorted(self.found.modules)}
        for name, index in self.found.units:
            found.setdefault(name, []).append(index)
        for indices in found.values():
            indices.sort()
        return found

    def asked(self) -> Iterator[Key]:
        """The units that entries name."""
        for module, _, name in (entry.reference.partition(":") for entry in self._entries):
            source = self.project.source(module) if module else None
            if source is not None:
                yield from ((module, index) for index in source.parsed.binders.get(name.split(".")[0], ()))

    def imports(self, name: str) -> bool:
        """Whether module *name* is imported with those that the walk started from, not first by a function."""
        if self._together is None:
            first, *others = {entry.reference.partition(":")[0] or entry.module for entry in self._entries} or {""}
            together = self.project.closure(first)
            self._together = together.union(*map(self.project.closure, others)) if others else together
        return name in self._together

    def _is_plain(self) -> bool:
        if self._extended:
            return False
        for entry in self._entries:
            if not entry.reference or entry.opaque or entry.libraries or entry.notes:
                return False
        return bool(self._entries)

    def _jump(self) -> bool:
        """Take what the names asked for reach from what is known of every unit; whether that could be done."""
        shared = self.project.imported(self.texts)
        alone = self._alone(shared)
        starts = self._starts() if alone is None else NOTHING
        closure = self.project.reached
        if closure is None or closure.imported is not shared or len(shared.modules) != self.project.counted:
            closure = self.project.reached = Closure(self.project, shared, self._parts)
            self.project.counted = len(shared.modules)
        found = closure.of(starts) if alone is None else closure.of_unit(alone)
        if found is None:
            return False
        self.found, self._jumped = found
        return True

    def _starts(self) -> Needs:
        """What who uses the names asked for needs."""
        following = Following(self.project, self.project.source)
        for entry in self._entries:
            module, _, name = entry.reference.partition(":")
            following.name(module, name.split(".")[0])
        return following.needs

    def _alone(self, imported: Imported) -> Key | None:
        """The unit that is all which who uses the one name asked for needs: a function or class of a module in no
        package, which nothing else binds or alters."""
        module, _, name = self._entries[0].reference.partition(":")
        source = self.project.source(module)
        if len(self._entries) > 1 or source is None or "." in module or source.parsed.stars:
            return None
        binders = source.parsed.binders.get(name.partition(".")[0], ())
        if len(binders) != 1 or source.parsed.units[binders[0]].imports or (module, WHOLE) in imported.altered:
            return None
        return module, binders[0]

    def _parts(self, key: Key) -> tuple[Needs, Needs]:
        return needs_of(self.project, key), held_by(self.project, key)

    def _start(self) -> None:
        self._imported = (self.project.imported(self.texts), Imported(self.project))
        self._queue, self._altering = [], {}
        for entry in self._entries:
            named = (name for name in entry.libraries if name not in sys.stdlib_module_names)
            self.found.libraries.update(dict.fromkeys(named))
            self.found.notes.update(dict.fromkeys(entry.notes))
            module, _, name = entry.reference.partition(":")
            if entry.opaque:
                self.found.opaque[entry.opaque] = None
            following = Following(self.project, self.source)
            if name:
                self._take(following.name(module, name.split(".")[0]))
            elif entry.module:
                self._take(following.whole(entry.module, "a function in it can't be taken alone"))
        self._drain()
        while self._import_what_alters():
            self._drain()

    def _drain(self) -> None:
        while self._queue:
            name, index = key = self._queue.pop()
            if name in self._extended:
                source = self._extended[name]
                self._take(Following(self.project, self.source).unit(source, source.parsed.units[index]))
            else:
                self._take(needs_of(self.project, key))
            self._take(held_by(self.project, key))

    def _take(self, needs: Needs) -> None:
        found = self.found
        for key in needs.units:
            if key not in found.units and key not in self.excluded:
                self._reach(key)
        for name in needs.modules:
            if name not in found.modules:
                self._visit(name)
        for place in needs.wanted:
            self._want(place)
        for mine, more in ((found.libraries, needs.libraries), (found.notes, needs.notes), (found.opaque, needs.opaque),
                           (found.whole, needs.whole), (found.asked, needs.asked)):  # fmt: skip
            if more:
                mine.update(more)  # type: ignore[arg-type]

    def _reach(self, key: Key) -> None:
        self.found.units[key] = None
        self._queue.append(key)
        source = self.source(key[0])
        assert source is not None  # a key names a module that was found
        for name in source.parsed.units[key[1]].binds:
            self._want((key[0], name))

    def _want(self, place: Global) -> None:
        if place not in self.found.wanted:
            self.found.wanted[place] = None
            self._reach_altering(place)

    def _visit(self, name: str) -> None:
        """Module *name* is imported: what it alters of what is wanted comes along."""
        self.found.modules[name] = None
        shared, own = self._imported
        if name not in shared.modules:
            for place in list(own.add(name)):
                if place in self.found.wanted:
                    self._reach_altering(place)

    def _reach_altering(self, place: Global) -> None:
        """Reach the statements that alter *place*, in whatever module they stand."""
        for imported in self._imported:
            for key in imported.altered.get(place, ()):
                if key not in self.found.units and key not in self.excluded:
                    if key[0] not in self.found.modules:
                        self._visit(key[0])
                    self._reach(key)
                    if key[0] != place[0]:
                        self._altering[key[0]] = None

    def _import_what_alters(self) -> bool:
        """Where a visited module imports one that was reached for what it alters, that import counts too."""
        for name in list(self._altering):
            for imported in self._imported:
                for key in imported.modules.get(name, ()):
                    if key[0] in self.found.modules and key not in self.found.units:
                        self._reach(key)
        return bool(self._queue)

    def _exclude_replaced(self) -> bool:
        """Leave out what a later definition replaces before anything reached uses it (a cell that is run again)."""
        fresh: set[Key] = set()
        for name, indices in self.reached().items():
            source = self.source(name)
            if source is None or name in self.found.whole or not source.parsed.repeated:
                continue
            for repeated in source.parsed.repeated:
                live = [index for index in source.parsed.binders[repeated] if index in indices]
                if len(live) > 1 and _replaces(source, indices, repeated, live) and not self._alter(source, live[:-1]):
                    fresh |= {(name, index) for index in live[:-1]}
        found = bool(fresh - self.excluded)
        self.excluded |= fresh
        return found

    def _alter(self, source: Source, indices: Iterable[int]) -> bool:
        """Whether one of these units does something beyond binding its name, such as to register what it defines."""
        altering = self.project.effects.of(source).values()
        return any(index in found for found in altering for index in indices)


def needs_of(project: Codebase, key: Key) -> Needs:
    """What a unit needs; found once for all walks."""
    known = project.needs.get(key)
    if known is None:
        source = project.source(key[0])
        assert source is not None  # a key names a module that was found
        unit = source.parsed.units[key[1]]
        known = Following(project, project.source).unit(source, unit) if unit.needs else NOTHING
        project.needs[key] = known
    return known


def held_by(project: Codebase, key: Key) -> Needs:
    """The functions inside the values that the names of a unit have now, however they got there."""
    known = project.held.get(key)
    if known is None:
        source, known = project.source(key[0]), NOTHING
        if source is not None and key[1] < len(source.parsed.units):
            known = _held(project, source, source.parsed.units[key[1]])
        project.held[key] = known
    return known


def _held(project: Codebase, source: Source, unit: Unit) -> Needs:
    replaced = unit.data or _is_replaced(source, unit)
    if unit.defines and not replaced:
        return NOTHING
    found = Needs()
    for name in sorted(unit.binds) if replaced else ():
        there, value = value_of(source.text, name)
        _hold(project, source, name, value if there else None, found)
    there, value = value_of(source.text, unit.name)
    if there and (attributes := members(unit, value)):
        _hold(project, source, unit.name, list(map(function_of, attributes.values())), found)
    return found


def _hold(project: Codebase, source: Source, name: str, value: Any, needs: Needs) -> None:
    try:
        for where, what, line in functions_in(value):
            held = project.source(where)
            if held is not None:
                needs.modules[held.name] = None
                needs.units.update(dict.fromkeys((held.name, index) for index in _units_at(held, what, line)))
    except OverflowError:
        needs.notes[f"{source.name}:{name} holds too much to look for functions in it"] = None


def _is_replaced(source: Source, unit: Unit) -> bool:
    """Whether the name of a plain function or class means something else by now."""
    decorated = bool(getattr(unit.node, "decorator_list", None))
    if unit.imports or source.name == NOTEBOOK or decorated or unit.binds & source.parsed.repeated:
        return False
    there, value = value_of(source.text, unit.name)
    if not there:
        return False
    code = getattr(value, "__code__", None)
    if unit.defines:
        return code is None or not unit.line <= code.co_firstlineno <= (unit.node.end_lineno or unit.line)
    return getattr(value, "__qualname__", None) != unit.name


def _units_at(source: Source, name: str, line: int) -> Iterator[int]:
    """The units that made a function or class: by its name, or for a lambda by its line."""
    if name in source.parsed.binders or source.name == NOTEBOOK:
        yield from source.parsed.binders.get(name, ())
        return
    for index, unit in enumerate(source.parsed.units):
        first = min([unit.line, *(each.lineno for each in getattr(unit.node, "decorator_list", []))])
        if first <= line <= (unit.node.end_lineno or unit.line):
            yield index


def _replaces(source: Source, reached: Iterable[int], name: str, live: list[int]) -> bool:
    """Whether the last of the *live* binders of *name* makes the earlier ones needless."""
    units = source.parsed.units
    if not units[live[-1]].rebinds or any(units[index].binds != {name} for index in live):
        return False
    between = [units[index] for index in reached if live[0] < index < live[-1] and not units[index].defines]
    changes = (chain for index in reached for chain in units[index].changes)
    return not any(chain[0] == name for unit in between for chain in unit.uses) and not any(
        chain[0] == name for chain in changes
    )
