"""What one statement needs directly: statements, modules and libraries, found by following each name that it uses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mainspring.pipeline.codebase import Codebase
from mainspring.pipeline.effects import WHOLE, Global, Source
from mainspring.pipeline.modules import is_builtin
from mainspring.pipeline.names import LITERAL, Asked, Chain, Unit
from mainspring.pipeline.pieces import Needs
from mainspring.pipeline.scopes import IMPORTS, Import

_OWN_NAMES = frozenset({"globals", "vars", "locals"})
_MAKES_NAMES = _OWN_NAMES | {"exec", "__globals__", "f_globals"}
_FINDS_CODE = frozenset(
    {
        "importlib.import_module", "importlib.__import__", "importlib.util", "importlib.machinery", "runpy", "pkgutil",
        "imp", "builtins", "sys.modules", "sys._getframe", "sys.meta_path", "inspect.stack", "inspect.currentframe",
        "inspect.getmodule", "pydoc.locate", "zipimport", "gc", "importlib.metadata.entry_points", "lazy_loader",
        "pydantic.ImportString", "hydra.utils", "unittest.mock.patch",
    }
)  # fmt: skip
_OURS = "mainspring"
_FILE = frozenset({f"{_OURS}.file", f"{_OURS}.pipeline.datafiles.file"})
_SAYS_ONLY = frozenset(f"{_OURS}.{name}" for name in ("__version__", "__name__", "__file__", "__doc__"))
_BUILTINS: Global = ("", "builtins")
"""Where names are looked for that a module doesn't bind: a statement may have added one."""


