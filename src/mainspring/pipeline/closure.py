"""What each unit reaches in the end, found once for all: a set of units is one whole number, a bit for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mainspring.pipeline.codebase import Codebase, Imported
from mainspring.pipeline.effects import Global
from mainspring.pipeline.pieces import NOTHING, Key, Needs

_BESIDE = ("modules", "libraries", "notes", "opaque", "whole", "asked")
"""What a walk notes beside the units."""
_ALONE = ("alone", "")
"""Stands for what depends on who asks: modules that only a function imports, and those that alter others."""


@dataclass(slots=True)
class Closure:
    """The units that units reach. needs: what one needs directly, in several parts."""

    project: Codebase
    imported: Imported
    needs: Callable[[Key], Iterable[Needs]]
    _tokens: list[tuple[str, Any]] = field(default_factory=list)
    _bits: dict[tuple[str, Any], int] = field(default_factory=dict)
    _known: dict[Key, int] = field(default_factory=dict)
    _units: int = 0
    _of_module: dict[str, int] = field(default_factory=dict)
    _indices: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    _beside: dict[int, tuple[Needs, list[str]] | None] = field(default_factory=dict)

    def of(self, start: Needs) -> tuple[Needs, dict[str, list[int]]] | None:
        """All that *start* leads to, its units by module beside the rest; None where that must be walked for itself."""
        mask, keys = self._own([start])
        for key in keys:
            mask |= self._known[key] if key in self._known else self._reached(key)
        return self._told(mask)

    def of_unit(self, key: Key) -> tuple[Needs, dict[str, list[int]]] | None:
        """The same of one unit, which nothing outside its own module alters."""
        return self._told(self._known[key] if key in self._known else self._reached(key))

    def _told(self, mask: int) -> tuple[Needs, dict[str, list[int]]] | None:
        beside = mask & ~self._units
        if beside not in self._beside:
            found = Needs()
            for kind, value in self._decoded(beside & ~self._bit(_ALONE)):
                getattr(found, kind)[value] = None
            self._beside[beside] = None if beside & self._bit(_ALONE) else (found, sorted(found.modules))
        known = self._beside[beside]
        if known is None:
            return None
        found, modules = known
        return found, {name: self._in(name, mask & self._of_module.get(name, 0)) for name in modules}

    def _in(self, module: str, mask: int) -> list[int]:
        """The units of *module* that *mask* stands for; most walks reach the same ones."""
        if not mask & (mask - 1):
            return [key[1] for _, key in self._decoded(mask)]
        known = self._indices.get((module, mask))
        if known is None:
            known = self._indices[module, mask] = sorted(key[1] for _, key in self._decoded(mask))
        return known

    def _own(self, parts: Iterable[Needs], binds: Iterable[Global] = ()) -> tuple[int, list[Key]]:
        """What these needs are in themselves, and the units that they lead to at once."""
        mask, keys = 0, list[Key]()
        for part in parts:
            if part is NOTHING:
                continue
            keys += part.units
            for kind in _BESIDE:
                if found := getattr(part, kind):
                    for value in found:
                        mask |= self._bit((kind, value))
            if part.modules and not self.imported.modules.keys() >= part.modules.keys():
                mask |= self._bit(_ALONE)
            mask |= self._altering(part.wanted, keys)
        return mask | self._altering(binds, keys), keys

    def _altering(self, places: Iterable[Global], keys: list[Key]) -> int:
        """Add the units that alter these *places* to *keys*; those of other modules depend on who asks."""
        mask = 0
        for place in places:
            for key in self.imported.altered.get(place, ()):
                keys.append(key)
                if key[0] != place[0]:
                    mask |= self._bit(_ALONE)
        return mask

    def _direct(self, key: Key) -> tuple[int, list[Key]]:
        source = self.project.source(key[0])
        assert source is not None  # a key names a module that was found
        unit = source.parsed.units[key[1]]
        mask, keys = self._own(self.needs(key), [(key[0], name) for name in unit.binds])
        alone = bool(source.parsed.repeated & unit.binds)
        mask |= self._bit(("units", key)) | self._bit(("modules", key[0]))
        return mask | (self._bit(_ALONE) if alone else 0), keys

    def _reached(self, start: Key) -> int:
        """Tarjan's walk: units that reach each other share one set."""
        if start in self._known:
            return self._known[start]
        mask, keys = self._direct(start)
        if not keys:
            self._known[start] = mask
            return mask
        order: dict[Key, int] = {}
        low: dict[Key, int] = {}
        masks: dict[Key, int] = {}
        open_: list[Key] = []
        ahead: list[tuple[Key, Iterator[Key]]] = [self._opened(start, order, low, masks, open_)]
        while ahead:
            key, uses = ahead[-1]
            following = next(uses, None)
            if following is None:
                ahead.pop()
                if low[key] == order[key]:
                    self._close(key, masks, open_)
                if ahead:
                    above = ahead[-1][0]
                    low[above] = min(low[above], low[key])
                    masks[above] |= self._known.get(key, masks[key])
            elif following in self._known:
                masks[key] |= self._known[following]
            elif following in order:
                low[key] = min(low[key], order[following])
            else:
                ahead.append(self._opened(following, order, low, masks, open_))
        return self._known[start]

    def _opened(
        self, key: Key, order: dict[Key, int], low: dict[Key, int], masks: dict[Key, int], open_: list[Key]
    ) -> tuple[Key, Iterator[Key]]:
        order[key] = low[key] = len(order)
        masks[key], keys = self._direct(key)
        open_.append(key)
        return key, iter(keys)

    def _close(self, key: Key, masks: dict[Key, int], open_: list[Key]) -> None:
        together = [open_.pop()]
        while together[-1] != key:
            together.append(open_.pop())
        mask = 0
        for each in together:
            mask |= masks[each]
        self._known.update(dict.fromkeys(together, mask))

    def _bit(self, token: tuple[str, Any]) -> int:
        place = self._bits.get(token)
        if place is None:
            place = self._bits[token] = len(self._tokens)
            self._tokens.append(token)
            if token[0] == "units":
                self._units |= 1 << place
                self._of_module[token[1][0]] = self._of_module.get(token[1][0], 0) | 1 << place
        return 1 << place

    def _decoded(self, mask: int) -> Iterator[tuple[str, Any]]:
        while mask:
            lowest = mask & -mask
            yield self._tokens[lowest.bit_length() - 1]
            mask ^= lowest
