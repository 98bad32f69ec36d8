"""How a foreign column becomes one of our types; what can't be cast becomes null and is counted by the caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from mainspring.core.schema import Type
from mainspring.core.wording import count
from mainspring.store.tables import DTYPES

_ISO = r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d{1,9})?)?)?\s*(?:Z|[+-]\d{2}:?\d{2})?$"
_FORMS = {
    16: "%Y-%m-%dT%H:%M",
    19: "%Y-%m-%dT%H:%M:%S",
    23: "%Y-%m-%dT%H:%M:%S.%3f",
    26: "%Y-%m-%dT%H:%M:%S.%6f",
}
_OFFSET = r"(Z|[+-]\d{2}:?\d{2})$"
_DAYS = (-719_162, 2_932_896)
_MICROSECONDS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
"""From the first day of the year 1 to the last of 9999, as dates and instants are counted."""
EXACT = 2**53
"""Up to here a float holds every whole number."""
_LONG = r"^\s*[-+]?\d{16,}(\.\d*)?\s*$"
_WORDS = {"true": True, "t": True, "yes": True, "1": True, "false": False, "f": False, "no": False, "0": False}


def plain(frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """*frame* in our types (64-bit numbers, booleans, text, instants in UTC, dates), and what had to be given up.

    NaN is missing, as in pandas. Columns of nothing but nulls keep the type Null: they may become anything later.
    """
    columns, notes = [], []
    for column in frame.iter_columns():
        made, note = _plain(column)
        columns += [] if made is None else [made]
        notes += [note] if note else []
    return pl.DataFrame(columns), tuple(notes)


def kind_of(column: pl.Series) -> Type | None:
    """The type of a plain column; None where it holds nothing but nulls."""
    if column.null_count() == len(column):
        return None
    return next(kind for kind, dtype in DTYPES.items() if dtype == column.dtype)


def cast(column: pl.Series, kind: Type) -> pl.Series:
    """A plain *column* as *kind*: null where a value isn't one, such as "abc" for a number."""
    casts = {
        Type.INTEGER: integers,
        Type.FLOAT: numbers,
        Type.BOOLEAN: _booleans,
        Type.DATETIME: instants,
        Type.DATE: _dates,
    }
    if column.dtype == DTYPES[kind]:
        return column
    return casts[kind](column) if kind in casts else _nothing(column, kind)


def numbers(column: pl.Series) -> pl.Series:
    """Floats from numbers, booleans or text."""
    if column.dtype == pl.String:
        read = column.str.strip_chars().cast(pl.Float64, strict=False)
        return read.set(~read.is_finite().fill_null(True), None)
    return column.cast(pl.Float64) if _numeric(column) else _nothing(column, Type.FLOAT)


def inexact(column: pl.Series) -> pl.Series:
    """Which values of a plain *column*, integers or text, are whole numbers or more beyond 2^53 that no float holds;
    not those that are text in the digits in which a float is written: JavaScript writes so up to 10^21."""
    if column.dtype == pl.String:
        long = column.str.contains(_LONG).fill_null(False)
    elif column.dtype == pl.Int64:
        long = ((column > EXACT) | (column < -EXACT)).fill_null(False)
    else:
        return pl.Series([False]).new_from_index(0, len(column))
    if not long.any():
        return long
    texts = column.filter(long).cast(pl.String).str.strip_chars().str.strip_prefix("+")
    whole = texts.str.replace(r"\..*", "").cast(pl.Int128, strict=False)
    floats = texts.cast(pl.Float64, strict=False)
    kept = (whole.abs() < EXACT) | (
        (floats.cast(pl.Int128, strict=False) == whole) & ~texts.str.contains(r"\.\d*[1-9]")
    )
    if column.dtype == pl.String:
        kept = kept.fill_null(False) | (_digits(texts) == _digits(floats.cast(pl.String)))
    return long.scatter(long.arg_true(), ~kept.fill_null(False))


def _digits(numbers: pl.Series) -> pl.Series:
    """The digits of *numbers* in text that count, whatever their magnitude."""
    return numbers.str.replace(r"[eE].*$", "").str.replace_all(r"[-.]", "").str.strip_chars("0")