@dataclass(slots=True)
class Following:
    """Follows the names of one statement. find: a module by its name."""

    project: Codebase
    find: Callable[[str], Source | None]
    needs: Needs = field(default_factory=Needs)
    _done: set[tuple[str, Chain]] = field(default_factory=set)
    _at: str = ""

    def unit(self, source: Source, unit: Unit) -> Needs:
        """What *unit* of *source* needs."""
        self._unit(source, unit)
        return self.needs

    def name(self, module: str, name: str) -> Needs:
        """What somebody who uses *name* of *module* needs."""
        self._name(module, (name,))
        return self.needs

    def whole(self, name: str, why: str) -> Needs:
        """All of module *name*."""
        if (found := self._module(name)) is not None:
            self._whole(found, why)
        return self.needs

    def _unit(self, module: Source, unit: Unit) -> None:
        self._at = f"{module.name}, line {unit.line},"
        for chain in unit.uses:
            self._name(module.name, chain)
        for target, rest in unit.through:
            self._target(module, target, rest)
        for target in unit.inner_imports:
            self._import(module, target)
        for target in unit.stars:
            self._star(module, target)
        for asked in (*unit.asks, *_passed_on(unit)):
            if self._is_file(module, asked):
                self.needs.asked[module.name, asked.path, asked.folder] = None
                if asked.path is None:
                    where = asked.folder or "the folder of its file"
                    self.needs.notes[f"all of {where}: {self._at} names a data file by a computed path"] = None
        if unit.dynamic:
            self._dynamic(module, unit)

    def _name(self, name: str, chain: Chain) -> None:
        """Global *chain* is used in module *name*: reach what binds it."""
        if (name, chain) in self._done:
            return
        self._done.add((name, chain))
        module = self._module(name)
        if module is None:
            return
        self._want((name, chain[0]))
        binders = module.parsed.binders.get(chain[0], ())
        for index in binders:
            self._reach(module, index)
            for target in module.parsed.units[index].imports.get(chain[0], ()):
                self._target(module, target, chain[1:])
        if not binders or module.parsed.stars:
            self._unbound(module, chain, bound=bool(binders))

    def _unbound(self, module: Source, chain: Chain, *, bound: bool = False) -> None:
        self._want(_BUILTINS)
        if not bound and "__getattr__" in module.parsed.binders and not is_builtin(chain[0]):
            self._whole(module, "it makes its names in __getattr__")
        for index in module.parsed.stars:
            stars = module.parsed.units[index].stars
            ours = [star for star in stars if self.project.source(star.absolute(module.text.parent)) is not None]
            gives = any(self._gives(star.absolute(module.text.parent), chain[0], set()) for star in ours)
            if gives or (len(ours) < len(stars) and not bound):
                self._reach(module, index)
                bound = True
        if not bound and not is_builtin(chain[0]) and any(map(_makes_names, module.parsed.units)):
            self._whole(module, "it makes names as it runs")

    def _gives(self, name: str, member: str, seen: set[str]) -> bool:
        """Whether `from name import *` may give *member*."""
        source = self.project.source(name)
        if source is None or name in seen:
            return source is None
        seen.add(name)
        if member in source.parsed.binders or "__getattr__" in source.parsed.binders:
            return True
        if any(unit.dynamic for unit in source.parsed.units):
            return True
        stars = (star for index in source.parsed.stars for star in source.parsed.units[index].stars)
        return any(self._gives(star.absolute(source.text.parent), member, seen) for star in stars)

    def _target(self, module: Source, target: Import, rest: Chain) -> None:
        """What *target*, imported in *module*, is used for: its attributes *rest*, or all of it without any."""
        name = target.absolute(module.text.parent)
        if target.name is not None:
            self._member(module, name, target.name, rest)
        elif not rest:
            self._value(module, name)
        else:
            self._member(module, name, rest[0], rest[1:])

    def _value(self, module: Source, name: str) -> None:
        """Module *name* is used as a value: any of its names may be read."""
        used = self._visited(name)
        if used is not None:
            self._whole(used, f"module {module.name} uses it as a value")
            self._given(used)
        else:
            self._foreign(module, name, ())

    def _given(self, module: Source) -> None:
        """A module used as a value gives those that it imports, and a package its own."""
        if (module.name, ()) in self._done:
            return
        self._done.add((module.name, ()))
        if module.text.package:
            for name in self.project.below(module.text):
                if (found := self._module(name)) is not None:
                    self._all(found)
        for unit in module.parsed.units:
            for target in (target for targets in unit.imports.values() for target in targets):
                name = ".".join(filter(None, [target.absolute(module.text.parent), target.name]))
                if (found := self._module(name)) is not None:
                    self._whole(found, f"module {module.name}, which is used as a value, has it")
                    self._given(found)

    def _member(self, module: Source, name: str, member: str, rest: Chain) -> None:
        found = self._visited(name)
        if found is None:
            self._foreign(module, name, (member, *rest))
            return
        if member.startswith("__") and member not in found.parsed.binders:
            if member not in ("__name__", "__file__", "__doc__", "__version__"):
                self._value(module, name)
            return
        below = f"{name}.{member}"
        bound = member in found.parsed.binders
        if bound:
            self._name(name, (member, *rest))
        if bound and not self._is_itself(found, member):
            return
        if (inner := self._module(below)) is None:
            self._name(name, (member, *rest))
        elif rest:
            self._member(module, below, rest[0], rest[1:])
        else:
            self._whole(inner, "it is used as a value")
            self._given(inner)

    def _is_itself(self, package: Source, member: str) -> bool:
        """Whether *package* binds *member* to its own module of that name: `from . import member`."""
        units = [package.parsed.units[index] for index in package.parsed.binders[member]]
        targets = [target for unit in units for target in unit.imports.get(member, ())]
        named = ((target.absolute(package.text.parent), target.name) for target in targets)
        return any(".".join(filter(None, pair)) == f"{package.name}.{member}" for pair in named)

    def _foreign(self, module: Source, name: str, rest: Chain) -> None:
        """An attribute of a library: those that look for code as they run may find any of the project's."""
        dotted = [name, *rest]
        if LITERAL in rest or not name:
            return
        if any(".".join(dotted[:depth]) in _FINDS_CODE for depth in range(1, len(dotted) + 1)):
            self._everything(f"{self._at} imports by a computed name or looks for code ({'.'.join(dotted)})")

    def _import(self, module: Source, target: Import) -> None:
        """An import statement runs: its module, and the name that it takes from it, must be there."""
        name = target.absolute(module.text.parent)
        found = self._visited(name)
        if found is None or target.name is None:
            return
        if target.name in found.parsed.binders:
            self._name(name, (target.name,))
        elif self._module(f"{name}.{target.name}") is None:
            self._unbound(found, (target.name,))

    def _star(self, module: Source, target: Import) -> None:
        found = self._visited(target.absolute(module.text.parent))
        if found is not None:
            self._whole(found, f"module {module.name} imports all its names")

    def _dynamic(self, module: Source, unit: Unit) -> None:
        used = {name for name in unit.dynamic if name not in module.parsed.binders}
        if not used:
            return
        self._whole(module, f"{unit.name} uses {', '.join(sorted(used))}")
        for each in module.parsed.units:
            for targets in each.imports.values():
                for target in targets:
                    if self._module(target.absolute(module.text.parent)) is not None:
                        self._target(module, target, ())
        if used - _OWN_NAMES:
            why = "imports by a computed name" if "__import__" in used else "runs code that can't be followed"
            self._everything(f"{module.name}, line {unit.line}, {why} ({', '.join(sorted(used - _OWN_NAMES))})")

    def _everything(self, why: str) -> None:
        self.needs.notes[f"the whole project: {why}"] = None
        known = self.project.whole.get(roots := tuple(map(str, self.project.roots)))
        if known is None:
            known = self.project.whole[roots] = Following(self.project, self.find)._all_of_it()
        for mine, more in ((self.needs.units, known.units), (self.needs.modules, known.modules),
                           (self.needs.whole, known.whole), (self.needs.opaque, known.opaque)):  # fmt: skip
            mine.update(more)  # type: ignore[arg-type]

    def _all_of_it(self) -> Needs:
        for text in list(self.project.everything()):
            found = self._module(text.name)
            if found is not None and found.text.path == text.path:
                self._all(found)
            else:
                self.needs.opaque[text.text] = None
        return self.needs

    def _whole(self, module: Source, why: str) -> None:
        self.needs.notes[f"the whole module {module.name}: {why}"] = None
        self._all(module)

    def _all(self, module: Source) -> None:
        self.needs.whole[module.name] = None
        for index in range(len(module.parsed.units)):
            self._reach(module, index)

    def _is_file(self, module: Source, asked: Asked) -> bool:
        """Whether a call is one of `mainspring.file`; of what is used but not called, whether that can be had of it."""
        if isinstance(first := asked.called[0], Import):
            found = self._of_import(module, first, asked.called[1], set())  # type: ignore[arg-type]
        else:
            found = self._outside(module, asked.called, set())  # type: ignore[arg-type]
        return any(name in _FILE or (asked.handed and _gives_file(name)) for name in found)

    def _outside(self, module: Source, chain: Chain, seen: set[tuple[str, Chain]]) -> Iterator[str]:
        """What of libraries *chain* stands for in *module*, whichever modules of the project pass it on."""
        if (module.name, chain) in seen:
            return
        seen.add((module.name, chain))
        units = module.parsed.units
        for index in module.parsed.binders.get(chain[0], ()):
            for target in units[index].imports.get(chain[0], ()):
                yield from self._of_import(module, target, chain[1:], seen)
        for index in module.parsed.stars:
            for star in units[index].stars:
                yield from self._of_import(module, star, chain, seen)

    def _of_import(self, module: Source, target: Import, rest: Chain, seen: set[tuple[str, Chain]]) -> Iterator[str]:
        name = target.absolute(module.text.parent)
        rest = rest if target.name is None else (target.name, *rest)
        found = self.find(name)
        while found is not None and rest:
            yield from self._outside(found, rest, seen)
            name, rest = f"{name}.{rest[0]}", rest[1:]
            found = self.find(name)
        if found is None and name.partition(".")[0] == _OURS:
            yield ".".join([name, *rest])

    def _module(self, name: str) -> Source | None:
        """The project's module *name*, with the packages above it, which an import runs first; None for a library's."""
        source = self.find(name)
        if source is not None and name not in self.needs.modules:
            self.needs.modules[name] = None
            if source.parsed.error or source.text.compiled:
                self.needs.opaque[source.text.compiled or source.text.text] = None
            if above := name.rpartition(".")[0]:
                self._module(above)
        return source

    def _visited(self, name: str) -> Source | None:
        """The project's module *name*; an installed library's is noted by its root."""
        module, root = self._module(name), name.partition(".")[0]
        if module is None and root:
            if root not in sys.stdlib_module_names and self._module(root) is None:
                self.needs.libraries[root] = None
            self.needs.wanted["", root] = None
        return module

    def _reach(self, module: Source, index: int) -> None:
        self.needs.units[module.name, index] = None

    def _want(self, place: Global) -> None:
        self.needs.wanted[place] = None
        self.needs.wanted[place[0], WHOLE] = None


def _passed_on(unit: Unit) -> list[Asked]:
    """What may be `mainspring.file`, or give it, and is used but not called, as in `map(ms.file, NAMES)` and
    `getattr(ms, "file")`: it may name any file."""
    if isinstance(unit.node, IMPORTS):
        return []
    return [Asked(each, None, "", unit.line, handed=True) for each in unit.handed]


def _gives_file(name: str) -> bool:
    """Whether *name* is mainspring itself, or what its names can be had from."""
    return name == _OURS or (name.startswith(f"{_OURS}.__") and name not in _SAYS_ONLY)


def _makes_names(unit: Unit) -> bool:
    return bool(unit.dynamic & _MAKES_NAMES) or any(chain[:2] == ("sys", "modules") for chain in unit.uses)
