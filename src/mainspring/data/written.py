"""Numbers and dates as people write them, from text: what can't be one stays as it is, for the contract to judge."""

from __future__ import annotations

import re
from collections.abc import Collection

import polars as pl

from mainspring.core.errors import SourceError
from mainspring.core.sources import CsvSource
from mainspring.core.wording import count
from mainspring.data.casting import first_values, inexact, numbers

_GROUPED = r"^\s*[-+]?\d{1,3}(?:\.\d{3})+\s*$"
_NOISE = 1e-6
"""So far from a whole number may be a thousand times a fraction of three digits below 1,000."""
_CLOCK = re.compile(r"%[HIMSTRXfp.3-9+s]")


class Forms:
    """How a source writes numbers and dates. What a column is, its first frame decides."""

    def __init__(self, source: CsvSource, file: str, text_columns: Collection[str] = ()) -> None:
        self._file, self._dates, self._text = file, source.dates, frozenset(text_columns)
        self._decimal, self._thousands = source.decimal, source.thousands
        self._reads_numbers = source.decimal != "." or bool(source.thousands)
        self._numbers: set[str] = set()
        self._formats: dict[str, str] = {} if isinstance(source.dates, str) else dict(source.dates)
        self._begun = False

    def read(self, frame: pl.DataFrame) -> pl.DataFrame:
        """*frame* with its numbers and dates read."""
        if not self._reads_numbers and not self._dates:
            return frame
        if not self._begun:
            self._refuse_unknown(frame)
        columns = [self._column(column) if column.dtype == pl.String else column for column in frame.iter_columns()]
        self._begun = True
        return pl.DataFrame(columns)

    def _column(self, column: pl.Series) -> pl.Series:
        if isinstance(self._dates, str) and self._dates and column.name not in self._formats and not self._begun:
            known = len(column) - column.null_count()
            if 2 * (len(column) - moments(column, self._dates).null_count()) > known:
                self._formats[column.name] = self._dates
        if column.name in self._formats:
            return self._as_dates(column, self._formats[column.name])
        return self._as_numbers(column) if self._reads_numbers and column.name not in self._text else column

    def _as_dates(self, column: pl.Series, form: str) -> pl.Series:
        found = moments(column, form)
        unread = found.is_null() & column.is_not_null()
        if not unread.any():
            return found
        if not self._begun and 2 * unread.sum() >= len(column) - column.null_count():
            raise SourceError(
                f"column {column.name!r} of {self._file!r} has {count(int(unread.sum()), 'value')} such as "
                f"{first_values(column, unread, 1)}, which aren't {form!r}; mend dates="
            )
        iso = found.dt.strftime("%Y-%m-%d" if found.dtype == pl.Date else "%Y-%m-%dT%H:%M:%S%.6f")
        return iso.zip_with(~unread, column)

    def _as_numbers(self, column: pl.Series) -> pl.Series:
        group, point = re.escape(self._thousands), re.escape(self._decimal)
        grouped = rf"\d{{1,3}}(?:{group}\d{{3}})+|" if group else ""
        shape = rf"^\s*[-+]?(?:{grouped}\d+)(?:{point}\d*)?(?:[eE][-+]?\d+)?\s*$"
        is_number = column.str.contains(shape).fill_null(False)
        known = len(column) - column.null_count()
        if known and is_number.sum() * 2 > known and not column.str.contains(r"^\s*[-+]?0\d").any():
            self._numbers.add(column.name)
        if int(is_number.sum()) < known:
            self._refuse_other_form(column, is_number)
        if column.name not in self._numbers:
            return _booleans(column)
        plain = column.str.strip_chars()
        plain = plain.str.replace_all(self._thousands, "", literal=True) if group else plain
        plain = plain.str.replace(self._decimal, ".", literal=True) if self._decimal != "." else plain
        if int(is_number.sum()) < known:
            return plain.zip_with(is_number, column)
        whole = plain.cast(pl.Int64, strict=False)
        if whole.null_count() == column.null_count():
            return whole
        return plain if inexact(plain).any() else plain.cast(pl.Float64, strict=False)

    def _refuse_other_form(self, column: pl.Series, is_number: pl.Series) -> None:
        """What isn't a number as they are written here would be taken for one: 1.234 where the point groups digits."""
        other = column.filter(~is_number & numbers(column).is_not_null())
        if not len(other) or (column.name not in self._numbers and not other.str.contains(_GROUPED).all()):
            return
        written = f"decimal={self._decimal!r}" + (f", thousands={self._thousands!r}" if self._thousands else "")
        mend = "mend them" if self._thousands else "say thousands='.' where that groups digits, or mend them"
        raise SourceError(
            f"column {column.name!r} of {self._file!r} has {count(len(other), 'value')} such as {other[0]!r}, which "
            f"aren't numbers by {written} but would be read as some; {mend}"
        )

    def _refuse_unknown(self, frame: pl.DataFrame) -> None:
        unknown = [name for name in self._formats if name not in frame.columns]
        if unknown:
            raise SourceError(
                f"dates= names column {unknown[0]!r}, which {self._file!r} doesn't have; "
                f"it has {', '.join(frame.columns[:30])}"
            )


def moments(column: pl.Series, form: str) -> pl.Series:
    """The texts of *column* as dates, or times where *form* has a clock; null where one isn't written so."""
    text = column.str.strip_chars()
    try:
        if not _CLOCK.search(form):
            return _of_four_digits(text.str.to_date(form, strict=False))
        found = text.str.to_datetime(form, time_unit="us", strict=False)
        aware = isinstance(found.dtype, pl.Datetime) and found.dtype.time_zone
        return _of_four_digits(found.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if aware else found)
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(f"dates={form!r} is no form of dates ({reason}); write one such as '%d.%m.%Y'") from error


def perhaps_grouped(rows: pl.DataFrame, source: CsvSource) -> tuple[str, ...]:
    """What to say of floats such as 1.234 throughout in a file divided by semicolons, as where a comma is the decimal
    sign: their point may group digits. One below 1, or of other digits behind the point, shows that it doesn't."""
    if source.separator != ";" or source.decimal != "." or source.thousands:
        return ()
    floats = [column.drop_nulls() for column in rows.iter_columns() if column.dtype.is_float()]
    return tuple(
        f"column {each.name!r} is read as decimals such as {each[0]:.3f}; where the point groups digits, say "
        "decimal=',' and thousands='.' in ms.csv"
        for each in floats
        if _all_of_three_digits(each)
    )


def _all_of_three_digits(values: pl.Series) -> bool:
    size, thousandths = values.abs(), (values * 1000).round()
    if not len(values) or not (size.is_between(1, 1000, closed="left") | (size == 0)).all():
        return False
    return bool(((values * 1000 - thousandths).abs() < _NOISE).all()) and (thousandths % 10 != 0).sum() > 0.7 * len(
        values
    )


def _of_four_digits(moments: pl.Series) -> pl.Series:
    """*moments* without those that %Y has made of a year of two digits: of 20 the year 20."""
    return moments.set((moments.dt.year() < 1000).fill_null(False), None)


def _booleans(column: pl.Series) -> pl.Series:
    known = column.drop_nulls()
    if len(known) and known.is_in(["true", "false"]).all():
        return (column == "true").alias(column.name)
    return column
