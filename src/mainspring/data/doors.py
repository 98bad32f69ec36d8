"""How each kind of database is asked: SQLite by the standard library, PostgreSQL by ADBC, DuckDB by its own library,
all others by SQLAlchemy. Each gives frames of a batch of rows; what it needs loads only when it is asked for."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from mainspring.core.errors import SourceError, SourceNotFound
from mainspring.core.wording import listed
from mainspring.data.casting import EXACT, of_values
from mainspring.data.nested import flat

BATCH_ROWS = 50_000
_AS_THEY_ARE = frozenset(
    ["bool", "int2", "int4", "int8", "float4", "float8", "text", "varchar", "bpchar", "name", "date", "timestamp",
     "timestamptz", "time", "bytea", "oid"]
)  # fmt: skip
_CASTS = {"numeric": "{0}::text", "money": "{0}::numeric::float8", "interval": "extract(epoch from {0})::float8"}
"""What PostgreSQL makes of columns that Arrow has no type for; of any other it makes text, of arrays JSON text."""
_SPREAD = (
    f"bool_or(scale({{0}}) > 0 or scale({{0}}) is null and {{0}} <> 'NaN'), "
    f"bool_or(scale({{0}}) = 0 and abs({{0}}) > {EXACT})"
)
"""Whether a `numeric` column has fractions, or infinities, and whether it has whole numbers that no float holds."""
_ALONE = {"autoinstall_known_extensions": "false"}
"""DuckDB would load code from its maker's server for a file or a query that it doesn't understand alone."""
_NO_DATE, _DATES = "0000-00-00", frozenset([7, 10, 12])
"""What MySQL keeps where there is no date, which its driver gives as text, and its types of dates and times."""
POSTGRES = re.compile(r"postgres(?:ql)?(?:\+\w+)?://")


class Door(Protocol):
    """An open connection that only reads."""

    def columns(self, query: str) -> list[str]:
        """The names of the columns that *query* gives."""

    def frames(self, query: str, beyond: tuple[str, Any] | None, order: str | None) -> Iterator[pl.DataFrame]:
        """The rows of *query*, batch by batch; *beyond* (column, value): only those with at least that value."""

    def newest(self, query: str, column: str) -> tuple[Any, int]:
        """The greatest value of *column*, and how many rows have it."""

    def quoted(self, name: str) -> str:
        """*name* as the database writes names."""


@contextmanager
def opened(url: str, name: str) -> Iterator[Door]:
    """The door to the database at *url*, which messages call *name*."""
    path = sqlite_path(url)
    if path is not None:
        with _Sqlite.open(existing(path, name), name) as sqlite:
            yield sqlite
    elif POSTGRES.match(url):
        with _Postgres.open(url, name) as postgres:
            yield postgres
    elif url.startswith("duckdb:///"):
        with _DuckDb.open(existing(Path(url.removeprefix("duckdb:///")).expanduser(), name), name) as duck:
            yield duck
    else:
        with _Alchemy.open(url, name) as other:
            yield other


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite address or a plain path; None for any other address."""
    if url.startswith("sqlite:///"):
        return Path(url.removeprefix("sqlite:///").partition("?")[0]).expanduser()
    return None if "://" in url else Path(url).expanduser()


