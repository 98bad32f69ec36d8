"""Versioned tables of rows in Delta Lake: a commit is the rows and what was known of them, or neither."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import polars as pl
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from mainspring.core.errors import HomeDamaged, NotInStore, StoreError
from mainspring.core.schema import Type
from mainspring.store.home import Home, sync_folder

ORDER = "_row"
"""The hidden column that keeps the rows in the order in which they came; no reader sees it."""
DTYPES: Mapping[Type, pl.DataType] = {
    Type.INTEGER: pl.Int64(),
    Type.FLOAT: pl.Float64(),
    Type.BOOLEAN: pl.Boolean(),
    Type.TEXT: pl.String(),
    Type.DATETIME: pl.Datetime("us"),
    Type.DATE: pl.Date(),
}
"""How a column of each type is held, in tables and in frames; instants are UTC, without a time zone."""
_METADATA = "mainspring"


class Table:
    """One of a loop's tables, such as its rows or its quarantine."""

    def __init__(self, home: Home, loop: str, name: str) -> None:
        self.path = home.folder("tables") / loop / name

    def append(self, frame: pl.DataFrame, *, metadata: Mapping[str, Any]) -> int:
        """Add *frame* after the rows that are there; the new version."""
        return self._write(_numbered(frame, self._next_row()), "append", metadata)

    def replace(self, frame: pl.DataFrame, *, metadata: Mapping[str, Any]) -> int:
        """Put *frame* in the place of all rows; columns may differ. Older versions stay readable."""
        return self._write(_numbered(frame, 0), "overwrite", metadata)

    def read(self, version: int | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows in their order, of the newest or a given *version*."""
        rows = self._scan(self._table(version))
        if columns is not None:
            rows = rows.select(ORDER, *columns)
        try:
            return rows.collect().sort(ORDER).drop(ORDER)
        except (DeltaError, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise self._damaged(error) from error

    def version(self) -> int | None:
        """The newest version; None before the first commit."""
        return self._table(None).version() if self._exists() else None

    def metadata(self, version: int | None = None) -> dict[str, Any]:
        """What was committed together with *version* (the newest unless told)."""
        newest = self._table(None).version()
        asked = newest if version is None else version
        if not 0 <= asked <= newest:
            raise NotInStore(f"{self.path} has no version {asked}; its newest is {newest}")
        try:
            for line in self._log(asked).read_bytes().splitlines():  # of text it would split at more than line feeds
                if commit := json.loads(line).get("commitInfo"):
                    known: dict[str, Any] = json.loads(commit.get(_METADATA, "{}"))
                    return known
        except (OSError, ValueError) as error:
            raise self._damaged(error) from error
        raise self._damaged(f"{self._log(asked).name} doesn't say what was committed")

    def _log(self, version: int) -> Path:
        return self.path / "_delta_log" / f"{version:020}.json"

    @property
    def _uri(self) -> str:
        return self.path.absolute().as_uri()

    def _exists(self) -> bool:
        return (self.path / "_delta_log").is_dir() and DeltaTable.is_deltatable(self._uri)

    def _table(self, version: int | None) -> DeltaTable:
        try:
            return DeltaTable(self._uri, version=version)
        except TableNotFoundError as error:
            raise NotInStore(f"no table in {self.path} yet; `mainspring run` makes it") from error
        except (DeltaError, OSError, ValueError) as error:
            newest = self._newest()
            if version is not None and newest is not None and version > newest:
                raise NotInStore(f"{self.path} has no version {version}; its newest is {newest}") from error
            raise self._damaged(error) from error

    def _newest(self) -> int | None:
        """The newest version; None where that can't be read."""
        try:
            return int(DeltaTable(self._uri).version())
        except (DeltaError, OSError, ValueError):
            return None

    def _scan(self, table: DeltaTable) -> pl.LazyFrame:
        """The rows of *table*, file by file: `scan_delta` finds none in a folder with a space or an umlaut in its name.

        A file that is gone or cut off is named here: polars' reader would panic.
        """
        files = []
        for name, size in pl.DataFrame(table.get_add_actions(flatten=True)).select("path", "size_bytes").iter_rows():
            file = self.path / unquote(name)
            if not file.is_file() or file.stat().st_size != size:
                raise self._damaged(f"{file.name} is gone or was changed")
            files.append(file)
        if not files:
            return pl.DataFrame(schema=pl.Schema(table.schema().to_arrow())).lazy()
        return pl.scan_parquet(files, glob=False, hive_partitioning=False)

    def _next_row(self) -> int:
        if not self._exists():
            return 0
        last = self._scan(self._table(None)).select(pl.col(ORDER).max()).collect().item()
        return 0 if last is None else int(last) + 1

    def _write(self, frame: pl.DataFrame, mode: str, metadata: Mapping[str, Any]) -> int:
        properties = CommitProperties(custom_metadata={_METADATA: json.dumps(dict(metadata))})
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            write_deltalake(
                self._uri,
                frame,
                mode=mode,
                schema_mode="overwrite" if mode == "overwrite" else None,
                commit_properties=properties,
            )
        except (DeltaError, OSError) as error:
            raise StoreError(f"{self.path} can't be written ({_first_line(error)}); see `mainspring doctor`") from error
        version = int(self._table(None).version())
        self._make_durable(version)
        return version

    def _make_durable(self, version: int) -> None:
        """Delta Lake renames its commit into place but leaves it to us that files and names survive a power loss."""
        log = self._log(version)
        for line in log.read_bytes().splitlines():
            added = json.loads(line).get("add")
            if added:
                _sync(self.path / added["path"])
        _sync(log)
        for folder in (log.parent, self.path, self.path.parent):
            sync_folder(folder)

    def _damaged(self, error: BaseException | str) -> HomeDamaged:
        return HomeDamaged(
            f"table {self.path} can't be read ({_first_line(error)}); restore it, or move it away to start over"
        )


def digest(frame: pl.DataFrame) -> str:
    """A digest of names, types and values in their order, whatever the memory layout; of equal frames it is equal."""
    total = hashlib.blake2b(digest_size=20)
    for column in frame.iter_columns():
        total.update(f"{column.name}\0{column.dtype}\0{len(column)}\0".encode())
        total.update(np.packbits(column.is_null().to_numpy()).tobytes())
        for part in _parts(column):
            total.update(part)
    return total.hexdigest()


def _parts(column: pl.Series) -> list[bytes]:
    if column.dtype == pl.String:
        text = column.fill_null("")
        return [text.str.len_bytes().to_numpy().tobytes(), text.str.join("").item().encode()]
    if column.dtype == pl.Boolean:
        return [column.fill_null(False).to_numpy().tobytes()]
    if column.dtype.is_float():
        numbers = column.fill_null(0.0).to_numpy()
        return [np.where(np.isnan(numbers), np.nan, numbers + 0.0).tobytes()]  # one NaN, one zero
    if column.dtype in (pl.Int128, pl.UInt128):  # numpy has none
        return [repr(column.to_list()).encode()]
    if column.dtype.is_integer() or column.dtype.is_temporal():
        return [column.to_physical().fill_null(0).to_numpy().tobytes()]
    return [repr(column.to_list()).encode()]


def _numbered(frame: pl.DataFrame, first: int) -> pl.DataFrame:
    numbers = pl.int_range(first, first + frame.height, dtype=pl.Int64, eager=True).alias(ORDER)
    return frame.drop(ORDER, strict=False).with_columns(numbers)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_line(error: BaseException | str) -> str:
    return str(error).strip().partition("\n")[0]
