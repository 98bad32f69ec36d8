"""The keys by which a join looks, in the type of the kept ones: a request says 7 or "7", a frame with gaps 7.0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

_INSTANT = pl.Datetime("us")


def keys_like(values: Sequence[Any], name: str, kind: pl.DataType) -> pl.Series:
    """Keys of a request as *kind*; null where one can't be."""
    return as_key(pl.Series(name, [_scalar(value) for value in values], strict=False), kind)


def _scalar(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, str | int | float) else None


def as_key(column: pl.Series, kind: pl.DataType) -> pl.Series:
    """A *column* of keys as *kind*; null where one can't be."""
    if column.dtype == kind:
        return column
    if column.dtype in (pl.Categorical, pl.Enum):
        return as_key(column.cast(pl.String), kind)
    made = {pl.Int64: _integers, pl.Boolean: _integers, pl.String: _texts, pl.Date: _dates, pl.Datetime: _moments}
    try:
        return made.get(kind.base_type(), _numbers)(column).cast(kind, strict=False)
    except pl.exceptions.PolarsError:  # of a type that no key is
        return pl.Series(column.name, [None], dtype=kind).new_from_index(0, len(column))


def _numbers(column: pl.Series) -> pl.Series:
    return column.cast(pl.Float64, strict=False)


def _integers(column: pl.Series) -> pl.Series:
    """Also those written as floats, and true as 1."""
    if column.dtype.is_integer() or column.dtype == pl.Boolean:
        return column.cast(pl.Int64, strict=False)
    if column.dtype == pl.String:
        column = column.str.strip_chars().replace(["true", "True", "false", "False"], ["1", "1", "0", "0"])
    direct = column.cast(pl.Int64, strict=False) if column.dtype == pl.String else None
    numbers = _numbers(column)
    whole = numbers.set((numbers != numbers.round()).fill_null(False), None).cast(pl.Int64, strict=False)
    return whole if direct is None else direct.zip_with(direct.is_not_null(), whole)


def _texts(column: pl.Series) -> pl.Series:
    """Whole numbers without a point, moments as JSON has them."""
    if column.dtype == pl.Datetime:
        return column.cast(_INSTANT).dt.strftime("%Y-%m-%dT%H:%M:%S%.f")
    if column.dtype.is_float() or column.dtype.is_decimal():
        whole = _integers(column)
        return whole.cast(pl.String).zip_with(whole.is_not_null(), column.cast(pl.String))
    return column.cast(pl.String)


def _dates(column: pl.Series) -> pl.Series:
    moments = _moments(column)
    return moments.set((moments.dt.truncate("1d") != moments).fill_null(False), None)


def _moments(column: pl.Series) -> pl.Series:
    if column.dtype != pl.String:
        return column.cast(_INSTANT)
    text = column.str.strip_chars().str.replace(" ", "T", literal=True)
    moments = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    return moments.zip_with(moments.is_not_null(), text.str.to_date("%Y-%m-%d", strict=False).cast(_INSTANT))
