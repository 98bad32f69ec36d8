"""A request's rows as the frame that a model sees, and as the raw values that its record keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from operator import itemgetter
from types import NoneType
from typing import Any

import msgspec
import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import InvalidRows
from mainspring.core.instants import instant
from mainspring.core.schema import Schema, Type
from mainspring.core.wording import listed
from mainspring.serving.inputs import DTYPES
from mainspring.serving.typed_rows import TypedBody, TypedRow
from mainspring.store.protection import protection_of

Row = Mapping[str, Any]

_ASIS: dict[Type, frozenset[type]] = {
    Type.INTEGER: frozenset({int, NoneType}),
    Type.FLOAT: frozenset({float, int, NoneType}),
    Type.BOOLEAN: frozenset({bool, NoneType}),
    Type.TEXT: frozenset({str, NoneType}),
    Type.DATETIME: frozenset({NoneType}),
    Type.DATE: frozenset({NoneType}),
}
_MOST_COMBINATIONS = 256
"""Of types of the values in a row, that are known to fit; missing values make many."""
_PLAIN = frozenset({str, int, float, bool, NoneType})
_MEANT = {
    Type.INTEGER: "a whole number",
    Type.FLOAT: "a number",
    Type.BOOLEAN: "true or false",
    Type.TEXT: "text",
    Type.DATETIME: "a time such as '2013-07-01T10:00:00'",
    Type.DATE: "a date such as '2013-07-01'",
}


class Rows(msgspec.Struct, frozen=True):
    """Rows that fit. *typed* feeds the frame; *raw* are the known columns as they came, for the record."""

    typed: Sequence[Row]
    raw: Sequence[Row]
    extra: int


class Columns:
    """What rows must carry to be served by one model.

    >>> from mainspring.core.schema import Column
    >>> columns = Columns(Schema((Column("age", Type.INTEGER),)), Roles("late", key="id"))
    >>> rows = columns.read([{"age": 41, "id": "x", "noise": 0}])
    >>> rows.raw, rows.extra
    ([{'age': 41, 'id': 'x'}], 1)
    """

    def __init__(self, inputs: Schema, roles: Roles, optional: Iterable[str] = ()) -> None:
        named = [name for name in (roles.key, roles.time, roles.group) if name]
        self.inputs, self.protection = inputs, protection_of(inputs)
        self.required = frozenset(inputs.names) - frozenset(optional)
        self._dtypes = {column.name: DTYPES[column.type] for column in inputs}
        self._kept = (*inputs.names, *(name for name in dict.fromkeys(named) if name not in inputs))
        self._known = frozenset(self._kept)
        self._scalars = [name for name in self._kept if name not in inputs]
        self._checks = [(column.name, _ASIS[column.type], column.type) for column in inputs]
        self._times = [(column.name, column.type) for column in inputs if column.type in (Type.DATETIME, Type.DATE)]
        self._values = itemgetter(*inputs.names) if len(inputs.names) > 1 else None
        self._fitting: set[tuple[type, ...]] = set()
        self._body = None if self.protection else TypedBody(inputs, self._scalars)

    def typed(self, content: bytes) -> list[Row] | None:
        """The rows of a JSON body that fit as they stand, so that `read` needn't look at them; None where it must."""
        return None if self._body is None else self._body.rows(content)

    def read(self, rows: Sequence[Row], *, strict: bool = False) -> Rows:
        """Check every value; raises InvalidRows that names column, row and value. *strict* refuses extra columns.

        Personal values become what they may be kept as first of all.
        """
        if rows and isinstance(rows[0], TypedRow):
            if self._body is not None and type(rows[0]) is self._body.row:
                return Rows(self._timed(rows), rows, 0)
            rows = _dicts(rows)  # read for another version
        rows = self.protection.rows(rows)
        if len(rows) == 1 and (one := self._one(rows[0])) is not None:
            return one
        required = self.required
        for number, row in enumerate(rows):
            if not required.issubset(row):
                missing = sorted(required - row.keys())
                raise InvalidRows(f"row {number} lacks {_columns(missing)}; a missing value is written null")
        extra = frozenset().union(*rows) - self._known
        if extra and strict:
            raise InvalidRows(f"{_columns(sorted(extra))} unknown to this loop; leave them out, or drop strict=true")
        for name in self._scalars:
            self._plain(name, rows)
        typed, large = self._typed(rows)
        raw = [{name: row.get(name) for name in self._kept} for row in rows]
        for name in large:  # whatever reads the record later has 64 bits too
            raw = [{**row, name: read[name]} for row, read in zip(raw, typed, strict=True)]
        return Rows(typed, raw, len(extra))

    def _one(self, row: Row) -> Rows | None:
        """The rows of a request with one row that fits as it is; None when it must be looked at closely."""
        if self._scalars or self._values is None or len(row) != len(self._kept):
            return None
        try:
            values = self._values(row)
        except KeyError:
            return None
        types = tuple(map(type, values))
        if types not in self._fitting:
            if not all(type(value) in asis for value, (_, asis, _) in zip(values, self._checks, strict=True)):
                return None
            if len(self._fitting) < _MOST_COMBINATIONS:
                self._fitting.add(types)
        if int in types and not _fits(list(values)):
            return None
        return Rows([row], [row if type(row) is dict else dict(row)], 0)

    def _timed(self, rows: Sequence[Row]) -> Sequence[Row]:
        """*rows* that fit as they stand, but for their times, which must be read."""
        if not self._times:
            return rows
        typed: list[Any] = msgspec.to_builtins(rows)
        for name, kind in self._times:
            for row, value in zip(typed, _converted(name, [row[name] for row in typed], kind), strict=True):
                row[name] = value
        return typed

    def frame(self, rows: Sequence[Row]) -> pl.DataFrame:
        """`Rows.typed` (of several requests, if need be) as the frame of the model's raw input columns."""
        try:
            return pl.from_dicts(_dicts(rows), schema=self._dtypes)
        except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
            raise InvalidRows(f"the rows don't fit the loop's columns: {error}".splitlines()[0][:300]) from error

    def _typed(self, rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
        """The same rows where JSON's types are the columns' already; copies where times must be read. And the columns
        of floats with whole numbers beyond 64 bits."""
        typed: list[Row] = list(rows)
        large: list[str] = []
        for name, asis, kind in self._checks:
            values = [row.get(name) for row in rows]
            types = set(map(type, values))
            beyond = int in types and not _fits(values)
            if beyond or not types <= asis:
                values = _converted(name, values, kind)
                typed = [{**row, name: value} for row, value in zip(typed, values, strict=True)]
            large += [name] if beyond else []
        return typed, large

    def _plain(self, name: str, rows: Sequence[Row]) -> None:
        """A role's column that no model sees is kept as it came, if it is one value."""
        values = [row.get(name) for row in rows]
        if not _PLAIN.issuperset(map(type, values)):
            number = next(number for number, value in enumerate(values) if type(value) not in _PLAIN)
            raise InvalidRows(f"column {name!r}, row {number}: {_shown(values[number])} is not a single value")
        _check_size(name, values)


def _dicts(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [row if type(row) is dict else _dict(row) for row in rows]


def _dict(row: Row) -> dict[str, Any]:
    if isinstance(row, TypedRow):
        made: dict[str, Any] = msgspec.to_builtins(row)
        return made
    return dict(row)


def _converted(name: str, values: list[Any], kind: Type) -> list[Any]:
    convert = _CONVERSIONS[kind]
    converted = []
    for number, value in enumerate(values):
        try:
            converted.append(None if value is None else convert(value))
        except (ValueError, TypeError, OverflowError):
            raise _unfit(name, number, value, kind) from None
    return converted


def _fits(values: list[Any]) -> bool:
    return all(type(value) is not int or -(2**63) <= value < 2**63 for value in values)


def _check_size(name: str, values: list[Any]) -> None:
    for number, value in enumerate(values):
        if not _fits([value]):
            raise InvalidRows(
                f"column {name!r}, row {number}: {_shown(value)} is beyond a signed 64-bit integer; send it as text"
            )


def _unfit(name: str, number: int, value: Any, kind: Type) -> InvalidRows:
    if kind is Type.INTEGER and (type(value) is int or (isinstance(value, float) and value.is_integer())):
        return InvalidRows(f"column {name!r}, row {number}: {_shown(value)} is beyond a signed 64-bit integer")
    if kind is Type.FLOAT and type(value) is int:
        return InvalidRows(f"column {name!r}, row {number}: {_shown(value)} is beyond a 64-bit float")
    return InvalidRows(f"column {name!r}, row {number}: {_shown(value)} is not {_MEANT[kind]}; a missing value is null")


def _integer(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    raise ValueError(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise TypeError(value)


def _refused(value: Any) -> Any:
    raise TypeError(value)


_CONVERSIONS: dict[Type, Callable[[Any], Any]] = {
    Type.INTEGER: _integer,
    Type.FLOAT: lambda value: float(value) if type(value) in (int, float) else _refused(value),
    Type.BOOLEAN: lambda value: value if value is True or value is False else _refused(value),
    Type.TEXT: _text,
    Type.DATETIME: lambda value: instant(_text(value)),
    Type.DATE: lambda value: date.fromisoformat(_text(value).strip()),
}


def _columns(names: Sequence[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {listed([repr(name) for name in names])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
