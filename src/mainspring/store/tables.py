"""Versioned tables of rows in Delta Lake: a commit is the rows and what was known of them, or neither."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, TableFeatures
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction, create_table_with_add_actions

from mainspring.core.errors import HomeDamaged, NotInStore, Overtaken, StoreError
from mainspring.core.schema import Type
from mainspring.store import durable
from mainspring.store.home import Home
from mainspring.store.parts import ORDER, Part, Staging, damaged, first_line

DTYPES: Mapping[Type, pl.DataType] = {
    Type.INTEGER: pl.Int64(),
    Type.FLOAT: pl.Float64(),
    Type.BOOLEAN: pl.Boolean(),
    Type.TEXT: pl.String(),
    Type.DATETIME: pl.Datetime("us"),
    Type.DATE: pl.Date(),
}
"""How a column of each type is held, in tables and in frames; instants are UTC, without a time zone."""
METADATA = "mainspring"
_TRIES = 100
_KEPT = {"delta.logRetentionDuration": "interval 36500 days", "delta.enableExpiredLogCleanup": "false"}


class Table:
    """One of a loop's tables, such as its rows or its quarantine."""

    def __init__(self, home: Home, loop: str, name: str) -> None:
        self._home = home
        self.path = home.folder("tables") / loop / name

    def append(self, frame: pl.DataFrame, *, metadata: Mapping[str, Any]) -> int:
        """Add *frame* after the rows that are there, whoever else does so at the same time; the new version."""
        return self._put(frame, metadata, keep=True)

    def replace(self, frame: pl.DataFrame, *, metadata: Mapping[str, Any]) -> int:
        """Put *frame* in the place of all rows; columns may differ. Older versions stay readable."""
        return self._put(frame, metadata, keep=False)

    def commit(
        self, parts: Sequence[Part], columns: pl.Schema, *, base: int | None, metadata: Mapping[str, Any]
    ) -> int:
        """The version after *base* (None: the first), which has the rows of just these *parts*.

        Parts of *base* stay where they are; written ones are taken from where they lie. Raises Overtaken where another
        writer has made a version since.
        """
        there = {} if base is None else {part.path: part for part in self.parts(base)}
        added = [part if part.path in there else self._taken(part) for part in parts]
        if self.path.is_dir():
            durable.sync(self.path)  # a loss of power must not leave a commit without the parts that it names
        gone = [path for path in there if path not in {part.path for part in added}]
        version = self._commit([part for part in added if part.path not in there], gone, columns, base, metadata)
        self._make_durable(version)
        return version

    def read(self, version: int | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The rows in their order, of the newest or a given *version*."""
        table = self._table(version)
        parts = self._parts(table)
        wanted = None if columns is None else [ORDER, *columns]
        if not parts:
            rows = pl.DataFrame(schema=pl.Schema(table.schema().to_arrow()))
            return (rows if wanted is None else rows.select(wanted)).drop(ORDER)
        frames = [part.read(wanted) for part in parts]
        return pl.concat(frames, how="diagonal").sort(ORDER).drop(ORDER)

    def parts(self, version: int | None = None) -> tuple[Part, ...]:
        """The files of a *version*, in the order of their rows. One that is gone or cut off raises HomeDamaged."""
        return self._parts(self._table(version))

    def kept(self, version: int) -> bool:
        """Whether all files of *version* are still there: vacuum may have taken them."""
        try:
            self.parts(version)
            return True
        except HomeDamaged:
            return False

    def columns(self, version: int | None = None) -> pl.Schema:
        """The columns of a *version*, the hidden one of the order included."""
        return pl.Schema(self._table(version).schema().to_arrow())

    def version(self) -> int | None:
        """The newest version; None before the first commit."""
        return self._table(None).version() if self._exists() else None

    def names(self, version: int) -> list[str]:
        """The names of the files of *version*, whether they are still there or not."""
        told = pl.DataFrame(self._table(version).get_add_actions(flatten=True))
        return [unquote(path) for path in told["path"]]

    def committed(self, version: int) -> datetime:
        """When *version* was made."""
        return datetime.fromtimestamp(self._commit_info(version)["timestamp"] / 1000, UTC)

    def metadata(self, version: int | None = None) -> dict[str, Any]:
        """What was committed together with *version* (the newest unless told)."""
        newest = self._table(None).version()
        asked = newest if version is None else version
        if not 0 <= asked <= newest:
            raise NotInStore(f"{self.path} has no version {asked}; its newest is {newest}")
        try:
            known: dict[str, Any] = json.loads(self._commit_info(asked).get(METADATA, "{}"))
            return known
        except ValueError as error:
            raise damaged(self.path, error) from error

    def _commit_info(self, version: int) -> dict[str, Any]:
        try:
            for line in self.log(version).read_bytes().splitlines():  # of text it would split at more than line feeds
                if commit := json.loads(line).get("commitInfo"):
                    found: dict[str, Any] = commit
                    return found
        except (OSError, ValueError) as error:
            raise damaged(self.path, error) from error
        raise damaged(self.path, f"{self.log(version).name} doesn't say what was committed")

    def log(self, version: int) -> Path:
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
            raise damaged(self.path, error) from error

    def _newest(self) -> int | None:
        """The newest version; None where that can't be read."""
        try:
            return int(DeltaTable(self._uri).version())
        except (DeltaError, OSError, ValueError):
            return None

    def _parts(self, table: DeltaTable) -> tuple[Part, ...]:
        found = []
        told = pl.DataFrame(table.get_add_actions(flatten=True))
        for row in told.iter_rows(named=True):
            file = self.path / unquote(row["path"])
            if not file.is_file() or file.stat().st_size != row["size_bytes"]:
                raise damaged(self.path, f"{file.name} is gone or was changed")
            first = row.get(f"min.{ORDER}") or 0
            found.append(Part(file, row["num_records"], row["size_bytes"], first, row.get(f"max.{ORDER}") or first))
        return tuple(sorted(found, key=lambda part: (part.first, part.last)))

    def _put(self, frame: pl.DataFrame, metadata: Mapping[str, Any], *, keep: bool) -> int:
        for _ in range(_TRIES):
            base = self.version()
            known = self.parts(base) if keep and base is not None else ()
            columns = pl.Schema({**frame.drop(ORDER, strict=False).schema, ORDER: pl.Int64()})
            if known and columns != self.columns(base):
                raise StoreError(f"{self.path} has other columns than the rows that were to be added; replace it")
            with Staging(self._home) as staging:
                first = max((part.last for part in known), default=-1) + 1
                new = [staging.add(frame, first)] if frame.height else []
                try:
                    return self.commit((*known, *staging.settled(new)), columns, base=base, metadata=metadata)
                except Overtaken:
                    continue
        raise StoreError(f"{self.path} is written by others all the time; run again with fewer of them")

    def _taken(self, part: Part) -> Part:
        """*part* in the table's folder; until a commit names it, it is none of the table."""
        path = self.path / f"part-{uuid.uuid4().hex}.parquet"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            os.link(part.path, path)  # what is staged stays there: another try may need it
        except OSError as error:
            raise self._unwritable(error) from error
        return Part(path, part.rows, part.size, part.first, part.last)

    def _commit(
        self, added: Sequence[Part], gone: Sequence[Path], columns: pl.Schema, base: int | None, metadata: Any
    ) -> int:
        schema = DeltaSchema.from_arrow(columns)
        adds = [_add_action(part) for part in added]
        told = CommitProperties({METADATA: json.dumps(dict(metadata))}, max_commit_retries=0)
        try:
            if base is None:
                self._refuse_overtaken(self._exists())
                self.path.mkdir(parents=True, exist_ok=True)
                create_table_with_add_actions(
                    self._uri, schema, adds, mode="error", configuration=_KEPT, commit_properties=told
                )
                return 0
            table = self._table(None)
            self._refuse_overtaken(table.version() != base)
            table = self._with_instants(table, columns, base)
            same = DeltaSchema.from_arrow(self.columns(base)) == schema
            removes = [RemoveAction(path.name, True, _now(), None, {}) for path in gone] if same else []
            table.create_write_transaction(
                [*adds, *removes], "append" if same else "overwrite", schema, commit_properties=told,
                post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
            )  # fmt: skip
            return int(table.version()) + 1
        except CommitFailedError as error:
            raise Overtaken() from error
        except (DeltaError, OSError) as error:
            if base is None and self._exists():
                raise Overtaken() from error
            raise self._unwritable(error) from error

    def _with_instants(self, table: DeltaTable, columns: pl.Schema, base: int) -> DeltaTable:
        """A table that had no instants so far must say first that it may have some: a version that changes no row."""
        needed = any(isinstance(kind, pl.Datetime) for kind in columns.values())
        if not needed or "timestampNtz" in (table.protocol().writer_features or []):
            return table
        told = CommitProperties({METADATA: json.dumps(self.metadata(base))}, max_commit_retries=0)
        table.alter.add_feature(
            TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True, commit_properties=told
        )
        return self._table(None)

    def _refuse_overtaken(self, overtaken: bool) -> None:
        if overtaken:
            raise Overtaken()

    def _unwritable(self, error: BaseException) -> StoreError:
        return StoreError(f"{self.path} can't be written ({first_line(error)}); see `mainspring doctor`")

    def _make_durable(self, version: int) -> None:
        """Delta Lake renames its commit into place but leaves it to us that it and the names survive a power loss."""
        log = self.log(version)
        durable.sync(log)
        for folder in (log.parent, self.path, self.path.parent, self.path.parent.parent):
            durable.sync(folder)


def digest(frame: pl.DataFrame) -> str:
    """A digest of names, types and values in their order, whatever the memory layout; of equal frames it is equal."""
    total = hashlib.blake2b(digest_size=20)
    for column in frame.iter_columns():
        total.update(f"{column.name}\0{column.dtype}\0{len(column)}\0".encode())
        total.update(np.packbits(column.is_null().to_numpy()).tobytes())
        for part in column_bytes(column):
            total.update(part)
    return total.hexdigest()


def column_bytes(column: pl.Series) -> list[Any]:
    """The values of *column*, nulls as one of them, as what a digest takes."""
    if column.dtype == pl.String:
        text = column.fill_null("") if column.null_count() else column
        return [_buffer(text.str.len_bytes()), text.str.join("").item().encode()]
    if column.dtype == pl.Boolean:
        return [column.fill_null(False).to_numpy().tobytes()]
    if column.dtype.is_float():
        numbers = (column.fill_null(0.0) if column.null_count() else column).to_numpy() + 0.0  # one zero
        nan = np.isnan(numbers)
        return [np.where(nan, np.nan, numbers).tobytes() if nan.any() else numbers.view(np.uint8).data]  # one NaN
    if column.dtype in (pl.Int128, pl.UInt128):  # numpy has none
        return [repr(column.to_list()).encode()]
    if column.dtype.is_integer() or column.dtype.is_temporal():
        physical = column.to_physical()
        return [_buffer(physical.fill_null(0) if physical.null_count() else physical)]
    return [repr(column.to_list()).encode()]


def _buffer(numbers: pl.Series) -> Any:
    return np.ascontiguousarray(numbers.to_numpy()).view(np.uint8).data


def _add_action(part: Part) -> AddAction:
    numbers = {"minValues": {ORDER: part.first}, "maxValues": {ORDER: part.last}}
    return AddAction(part.path.name, part.size, {}, _now(), True, json.dumps({"numRecords": part.rows, **numbers}))


def _now() -> int:
    return int(time.time() * 1000)
