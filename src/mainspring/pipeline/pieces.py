"""The pieces that code consists of, where each stands, and what a statement needs of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mainspring.pipeline.effects import Global

Key = tuple[str, int]
"""A module and the index of a unit in it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a piece of code stands. kind: function, class, constant, import, statement, value or module."""

    kind: str
    name: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A statement, or a value made at import. key: "module:name"."""

    key: str
    digest: str
    place: Place


@dataclass(frozen=True, slots=True)
class Group:
    """The pieces of one module that are reached, by key: their digests and places. digest: of all of them."""

    pieces: Mapping[str, str]
    places: Mapping[str, Place]
    digest: str


@dataclass(slots=True)
class Needs:
    """What one statement needs. wanted: places that others may alter; opaque: stands for code without source; whole:
    modules of which everything counts; asked: data files by the module that names them, each a path, or the beginning
    of a computed one. (The keys of dictionaries are sets that keep their order.)"""

    units: dict[Key, None] = field(default_factory=dict)
    wanted: dict[Global, None] = field(default_factory=dict)
    modules: dict[str, None] = field(default_factory=dict)
    libraries: dict[str, None] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    opaque: dict[str, None] = field(default_factory=dict)
    whole: dict[str, None] = field(default_factory=dict)
    asked: dict[tuple[str, str | None, str], None] = field(default_factory=dict)


NOTHING = Needs()
"""Of most statements, of which it need not be made; nobody adds to it."""
