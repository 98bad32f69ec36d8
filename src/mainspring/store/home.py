"""The home folder `.mainspring/`: where everything is kept, and the one door to its database."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from mainspring.core.errors import HomeDamaged, HomeUnwritable, StoreError
from mainspring.core.wording import brief
from mainspring.store import durable

FOLDER = ".mainspring"
K = TypeVar("K")
T = TypeVar("T")
APPLICATION_ID = 0x6D737072  # "mspr"
SCHEMA_VERSION = 1
BUSY_SECONDS = 10.0
_CREATED = re.compile(r"\bif not exists\b")
_MISREAD = re.compile(r"%[0-9A-Fa-f]{2}|[\[\]\\^|?\x00-\x1f\x7f]")
"""What Delta Lake, or MLflow's address of a database, takes for something else in the name of a folder."""


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
        try:
            with self.turn():
                connection.execute("begin immediate")
                yield connection
                connection.commit()
        except BaseException as error:
            _roll_back(connection)
            if isinstance(error, sqlite3.DatabaseError | UnicodeDecodeError):
                raise failure(self.path, error) from error
            raise

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn to write. SQLite's own waiters sleep and try again: of eight processes that wrote all the
        time one missed its chance for ten seconds. The kernel wakes those who wait for a file's lock: 0.14 s."""
        try:
            descriptor = os.open(self.path.parent / "run" / "writing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield  # a home that can't be written: SQLite says so
            return
        try:
            _wait_for(descriptor)
            yield
        finally:
            os.close(descriptor)

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        try:
            return self._connection().execute(sql, parameters).fetchall()
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter: a column's name was damaged
            raise failure(self.path, error) from error

    def create(self, statements: Iterable[str]) -> None:
        """Run `create ... if not exists` *statements*, once per process."""
        new = [statement for statement in statements if statement not in self._created]
        if not new:
            return
        there = {row["name"] for row in self.query("select name from sqlite_schema")}
        missing = [statement for statement in new if _CREATED.split(statement, maxsplit=1)[1].split()[0] not in there]
        if missing:  # who only reads needs no lock
            with self.transaction() as connection:
                for statement in missing:
                    connection.execute(statement)
        self._created.update(new)

    def close(self) -> None:
        """Close this thread's connection."""
        connection = self._local.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def connect(self, *, durable: bool = True) -> sqlite3.Connection:
        """A connection of one's own, for any one thread at a time. durable: a commit survives a loss of power."""
        connection = _connect(self.path)
        if not durable:
            connection.execute("pragma synchronous=normal")
        return connection

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = _connect(self.path)
        return connection


def _wait_for(descriptor: int) -> None:
    """Lock the file, or have waited for as long as it takes to give up; then SQLite's own lock decides."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        mine = threading.Event()

        def wait() -> None:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            mine.set()

        threading.Thread(target=wait, name="mainspring-turn", daemon=True).start()
        mine.wait(BUSY_SECONDS)


def failure(path: Path, error: sqlite3.DatabaseError | UnicodeDecodeError) -> Exception:
    """What to raise for an *error* of SQLite: how the database stands, and what to do."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return HomeUnwritable(
            f"other processes kept {path} busy for {BUSY_SECONDS:.0f} s; run again, with fewer of them at once"
        )
    if code in _UNWRITABLE:
        return HomeUnwritable(f"{path} can't be written ({error}); make room or mend it, then run again")
    if code in (sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISUSE) or isinstance(error, sqlite3.ProgrammingError):
        return error
    return HomeDamaged(f"{path} is damaged ({error}); restore it from a backup, or move the home away and run again")


def legible(make: Callable[[K], T]) -> Callable[[K], T]:
    """*make*, which reads a row or a field of the database, with a damaged one told as that."""

    @functools.wraps(make)
    def read(kept: K) -> T:
        try:
            return make(kept)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            told = brief(str(error), 200)
            raise HomeDamaged(
                f"the database holds a row that can't be read ({told}); see `mainspring doctor`"
            ) from error

    return read


_UNWRITABLE = frozenset(
    [
        sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM,
    ]
)  # fmt: skip


def _roll_back(connection: sqlite3.Connection) -> None:
    """SQLite has done so itself after some errors; a disk that fails here too has nothing to undo."""
    try:
        if connection.in_transaction:
            connection.rollback()
    except sqlite3.DatabaseError:
        pass


