"""The home folder `.mainspring/`: where everything is kept, and the one door to its database."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mainspring.core.errors import HomeDamaged, StoreError

FOLDER = ".mainspring"
APPLICATION_ID = 0x6D737072  # "mspr"
SCHEMA_VERSION = 1
BUSY_SECONDS = 10.0


def find(start: Path) -> Path:
    """The home for work in *start*: of the nearest parent that has one or a `mainspring.toml`, else of *start*."""
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / FOLDER).is_dir() or (folder / "mainspring.toml").is_file():
            return folder / FOLDER
    return start / FOLDER


class Database:
    """The state in SQLite: durable on commit, many processes at once. A connection per thread, opened on first use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._created: set[str] = set()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of the block is committed and durable, or nothing. Nested blocks join it."""
        connection = self._connection()
        if connection.in_transaction:
            yield connection
            return
        connection.execute("begin immediate")
        try:
            yield connection
        except BaseException:
            connection.rollback()
            raise
        connection.commit()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        return self._connection().execute(sql, parameters).fetchall()

    def create(self, statements: Iterable[str]) -> None:
        """Run `create ... if not exists` *statements*, once per process."""
        missing = [statement for statement in statements if statement not in self._created]
        if missing:
            with self.transaction() as connection:
                for statement in missing:
                    connection.execute(statement)
            self._created.update(missing)

    def close(self) -> None:
        """Close this thread's connection."""
        connection = self._local.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _connect(self.path)
        return connection


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        _set_journal_mode(connection)
        connection.execute("pragma synchronous=full")
        connection.execute("pragma foreign_keys=on")
        connection.execute("pragma secure_delete=on")
    except sqlite3.DatabaseError as error:
        raise HomeDamaged(f"{path} can't be opened as a database ({error}); see `mainspring doctor`") from error
    return connection


def _set_journal_mode(connection: sqlite3.Connection) -> None:
    """WAL needs the file for itself the first time, and SQLite doesn't wait for it as it does for other locks."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("pragma journal_mode=wal")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class Home:
    """One project's state: `mainspring.db`, and folders for objects, tables, records, bundles and MLflow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = Database(path / "mainspring.db")

    @classmethod
    def open(cls, path: Path) -> Home:
        """The home at *path*; made when it isn't there. Raises HomeDamaged when its database is gone or another's."""
        home = cls(path)
        try:
            for name in ("objects", "tables", "records", "bundles", "mlartifacts", "run", "tmp"):
                (path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path} can't be made or written ({error.strerror}); choose another with --home"
            ) from error
        home._identify()
        return home

    @property
    def id(self) -> str:
        return self._marker.read_text().strip()

    @property
    def _marker(self) -> Path:
        return self.path / "id"

    def folder(self, kind: str) -> Path:
        return self.path / kind

    def _identify(self) -> None:
        """The instance id stands in database and marker file, so that an emptied or swapped file is noticed."""
        with self.database.transaction() as connection:
            connection.execute(
                "create table if not exists instance (id text not null, schema_version integer not null)"
            )
            row = connection.execute("select id, schema_version from instance").fetchone()
            if row is None and not self._marker.exists():
                connection.execute(f"pragma application_id={APPLICATION_ID}")
                identity = str(uuid.uuid4())
                connection.execute("insert into instance values (?, ?)", (identity, SCHEMA_VERSION))
                row = {"id": identity, "schema_version": SCHEMA_VERSION}  # the marker comes after the commit
        if row is None:
            raise HomeDamaged(
                f"{self.database.path} is empty but {self.path} is not new; restore it, or move {self.path} away"
            )
        if not self._marker.exists():
            write_atomic(self._marker, str(row["id"]).encode())
        if row["id"] != self.id:
            raise HomeDamaged(
                f"{self.database.path} belongs to another home ({row['id']}, not {self.id}); put the right file back"
            )
        if row["schema_version"] > SCHEMA_VERSION:
            raise HomeDamaged(f"{self.path} was written by a newer mainspring; upgrade this installation")


def write_atomic(path: Path, content: bytes) -> None:
    """Write *content* so that after a crash *path* holds all of it or what it held before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in *path* durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