def existing(path: Path, name: str) -> Path:
    """*path*, where there is such a file."""
    if not path.is_file():
        raise SourceNotFound(
            f"{name}: no such file; give a SQLite file's path, or an address such as postgresql://host/name"
        )
    return path


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
        return [column[0] for column in self._run(f"select * from ({query}\n) source_rows limit 0").description]

    def frames(self, query: str, beyond: tuple[str, Any] | None, order: str | None) -> Iterator[pl.DataFrame]:
        names = self.columns(query)
        cursor = self._run(_select("*", query, self, beyond, order, "?"), [] if beyond is None else [_sent(beyond[1])])
        try:
            while batch := cursor.fetchmany(BATCH_ROWS):
                yield _frame(names, batch)
        except sqlite3.Error as error:
            raise SourceError(f"{self._name} broke off while it was read: {error}") from error

    def newest(self, query: str, column: str) -> tuple[Any, int]:
        value, rows = self._run(_newest(query, self.quoted(column))).fetchone()
        return value, rows

    def quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def _run(self, query: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(query, values)
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


class _Postgres:
    """Rows come by COPY, many times as quick as row by row. COPY takes no parameters: the value of a cursor goes into a
    setting of the session, bound, and the query compares with that."""

    def __init__(self, connection: Any, name: str, url: str) -> None:
        self._connection, self._name, self._url = connection, name, url

    @classmethod
    @contextmanager
    def open(cls, url: str, name: str) -> Iterator[_Postgres]:
        try:
            from adbc_driver_manager import Error
            from adbc_driver_postgresql import dbapi  # 0.6 s to import
        except ModuleNotFoundError as error:
            raise SourceError(f"{name} needs the extra 'postgres': pip install 'mainspring[postgres]'") from error
        try:
            with closing(dbapi.connect(POSTGRES.sub("postgresql://", url))) as connection:
                door = cls(connection, name, url)
                door._run("set transaction isolation level repeatable read, read only").close()
                yield door
        except Error as error:
            raise SourceError(f"{name} can't be read: {_without_secrets(error, url)}") from None

    def columns(self, query: str) -> list[str]:
        return [name for name, _, _ in self._types(query)]

    def frames(self, query: str, beyond: tuple[str, Any] | None, order: str | None) -> Iterator[pl.DataFrame]:
        import pyarrow as pa

        types = self._types(query)
        _refuse_twice([name for name, _, _ in types])
        picked = ", ".join(f"{self._cast(name, kind)} as {self.quoted(name)}" for name, kind, _ in types)
        mark = ""
        if beyond is not None:
            self._run("select set_config('mainspring.since', $1, true)", (_text(beyond[1]),)).close()
            mark = f"current_setting('mainspring.since')::{self._type_name(query, beyond[0])}"
        made_of = self._numerics(types, query, beyond, mark)
        with closing(self._run(_select(picked, query, self, beyond, order, mark))) as cursor:
            for batch in cursor.fetch_record_batch():
                made = pl.from_arrow(pa.Table.from_batches([batch]))
                assert isinstance(made, pl.DataFrame)
                yield made.with_columns(make(made[name]) for name, make in made_of.items())

    def newest(self, query: str, column: str) -> tuple[Any, int]:
        with closing(self._run(_newest(query, self.quoted(column)))) as cursor:
            value, rows = cursor.fetchone()
            return value, rows

    def quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def _types(self, query: str) -> list[tuple[str, str, int]]:
        """Name, type and type modifier of each column."""
        with closing(self._run(f"select * from ({query}\n) source_rows limit 0")) as cursor:
            schema = cursor.fetch_record_batch().schema
        told = [(field.name, field.metadata or {}) for field in schema]
        return [(name, of.get(b"POSTGRESQL:type", b"").decode(), int(of.get(b"POSTGRESQL:typmod", -1)))
                for name, of in told]  # fmt: skip

    def _numerics(
        self, types: Sequence[tuple[str, str, int]], query: str, beyond: tuple[str, Any] | None, mark: str
    ) -> dict[str, Callable[[pl.Series], pl.Series]]:
        """What becomes of each column `numeric`: by its declared scale, or, without one, by all rows to be read."""
        told = {name: modifier for name, kind, modifier in types if kind == "numeric"}
        made: dict[str, Callable[[pl.Series], pl.Series]]
        made = {name: _floats if _scale(modifier) > 0 else _whole for name, modifier in told.items()}
        if undeclared := [name for name, modifier in told.items() if modifier < 0]:
            asked = ", ".join(_SPREAD.format(self.quoted(name)) for name in undeclared)
            with closing(self._run(_select(asked, query, self, beyond, None, mark))) as cursor:
                found = iter(cursor.fetchone())
            for name, fractions, large in zip(undeclared, found, found, strict=True):
                made[name] = _whole if not fractions else _as_written if large else _floats
        return made

    def _type_name(self, query: str, column: str) -> str:
        inner = f"select {self.quoted(column)} from ({query}\n) source_rows limit 0"
        with closing(self._run(f"select pg_typeof(value)::text from (select ({inner}) as value) typed")) as cursor:
            return str(cursor.fetchone()[0])

    def _cast(self, name: str, kind: str) -> str:
        column = self.quoted(name)
        if kind in _AS_THEY_ARE:
            return column
        if kind.startswith("_"):
            return f"to_json({column})::text"
        return _CASTS.get(kind, "{0}::text").format(column)

    def _run(self, query: str, values: Sequence[Any] = ()) -> Any:
        cursor = self._connection.cursor()
        cursor.execute(query, values) if values else cursor.execute(query)
        return cursor


class _DuckDb:
    def __init__(self, connection: Any, name: str) -> None:
        self._connection, self._name = connection, name

    @classmethod
    @contextmanager
    def open(cls, path: Path, name: str) -> Iterator[_DuckDb]:
        try:
            import duckdb
        except ModuleNotFoundError as error:
            raise SourceError(f"{name} needs the extra 'duckdb': pip install 'mainspring[duckdb]'") from error
        try:
            with duckdb.connect(str(path), read_only=True, config=_ALONE) as connection:
                yield cls(connection, name)
        except duckdb.Error as error:
            raise SourceError(f"{name} can't be read: {str(error).partition(chr(10))[0]}") from error

    def columns(self, query: str) -> list[str]:
        return [
            column[0] for column in self._connection.execute(f"select * from ({query}\n) rows_ limit 0").description
        ]

    def frames(self, query: str, beyond: tuple[str, Any] | None, order: str | None) -> Iterator[pl.DataFrame]:
        import pyarrow as pa

        _refuse_twice(self.columns(query))
        values = [] if beyond is None else [_sent(beyond[1])]
        rows = self._connection.sql(_select("*", query, self, beyond, order, "?"), params=values)
        reader = rows.to_arrow_reader(BATCH_ROWS)
        if strange := [field.name for field in reader.schema if pa.types.is_interval(field.type)]:
            raise SourceError(
                f"column {strange[0]!r} of {self._name} holds intervals; make numbers of them in the query, such as "
                f"epoch({strange[0]})"
            )
        for batch in reader:
            made = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(made, pl.DataFrame)
            yield flat(made, self._name)

    def newest(self, query: str, column: str) -> tuple[Any, int]:
        value, rows = self._connection.execute(_newest(query, self.quoted(column))).fetchone()
        return value, rows

    def quoted(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'


class _Alchemy:
    def __init__(self, connection: Any, alchemy: Any) -> None:
        self._connection, self._alchemy = connection, alchemy

    @classmethod
    @contextmanager
    def open(cls, url: str, name: str) -> Iterator[_Alchemy]:
        import sqlalchemy  # 0.4 s to import: only for who reads such a database

        try:
            engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
        except ModuleNotFoundError as error:
            raise SourceError(f"{name} needs the driver {error.name!r}: pip install {error.name}") from None
        except (sqlalchemy.exc.SQLAlchemyError, ValueError) as error:
            reason = type(error).__name__
            raise SourceError(f"{name} is no database address ({reason}); write scheme://user@host/database") from None
        try:
            with engine.connect() as connection:
                yield cls(connection.execution_options(stream_results=True, max_row_buffer=BATCH_ROWS), sqlalchemy)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise SourceError(f"{name} can't be read: {_without_secrets(error, url)}") from None
        finally:
            engine.dispose()

    def columns(self, query: str) -> list[str]:
        wrapped = f"select * from ({_escaped(query)}\n) source_rows where 1 = 0"
        return list(self._connection.execute(self._alchemy.text(wrapped)).keys())

    def frames(self, query: str, beyond: tuple[str, Any] | None, order: str | None) -> Iterator[pl.DataFrame]:
        names = self.columns(query)
        _refuse_twice(names)
        statement = self._alchemy.text(_select("*", _escaped(query), self, beyond, order, ":since"))
        result = self._connection.execute(statement, {} if beyond is None else {"since": _sent(beyond[1])})
        mysql = self._connection.dialect.name in ("mysql", "mariadb")
        dates = [
            name for name, told in zip(names, result.cursor.description, strict=True) if mysql and told[1] in _DATES
        ]
        for batch in result.partitions(BATCH_ROWS):
            yield _frame(names, [tuple(row) for row in batch], dates)

    def newest(self, query: str, column: str) -> tuple[Any, int]:
        statement = self._alchemy.text(_newest(_escaped(query), self.quoted(column)))
        value, rows = self._connection.execute(statement).one()
        return value, rows

    def quoted(self, name: str) -> str:
        quoted: str = self._connection.dialect.identifier_preparer.quote(name)
        return quoted


def _select(picked: str, query: str, door: Door, beyond: tuple[str, Any] | None, order: str | None, mark: str) -> str:
    where = "" if beyond is None else f" where {door.quoted(beyond[0])} >= {mark}"
    ordered = "" if order is None else f" order by source_rows.{door.quoted(order)}"  # no column made of it
    return f"select {picked} from ({query}\n) source_rows{where}{ordered}"


def _newest(query: str, column: str) -> str:
    greatest = f"(select max({column}) from ({query}\n) greatest_rows)"
    return f"select max({column}), count(*) from ({query}\n) source_rows where {column} = {greatest}"


def _escaped(query: str) -> str:
    """A colon of the user's query isn't the mark of a parameter."""
    return re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", query)


def _frame(names: Sequence[str], rows: Sequence[Any], dates: Sequence[str] = ()) -> pl.DataFrame:
    _refuse_twice(names)
    columns: dict[str, Sequence[Any]] = dict(
        zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True)
    )
    for name in dates:
        columns[name] = [None if str(value).startswith(_NO_DATE) else value for value in columns[name]]
    return pl.DataFrame([of_values(name, values) for name, values in columns.items()])


def _refuse_twice(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise SourceError(f"the query gives column {listed(twice)} twice; name each by 'as' in the query")


def _scale(modifier: int) -> int:
    """The scale in PostgreSQL's modifier of a type `numeric`: eleven bits, with their sign."""
    return ((modifier - 4) & 0x7FF ^ 0x400) - 0x400


def _floats(texts: pl.Series) -> pl.Series:
    return texts.cast(pl.Float64, strict=False)


def _whole(texts: pl.Series) -> pl.Series:
    """Integers, or text where one is beyond 64 bits."""
    known = _as_written(texts)
    integers = known.cast(pl.Int64, strict=False)
    return integers if integers.null_count() == known.null_count() else known


def _as_written(texts: pl.Series) -> pl.Series:
    return texts.set((texts == "NaN").fill_null(False), None)


def _sent(value: Any) -> Any:
    """A cursor from a commit as a driver takes it."""
    if isinstance(value, dict) and "decimal" in value:
        return Decimal(value["decimal"])
    if isinstance(value, dict):
        return datetime.fromisoformat(value["datetime"]) if "datetime" in value else date.fromisoformat(value["date"])
    return value


def _text(value: Any) -> str:
    return str(next(iter(value.values())) if isinstance(value, dict) else value)


def _without_secrets(error: Exception, url: str) -> str:
    """The driver's first line, with every part of the address but its scheme taken out."""
    text = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    for part in sorted(re.split(r"[:/@?&=]+", url.partition("://")[2]), key=len, reverse=True):
        text = text.replace(part, "***") if len(part) > 2 else text
    return f"{type(error).__name__}: {text}"
