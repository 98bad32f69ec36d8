"""A table's contract: columns with type, nullability, range and levels. Inferring and checking it is `data/`'s work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Literal

from mainspring.core.errors import SchemaMismatch


class Type(StrEnum):
    """What a column holds, whatever the source calls it."""

    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    TEXT = "text"
    DATETIME = "datetime"
    DATE = "date"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a contract: what has been seen of it, and the rules that a person adds.

    Seen, and no rule: *nullable*; *low* and *high* of numbers; *levels*, of text with few distinct values; *undecided*:
    no value has come yet, so that the type is open. Rules, which a row must keep: *required* (a value is there),
    *minimum* and *maximum*, *allowed* values, *unique*. *unit* is for people; *personal*: of whom a value tells.
    *private*: what a request's values become before they are used or kept; see `core/privacy.py`.
    """

    name: str
    type: Type
    nullable: bool = True
    low: float | None = None
    high: float | None = None
    levels: tuple[str, ...] | None = None
    undecided: bool = False
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[Any, ...] | None = None
    unique: bool = False
    unit: str | None = None
    personal: bool = False
    private: tuple[Any, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SEEN} | {
            name: getattr(self, name) for name, usual in _RULES.items() if getattr(self, name) != usual
        }


_SEEN = ("name", "type", "nullable", "low", "high", "levels")
_RULES = {field.name: field.default for field in fields(Column) if field.name not in _SEEN}


@dataclass(frozen=True, slots=True)
class Evolution:
    """What is done without asking when the source changes; what is refused waits for `mainspring schema NAME accept`.

    new_column: left out ("ignore"), taken in ("add") or refused. vanished_column: refused, or "empty": its values are
    missing. wider_type: integers that get fractions become floats, or their rows go to quarantine ("refuse").
    new_level: noted and taken in, or its row goes to quarantine ("refuse").
    """

    new_column: Literal["ignore", "add", "refuse"] = "ignore"
    vanished_column: Literal["refuse", "empty"] = "refuse"
    wider_type: Literal["accept", "refuse"] = "accept"
    new_level: Literal["accept", "refuse"] = "accept"


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a table in their order.

    >>> schema = Schema((Column("age", Type.INTEGER),))
    >>> schema["age"].type.value
    'integer'
    """

    columns: tuple[Column, ...]
    evolution: Evolution = Evolution()

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return any(column.name == name for column in self.columns)

    def __getitem__(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaMismatch(f"no column {name!r}; the columns are {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def only(self, names: Iterable[str]) -> Schema:
        """The contract of these columns, in this contract's order."""
        wanted = set(names)
        return replace(self, columns=tuple(column for column in self.columns if column.name in wanted))

    def to_json(self) -> list[dict[str, Any]]:
        return [column.to_json() for column in self.columns]

    @classmethod
    def from_json(cls, columns: Iterable[Mapping[str, Any]]) -> Schema:
        return cls(tuple(_column(fields) for fields in columns))


def _column(fields: Mapping[str, Any]) -> Column:
    several = {name: tuple(fields[name]) for name in ("levels", "allowed", "private") if fields.get(name) is not None}
    return Column(**{**fields, "type": Type(fields["type"]), **several})
