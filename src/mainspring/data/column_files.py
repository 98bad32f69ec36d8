"""Rows of files that know their columns' types: Parquet, Arrow, Excel."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mainspring.core.errors import SourceError
from mainspring.core.sources import ArrowSource, ExcelSource, ParquetSource
from mainspring.data.nested import flat
from mainspring.data.stored import Stored

BATCH_ROWS = 163_840


def parquet(stored: Stored, source: ParquetSource, text_columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The rows of a Parquet file, batch by batch."""
    with stored.open() as raw:
        if raw.read(4) != b"PAR1":
            raise SourceError(
                f"{stored.name!r} can't be read: it isn't a Parquet file; write ms.csv(...) if it holds text"
            )
        raw.seek(0)
        with pq.ParquetFile(raw) as file:
            if not file.metadata.num_rows:
                yield _polars(file.schema_arrow.empty_table(), stored.name)
            if isinstance(raw, io.BufferedReader):
                yield from _local(file, stored.name)
                return
            for batch in file.iter_batches(BATCH_ROWS):
                yield _polars(pa.Table.from_batches([batch]), stored.name)


def _local(file: pq.ParquetFile, name: str) -> Iterator[pl.DataFrame]:
    """A file of this machine, which polars reads in half the time."""
    _polars(file.schema_arrow.empty_table(), name)
    rows = pl.scan_parquet(name, glob=False, hive_partitioning=False)
    for frame in rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
        yield flat(frame, name)


def arrow(stored: Stored, source: ArrowSource, text_columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The rows of an Arrow file or stream, batch by batch."""
    with stored.open() as raw:
        is_file = raw.read(6) == b"ARROW1"
        raw.seek(0)
        if not is_file:
            _refuse_cut(raw, stored.name)
            stream = pa.ipc.open_stream(raw)
            batches = iter(stream)
        else:
            stream = pa.ipc.open_file(raw)
            batches = (stream.get_batch(place) for place in range(stream.num_record_batches))
        empty = True
        for batch in batches:
            empty = False
            yield _polars(pa.Table.from_batches([batch]), stored.name)
        if empty:
            yield _polars(stream.schema.empty_table(), stored.name)


def _refuse_cut(raw: BinaryIO, name: str) -> None:
    """A stream that was cut between two batches looks whole but for the mark at its end."""
    raw.seek(0)
    mark = b"\xff\xff\xff\xff\0\0\0\0" if raw.read(4) == b"\xff\xff\xff\xff" else b"\0\0\0\0"  # before Arrow 0.15
    raw.seek(-min(8, raw.seek(0, io.SEEK_END)), io.SEEK_END)
    if not raw.read().endswith(mark):
        raise SourceError(f"{name!r} ends without the mark that ends an Arrow stream: it was cut off; write it again")
    raw.seek(0)


def excel(stored: Stored, source: ExcelSource, text_columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The rows of a sheet, empty ones left out; the file is read as a whole."""
    if importlib.util.find_spec("fastexcel") is None:
        raise SourceError("ms.excel needs the extra 'excel': pip install 'mainspring[excel]'")
    import fastexcel  # the extra's one door

    with stored.open() as raw:
        content = raw.read()
    try:
        book = fastexcel.read_excel(content)
        if source.sheet and source.sheet not in book.sheet_names:
            raise SourceError(
                f"{stored.name!r} has no sheet {source.sheet!r}; it has {', '.join(map(repr, book.sheet_names))}"
            )
        header = book.load_sheet(source.sheet or 0, n_rows=0)
        text: dict[str | int, Any] = {
            column.name: "string" for column in header.available_columns() if column.name in text_columns
        }
        sheet = book.load_sheet(source.sheet or 0, schema_sample_rows=None, dtypes=text or None)  # types of all rows
        frame = sheet.to_polars().rename(_named(book, source.sheet or 0, header))
    except fastexcel.FastExcelError as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(f"{stored.name!r} can't be read: {reason}; save it as .xlsx") from error
    rows = frame.filter(~pl.all_horizontal(pl.all().is_null())) if frame.width else frame
    yield rows.with_columns(_whole(column) for column in rows.iter_columns() if column.dtype.is_float())


def _named(book: Any, sheet: str | int, header: Any) -> dict[str, str]:
    """The columns whose name in the sheet is a date or a truth value, for which the library makes a name of its own."""
    columns = header.available_columns()
    if all(column.column_name_from != "generated" for column in columns):
        return {}
    written = book.load_sheet(sheet, header_row=None, n_rows=1, dtypes="string").to_polars().row(0)
    given = {column.name for column in columns}
    named: dict[str, str] = {}
    for column, cell in zip(columns, written, strict=True):
        name = (cell or "").removesuffix(" 00:00:00")
        if column.column_name_from == "generated" and name and name not in {*given, *named.values()}:
            named[column.name] = name
    return named


def _whole(column: pl.Series) -> pl.Series:
    """A sheet has floats only: numbers that are all whole are integers, as pandas reads them."""
    whole = column.cast(pl.Int64, strict=False)
    return whole if (whole.cast(pl.Float64) == column).all() and whole.null_count() == column.null_count() else column


def _polars(table: pa.Table, name: str) -> pl.DataFrame:
    names = table.column_names
    if len(set(names)) < len(names):
        twice = next(each for each in names if names.count(each) > 1)
        raise SourceError(f"{name!r} has column {twice!r} twice; give each its own name")
    made = pl.from_arrow(table)
    assert isinstance(made, pl.DataFrame)
    return flat(made, name)
