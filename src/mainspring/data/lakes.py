"""Rows of tables that keep their versions: Delta Lake and Iceberg."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from mainspring.core.errors import MainspringError, SourceError, SourceNotFound
from mainspring.core.object_stores import S3, ObjectStore
from mainspring.core.sources import DeltaSource, IcebergSource, opened_at
from mainspring.data import buckets, remote
from mainspring.data.declared import identity
from mainspring.data.nested import flat

BATCH_ROWS = 250_000
_METADATA = ".metadata.json"
_S3 = ("s3", "s3a", "s3n")


class Delta:
    """A source that is a Delta table. Of a table whose old files all stand, only new ones are read."""

    incremental = False

    def __init__(self, source: DeltaSource) -> None:
        self._source, self.name = source, f"Delta table {source.path!r}"

    @property
    def identity(self) -> Any:
        return identity(self._source)

    def position(self) -> Any:
        """The table's own id, and its version."""
        table = self._table()
        return [str(table.metadata().id), int(table.version())]

    def resumes(self, since: Any) -> bool:
        """Where nothing was deleted, changed or written anew since then."""
        table = self._table()
        if not isinstance(since, list) or since[0] != str(table.metadata().id) or since[1] > table.version():
            return False
        try:
            before = set(self._table(since[1]).file_uris())
        except SourceError:
            return False  # that version was cleaned away
        return before <= set(table.file_uris())

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        """The rows of the files that came after version *since*, or of all."""
        table = self._table()
        stands = [str(table.metadata().id), int(table.version())]
        known = set() if since is None else {_base(uri) for uri in self._table(since[1]).file_uris()}
        if not known <= {_base(uri) for uri in table.file_uris()}:
            raise SourceError(f"{self.name} was changed while it was read; run again")
        try:
            rows = table.to_pyarrow_dataset()
            fragments = [each for each in rows.get_fragments() if _base(each.path) not in known]
            chosen = ds.FileSystemDataset(fragments, rows.schema, rows.format, rows.filesystem)
            yield from _frames(chosen.to_batches(batch_size=BATCH_ROWS), rows.schema, self.name, since, stands)
        except (DeltaError, pa.ArrowException, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _table(self, version: int | None = None) -> DeltaTable:
        remote_path = remote.is_address(self._source.path)
        folder = Path(opened_at(self._source.path, self._source.folder)).expanduser()
        path = self._source.path if remote_path else folder.absolute().as_uri()
        how = _storage(self._source.path, self._source.access) if buckets.is_object(self._source.path) else None
        try:
            if not remote_path and not folder.is_dir():
                raise SourceNotFound(f"no such folder: {str(folder)!r}; give the folder of a Delta table")
            return DeltaTable(path, version=version, storage_options=how)
        except TableNotFoundError as error:
            raise SourceNotFound(f"{self._source.path!r} holds no Delta table; mend the path") from error
        except (DeltaError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> SourceError:
        reason = type(error).__name__ if self._source.access else str(error).strip().partition("\n")[0]
        return SourceError(f"{self.name} can't be read: {reason}; check it, or its access=")


class Iceberg:
    """A source that is an Iceberg table. A new snapshot is read as a whole."""

    incremental = False

    def __init__(self, source: IcebergSource) -> None:
        self._source, self.name = source, f"Iceberg table {source.path!r}"
        if importlib.util.find_spec("pyiceberg") is None:
            raise SourceError("ms.iceberg needs the extra 'iceberg': pip install 'mainspring[iceberg]'")

    @property
    def identity(self) -> Any:
        return identity(self._source)

    def position(self) -> Any:
        """The table's own id, its snapshot, and its schema, which changes without one."""
        return _stands(self._table())

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        """All rows of the newest snapshot."""
        table = self._table()
        try:
            batches = table.scan().to_arrow_batch_reader()
            yield from _frames(iter(batches), batches.schema, self.name, since, _stands(table))
        except MainspringError:
            raise
        except Exception as error:  # its library's own have no base in common
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise SourceError(f"{self.name} can't be read: {reason}; check its files") from error

    def _table(self) -> Any:
        """The table of one metadata file, whose own properties don't say how files are read: they could name any code
        of this machine, and any server."""
        from pyiceberg.catalog.noop import NoopCatalog  # the extra's one door
        from pyiceberg.serializers import FromInputFile
        from pyiceberg.table import StaticTable

        try:
            where = self._metadata()
            files = _files(where, self._source.access)
            metadata = FromInputFile.table_metadata(files.new_input(where))
            table = StaticTable(("source",), metadata, where, files, NoopCatalog("source"))
            if metadata.current_snapshot_id is not None and table.current_snapshot() is None:
                raise SourceError(
                    f"{self.name} can't be read: {where} has no snapshot {metadata.current_snapshot_id}, which it "
                    "names as the current one; restore it"
                )
            return table
        except MainspringError:
            raise
        except Exception as error:  # of metadata that aren't, the library raises whatever its code meets
            raise SourceError(f"{self.name} can't be read ({type(error).__name__}); give its metadata file") from error

    def _metadata(self) -> str:
        """The newest metadata file of a table's folder, by the number in its name; else what was given."""
        path = opened_at(self._source.path, self._source.folder)
        if path.endswith(".json") or (remote.is_address(path) and not path.lower().startswith(("s3://", "file://"))):
            return path
        found = self._in_bucket(path) if buckets.is_object(path) else _in_folder(path)
        if not found:
            raise SourceNotFound(f"{self._source.path!r} holds no Iceberg table; give its folder or its metadata file")
        return max(found)[-1]

    def _in_bucket(self, path: str) -> list[tuple[int, int, str]]:
        try:
            objects = buckets.files(f"{path.rstrip('/')}/metadata/", self._source.access, (_METADATA,))
        except SourceNotFound:
            return []
        return [(_number(stored.name), 0, stored.name) for stored in objects]


def _files(where: str, access: S3 | None) -> Any:
    """What opens the files of the table whose metadata file is *where*: of this machine only for a table that lies here
    itself, and else only in S3, whatever metadata and manifests name."""
    from pyiceberg.io.pyarrow import PyArrowFileIO

    here = _scheme(where) == "file"

    class Files(PyArrowFileIO):
        def new_input(self, location: str) -> Any:
            if not (_scheme(location) in _S3 or (here and _scheme(location) == "file")):
                raise SourceError(
                    f"the Iceberg table of {where} names {location!r}, which isn't "
                    f"{'here or ' if here else ''}in S3; its files are read from nowhere else"
                )
            return super().new_input(location)

    return Files({f"s3.{name}": value for name, value in _iceberg_storage(access).items()})


def _scheme(location: str) -> str:
    return (urlsplit(location).scheme or "file").lower()


def _in_folder(path: str) -> list[tuple[int, int, str]]:
    """The metadata files of a table here; of two with one number the later counts."""
    found = (Path(path.removeprefix("file://")).expanduser() / "metadata").glob(f"*{_METADATA}")
    return [(_number(file.name), file.stat().st_mtime_ns, file.absolute().as_uri()) for file in found]


def _number(name: str) -> int:
    """Of the metadata file v7.metadata.json, or 00007-1b9d6bcd.metadata.json."""
    number = re.match(r"v?(\d+)", _base(name))
    return int(number[1]) if number else -1


def _stands(table: Any) -> Any:
    snapshot = table.metadata.current_snapshot_id
    return [str(table.metadata.table_uuid), snapshot, table.metadata.current_schema_id]


def _frames(
    batches: Iterator[pa.RecordBatch], schema: pa.Schema, name: str, since: Any, stands: Any
) -> Iterator[tuple[pl.DataFrame, Any]]:
    """Each batch with the old cursor, but the last."""
    held: pl.DataFrame | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        if held is not None:
            yield held, since
        held = _frame(pa.Table.from_batches([batch]), name)
    yield held if held is not None else _frame(schema.empty_table(), name), stands


def _frame(table: pa.Table, name: str) -> pl.DataFrame:
    made = pl.from_arrow(table)
    assert isinstance(made, pl.DataFrame)
    return flat(made, name)


def _base(uri: str) -> str:
    return uri.rpartition("/")[2]


def _storage(address: str, access: ObjectStore | None) -> dict[str, str]:
    said = buckets.options(address, access)
    if address.lower().startswith("s3:"):
        said = {name if name == "skip_signature" else f"aws_{name}": value for name, value in said.items()}
    return said | ({"allow_http": "true"} if buckets.plain(access) else {})


def _iceberg_storage(access: S3 | None) -> dict[str, str]:
    words = {
        "access_key_id": "access-key-id",
        "secret_access_key": "secret-access-key",
        "session_token": "session-token",
    }
    said = {} if access is None else buckets.options("s3://", access)
    return {words.get(name, name): value for name, value in said.items()}