def of_values(name: str, values: Sequence[Any]) -> pl.Series:
    """A column of Python's *values*: text where whole numbers are too large for one of numbers, or stand beside
    fractions and no float holds them."""
    made = pl.Series(name, values, strict=False)
    return made if _holds(made, values) else pl.Series(name, [None if v is None else str(v) for v in values], pl.String)


def united(frame: pl.DataFrame, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The *frame* that polars made of *rows*, with the columns that it can't hold as `of_values` makes them."""
    given = {
        column.name: [row.get(column.name) for row in rows] for column in frame.iter_columns() if _doubtful(column)
    }
    return frame.with_columns(
        of_values(name, values) for name, values in given.items() if not _holds(frame[name], values)
    )


def _doubtful(made: pl.Series) -> bool:
    return (made.dtype.is_integer() and made.null_count() > 0) or (
        made.dtype.is_float() and bool((made.abs() >= EXACT).any())
    )


def _holds(made: pl.Series, values: Sequence[Any]) -> bool:
    if not _doubtful(made):
        return True
    if made.dtype.is_integer():
        return made.null_count() == sum(value is None for value in values)
    return all(map(exact, values))


def exact(value: Any) -> bool:
    """Whether a float holds *value*, where that is a whole number."""
    return type(value) is not int or abs(value) <= EXACT or (abs(value) < 2**1023 and int(float(value)) == value)


def integers(column: pl.Series) -> pl.Series:
    """Integers from integers, whole floats, booleans or text."""
    if column.dtype in (pl.Int64, pl.Boolean):
        return column.cast(pl.Int64)
    direct = column.str.strip_chars().cast(pl.Int64, strict=False) if column.dtype == pl.String else None
    floats = numbers(column)
    whole = floats.set((floats != floats.round()).fill_null(False), None).cast(pl.Int64, strict=False)
    return whole if direct is None else direct.zip_with(direct.is_not_null(), whole)


def instants(column: pl.Series) -> pl.Series:
    """Instants from instants, dates, or ISO 8601 text; a time zone's offset is taken off, so that all are UTC."""
    if column.dtype == pl.Date:
        return column.cast(pl.Datetime("us"))
    if column.dtype != pl.String:
        return column if column.dtype == pl.Datetime("us") else _nothing(column, Type.DATETIME)
    even = _evenly_written(column)
    return _variously_written(column) if even is None else even


def _evenly_written(column: pl.Series) -> pl.Series | None:
    """All values written as the first one is, or None: nearly always so, and ten times as quick to read."""
    example = next(iter(column.drop_nulls().head(1)), "")
    form = _FORMS.get(len(example))
    if form is None or example[10] not in "T ":
        return None
    moments = column.str.to_datetime(form.replace("T", example[10:11]), time_unit="us", strict=False)
    if moments.null_count() > column.null_count() or (moments.dt.year() < 1000).any():  # such as "+201-01-01"
        return None
    return moments


def _variously_written(column: pl.Series) -> pl.Series:
    text = column.str.strip_chars()
    text = text.set(~text.str.contains(_ISO).fill_null(False), None)
    text = text.str.replace(r"^(.{10})[ T]?", "${1}T").str.replace(r"\s+", "").str.replace(",", ".")
    offset = text.str.extract(_OFFSET)
    clock = text.str.replace(_OFFSET, "").str.replace(r"T$", "T00:00:00").str.replace(r"T(\d\d:\d\d)$", "T${1}:00")
    parsed = clock.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    return parsed - _offsets(offset)


def first_values(column: pl.Series, mask: pl.Series, most: int = 3) -> str:
    """The first distinct values of *column* where *mask* holds, for a message."""
    found = column.filter(mask).unique(maintain_order=True).head(most)
    return ", ".join(map(repr, (found.cast(pl.String) if found.dtype.is_temporal() else found).to_list()))


def _plain(column: pl.Series) -> tuple[pl.Series | None, str]:
    name, dtype = column.name, column.dtype
    if dtype in (pl.String, pl.Boolean, pl.Null):
        return column, ""
    if dtype == pl.Date:
        return _within_years(column, *_DAYS)
    if dtype in (pl.Categorical, pl.Enum, pl.Time):
        return column.cast(pl.String), ""
    if isinstance(dtype, pl.Datetime):
        utc = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if dtype.time_zone else column
        return _within_years(utc.cast(pl.Datetime("us")), *_MICROSECONDS)
    if dtype == pl.Duration:
        return column.dt.total_microseconds() / 1e6, f"column {name!r} holds durations: they are taken as seconds"
    if dtype.is_integer():
        return _plain_integers(column)
    if isinstance(dtype, pl.Decimal):
        return _plain_decimals(column)
    if dtype.is_float():
        return _plain_floats(column)
    if dtype == pl.Object:
        return pl.Series(name, [None if value is None else str(value) for value in column.to_list()], pl.String), ""
    return None, f"column {name!r} holds {str(dtype).partition('(')[0].lower()} values and is left out"


def _within_years(column: pl.Series, first: int, last: int) -> tuple[pl.Series, str]:
    """*column* without what lies beyond the calendar of Python and of others, such as PostgreSQL's infinity."""
    numbers = column.to_physical()
    beyond = ~numbers.is_between(first, last).fill_null(True)
    if not beyond.any():
        return column, ""
    note = f"column {column.name!r}: {count(int(beyond.sum()), 'time')} beyond the years 1 to 9999 taken as missing"
    return column.set(beyond, None), note


def _plain_integers(column: pl.Series) -> tuple[pl.Series, str]:
    narrow = column.cast(pl.Int64, strict=False)
    if narrow.null_count() == column.null_count():
        return narrow, ""
    told = f"column {column.name!r} has integers beyond a signed 64-bit one: they are taken as text, as ids"
    return column.cast(pl.String), told


def _plain_decimals(column: pl.Series) -> tuple[pl.Series, str]:
    """Floats; of decimals without a fraction integers, and also of others that are whole and that no float holds. Those
    that have both are text, as are PostgreSQL's."""
    floats = column.cast(pl.Float64)
    large = bool((floats.abs() >= EXACT).any())
    if column.dtype.scale == 0 or (large and (column == column.round(0)).all()):  # type: ignore[attr-defined]
        return _plain_integers(column.cast(pl.Decimal(38, 0)))
    if large and inexact(texts := column.cast(pl.String)).any():
        return texts, ""
    return floats, ""


def _plain_floats(column: pl.Series) -> tuple[pl.Series, str]:
    floats = column.cast(pl.Float64)
    if floats.is_finite().all():
        return floats, ""
    floats = floats.set(floats.is_nan().fill_null(False), None)
    endless = floats.is_infinite().fill_null(False)
    if not endless.any():
        return floats, ""
    return floats.set(endless, None), f"column {column.name!r}: {endless.sum():,} infinite values are taken as missing"


def _numeric(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)


def _booleans(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        return column.str.strip_chars().str.to_lowercase().replace_strict(_WORDS, default=None, return_dtype=pl.Boolean)
    if not _numeric(column):
        return _nothing(column, Type.BOOLEAN)
    if column.dtype == pl.Null:
        return column.cast(pl.Boolean)
    return column.set(~((column == 0) | (column == 1)).fill_null(True), None).cast(pl.Boolean)


def _dates(column: pl.Series) -> pl.Series:
    moments = instants(column)
    days = moments.cast(pl.Date)
    return days.set((days.cast(pl.Datetime("us")) != moments).fill_null(False), None)


def _offsets(texts: pl.Series) -> pl.Series:
    minutes = texts.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + texts.str.slice(-2).cast(pl.Int64, strict=False)
    signed = minutes.zip_with((texts.str.starts_with("+")).fill_null(False), -minutes)
    return (signed.fill_null(0) * 60_000_000).cast(pl.Duration("us"))


def _nothing(column: pl.Series, kind: Type) -> pl.Series:
    return pl.Series(column.name, [None], dtype=DTYPES[kind]).new_from_index(0, len(column))
