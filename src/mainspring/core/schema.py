"""A table's contract: columns with type, nullability, range and levels. Inferring and checking it is `data/`'s work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

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
    """One column of a contract; *levels* is set for text with few distinct values, *low* and *high* for numbers."""

    name: str
    type: Type
    nullable: bool = True
    low: float | None = None
    high: float | None = None
    levels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a table in their order.

    >>> schema = Schema((Column("age", Type.INTEGER),))
    >>> schema["age"].type.value
    'integer'
    """

    columns: tuple[Column, ...]

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
        return [asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, columns: Iterable[Mapping[str, Any]]) -> Schema:
        return cls(tuple(_column(fields) for fields in columns))


def _column(fields: Mapping[str, Any]) -> Column:
    levels = fields.get("levels")
    return Column(**{**fields, "type": Type(fields["type"]), "levels": None if levels is None else tuple(levels)})
