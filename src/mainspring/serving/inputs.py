"""Raw rows as the model's contract wants them: every input column, of its type. Extra columns are left out."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import polars as pl

from mainspring.core.errors import InvalidRows
from mainspring.core.schema import Column, Schema, Type

DTYPES: dict[Type, pl.DataType] = {
    Type.INTEGER: pl.Int64(),
    Type.FLOAT: pl.Float64(),
    Type.BOOLEAN: pl.Boolean(),
    Type.TEXT: pl.String(),
    Type.DATETIME: pl.Datetime("us"),
    Type.DATE: pl.Date(),
}
"""As in `store.tables`, which the fast path doesn't import for the table library's sake."""


def conform(rows: pl.DataFrame, inputs: Schema, *, fractions: bool = False) -> pl.DataFrame:
    """The input columns of *rows* in the contract's order and types. Raises InvalidRows, which names the column.

    fractions: a column of whole numbers may hold fractions as well; sound where all numbers become floats anyway.

    >>> from mainspring.core.schema import Column, Schema, Type
    >>> inputs = Schema((Column("age", Type.INTEGER),))
    >>> conform(pl.DataFrame({"extra": ["x"], "age": [41.0]}), inputs).rows()
    [(41,)]
    """
    names, dtypes = _expected(inputs)
    if rows.columns == names and rows.dtypes == dtypes:
        return rows
    given = set(rows.columns)
    if missing := [name for name in names if name not in given]:
        named = ", ".join(repr(name) for name in missing)
        raise InvalidRows(f"the rows lack {named}; every row needs {', '.join(names)} (null where a value is missing)")
    return rows.select([_conformed(rows[column.name], column, fractions) for column in inputs])


@lru_cache(maxsize=64)
def _expected(inputs: Schema) -> tuple[list[str], list[pl.DataType]]:
    return list(inputs.names), [DTYPES[column.type] for column in inputs]


def _conformed(values: pl.Series, column: Column, fractions: bool) -> pl.Series:
    dtype = DTYPES[column.type]
    if values.dtype == dtype:
        return values
    if values.null_count() == len(values):
        return pl.Series(values.name, [None], dtype=dtype).new_from_index(0, len(values))
    convert = _CONVERSIONS[column.type]
    try:
        made = convert(values)
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise _wrong(values, column) from error
    if made is None or made.null_count() > values.null_count() + _not_numbers(values):
        if fractions and column.type is Type.INTEGER and values.dtype.is_float():
            return values.cast(pl.Float64)
        raise _wrong(values if made is None else values.filter(made.is_null() & values.is_not_null()), column)
    return made


def _wrong(values: pl.Series, column: Column) -> InvalidRows:
    known = values.drop_nulls()
    example = f", such as {known[0]!r}" if len(known) else ""
    return InvalidRows(
        f"column {column.name!r} holds {values.dtype}{example}; the model was trained on {column.type.value}"
    )


def _not_numbers(values: pl.Series) -> int:
    return int(values.is_nan().sum()) if values.dtype.is_float() else 0


def _integer(values: pl.Series) -> pl.Series | None:
    if values.dtype.is_integer():
        return values.cast(pl.Int64, strict=False)
    if not values.dtype.is_float():
        return None
    known = values.fill_nan(None)
    return known.set(known.round() != known, None).cast(pl.Int64, strict=False)


def _float(values: pl.Series) -> pl.Series | None:
    if values.dtype == pl.Duration:
        return values.dt.total_microseconds() / 1e6  # as ingest takes it
    return values.cast(pl.Float64) if values.dtype.is_numeric() else None


def _boolean(values: pl.Series) -> pl.Series | None:
    if not values.dtype.is_numeric():
        return None
    return values.set(~values.is_in([0, 1]), None).cast(pl.Boolean)


def _text(values: pl.Series) -> pl.Series | None:
    return values.cast(pl.String) if values.dtype in (pl.Categorical, pl.Enum, pl.Time) else None


def _datetime(values: pl.Series) -> pl.Series | None:
    if isinstance(values.dtype, pl.Datetime):
        instant = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if values.dtype.time_zone else values
        return instant.cast(pl.Datetime("us"))
    if values.dtype == pl.Date:
        return values.cast(pl.Datetime("us"))
    if values.dtype != pl.String:
        return None
    return values.str.to_datetime(time_unit="us", time_zone="UTC", strict=False).dt.replace_time_zone(None)


def _date(values: pl.Series) -> pl.Series | None:
    if isinstance(values.dtype, pl.Datetime):
        return values.cast(pl.Date)
    return values.str.to_date(strict=False) if values.dtype == pl.String else None


_CONVERSIONS: dict[Type, Callable[[pl.Series], pl.Series | None]] = {
    Type.INTEGER: _integer,
    Type.FLOAT: _float,
    Type.BOOLEAN: _boolean,
    Type.TEXT: _text,
    Type.DATETIME: _datetime,
    Type.DATE: _date,
}
