"""Where scored rows go: Parquet or CSV files, Delta tables, database tables; each knows how far a killed job came."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from mainspring.core.errors import StoreError, UsageError
from mainspring.store import durable

_PROGRESS = "mainspring_scoring"
"""The table beside a database's scored rows that says how far each job came."""


class Output(Protocol):
    """Takes the rows of one job in order, each part durable together with the number of rows up to its end."""

    def begun(self) -> int:
        """The rows of this job that are written already; raises UsageError where OUT holds anything else."""

    def write(self, rows: pl.DataFrame, before: int) -> None:
        """Add *rows*, which come after the *before* rows that were written."""

    def finish(self) -> None:
        """The job is over: the result stands under its own name."""


@contextmanager
def opened(place: str, job: str, *, overwrite: bool) -> Iterator[Output]:
    """The output at *place*: FILE.parquet, FILE.csv, the folder of a Delta table, or URL#TABLE of a database.

    job: differs where another result must come. overwrite: what is there may go.
    """
    if "://" in place or place.startswith("env:"):
        with _sql(place, job, overwrite) as table:
            yield table
    elif place.endswith((".parquet", ".pq", ".csv")):
        with _locked(Path(place)):
            yield (_Csv if place.endswith(".csv") else _Parquet)(Path(place), job, overwrite)
    elif Path(place).suffix in ("", ".delta"):
        yield _Delta(place, job, overwrite)
    else:
        raise UsageError(
            f"OUT {place!r} is no output; give FILE.parquet, FILE.csv, a Delta table's folder or URL#TABLE"
        )


def _refuse(place: str) -> UsageError:
    return UsageError(f"{place} is there already, and not of this job; give another OUT, or --overwrite")


# -------------------------------------------------------------------------------------------------------------- files


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One job at a time writes *path*; the lock goes with its process."""
    if not path.absolute().parent.is_dir():
        raise UsageError(f"OUT {str(path)!r}: no folder {str(path.parent)!r}; make it first")
    lock = _beside(path, "lock")
    with open(lock, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not lock.exists() or lock.stat().st_ino != os.fstat(file.fileno()).st_ino:
                raise BlockingIOError  # who held it has just taken it away
        except BlockingIOError as error:
            raise StoreError(f"another `mainspring score` writes {path}; wait for it, or give another OUT") from error
        try:
            yield
        finally:
            lock.unlink()


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}")


class _Parquet:
    """Parts in a hidden folder beside the file, each named by the rows before and behind it; one file at the end."""

    def __init__(self, path: Path, job: str, overwrite: bool) -> None:
        self._path, self._parts, self._job, self._overwrite = path, _beside(path, "parts"), job, overwrite

    def begun(self) -> int:
        name = self._parts / "job"
        if not name.is_file() or name.read_text() != self._job:
            if self._path.exists() and not self._overwrite:
                raise _refuse(str(self._path))
            shutil.rmtree(self._parts, ignore_errors=True)
            self._parts.mkdir()
            durable.write(name, self._job.encode())
        return self._found()[-1][1] if self._found() else 0

    def write(self, rows: pl.DataFrame, before: int) -> None:
        part = self._parts / f"{before:015}-{before + rows.height:015}.parquet"
        writing = part.with_suffix(".writing")
        rows.write_parquet(writing, compression="lz4", statistics=False)
        durable.sync(writing)
        writing.rename(part)
        durable.sync(self._parts)

    def finish(self) -> None:
        parts, writing = self._found(), _beside(self._path, "writing")
        rows = pl.scan_parquet([part for _, _, part in parts], glob=False)
        rows.sink_parquet(writing, compression="lz4", statistics=False)
        durable.sync(writing)
        writing.replace(self._path)
        durable.sync(self._path.absolute().parent)
        for _, _, part in parts:  # the job's name last: who is killed here does a part again, and refuses nothing
            part.unlink()
        shutil.rmtree(self._parts)

    def _found(self) -> list[tuple[int, int, Path]]:
        """The parts that follow on each other from the first row."""
        found: list[tuple[int, int, Path]] = []
        for name in sorted(self._parts.glob("*-*.parquet")):
            begin, end = int(name.stem[:15]), int(name.stem[16:])
            if begin != (found[-1][1] if found else 0):
                break
            found.append((begin, end, name))
        return found


class _Csv:
    """A hidden file that grows, and beside it how long it was when a part was whole."""

    def __init__(self, path: Path, job: str, overwrite: bool) -> None:
        self._path, self._job, self._overwrite = path, job, overwrite
        self._growing, self._known = _beside(path, "growing"), _beside(path, "progress")
        self._size = 0

    def begun(self) -> int:
        known = json.loads(self._known.read_text()) if self._known.is_file() else {}
        if known.get("job") == self._job and self._complete(int(known["bytes"])):
            self._size = int(known["bytes"])
            return int(known["rows"])
        if known.get("job") != self._job or not self._growing.is_file():
            if self._path.exists() and not self._overwrite:
                raise _refuse(str(self._path))
            return 0
        self._size = int(known["bytes"])
        os.truncate(self._growing, self._size)
        return int(known["rows"])

    def write(self, rows: pl.DataFrame, before: int) -> None:
        with open(self._growing, "ab" if before else "wb") as file:
            rows.write_csv(file, include_header=before == 0)
            file.flush()
            os.fsync(file.fileno())
            self._size = file.tell()
        known = {"job": self._job, "rows": before + rows.height, "bytes": self._size}
        durable.write(self._known, json.dumps(known).encode())

    def finish(self) -> None:
        if not self._complete(self._size):
            self._growing.replace(self._path)
            durable.sync(self._path.absolute().parent)
        self._known.unlink()

    def _complete(self, size: int) -> bool:
        """Whether this job was killed when its result had its name already."""
        return not self._growing.exists() and self._path.is_file() and self._path.stat().st_size == size


# ------------------------------------------------------------------------------------------------------------- tables


class _Delta:
    """Commits that each carry the job and the number of rows behind them: the table's own record of what it took."""

    def __init__(self, place: str, job: str, overwrite: bool) -> None:
        self._place, self._job, self._overwrite = place, job, overwrite

    def begun(self) -> int:
        if not Path(self._place, "_delta_log").is_dir():
            if Path(self._place).exists() and any(Path(self._place).iterdir()):
                raise UsageError(f"OUT {self._place!r} is a folder that holds no Delta table; give another OUT")
            return 0
        written = DeltaTable(self._place).transaction_version(self._job)
        if written is None and not self._overwrite:
            raise _refuse(self._place)
        return int(written or 0)

    def write(self, rows: pl.DataFrame, before: int) -> None:
        told = CommitProperties(app_transactions=[Transaction(self._job, before + rows.height)])
        try:
            write_deltalake(self._place, rows, mode="append" if before else "overwrite", commit_properties=told,
                            schema_mode=None if before else "overwrite")  # fmt: skip
        except (DeltaError, OSError) as error:
            raise StoreError(f"Delta table {self._place!r} can't be written: {_line(error)}") from error

    def finish(self) -> None:
        """Each commit was whole."""


