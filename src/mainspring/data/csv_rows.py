"""Rows of a CSV file, in frames of some megabytes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.errors import SchemaMismatch, SourceEmpty, SourceError
from mainspring.core.sources import CsvSource
from mainspring.core.wording import count, listed
from mainspring.data import written
from mainspring.data.casting import EXACT, inexact
from mainspring.data.stored import Pieces, Stored, blocks, header_end, row_end, rows

MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null", "NaT",
)  # fmt: skip
"""What stands for a missing value in a CSV file: pandas' list, so that a script and its Loop read the same."""
_INFERRED_BYTES = 1 << 20
_SEPARATORS = ",;\t|"


def frames(stored: Stored, source: CsvSource, text_columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The file's rows. A column's type comes from the first frame; where a later one needs a wider type, it has that.

    text_columns: columns that are text even if all values look like numbers.
    """
    parts = rows(blocks(stored, source.encoding), source.quote, stored.name)
    first = b"".join(next(parts, []))
    if not first.strip():
        raise SourceEmpty(f"{stored.name!r} is empty; it needs a header and rows")
    _refuse_other_kinds(first, stored, source)
    table = _Table(stored, source, first, text_columns)
    yield table.first(first)
    last: Pieces = [memoryview(first)[table.header_end :]]
    for last in parts:
        yield table.next(last)
    table.refuse_cut(b"".join(last))


class _Table:
    """What is known of a file's columns by now."""

    def __init__(self, stored: Stored, source: CsvSource, first: bytes, text_columns: Sequence[str]) -> None:
        self._source, self._file = source, stored.name
        self._separator = _separator(stored.name, source, first)
        self.header_end = header_end(first, source.quote)
        self._names = self._header(first)
        told = [] if isinstance(source.dates, str) else [name for name, _ in source.dates]
        self._text = {*text_columns, *told}
        self._all_text = source.decimal != "." or bool(source.thousands)
        self._types: dict[str, pl.DataType] = {}
        self._forms = written.Forms(source, stored.name, text_columns)
        # names of our own: polars would rename columns of the same name, and leave quotes in names doubled
        self._own = {name: f"c{place}" for place, name in enumerate(self._names)}
        self._own_header = self._separator.join(self._own.values()).encode() + b"\n"

    def first(self, part: bytes) -> pl.DataFrame:
        """The rows of the file's first *part*, which begins with the header; its first rows suggest the types."""
        self._refuse_one_column()
        body = memoryview(part)[self.header_end :]
        found = self._inferred(self._own_header + self._sample(part))
        self._types = {name: kind for name, kind in found.schema.items() if found[name].null_count() < found.height}
        return self.next([body])

    def _sample(self, first: bytes) -> bytes:
        """The first rows, as many as are looked at for the types of all."""
        sample = first[self.header_end : self.header_end + _INFERRED_BYTES]
        quote = self._source.quote.encode()
        odd = bool(quote) and sample.count(quote) % 2 == 1
        return sample[: row_end(sample, quote, odd)] or first[self.header_end :]

    def next(self, pieces: Pieces) -> pl.DataFrame:
        """The rows of a later part."""
        part = b"".join([self._own_header, *pieces])
        try:
            frame = self._read(part, self._known_types())
        except pl.exceptions.ComputeError:
            frame = self._widened(part)
        begun = [name for name in self._names if name not in self._types and frame[name].null_count() < frame.height]
        if begun:
            found = self._inferred(part)
            kinds = found.schema
            self._types |= {name: kinds[name] for name in begun}
            frame = frame.with_columns(found.select(begun))
        frame = self._with_digits(self._with_codes(frame, part), part)
        kinds = frame.schema
        self._types |= {name: kinds[name] for name in self._types}
        empty = [name for name in self._names if name not in self._types and name not in self._text]
        frame = frame.with_columns(pl.lit(None).alias(name) for name in empty) if empty else frame
        return self._forms.read(_without_blank_lines(frame, part))

    def refuse_cut(self, last: bytes) -> None:
        """Raise where the last row of the file, which *last* holds, ends without a line feed and before its last field:
        whoever writes the file isn't done. Only the bytes tell, for a parser fills the fields up."""
        row = last[row_end(last, self._source.quote.encode(), odd=False) :]
        quote = self._source.quote.encode()
        if not row.strip() or len(self._names) == 1:
            return
        bare = (
            re.sub(re.escape(quote) + b"[^" + re.escape(quote) + b"]*" + re.escape(quote), b"", row) if quote else row
        )
        fields = bare.count(self._separator.encode()) + 1
        if fields < len(self._names):
            raise SourceError(
                f"{self._file!r} ends within a row: the last has {count(fields, 'field')} of {len(self._names):,}; run "
                "again once it is written, or end that row"
            )

    def _header(self, first: bytes) -> list[str]:
        names = [name or "" for name in self._parsed(first[: self.header_end], False, n_rows=1).row(0)]
        if twice := sorted(name for name, times in Counter(names).items() if times > 1):
            raise SourceError(
                f"{self._file!r} has column {listed(list(map(repr, twice)))} twice; give each its own name"
            )
        return ["Unnamed: 0" if name == "" else name for name in names]  # as pandas calls an index column

    def _refuse_one_column(self) -> None:
        if len(self._names) > 1:
            return
        if other := next((mark for mark in _SEPARATORS if mark in self._names[0]), ""):
            raise SourceError(
                f"{self._file!r} has one column, {self._names[0]!r}; its values seem to be divided by {other!r}: "
                f"write ms.csv({self._source.path!r}, separator={other!r})"
            )

    def _inferred(self, part: bytes) -> pl.DataFrame:
        """*part* with the types that all its rows suggest."""
        if self._all_text:
            return self._read(part, {})
        told = {name: pl.String() for name in self._names if name in self._text}
        found = self._with_codes(self._under_own_header(part, told, None, list(MISSING)), part)
        return self._with_digits(found, part)

    def _read(self, part: bytes, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
        """*part* in *types*, text where they don't say. That values are missing is asked of the parser, which then
        takes twice as long, only where numbers can't be read without."""
        try:
            frame = self._under_own_header(part, types, 0, None)
        except pl.exceptions.ComputeError:
            return self._under_own_header(part, types, 0, list(MISSING))
        return pl.DataFrame([_without_missing(column) for column in frame.iter_columns()])

    def _under_own_header(
        self, part: bytes, types: Mapping[str, pl.DataType], infer: int | None, missing: list[str] | None
    ) -> pl.DataFrame:
        overrides = {self._own[name]: kind for name, kind in types.items() if name in self._own}
        frame = self._parsed(part, infer, schema_overrides=overrides, null_values=missing)
        frame.columns = self._names
        return frame

    def _parsed(self, content: bytes, infer: int | bool | None, **options: Any) -> pl.DataFrame:
        return pl.read_csv(
            content,
            separator=self._separator,
            quote_char=self._source.quote or None,
            has_header="n_rows" not in options,
            infer_schema_length=infer,
            **options,
        )

    def _known_types(self) -> dict[str, pl.DataType]:
        return {name: self._types.get(name, pl.String()) for name in self._names}

    def _widened(self, part: bytes) -> pl.DataFrame:
        """*part*, which the types known so far can't hold, in wider ones."""
        found = self._inferred(part)
        kinds = found.schema
        for name, known in self._types.items():
            now = kinds[name]
            if now != known and found[name].null_count() < found.height:
                self._types[name] = pl.Float64() if known.is_numeric() and now.is_numeric() else pl.String()
        return self._read(part, self._known_types())

    def _with_codes(self, frame: pl.DataFrame, part: bytes) -> pl.DataFrame:
        """*frame* with whole numbers written with leading zeros, such as a zip code, as the text that they are."""
        whole = [column.name for column in frame.iter_columns() if column.dtype.is_integer()]
        before = [self._separator, *(["\n"] if self._names[0] in whole else [])]
        before += [self._source.quote] if self._source.quote and self._source.quote.encode() in part else []
        if not whole or not _has_codes(part, before):
            return frame
        text = self._read(part, {}).select(whole)
        return frame.with_columns(column for column in text.iter_columns() if column.str.contains(r"^0\d+$").any())

    def _with_digits(self, frame: pl.DataFrame, part: bytes) -> pl.DataFrame:
        """*frame* with floats as text where some are whole numbers that lose digits."""
        large = [each.name for each in frame.iter_columns() if each.dtype.is_float() and (each.abs() >= EXACT).any()]
        if not large or not re.search(rb"\d{16}", part):
            return frame
        text = self._read(part, {}).select(large)
        return frame.with_columns(column for column in text.iter_columns() if inexact(column).any())


def _without_missing(column: pl.Series) -> pl.Series:
    if column.dtype.is_float():
        return column.fill_nan(None) if column.is_nan().any() else column
    if column.dtype != pl.String:
        return column
    missing = column.is_in(MISSING)
    return column.set(missing, None) if missing.any() else column


def _separator(name: str, source: CsvSource, first: bytes) -> str:
    if source.separator == "auto":
        return _detected(first, source.quote.encode())
    return "\t" if source.separator == "," and ".tsv" in name.lower() else source.separator


def _detected(first: bytes, quote: bytes) -> str:
    """The mark that divides the first lines into as many fields each, and into the most."""
    sample = first[: 1 << 16]
    lines = re.sub(quote + b"[^" + quote + b"]*" + quote, b"", sample).split(b"\n") if quote else sample.split(b"\n")
    whole = [line for line in (lines[:-1] or lines)[:100] if line.strip(b"\r ")]
    counts = {mark: [line.count(mark.encode()) for line in whole] for mark in _SEPARATORS}
    even = {mark: found[0] for mark, found in counts.items() if found and found[0] and len(set(found)) == 1}
    best = even or {mark: found[0] for mark, found in counts.items() if found}
    return max(best, key=lambda mark: best[mark]) if best else ","


def _has_codes(part: bytes, before: Sequence[str]) -> bool:
    """Whether a field in *part* begins with a 0 and another digit: both stand behind one of the marks *before*."""
    marks = np.frombuffer(part, np.uint8)
    for offset in (0, 1):
        pairs = marks[offset : offset + (len(marks) - offset) // 2 * 2].view("<u2")
        for mark in before:
            places = np.flatnonzero(pairs == ord(mark) + (ord("0") << 8)) * 2 + offset + 2
            if (marks[places[places < len(marks)]] - ord("0") < 10).any():
                return True
    return False


def _without_blank_lines(frame: pl.DataFrame, part: bytes) -> pl.DataFrame:
    """*frame* without the rows of nothing that polars makes of blank lines."""
    if frame.width < 2 or not all(column.null_count() for column in frame.iter_columns()):
        return frame
    blank = b"\n\n" in part or b"\n\r\n" in part
    return frame.filter(~pl.all_horizontal(pl.all().is_null())) if blank else frame


def _refuse_other_kinds(first: bytes, stored: Stored, source: CsvSource) -> None:
    if first.startswith(b"PAR1"):
        raise SourceError(f"{stored.name!r} is a Parquet file; write ms.parquet({source.path!r})")
    if first.startswith(b"ARROW1"):
        raise SourceError(f"{stored.name!r} is an Arrow file; write ms.arrow({source.path!r})")


def refuse_gap(name: str, columns: Sequence[str], known: Sequence[str]) -> None:
    """Raise where a file lacks a column that the files before it have."""
    there = set(columns)
    gone = [each for each in known if each not in there]
    if gone:
        raise SchemaMismatch(
            f"{name!r} has no column {listed([repr(each) for each in gone])}, which the files before it have; "
            "add it, or leave the file out"
        )
