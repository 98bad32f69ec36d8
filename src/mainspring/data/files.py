"""Rows of files of every kind, here or far away; of those that were read before and didn't change, none."""

from __future__ import annotations

import glob
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import polars as pl
import pyarrow as pa

from mainspring.core.errors import SourceError, SourceNotFound
from mainspring.core.sources import ArrowSource, CsvSource, ExcelSource, FileSource, JsonSource, ParquetSource
from mainspring.core.wording import listed
from mainspring.data import column_files, csv_rows, json_rows, remote
from mainspring.data.declared import identity
from mainspring.data.outbound import shown
from mainspring.data.partitions import Partitions, with_columns
from mainspring.data.stored import Stored

_Frames = Callable[[Stored, Any, Sequence[str]], Iterator[pl.DataFrame]]
_PACKED = ("", ".gz", ".bz2", ".xz", ".zst", ".zip")
_KINDS: dict[type, tuple[_Frames, tuple[str, ...]]] = {
    CsvSource: (csv_rows.frames, tuple(kind + packed for kind in (".csv", ".tsv") for packed in _PACKED)),
    JsonSource: (
        json_rows.frames,
        tuple(kind + packed for kind in (".json", ".jsonl", ".ndjson") for packed in _PACKED),
    ),
    ParquetSource: (column_files.parquet, (".parquet", ".pq")),
    ArrowSource: (column_files.arrow, (".arrow", ".feather", ".ipc")),
    ExcelSource: (column_files.excel, (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")),
}
_UNREADABLE = (
    pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError, EOFError, zipfile.BadZipFile,
    zlib.error, lzma.LZMAError, NotImplementedError,
)  # fmt: skip


class Files:
    """A source of files. The cursor names the files read so far, each with what changes when it does.

    text_columns: columns of files that don't say their types, read as text even if all values look like numbers.
    """

    incremental = False

    def __init__(self, source: FileSource, text_columns: Sequence[str] = ()) -> None:
        self._source, self._text_columns = source, text_columns
        self._frames, self._suffixes = _KINDS[type(source)]

    @property
    def name(self) -> str:
        return shown(self._source.path)

    @property
    def identity(self) -> Any:
        return identity(self._source)

    def position(self) -> Any:
        """Name and stamp of each file; None where a web server doesn't tell when its file changes."""
        files = self._files()
        return [[stored.name, *stored.stamp] for stored in files] if all(stored.stamp for stored in files) else None

    def resumes(self, since: Any) -> bool:
        """Only where all files of the cursor *since* are there, unchanged: else rows of theirs must go."""
        there = self.position()
        return isinstance(since, list) and there is not None and all(known in there for known in since)

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        """The rows of all files that *since* doesn't name, file by file in the order of their names."""
        done: list[Any] = list(since or [])
        columns: list[str] = []
        files = self._files()
        folders = Partitions(self._base(), [stored.name for stored in files], self._text_columns)
        for stored in files:
            stands = [stored.name, *stored.stamp]
            if stands in done:
                continue
            held: pl.DataFrame | None = None
            for read in self._read(stored):
                frame = with_columns(read, folders.of(stored.name))
                if held is None:
                    self._refuse_gap(stored.name, frame, columns)
                else:
                    yield held, list(done)
                columns = columns or frame.columns
                held = frame
            self._refuse_change(stored)
            done.append(stands)
            if held is not None:
                yield held, list(done)

    def _base(self) -> str:
        path = self._source.path
        if remote.is_address(path):
            return path
        base = str(Path(path).expanduser())
        return "" if base == "." else base  # its files are called by what follows

    def _read(self, stored: Stored) -> Iterator[pl.DataFrame]:
        try:
            yield from self._frames(stored, self._source, self._text_columns)
        except _UNREADABLE as error:
            reason = _reason(error)
            raise SourceError(f"{stored.name!r} can't be read: {reason}") from None  # a parser's own shows rows

    def _refuse_gap(self, name: str, frame: pl.DataFrame, columns: Sequence[str]) -> None:
        if not isinstance(self._source, JsonSource):  # an object need not have every key
            csv_rows.refuse_gap(name, frame.columns, columns)

    def _refuse_change(self, stored: Stored) -> None:
        if not remote.is_address(self._source.path) and _stamp(self._from / stored.name) != stored.stamp:
            raise SourceError(f"{stored.name!r} was changed while it was read; run again once it is written")

    def _files(self) -> list[Stored]:
        if remote.is_address(self._source.path):
            return remote.files(self._source.path, self._source.access, self._suffixes)
        paths = [(name, self._from / name) for name in self._names()]
        return [Stored(name, _stamp(path), partial(_open, path)) for name, path in paths]

    @property
    def _from(self) -> Path:
        """Where the path begins: files are called by what follows, wherever the project lies."""
        return Path(self._source.folder)

    def _names(self) -> list[str]:
        name = str(Path(self._source.path).expanduser())
        path = self._from / name
        if path.is_file():
            return [name]
        if path.is_dir():
            return [str(Path(name, inside)) for inside in self._inside(path)]
        found = sorted(glob.glob(name, root_dir=self._source.folder or None, recursive=True), key=Path)
        if found := [each for each in found if (self._from / each).is_file()]:
            return found
        raise SourceNotFound(f"no such file: {shown(str(path))!r}{_beside(path)}; mend the path")

    def _inside(self, folder: Path) -> list[str]:
        """The files of the source's kind in *folder*, however deep; what begins with a dot or an underscore is not."""
        inside = [
            path.relative_to(folder)
            for path in sorted(folder.rglob("*"))
            if path.name.lower().endswith(self._suffixes) and path.is_file()
        ]
        found = [str(path) for path in inside if not any(part.startswith((".", "_")) for part in path.parts)]
        if not found:
            raise SourceNotFound(
                f"folder {self.name!r} has no file that ends with {listed(list(self._suffixes[:2]))}; "
                f"name its files, such as '{self.name.rstrip('/')}/*'"
            )
        return found


def _stamp(path: Path) -> tuple[Any, ...]:
    try:
        told = path.stat()
    except OSError as error:
        raise SourceError(f"{str(path)!r} can't be read: {_reason(error)}") from error
    return told.st_size, told.st_mtime_ns


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, path.open("rb"))


def _reason(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0].rstrip(".")
    if "utf-8" in text.lower():
        return f"{text}; give its encoding, such as ms.csv(..., encoding='latin-1')"
    if "found more fields" in text:
        return "a row has more fields than the header; quote values that hold the separator, or name another separator="
    if text.startswith(("CSV malformed", 'could not parse `"')):
        return "a quote within a value, or one that is never closed; double it within a quoted value, or say quote=''"
    return text or type(error).__name__


def _beside(path: Path) -> str:
    """The nearest folder that exists and files there of the same kind, for a message."""
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    same = sorted(found.name for found in folder.glob(f"*{path.suffix}") if found.is_file() and path.suffix)
    where = "this folder" if folder == Path() else repr(str(folder))
    return f"; {where} has {listed(same)}" if same else f"; there is none in {str(folder.resolve())!r}"
