"""The rows of a JSON body, decoded straight into the types of a model's columns and checked by that.

Only rows that have exactly these columns, each with a value that is of the column's type as it stands; of all others
plain dicts are made, which `rows.Columns` reads, and it says what is wrong with them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from mainspring.core.schema import Schema, Type
from mainspring.serving import bodies

_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_TYPES: dict[Type, Any] = {
    Type.INTEGER: _Whole | None,
    Type.FLOAT: float | _Whole | None,
    Type.BOOLEAN: bool | None,
    Type.TEXT: str | None,
    Type.DATETIME: str | None,
    Type.DATE: str | None,
}
_SINGLE = str | float | _Whole | bool | None


class TypedRow(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A row that has the columns of one model: a mapping, and encoded as one. fields: those of the columns."""

    fields: ClassVar[Mapping[str, str]] = {}

    def __getitem__(self, name: str) -> Any:
        return getattr(self, self.fields[name])

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self.fields else default

    def keys(self) -> Collection[str]:
        return self.fields.keys()

    def values(self) -> tuple[Any, ...]:
        return msgspec.structs.astuple(self)

    def items(self) -> Collection[tuple[str, Any]]:
        return list(zip(self.fields, self.values(), strict=True))

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __contains__(self, name: object) -> bool:
        return name in self.fields

    def __len__(self) -> int:
        return len(self.fields)


Mapping.register(TypedRow)


class TypedBody:
    """Reads bodies whose rows have the columns of *inputs* and the *others*, which hold any single value.

    row: the type that they become.

    >>> from mainspring.core.schema import Column
    >>> body = TypedBody(Schema((Column("age", Type.INTEGER),)), ["id"])
    >>> [dict(row) for row in body.rows(b'{"rows": [{"id": "x", "age": 41}, {"age": null, "id": 7}]}')]
    [{'age': 41, 'id': 'x'}, {'age': None, 'id': 7}]
    >>> body.rows(b'{"rows": [{"age": 41.5, "id": "x"}]}') is None
    True
    """

    def __init__(self, inputs: Schema, others: Sequence[str]) -> None:
        fields = {name: f"field{place}" for place, name in enumerate((*inputs.names, *others))}
        kinds = [*(_TYPES[column.type] for column in inputs), *(_SINGLE for _ in others)]
        self.row: type[Any] = TypedRow
        self._decode: Callable[[bytes], Any] | None = None
        self._width = len(fields)
        try:
            self.row = msgspec.defstruct(
                "Row", list(zip(fields.values(), kinds, strict=True)), bases=(TypedRow,), gc=False,
                rename={field: name for name, field in fields.items()}, namespace={"fields": fields},
            )  # fmt: skip
        except ValueError:  # a name that no field may have
            return
        rows: Any = list[self.row]  # type: ignore[name-defined]
        whole: type[Any] = msgspec.defstruct("Body", [("rows", rows)], forbid_unknown_fields=True)
        self._decode = msgspec.json.Decoder(whole).decode

    def rows(self, content: bytes) -> list[Any] | None:
        """The rows of *content*, {"rows": [...]}; None where it must be looked at closely."""
        if self._decode is None:
            return None
        try:
            rows: list[Any] = self._decode(content).rows
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        return rows if bodies.once(content, len(rows) * self._width + 1) else None
