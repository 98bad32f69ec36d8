"""Every kind of source as a reader: files, queries, APIs, tables of lakes, frames, functions, and plug-ins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any, Protocol, runtime_checkable

import polars as pl

from mainspring.core.errors import MainspringError, SourceError
from mainspring.core.quiet import heard
from mainspring.core.sources import (
    DeltaSource,
    FileSource,
    FrameSource,
    FunctionSource,
    IcebergSource,
    NamedSource,
    RestSource,
    SqlSource,
)
from mainspring.core.wording import listed
from mainspring.data.casting import of_values, united
from mainspring.data.databases import Query
from mainspring.data.declared import identity
from mainspring.data.files import Files
from mainspring.data.lakes import Delta, Iceberg
from mainspring.data.rest import Api
from mainspring.store.tables import digest


class Reader(Protocol):
    """What ingest asks of a source."""

    @property
    def name(self) -> str:
        """How messages call it."""

    @property
    def identity(self) -> Any:
        """JSON that differs where the declaration asks for other rows; the cursor then starts over."""

    @property
    def incremental(self) -> bool:
        """Whether `read` gives only what is beyond *since*; else it gives all rows each time."""

    def position(self) -> Any:
        """What changes when the source has something new (JSON); None when only reading can tell."""

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        """Frames, each with the cursor behind its rows."""


@runtime_checkable
class Resuming(Protocol):
    """A reader whose rows may change behind a cursor: files, tables of a lake."""

    def resumes(self, since: Any) -> bool:
        """Whether all rows up to cursor *since* stand as they were, so that those beyond it suffice."""


def beyond(rows_of: Reader, cursor: Any) -> Any:
    """*cursor* where it still holds; None where all rows must be read, to take the place of the earlier ones."""
    if isinstance(rows_of, Resuming):
        return cursor if cursor is not None and rows_of.resumes(cursor) else None
    return cursor if rows_of.incremental else None


def overlap(rows_of: Reader) -> str | None:
    """The column whose rows at the cursor are given again, for late rows may have its value; None of most readers."""
    column: str | None = getattr(rows_of, "overlap", None)
    return column


def reader(source: Any, text_columns: Sequence[str] = ()) -> Reader:
    """The reader of a declared *source*, or of a plug-in: anything with `position()` and `read(since)`.

    text_columns: what files that don't say their types must be read as text.
    """
    if isinstance(source, FileSource):
        return Files(source, text_columns)
    for kind, read_by in _READERS.items():
        if isinstance(source, kind):
            return read_by(source)
    if isinstance(source, NamedSource):
        return _PlugIn(_named(source), identity(source))
    if callable(getattr(source, "read", None)) and callable(getattr(source, "position", None)):
        return _PlugIn(source)
    raise SourceError(f"data={source!r} is no source; give ms.csv, ms.parquet, ms.sql, a frame or a function")


def to_frame(data: Any, name: str) -> pl.DataFrame:
    """A polars frame of a polars, pandas or Arrow table, or of a list of dicts; *name* says in messages whose it is."""
    try:
        return _to_frame(data)
    except (pl.exceptions.PolarsError, ValueError, TypeError, KeyError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise SourceError(f"{name} gave {type(data).__name__} that is no table of rows: {reason}") from error


def _to_frame(data: Any) -> pl.DataFrame:
    if isinstance(data, pl.LazyFrame):
        data = data.collect()
    if isinstance(data, pl.DataFrame):
        return data
    if type(data).__name__ == "Series":
        raise TypeError("it is one column; give a table with named columns")
    if type(data).__module__.partition(".")[0] == "pandas":
        return _from_pandas(data)
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        return pl.DataFrame(data)
    if isinstance(data, list) and all(isinstance(row, dict) for row in data):
        return united(pl.DataFrame(data, infer_schema_length=None, strict=False), data)
    raise TypeError("give a polars, pandas or Arrow table, or a list of dicts")


def _from_pandas(data: Any) -> pl.DataFrame:
    """A named index is a column; a column of mixed objects becomes text, whose odd cells the contract then finds."""
    if any(name is not None for name in data.index.names):
        data = data.reset_index()
    try:
        with heard():  # of what pandas means to change
            frame: pl.DataFrame = pl.from_pandas(data)
        return frame
    except (ValueError, TypeError, NotImplementedError) as error:
        if len(set(map(str, data.columns))) < len(data.columns):
            raise ValueError("column names repeat; name each once") from error
    return pl.DataFrame([_of_pandas(data[[name]]).alias(str(name)) for name in data.columns])


def _of_pandas(column: Any) -> pl.Series:
    """A frame of one *column* that may hold anything; what pandas calls missing is."""
    try:
        with heard():
            series: pl.Series = pl.from_pandas(column).to_series()
        return series
    except (ValueError, TypeError, NotImplementedError):
        values = column.iloc[:, 0].astype(object)
        return of_values("", values.where(values.notna(), None).to_list())


class _Memory:
    """A frame in memory."""

    incremental, name, identity = False, "the frame", "FrameSource"

    def __init__(self, source: FrameSource) -> None:
        self._data = source.data

    def position(self) -> Any:
        return digest(to_frame(self._data, self.name))

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        yield to_frame(self._data, self.name), None


class _Function:
    """A function that returns rows, or yields them in parts."""

    incremental = False

    def __init__(self, source: FunctionSource) -> None:
        self._function = source.function
        self.name = f"function {getattr(source.function, '__qualname__', repr(source.function))!r}"
        self.identity = ["FunctionSource", self.name]

    def position(self) -> Any:
        return None

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        made = _called(self._function, self.name)
        parts = made if isinstance(made, Iterator) else iter([made])
        while (part := _called(lambda: next(parts, _END), self.name)) is not _END:
            yield to_frame(part, self.name), None


class _PlugIn:
    """A plug-in: where it knows its position it is asked only for the rows beyond the last one."""

    def __init__(self, source: Any, identity: Any = None) -> None:
        self._source = source
        self.name = f"source {type(source).__name__}"
        self.identity = identity or ["PlugIn", type(source).__module__, type(source).__qualname__]
        self._position = _called(source.position, self.name)

    @property
    def incremental(self) -> bool:
        return self._position is not None

    def position(self) -> Any:
        return self._position

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        parts = iter(_called(lambda: self._source.read(since), self.name))
        while (part := _called(lambda: next(parts, _END), self.name)) is not _END:
            yield to_frame(part, self.name), self._position


_READERS: dict[type, Callable[[Any], Reader]] = {
    SqlSource: Query, RestSource: Api, DeltaSource: Delta, IcebergSource: Iceberg, FrameSource: _Memory,
    FunctionSource: _Function,
}  # fmt: skip
_END = object()
PLUG_INS = "mainspring.sources"
"""The group of entry points by which an installed package registers a kind of source."""


def _named(source: NamedSource) -> Any:
    """The plug-in that is registered as the source's kind, called with its address."""
    found = {point.name: point for point in metadata.entry_points(group=PLUG_INS)}
    if source.kind not in found:
        known = f"; installed are {listed(sorted(found))}" if found else "; none is installed"
        raise SourceError(f"no package registers sources of the kind {source.kind!r} (as {PLUG_INS}){known}")
    point = found[source.kind]
    try:
        made = point.load()(source.address)
    except MainspringError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or "no message"
        raise SourceError(
            f"source {source.kind!r}, {point.value}, raised {type(error).__name__}: {reason}; mend it and run again"
        ) from error
    if not (callable(getattr(made, "read", None)) and callable(getattr(made, "position", None))):
        raise SourceError(
            f"source {source.kind!r}, {point.value}, gives {type(made).__name__} without read and position"
        )
    return made


def _called(function: Callable[[], Any], name: str) -> Any:
    try:
        return function()
    except MainspringError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or "no message"
        raise SourceError(f"{name} raised {type(error).__name__}: {reason}; mend it and run again") from error
