"""What of the user's project a function reaches: found by walking the code, never by running it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from blake3 import blake3

from mainspring.pipeline.entries import Entry, entries, held
from mainspring.pipeline.modules import ModuleText, Project, is_builtin
from mainspring.pipeline.names import Chain, Import, Unit, configures
from mainspring.pipeline.units import Parsed, canonical, parse


@dataclass(frozen=True, slots=True)
class Reach:
    """The code that some functions and classes need, cut out of the user's project.

    digest: equal for equal code, whatever its comments, docstrings and formatting. modules: module -> its source, cut
    down to the top-level statements that are reached. libraries: installed packages that those import, by import name.
    entry_points: "module:qualname" of each thing asked for, in order; empty for a library's. pieces: "module:name" ->
    digest of each statement reached, to tell what changed. widened: where the code couldn't be followed and more was
    taken than may be needed.
    """

    digest: str
    modules: Mapping[str, str]
    libraries: tuple[str, ...]
    entry_points: tuple[str, ...]
    pieces: Mapping[str, str] = field(default_factory=dict)
    widened: tuple[str, ...] = ()


def reach(things: Sequence[Any], project: Project | None = None) -> Reach:
    """The code that *things* reach: functions, classes, or objects (their class, and the functions that they hold).

    project: where modules are found; the folders of the things' own files and `sys.path` unless told.

    >>> reach([len]).modules
    {}
    """
    project = Project() if project is None else project
    found = entries(things, project)
    walk = _Walk(project, {name: text for entry in found for name, text in entry.texts.items()})
    for entry in found:
        walk.enter(entry)
    return walk.finish(tuple(entry.reference for entry in found if entry.asked))


def locate(things: Sequence[Any], project: Project | None = None) -> tuple[str, ...]:
    """The "module:qualname" of each of *things* in its Reach; empty where it has none (see `Reach.widened` for why)."""
    found = entries(things, Project() if project is None else project)
    return tuple(entry.reference for entry in found if entry.asked)


def references(thing: Any, project: Project | None = None) -> dict[int, tuple[Any, str]]:
    """The user's functions and classes inside object *thing*, by id, each with its "module:qualname" in a Reach."""
    parts = held(thing)
    return {id(part): (part, where) for part, where in zip(parts, locate(parts, project), strict=True)}


@dataclass(slots=True)
class _Module:
    """One module on the walk, and which of its units are reached."""

    text: ModuleText
    parsed: Parsed
    reached: set[int] = field(default_factory=set)
    excluded: set[int] = field(default_factory=set)
    whole: bool = False

    @property
    def names(self) -> set[str]:
        return {name for index in self.reached for name in self.parsed.units[index].binds}

    def units(self) -> list[Unit]:
        return [self.parsed.units[index] for index in sorted(self.reached)]