class _Sql:
    """Rows and how far the job came, in one transaction of the database."""

    def __init__(self, engine: Any, alchemy: Any, table: str, job: str, overwrite: bool) -> None:
        self._engine, self._alchemy, self._name, self._job, self._overwrite = engine, alchemy, table, job, overwrite
        text, number = alchemy.String(200), alchemy.BigInteger
        self._data = alchemy.MetaData()
        self._progress = alchemy.Table(
            _PROGRESS, self._data, alchemy.Column("target", text, primary_key=True), alchemy.Column("job", text),
            alchemy.Column("done", number),
        )  # fmt: skip

    def begun(self) -> int:
        progress = self._progress
        with self._engine.begin() as connection:
            progress.create(connection, checkfirst=True)
            known = connection.execute(progress.select().where(progress.c.target == self._name)).first()
            there = self._alchemy.inspect(connection).has_table(self._name)
            if known is not None and known.job == self._job and there:
                return int(known.done)
            if there and not self._overwrite:
                raise _refuse(f"table {self._name!r}")
            if there:
                self._alchemy.Table(self._name, self._alchemy.MetaData()).drop(connection)
            connection.execute(progress.delete().where(progress.c.target == self._name))
            connection.execute(progress.insert().values(target=self._name, job=self._job, done=0))
        return 0

    def write(self, rows: pl.DataFrame, before: int) -> None:
        table, progress = self._table(rows.schema), self._progress
        with self._engine.begin() as connection:
            table.create(connection, checkfirst=True)
            mine = (progress.c.target == self._name, progress.c.job == self._job, progress.c.done == before)
            if connection.execute(progress.update().where(*mine).values(done=before + rows.height)).rowcount != 1:
                raise StoreError(f"another job writes table {self._name!r}; wait for it, or give another OUT")
            for part in rows.iter_slices(10_000):
                connection.execute(table.insert(), part.to_dicts())

    def finish(self) -> None:
        """Each transaction was whole."""

    def _table(self, schema: pl.Schema) -> Any:
        if self._name not in self._data.tables:
            kinds = {
                pl.Int64: self._alchemy.BigInteger, pl.Boolean: self._alchemy.Boolean, pl.Date: self._alchemy.Date,
                pl.Float64: self._alchemy.Double, pl.Datetime: self._alchemy.DateTime,
            }  # fmt: skip
            columns = [
                self._alchemy.Column(name, kinds.get(dtype.base_type(), self._alchemy.Text))
                for name, dtype in schema.items()
            ]
            self._alchemy.Table(self._name, self._data, *columns)
        return self._data.tables[self._name]


@contextmanager
def _sql(place: str, job: str, overwrite: bool) -> Iterator[_Sql]:
    import sqlalchemy  # 0.4 s to import: only for who writes to a database

    from mainspring.store.secrets import secret

    url, separator, table = place.rpartition("#")
    if not separator or not re.fullmatch(r"\w{1,63}", table) or table == _PROGRESS:
        raise UsageError("OUT in a database is URL#TABLE, such as sqlite:///scores.db#scores")
    try:
        engine = sqlalchemy.create_engine(secret(url) if url.startswith("env:") else url)
        yield _Sql(engine, sqlalchemy, table, job, overwrite)
        engine.dispose()
    except ModuleNotFoundError as error:
        raise UsageError(f"the database of OUT needs the driver {error.name!r}: pip install {error.name}") from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise StoreError(f"the database of OUT can't be written ({type(error).__name__}); check URL#TABLE") from None


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
