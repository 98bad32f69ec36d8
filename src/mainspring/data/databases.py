"""Rows of a query: SQLite by the standard library, other databases by SQLAlchemy, which loads only when asked for."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from mainspring.core.declarations import SqlSource
from mainspring.core.errors import SourceError, SourceNotFound
from mainspring.core.wording import listed

BATCH_ROWS = 50_000


class Query:
    """A source that is a query. With a cursor column only rows beyond the last one seen are read, in its order."""

    def __init__(self, source: SqlSource) -> None:
        self._source = source
        self._url, self.name = _resolved(source.url)

    @property
    def incremental(self) -> bool:
        return self._source.cursor is not None

    @property
    def identity(self) -> Any:
        """Which query of which database this is."""
        return ["SqlSource", self.name, self._source.query, self._source.cursor]

    def position(self) -> Any:
        """The greatest cursor; without one, the state of the SQLite file, or None: other databases must be read."""
        if self._source.cursor is not None:
            with self._database() as database:
                newest = (
                    f"select max({database.quoted(self._column(database))}) from ({self._query(database)}) source_rows"
                )
                return _to_json(next(database.batches(newest, None))[0][0])
        path = _sqlite_path(self._url)
        if path is None:
            return None
        files = (_file(path, self.name), path.with_name(path.name + "-wal"))
        return [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        """The rows beyond cursor *since*, or all of them, each batch with the cursor behind it."""
        with self._database() as database:
            names = database.columns(self._query(database))
            rows = f"select * from ({self._query(database)}) source_rows"
            if self._source.cursor is None:
                yield from ((_frame(names, batch), None) for batch in database.batches(rows, None))
                return
            cursor = self._column(database)
            column = database.quoted(cursor)
            beyond = "" if since is None else f" where {column} > :since"
            for batch in database.batches(f"{rows}{beyond} order by {column}", _from_json(since)):
                if batch:
                    since = _last([row[names.index(cursor)] for row in batch], since)
                yield _frame(names, batch), since

    @contextmanager
    def _database(self) -> Iterator[_Sqlite | _Alchemy]:
        path = _sqlite_path(self._url)
        if path is None:
            with _Alchemy.open(self._url, self.name) as database:
                yield database
        else:
            with _Sqlite.open(_file(path, self.name), self.name) as database:
                yield database

    def _query(self, database: _Sqlite | _Alchemy) -> str:
        query = self._source.query.strip().rstrip(";").rstrip()
        if re.fullmatch(r"[\w$.]+", query):
            return "select * from " + ".".join(database.quoted(part) for part in query.split("."))
        return database.escaped(query)

    def _column(self, database: _Sqlite | _Alchemy) -> str:
        names = database.columns(self._query(database))
        cursor = str(self._source.cursor)
        if cursor not in names:
            raise SourceError(
                f"cursor={cursor!r} is no column of the query of {self.name}; it gives {', '.join(names)}"
            )
        return cursor


class _Sqlite:
    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection, self._name = connection, name

    @classmethod
    @contextmanager
    def open(cls, path: Path, name: str) -> Iterator[_Sqlite]:
        try:
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)
        except sqlite3.Error as error:
            raise SourceError(f"{name} can't be opened: {error}") from error
        with closing(connection):
            yield cls(connection, name)

    def columns(self, query: str) -> list[str]:
        cursor = self._run(f"select * from ({query}) source_rows limit 0", {})
        return [column[0] for column in cursor.description]

    def batches(self, query: str, since: Any) -> Iterator[list[Any]]:
        cursor = self._run(query, {"since": since} if ":since" in query else {})
        try:
            while batch := cursor.fetchmany(BATCH_ROWS):
                yield batch
        except sqlite3.Error as error:
            raise SourceError(f"{self._name} broke off while it was read: {error}") from error

    def quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def escaped(self, query: str) -> str:
        return query

    def _run(self, query: str, parameters: dict[str, Any]) -> sqlite3.Cursor:
        try:
            return self._connection.execute(query, parameters)
        except sqlite3.Error as error:
            raise self._explained(str(error)) from error

    def _explained(self, reason: str) -> SourceError:
        if match := re.fullmatch(r"no such table: (.+)", reason):
            tables = [
                row[0] for row in self._connection.execute("select name from sqlite_master where type != 'index'")
            ]
            has = f"it has {listed(sorted(tables))}" if tables else "it has no table at all"
            return SourceNotFound(f"{self._name} has no table {match[1]!r}; {has}")
        if reason == "file is not a database":
            return SourceError(f"{self._name} is no SQLite database; write ms.csv or ms.parquet for a file of rows")
        return SourceError(f"the query of {self._name} fails: {reason}; correct it in ms.sql")


class _Alchemy:
    def __init__(self, connection: Any, alchemy: Any, name: str) -> None:
        self._connection, self._alchemy, self._name = connection, alchemy, name

    @classmethod
    @contextmanager
    def open(cls, url: str, name: str) -> Iterator[_Alchemy]:
        import sqlalchemy  # 0.4 s to import: only for who reads another database than SQLite

        try:
            engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
        except ModuleNotFoundError as error:
            raise SourceError(f"{name} needs the driver {error.name!r}: pip install {error.name}") from None
        except (sqlalchemy.exc.SQLAlchemyError, ValueError) as error:
            reason = type(error).__name__
            raise SourceError(f"{name} is no database address ({reason}); write scheme://user@host/database") from None
        try:
            with engine.connect() as connection:
                yield cls(connection.execution_options(stream_results=True), sqlalchemy, name)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise SourceError(f"{name} can't be read: {_without_secrets(error, url)}") from None
        finally:
            engine.dispose()

    def columns(self, query: str) -> list[str]:
        wrapped = self._alchemy.text(f"select * from ({query}) source_rows where 1 = 0")
        return list(self._connection.execute(wrapped).keys())

    def batches(self, query: str, since: Any) -> Iterator[list[Any]]:
        statement = self._alchemy.text(query)
        result = self._connection.execute(statement, {"since": since} if since is not None else {})
        for batch in result.partitions(BATCH_ROWS):
            yield [tuple(row) for row in batch]

    def quoted(self, name: str) -> str:
        quoted: str = self._connection.dialect.identifier_preparer.quote(name)
        return quoted

    def escaped(self, query: str) -> str:
        """A colon of the user's query isn't the mark of a parameter."""
        return re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", query)


def _resolved(url: str) -> tuple[str, str]:
    """The address that *url* is or refers to, and how messages call it: never by what a reference stands for."""
    kind, _, where = url.partition(":")
    if kind == "env":
        if not os.environ.get(where):
            raise SourceNotFound(
                f"environment variable {where!r} of {url!r} isn't set; set it to the database's address"
            )
        return os.environ[where].strip(), f"database {url!r}"
    if kind == "file":
        try:
            return Path(where).expanduser().read_text().strip(), f"database {url!r}"
        except (OSError, UnicodeDecodeError) as error:
            raise SourceNotFound(f"{url!r} can't be read ({type(error).__name__}); it must hold the address") from error
    shown = re.sub(r"(//[^:/@]*):[^@]*@", r"\1:***@", url)
    return url, f"database {shown!r}"


def _sqlite_path(url: str) -> Path | None:
    """The file of a SQLite address or a plain path; None for any other address."""
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///").partition("?")[0]).expanduser()
    return None if "://" in url else Path(url).expanduser()


def _file(path: Path, name: str) -> Path:
    if not path.is_file():
        raise SourceNotFound(
            f"{name}: no such file; give a SQLite file's path, or an address such as postgresql://host/name"
        )
    return path


def _frame(names: Sequence[str], rows: Sequence[Any]) -> pl.DataFrame:
    columns = zip(*rows, strict=True) if rows else [[] for _ in names]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise SourceError(f"the query gives column {listed(twice)} twice; name each by 'as' in the query")
    return pl.DataFrame([pl.Series(name, values, strict=False) for name, values in zip(names, columns, strict=True)])


def _last(values: Sequence[Any], before: Any) -> Any:
    return next((_to_json(value) for value in reversed(values) if value is not None), before)


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    return value if value is None or isinstance(value, int | float | str) else str(value)


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return datetime.fromisoformat(value["datetime"]) if "datetime" in value else date.fromisoformat(value["date"])
    return value


def _without_secrets(error: Exception, url: str) -> str:
    """The driver's first line, with every part of the address but its scheme taken out."""
    text = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    for part in sorted(re.split(r"[:/@?&=]+", url.partition("://")[2]), key=len, reverse=True):
        text = text.replace(part, "***") if len(part) > 2 else text
    return f"{type(error).__name__}: {text}"