class _Walk:
    """Follows names from unit to unit and from module to module."""

    def __init__(self, project: Project, texts: Mapping[str, ModuleText]) -> None:
        self.project = project
        self.texts = texts
        self.modules: dict[str, _Module] = {}
        self.libraries: set[str] = set()
        self.notes: dict[str, None] = {}
        self.opaque: list[str] = []
        self.asked: list[Entry] = []
        self.excluded: dict[str, set[int]] = {}
        self._queue: list[tuple[_Module, int]] = []
        self._names_done: set[tuple[str, Chain]] = set()

    def enter(self, entry: Entry) -> None:
        """Start from *entry*."""
        self.asked.append(entry)
        self.libraries |= {library for library in entry.libraries if library not in sys.stdlib_module_names}
        if entry.opaque:
            self.opaque.append(entry.opaque)
        self._start(entry)

    def _start(self, entry: Entry) -> None:
        self.notes.update(dict.fromkeys(entry.notes))
        module, _, name = entry.reference.partition(":")
        if name:
            self._name(module, (name.split(".")[0],))

    def finish(self, entry_points: tuple[str, ...]) -> Reach:
        """Walk until nothing new is reached, then cut the modules."""
        self._settle()
        while self._exclude_replaced():
            self.modules, self._names_done, self.notes = {}, set(), {}
            for entry in self.asked:
                self._start(entry)
            self._settle()
        kept = dict(sorted(self.modules.items()))
        pieces = {key: digest for name, module in kept.items() for key, digest in _pieces(name, module)}
        return Reach(
            digest=_digest([*self.opaque, *entry_points, *(f"{key} {digest}" for key, digest in pieces.items())]),
            modules={name: _cut(module) for name, module in kept.items()},
            libraries=tuple(sorted(self.libraries)),
            entry_points=entry_points,
            pieces=pieces,
            widened=tuple(self.notes),
        )

    # ------------------------------------------------------------------------------------------------ following names

    def _settle(self) -> None:
        self._drain()
        while self._reach_changes():
            self._drain()

    def _drain(self) -> None:
        while self._queue:
            module, index = self._queue.pop()
            self._unit(module, module.parsed.units[index])

    def _unit(self, module: _Module, unit: Unit) -> None:
        for chain in unit.uses:
            self._name(module.text.name, chain)
        for target, rest in unit.through:
            self._target(module, target, rest)
        for target in unit.inner_imports:
            self._import(module, target)
        for target in unit.stars:
            self._star(module, target)
        if unit.dynamic:
            self._dynamic(module, unit)

    def _name(self, name: str, chain: Chain) -> None:
        """Global *chain* is used in module *name*: reach what binds it."""
        if (name, chain) in self._names_done:
            return
        self._names_done.add((name, chain))
        module = self._module(name)
        if module is None:
            return
        binders = [index for index in module.parsed.binders.get(chain[0], ()) if index not in module.excluded]
        for index in binders:
            self._reach(module, index)
            target = module.parsed.units[index].imports.get(chain[0])
            if target is not None:
                self._target(module, target, chain[1:])
        if not binders:
            self._unbound(module, chain)

    def _unbound(self, module: _Module, chain: Chain) -> None:
        stars = [(index, unit) for index, unit in enumerate(module.parsed.units) if unit.stars]
        if "__getattr__" in module.parsed.binders:
            self._whole(module, "it makes its names in __getattr__")
        elif stars and not is_builtin(chain[0]):
            for index, _ in stars:
                self._reach(module, index)

    def _target(self, module: _Module, target: Import, rest: Chain) -> None:
        """What *target*, imported in *module*, is used for: its attributes *rest*, or all of it without any."""
        name = target.absolute(module.text.parent)
        if target.name is not None:
            self._member(name, target.name, rest)
        elif not rest:
            used = self._visited(name)
            if used is not None:
                self._whole(used, f"module {module.text.name} uses it as a value")
        else:
            self._member(name, rest[0], rest[1:])

    def _member(self, name: str, member: str, rest: Chain) -> None:
        module = self._visited(name)
        if module is None:
            return
        below = f"{name}.{member}"
        if member in module.parsed.binders or (found := self._module(below)) is None:
            self._name(name, (member, *rest))
        elif rest:
            self._member(below, rest[0], rest[1:])
        else:
            self._whole(found, "it is used as a value")

    def _import(self, module: _Module, target: Import) -> None:
        """An import statement runs: its module, and the name that it takes from it, must be there."""
        name = target.absolute(module.text.parent)
        found = self._visited(name)
        if found is None or target.name is None:
            return
        if target.name in found.parsed.binders or self._module(f"{name}.{target.name}") is None:
            self._name(name, (target.name,)) if target.name in found.parsed.binders else self._unbound(
                found, (target.name,)
            )

    def _star(self, module: _Module, target: Import) -> None:
        found = self._visited(target.absolute(module.text.parent))
        if found is not None:
            self._whole(found, f"module {module.text.name} imports all its names")

    def _dynamic(self, module: _Module, unit: Unit) -> None:
        how = ", ".join(sorted(unit.dynamic))
        self._whole(module, f"{unit.name} uses {how}")
        if unit.dynamic & {"import_module", "__import__"}:
            self.notes[f"the whole project: {module.text.name}, line {unit.line}, imports by a computed name"] = None
            for text in list(self.project.everything()):
                found = self._module(text.name)
                if found is not None:
                    self._all(found)

    def _whole(self, module: _Module, why: str) -> None:
        if not module.whole:
            self.notes[f"the whole module {module.text.name}: {why}"] = None
        self._all(module)

    def _all(self, module: _Module) -> None:
        if not module.whole:
            module.whole = True
            for index in range(len(module.parsed.units)):
                self._reach(module, index)

    # --------------------------------------------------------------------------------------------- modules and effects

    def _module(self, name: str) -> _Module | None:
        """The project's module *name*, with the packages above it, which an import runs first; None for a library's."""
        if name not in self.modules:
            text = self.texts.get(name) or self.project(name)
            if text is None:
                return None
            self.modules[name] = _Module(text, parse(text.text), excluded=self.excluded.setdefault(name, set()))
            above = name.rpartition(".")[0]
            if above:
                self._module(above)
            if self.modules[name].parsed.error:
                self.opaque.append(text.text)
        return self.modules[name]

    def _visited(self, name: str) -> _Module | None:
        """The project's module *name*; an installed library's is noted by its root."""
        module, root = self._module(name), name.partition(".")[0]
        if module is None and root and root not in sys.stdlib_module_names and self._module(root) is None:
            self.libraries.add(root)
        return module

    def _reach(self, module: _Module, index: int) -> None:
        if index not in module.reached:
            module.reached.add(index)
            self._queue.append((module, index))

    def _reach_changes(self) -> bool:
        """Reach the statements that change something reached; whether there were any."""
        before = sum(len(module.reached) for module in self.modules.values())
        for module in list(self.modules.values()):
            names = module.names
            for index, unit in enumerate(module.parsed.units):
                if index not in module.reached and self._alters(module, unit, names):
                    self._reach(module, index)
        return sum(len(module.reached) for module in self.modules.values()) > before

    def _alters(self, module: _Module, unit: Unit, names: set[str]) -> bool:
        if unit.changes & names or any(
            _is_data(module, name) and not _is_data(module, by) for by, name in unit.passes if name in names
        ):
            return True
        return any(self._sets(module, chain) for chain in unit.configures if chain[0] in names)

    def _sets(self, module: _Module, chain: Chain) -> bool:
        """A method called for its effect alters its object; a library's function only where its name says so."""
        targets = [module.parsed.units[index].imports.get(chain[0]) for index in module.parsed.binders[chain[0]]]
        ours = [
            target
            for target in targets
            if target is None or self._module(target.absolute(module.text.parent)) is not None
        ]
        return bool(ours) or configures(chain)

    def _exclude_replaced(self) -> bool:
        """Leave out what a later definition replaces before anything reached uses it (a cell that is run again)."""
        found = False
        for module in self.modules.values():
            for name, binders in module.parsed.binders.items():
                live = [index for index in binders if index in module.reached]
                if len(live) > 1 and not module.whole:
                    fresh = set(live[:-1]) if _replaces(module, name, live) else set()
                    found = found or bool(fresh - module.excluded)
                    module.excluded |= fresh
        return found


