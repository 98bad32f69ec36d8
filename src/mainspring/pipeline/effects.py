"""What a module's statements alter beyond what they bind: `TABLE.update(...)`, `config.RATE = 1`, `@register`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mainspring.pipeline.modules import ModuleText
from mainspring.pipeline.names import FORMAT, Chain, Unit
from mainspring.pipeline.scopes import Import
from mainspring.pipeline.units import Parsed

Global = tuple[str, str]
"""A module and a name in it; ("", library) is an installed library's state, (module, "*") the module itself."""

WHOLE = "*"
_CONFIGURES = re.compile(r"(set|seed|enable|disable|use|register|filter|simplefilter|config|option)", re.IGNORECASE)
_OUTSIDE = re.compile(
    r"^(open|read\w*|load\w*|get|getenv|getcwd|now|today|utcnow|time\w*|monotonic|perf_counter|urandom|uuid\w*|argv|"
    r"environ|listdir|scandir|glob|rglob|iterdir|exists|is_file|stat|run|Popen|check_output|urlopen|connect|execute|"
    r"query|input|stdin|random\w*|rand\w*|choice|shuffle|sample|normal|integers|default_rng|hostname|node|getuser|"
    r"scan_\w*|from_file|fetch\w*|download\w*|request|post|parse_args|parse_known_args|prompt|confirm)$"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A module of the project: its text, and its units."""

    text: ModuleText
    parsed: Parsed

    @property
    def name(self) -> str:
        return self.text.name


@dataclass(slots=True)
class Effects:
    """The statements of the project's modules that alter something as they are imported. find: a module by name."""

    find: Callable[[str], Source | None]
    _known: dict[str, Mapping[Global, tuple[int, ...]]] = field(default_factory=dict)
    _called: dict[tuple[str, int], tuple[Unit, Source, tuple[tuple[str, int], ...]]] = field(default_factory=dict)

    def of(self, source: Source) -> Mapping[Global, tuple[int, ...]]:
        """What each place is altered by: indices of the units of *source*."""
        if source.name not in self._known:
            found: dict[Global, list[int]] = {}
            for index, unit in enumerate(source.parsed.units):
                for place in set(self._of_unit(source, unit)):
                    found.setdefault(place, []).append(index)
            self._known[source.name] = {place: tuple(indices) for place, indices in found.items()}
        return self._known[source.name]

    def kept_by(self, module: str, index: int) -> Iterator[Global]:
        """What the functions in a unit, not those they call, alter when they are called."""
        unit, source, _ = self._step(module, index)
        yield from self._deferred(unit, source, deepest=None)

    def uses(self, module: str, index: int) -> tuple[tuple[str, int], ...]:
        """The project's units that a unit uses."""
        return self._step(module, index)[2]

    def binders(self, places: Iterable[Global]) -> list[tuple[str, int]]:
        """The project's units that bind *places*."""
        return [step for place in places for step in self._binders(place)]

    def reached(self, steps: list[tuple[str, int]]) -> Iterator[tuple[str, int]]:
        """The units that a call of *steps* may run, however deep."""
        ahead, seen = list(steps), set(steps)
        while ahead:
            for use in self._step(*ahead.pop())[2]:
                if use not in seen:
                    seen.add(use)
                    ahead.append(use)
                    yield use

    def places(self, source: Source, chain: Chain) -> Iterator[Global]:
        """What *chain* stands for in *source*, and what that stands for where it is imported from."""
        yield from self._places(source, chain, set())

    # ------------------------------------------------------------------------------------------------------- one unit

    def _of_unit(self, source: Source, unit: Unit) -> Iterator[Global]:
        for chain in unit.changes:
            yield from self.places(source, chain)
        for chain in unit.configures:
            yield from self._configured(source, chain)
        for by, chain in unit.passes:
            if not self._is_data(source.name, by):
                yield from (place for place in self.places(source, chain) if self._is_data(*place))
        for chain, depth in unit.calls.items():
            for called, where in self._reached_from(self.places(source, chain)):
                yield from self._deferred(called, where, depth)

    def _configured(self, source: Source, chain: Chain) -> Iterator[Global]:
        """A method called for its effect alters its object; a library's function only where its name says so."""
        for module, name in self.places(source, chain[:-1]):
            configured = not module and chain[-1] != FORMAT and any(map(_CONFIGURES.match, chain[1:]))
            if (module and name != WHOLE) or configured:
                yield module, name

    def _deferred(self, unit: Unit, source: Source, deepest: int | None) -> Iterator[Global]:
        for chain, depth in unit.deferred.items():
            if deepest is None or depth <= deepest:
                yield from self.places(source, chain)
        for target, rest in unit.altered:
            yield from self._imported(source, target, rest, set())

    def _is_data(self, module: str, name: str) -> bool:
        source = self.find(module)
        units = [] if source is None else [source.parsed.units[i] for i in source.parsed.binders.get(name, ())]
        return bool(units) and all(unit.data for unit in units)

    # -------------------------------------------------------------------------------------------- what a call reaches

    def _reached_from(self, places: Iterable[Global]) -> Iterator[tuple[Unit, Source]]:
        """The project's units that a call of *places* may run, however deep."""
        ahead = [start for place in places for start in self._binders(place)]
        seen = set(ahead)
        while ahead:
            unit, source, uses = self._step(*ahead.pop())
            yield unit, source
            for use in uses:
                if use not in seen:
                    seen.add(use)
                    ahead.append(use)

    def _step(self, module: str, index: int) -> tuple[Unit, Source, tuple[tuple[str, int], ...]]:
        key = (module, index)
        if key not in self._called:
            source = self.find(module)
            assert source is not None  # a place names a module that was found
            unit = source.parsed.units[index]
            used = [place for chain in unit.uses for place in self.places(source, chain)]
            used += [place for target, rest in unit.through for place in self._imported(source, target, rest, set())]
            steps = dict.fromkeys(step for place in used for step in self._binders(place))
            self._called[key] = unit, source, tuple(steps)
        return self._called[key]

    def _binders(self, place: Global) -> list[tuple[str, int]]:
        source = self.find(place[0]) if place[0] else None
        return [] if source is None else [(source.name, index) for index in source.parsed.binders.get(place[1], ())]

    # -------------------------------------------------------------------------------------------- what names stand for

    def _places(self, source: Source, chain: Chain, seen: set[tuple[str, Chain]]) -> Iterator[Global]:
        if (source.name, chain) in seen:
            return
        seen.add((source.name, chain))
        binders = source.parsed.binders.get(chain[0], ())
        if any(chain[0] not in source.parsed.units[index].imports for index in binders):
            yield source.name, chain[0]
        for index in binders:
            for target in source.parsed.units[index].imports.get(chain[0], ()):
                yield from self._imported(source, target, chain[1:], seen)
        for index in source.parsed.stars:
            for star in source.parsed.units[index].stars:
                found = self.find(star.absolute(source.text.parent))
                if found is not None:
                    yield from self._places(found, chain, seen)

    def _imported(self, source: Source, target: Import, rest: Chain, seen: set[tuple[str, Chain]]) -> Iterator[Global]:
        name = target.absolute(source.text.parent)
        yield from self._member(name, rest if target.name is None else (target.name, *rest), seen)

    def _member(self, name: str, members: Chain, seen: set[tuple[str, Chain]]) -> Iterator[Global]:
        found = self.find(name)
        if found is None:
            yield "", name.partition(".")[0]
        elif not members:
            yield name, WHOLE
        else:
            if members[0] not in found.parsed.binders:
                yield name, members[0]  # an attribute that is made from elsewhere
            yield from self._places(found, members, seen)
            if self.find(below := f"{name}.{members[0]}") is not None:
                yield from self._member(below, members[1:], seen)


def reads(chain: Chain) -> bool:
    """Whether a name in *chain* is one of those by which files, the environment, the clock or chance are read."""
    return any(map(_OUTSIDE.match, chain))