def _connect(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        _set_journal_mode(connection)
        connection.execute("pragma synchronous=full")
        connection.execute("pragma foreign_keys=on")
        connection.execute("pragma secure_delete=on")
    except sqlite3.DatabaseError as error:
        raise failure(path, error) from error
    return connection


def _set_journal_mode(connection: sqlite3.Connection) -> None:
    """WAL needs the file for itself the first time, and SQLite doesn't wait for it as it does for other locks."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("pragma journal_mode=wal")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
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
        if strange := _MISREAD.search(str(path.absolute())):
            raise StoreError(
                f"{str(path.absolute())!r} has {strange[0]!r} in its name, which Delta Lake or MLflow would misread; "
                "rename the folder, or choose another with --home"
            )
        if path.exists() and not path.is_dir():
            raise StoreError(f"home {path} is a file; name a folder with --home")
        new = not path.exists()
        try:
            for name in ("objects", "tables", "records", "bundles", "mlartifacts", "run", "tmp"):
                (path / name).mkdir(parents=True, exist_ok=True)
            if new:
                durable.sync(path)
                durable.sync(path.absolute().parent)
        except OSError as error:
            raise HomeUnwritable(
                f"{path} can't be made or written ({error.strerror}); make room, or choose another with --home"
            ) from error
        try:
            home._identify()
        except OSError as error:
            raise HomeUnwritable(
                f"{path} can't be written ({error.strerror}); make room or mend it, then run again"
            ) from error
        return home

    def __reduce__(self) -> tuple[Any, ...]:
        """A home travels to another process as its path."""
        return Home, (self.path,)

    @property
    def id(self) -> str:
        """The instance id in the marker file; "" when there is none."""
        try:
            return self._marker.read_text().strip()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise HomeDamaged(f"{self._marker} can't be read ({error}); see `mainspring doctor`") from error

    @property
    def _marker(self) -> Path:
        return self.path / "id"

    def card(self, model: str | None) -> str | None:
        """Where the model card of *model*, such as "churn@1", lies, seen from the current folder; None without one."""
        path = self.path / "cards" / f"{model}.html"
        return os.path.relpath(path) if model and path.is_file() else None

    def folder(self, kind: str) -> Path:
        return self.path / kind

    def _identify(self) -> None:
        """The instance id stands in database and marker file, so that an emptied or swapped file is noticed; nothing is
        written then."""
        used = self._marker.exists() or any(self.folder("objects").iterdir())
        if used and not _has_content(self.database.path):
            raise self._emptied()
        row = self._instance()
        if row is None and used:
            raise self._emptied()
        if row is None:
            row = self._begun()
        if not self._marker.exists():
            durable.write(self._marker, str(row["id"]).encode())  # after the commit, so that it never speaks too early
        if row["id"] != self.id:
            raise HomeDamaged(
                f"{self.database.path} belongs to another home ({brief(row['id'])}, not {brief(self.id)}); "
                f"put the right file back, or delete {self._marker} if it is the right one"
            )
        if row["application"] != APPLICATION_ID:
            raise HomeDamaged(f"{self.database.path} is marked as another program's; restore it from a backup")
        if row["schema_version"] > SCHEMA_VERSION:
            raise HomeDamaged(
                f"{self.path} was written by a newer mainspring (its tables are version {row['schema_version']}, "
                f"{SCHEMA_VERSION} is known here); upgrade this installation"
            )

    def _instance(self) -> sqlite3.Row | None:
        """What the database says of itself; None while it says nothing."""
        if not self.database.query("select 1 from sqlite_schema where name = 'instance'"):
            return None
        rows = self.database.query(
            "select id, schema_version, application_id as application from instance, pragma_application_id"
        )
        return rows[0] if rows else None

    def _begun(self) -> sqlite3.Row:
        """Make the database this home's; of several processes that try at once, one does."""
        with self.database.transaction() as connection:
            if self._instance() is None:
                connection.execute("create table instance (id text not null, schema_version integer not null)")
                connection.execute(f"pragma application_id={APPLICATION_ID}")
                connection.execute("insert into instance values (?, ?)", (str(uuid.uuid4()), SCHEMA_VERSION))
        row = self._instance()
        assert row is not None
        return row

    def _emptied(self) -> HomeDamaged:
        return HomeDamaged(
            f"{self.database.path} is empty but {self.path} is not new; "
            f"restore it from a backup, or move {self.path} away"
        )


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False