def _is_data(module: _Module, name: str) -> bool:
    """Whether *name* is bound by an assignment, not by def, class or import."""
    units = [module.parsed.units[index] for index in module.parsed.binders.get(name, ())]
    return bool(units) and not any(unit.defines or unit.imports or hasattr(unit.node, "name") for unit in units)


def _replaces(module: _Module, name: str, live: list[int]) -> bool:
    """Whether the last of the *live* binders of *name* makes the earlier ones needless."""
    units = module.parsed.units
    if not units[live[-1]].rebinds or any(units[index].binds != {name} for index in live):
        return False
    between = (
        units[index] for index in sorted(module.reached) if live[0] < index < live[-1] and not units[index].defines
    )
    return not any(chain[0] == name for unit in between for chain in unit.uses) and not any(
        name in unit.changes for unit in module.units()
    )


def _pieces(name: str, module: _Module) -> Iterable[tuple[str, str]]:
    """Each statement reached under a name of its own, with its digest."""
    seen: dict[str, int] = {}
    if module.parsed.futures:
        yield f"{name}:__future__", _digest([module.parsed.futures])
    for unit in module.units():
        key = f"{name}:{unit.name}"
        seen[key] = seen.get(key, 0) + 1
        yield (f"{key} ({seen[key]})" if seen[key] > 1 else key), _digest([canonical(unit)])


def _cut(module: _Module) -> str:
    if module.parsed.error:
        return module.text.text
    parts = [module.parsed.futures, *(unit.source for unit in module.units())]
    return "\n".join(part for part in parts if part) + "\n"


def _digest(parts: Iterable[str]) -> str:
    hashed = blake3()
    for part in parts:
        content = part.encode("utf-8", "surrogatepass")
        hashed.update(len(content).to_bytes(8, "little") + content)
    return hashed.hexdigest()
