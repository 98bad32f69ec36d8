"""Queries as sources: SQLite files, and real PostgreSQL, MariaDB and DuckDB databases."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mainspring.core import declarations as ms
from mainspring.core.declarations import Roles
from mainspring.core.errors import DeclarationError, SourceError, SourceNotFound
from mainspring.data.ingest import ingest, new_rows
from mainspring.data.sources import reader
from mainspring.store.home import Home
from mainspring.store.tables import Table
from tests.data import servers


def rows_of(source: Any, since: Any = None) -> pl.DataFrame:
    return pl.concat([part for part, _ in reader(source).read(since)], how="diagonal_relaxed")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "air line.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table flights (id integer, at text, delay real)")
        connection.executemany(
            "insert into flights values (?, ?, ?)", [(i, f"2013-01-0{i}", i / 2) for i in range(1, 6)]
        )
    connection.close()
    return path


class TestQueries:
    @pytest.mark.parametrize("address", ["{}", "sqlite:///{}", "env:MS_TEST_DB", "file:{}.address"])
    def test_every_way_to_name_a_database_reads_it(
        self, database: Path, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MS_TEST_DB", f"sqlite:///{database}")
        Path(f"{database}.address").write_text(f"{database}\n")

        rows = rows_of(ms.sql(address.format(database), "flights"))

        assert rows["id"].to_list() == [1, 2, 3, 4, 5]

    def test_a_cursor_reads_only_what_is_beyond_it_in_its_order(self, database: Path) -> None:
        source = ms.sql(str(database), "select * from flights where delay > 0;", cursor="at")
        cursors = [cursor for _, cursor in reader(source).read(None)]
        with sqlite3.connect(database) as connection:
            connection.execute("insert into flights values (7, '2013-01-07', 1), (6, '2013-01-06', 1)")
        connection.close()

        assert cursors == ["2013-01-05"]
        assert rows_of(source, cursors[-1])["id"].to_list() == [5, 6, 7]
        assert reader(source).position() == ["2013-01-07", 1]
        assert list(reader(source).read("2013-01-08")) == []

    def test_a_cursor_is_bound_and_never_part_of_the_query(self, database: Path) -> None:
        source = ms.sql(str(database), "flights", cursor="at")

        assert list(reader(source).read("' or 1=1 --")) != []
        assert sum(part.height for part, _ in reader(source).read("9' or 1=1 --")) == 0

    def test_without_a_cursor_the_file_tells_its_position(self, database: Path) -> None:
        source = ms.sql(str(database), "flights")
        before = reader(source).position()
        os.utime(database, ns=(1, 1))

        assert not reader(source).incremental
        assert reader(source).position() != before

    def test_sqlalchemy_reads_any_other_address_the_same_way(self, database: Path) -> None:
        query = "select id, at, ':x' as colon from flights where id < 5"
        source = ms.sql(f"sqlite+pysqlite:///{database}", query, cursor="id")

        assert rows_of(source, 3).rows() == [(3, "2013-01-03", ":x"), (4, "2013-01-04", ":x")]
        assert reader(source).position() == [4, 1]
        assert reader(ms.sql(f"sqlite+pysqlite:///{database}", query)).position() is None
        with pytest.raises(SourceError, match="no such table: arrivals"):
            rows_of(ms.sql(f"sqlite+pysqlite:///{database}", "arrivals"))

    def test_reading_never_makes_or_changes_a_database(self, database: Path, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFound, match="no such file"):
            rows_of(ms.sql(str(tmp_path / "none.db"), "flights"))
        with pytest.raises(SourceError, match=r"attempt to write a readonly|syntax error"):
            rows_of(ms.sql(str(database), "delete from flights"))

        assert not (tmp_path / "none.db").exists()
        assert rows_of(ms.sql(str(database), "flights")).height == 5

    @pytest.mark.parametrize(
        ("query", "cursor", "said"),
        [
            ("flight", None, r"has no table 'flight'; it has flights"),
            ("select speed from flights", None, r"fails: no such column: speed; correct it"),
            ("select * from flights where", None, r"fails: .*syntax error"),
            ("flights", "idx", r"cursor='idx' is no column of the query .* it gives id, at, delay"),
        ],
    )
    def test_a_wrong_query_is_explained(self, database: Path, query: str, cursor: str | None, said: str) -> None:
        with pytest.raises(SourceError, match=said):
            rows_of(ms.sql(str(database), query, cursor=cursor))

    def test_a_file_that_is_no_database_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "rows.db").write_text("id,name\n" * 500)

        with pytest.raises(SourceError, match=r"is no SQLite database; write ms.csv"):
            rows_of(ms.sql(str(tmp_path / "rows.db"), "flights"))

    def test_secrets_behind_a_reference_or_in_an_address_are_never_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MS_TEST_DB", "sqlite+pysqlite:////nowhere/s3cret/hunter22.db")
        (tmp_path / "address").write_text("postgresql+nodriver://user:hunter22@s3cret/db")
        told = []
        for address in ("env:MS_TEST_DB", f"file:{tmp_path}/address", "nosuch://user:hunter22@s3cret:1/db"):
            with pytest.raises(SourceError) as error:
                rows_of(ms.sql(address, "flights"))
            told.append(str(error.value))

        assert all("hunter22" not in text for text in told)
        assert all("s3cret" not in text for text in told[:2])
        assert "user:***@s3cret" in told[2]

    def test_an_unset_reference_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFound, match="environment variable 'MS_NOT_SET' of 'env:MS_NOT_SET' isn't set"):
            reader(ms.sql("env:MS_NOT_SET", "flights"))
        with pytest.raises(SourceNotFound, match="can't be read"):
            reader(ms.sql(f"file:{tmp_path}/none", "flights"))


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with servers.postgres() as address:
        yield address


@pytest.fixture(scope="module")
def mariadb() -> Iterator[str]:
    with servers.mariadb() as address:
        yield address


@pytest.fixture
def duckdb(tmp_path: Path) -> str:
    return f"duckdb:///{tmp_path / 'air line.duckdb'}"


def test_what_duckdb_nests_is_flat_and_its_intervals_are_named(duckdb: str) -> None:
    _in_duckdb(duckdb)("create table t as select 1 as id, {'b': 2, 'c': [3]} as a, interval 3 day as stay")

    (rows, _), *_ = reader(ms.sql(duckdb, "select id, a, epoch(stay) as stay from t")).read(None)
    assert rows.to_dicts() == [{"id": 1, "a_b": 2, "a_c": "[3]", "stay": 259200.0}]
    with pytest.raises(
        SourceError, match=r"column 'stay' of .* holds intervals; make numbers of them .* epoch\(stay\)"
    ):
        list(reader(ms.sql(duckdb, "t")).read(None))


def test_duckdb_loads_nothing_for_a_file_of_another_kind(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # where it keeps what it has loaded
    with pytest.raises(SourceError, match=r"can't be read: IO Error: Extension .* not found"):
        rows_of(ms.sql(f"duckdb:///{database}", "flights"))


Run = Callable[..., None]


@pytest.fixture(params=["postgres", "mariadb", "duckdb"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, Run]]:
    """A database of each kind with the table flights of 1,000 rows, and how to run a statement in it."""
    address: str = request.getfixturevalue(request.param)
    run = {"postgres": _in_postgres, "mariadb": _in_mariadb, "duckdb": _in_duckdb}[request.param](address)
    run("drop table if exists flights")
    instant = "timestamp" if request.param == "duckdb" else "timestamp(6)"
    run(f"create table flights (id bigint, seen {instant} null, delay double precision, carrier varchar(10), late int)")
    insert(run, range(1000))
    yield address, run
    run("drop table flights")


def insert(run: Run, numbers: Any, seen: str = "") -> None:
    def moment(i: int) -> str:
        return seen or f"2013-01-01 {i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}"

    values = ", ".join(f"({i}, '{moment(i)}', {i / 10}, 'AA', {int(i % 3 == 0)})" for i in numbers)
    run(f"insert into flights values {values}")


def _in_postgres(address: str) -> Run:
    import psycopg

    def run(statement: str) -> None:
        with psycopg.connect(address) as connection:
            connection.execute(statement.encode())

    return run


def _in_mariadb(address: str) -> Run:
    import pymysql

    place, _, database = address.partition("@")[2].partition("/")
    host, _, port = place.partition(":")

    def run(statement: str) -> None:
        told = {"host": host, "port": int(port), "user": "tester", "password": "s3cret-word", "database": database}
        with pymysql.connect(**told, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    return run


def _in_duckdb(address: str) -> Run:
    import duckdb

    def run(statement: str) -> None:
        with duckdb.connect(address.removeprefix("duckdb:///")) as connection:
            connection.execute(statement)

    return run


def known(home: Home) -> pl.DataFrame:
    return Table(home, "loop", "rows").read().drop("_prediction")


class TestServers:
    ROLES = Roles("late", key="id")

    def test_a_table_and_a_query_are_read_with_their_types(self, server: tuple[str, Run]) -> None:
        address, _ = server
        table = rows_of(ms.sql(address, "flights"))
        query = rows_of(ms.sql(address, "select id, delay * 2 as twice from flights where id < 3 order by id -- few"))

        assert table.height == 1000 and query["twice"].to_list() == [0.0, 0.2, 0.4]
        assert table["seen"].min() == datetime(2013, 1, 1) and table["carrier"].unique().to_list() == ["AA"]

    def test_a_cursor_reads_what_is_new_and_late_rows_with_the_same_value_once(
        self, server: tuple[str, Run], home: Home, ingested: Any
    ) -> None:
        address, run = server
        source = ms.sql(address, "flights", cursor="seen")
        for roles in (self.ROLES, Roles("late")):  # with a key, and without one
            home_rows = Home.open(home.path.parent / f"home-{roles.key}")
            insert(run, [2000, 2001], seen="2014-01-01 00:00:00")
            first = ingested(source, roles, home=home_rows)
            same = ingested(source, roles, home=home_rows)
            insert(run, [2002, 2003], seen="2014-01-01 00:00:00")
            late = new_rows(source, home_rows, "loop")
            insert(run, [2004], seen="2014-01-02 00:00:00")
            second = ingested(source, roles, home=home_rows)

            assert (first.rows, second.rows, second.new_rows, late) == (1002, 1005, 3, 2)
            assert same == first
            assert sorted(known(home_rows)["id"].to_list()) == [*range(1000), *range(2000, 2005)]
            assert ingested(source, roles, home=home_rows) == second
            run("delete from flights where id >= 2000")

    def test_a_compare_finds_new_changed_and_deleted_rows(
        self, server: tuple[str, Run], home: Home, ingested: Any
    ) -> None:
        address, run = server
        source = ms.sql(address, "select * from flights", changes="compare")
        first = ingested(source, self.ROLES)
        run("update flights set delay = delay where id = 7")
        assert ingested(source, self.ROLES) == first

        run("delete from flights where id < 5")
        run("update flights set delay = -1 where id = 7")
        insert(run, [3000])
        second = ingested(source, self.ROLES)
        told = Table(home, "loop", "rows").metadata()

        assert (second.rows, told["changed"], told["removed"]) == (996, 1, 5)
        assert known(home)["id"].to_list() == [*range(5, 1000), 3000]
        assert known(home).filter(pl.col("id") == 7)["delay"].item() == -1
        with pytest.raises(DeclarationError, match="tells rows apart by their key"):
            ingested(source, Roles("late"))

    def test_a_cursor_is_bound(self, server: tuple[str, Run]) -> None:
        address, run = server
        source = ms.sql(address, "flights", cursor="carrier")
        insert(run, [5000])

        assert rows_of(source, "AA").height == 1001
        assert sum(part.height for part, _ in reader(source).read("Z' or 1=1 --")) == 0
        assert rows_of(source, "A' or 1=1 --").height == 1001

    def test_reading_changes_nothing_and_errors_name_no_secret(self, server: tuple[str, Run]) -> None:
        address, _ = server
        for query in ("delete from flights", "no_such_table", "select nothing from flights"):
            with pytest.raises(SourceError) as error:
                rows_of(ms.sql(address, query))
            assert "s3cret-word" not in str(error.value) and "\n" not in str(error.value)

        assert rows_of(ms.sql(address, "flights")).height == 1000


def test_postgres_types_become_plain_columns(postgres: str) -> None:
    run = _in_postgres(postgres)
    run("create type mood as enum ('sad', 'ok')")
    run("create table strange as select 1.25::numeric(10, 2) n, now() z, '2013-01-02'::date d, 'ok'::mood m, "
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid u, '{\"a\": 1}'::jsonb j, interval '1 day' i, true b, "
        "'c'::char(1) c, '10.0.0.1'::inet ip, 12.5::money mo, array[1, null, 2] l, array[array['a b'], array['c']] ll, "
        "array[1.5]::numeric[] ln, array['ok']::mood[] lm, 12345678901234567890::numeric(20) id, 3::numeric w, "
        "9007199254740993::numeric mw, 3::numeric(10, 2) f, 300::numeric(1, -2) h, 'NaN'::numeric x")  # fmt: skip
    row = rows_of(ms.sql(postgres, "strange")).row(0, named=True)

    assert {name: row[name] for name in ("n", "d", "m", "i", "b", "c", "mo")} == {
        "n": 1.25, "d": date(2013, 1, 2), "m": "ok", "i": 86400.0, "b": True, "c": "c", "mo": 12.5,
    }  # fmt: skip
    assert [row[name] for name in ("l", "ll", "ln", "lm", "id")] == [
        "[1,null,2]", '[["a b"],["c"]]', "[1.5]", '["ok"]', "12345678901234567890",
    ]  # fmt: skip
    assert [repr(row[name]) for name in ("w", "mw", "f", "h", "x")] == ["3", "9007199254740993", "3.0", "300", "None"]
    assert row["u"].startswith("a0eebc99") and row["j"] == '{"a": 1}' and row["ip"].startswith("10.0.0.1")
    assert abs((row["z"] - datetime.now(UTC)).total_seconds()) < 60


@pytest.mark.parametrize(("kind", "of"), [("postgres", "(20,0)"), ("postgres", ""), ("mariadb", "(20,0)")])
def test_ids_beyond_what_a_float_holds_keep_their_digits_as_keys_and_as_cursor(
    kind: str, of: str, home: Home, request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue(kind)
    run = _in_postgres(address) if kind == "postgres" else _in_mariadb(address)
    run("drop table if exists wide")
    run(f"create table wide (id decimal{of}, y int)")
    run("insert into wide values (1, 0), (2, 1)")
    source, roles = ms.sql(address, "wide", cursor="id"), Roles("y", key="id")
    assert ingest(source=source, roles=roles, home=home, loop="wide").rows == 2
    run("insert into wide values (1760000000000000001, 1), (1760000000000000002, 1)")
    more = ingest(source=source, roles=roles, home=home, loop="wide")

    assert more.rows == 4 and more.new_rows == 2
    ids = sorted(Table(home, "wide", "rows").read(more.version)["id"])
    assert ids == [1, 2, 1760000000000000001, 1760000000000000002]


def test_what_mariadb_keeps_where_there_is_no_date_is_missing(mariadb: str) -> None:
    run = _in_mariadb(mariadb)
    run("create table dated (d date, at datetime, said varchar(20))")
    run("insert ignore into dated values ('0000-00-00', '0000-00-00 00:00:00', '0000-00-00'), "
        "('2013-01-02', '2013-01-02 03:04:05', 'x')")  # fmt: skip
    assert rows_of(ms.sql(mariadb, "dated")).rows() == [
        (None, None, "0000-00-00"), (date(2013, 1, 2), datetime(2013, 1, 2, 3, 4, 5), "x"),
    ]  # fmt: skip


def test_a_numeric_column_of_postgres_has_one_type_in_all_batches(postgres: str) -> None:
    run = _in_postgres(postgres)
    mixed = "case when n = 300000 then 0.5 else n + 9007199254740992 end as mixed"
    ids = "n + 9007199254740992 - 150000::numeric as id, n / 4.0 as share"
    run(f"create table straddling as select {ids}, {mixed} from generate_series(1, 300000) n")
    parts = [part for part, _ in reader(ms.sql(postgres, "select *, repeat('x', 90) as x from straddling")).read(None)]

    rows = pl.concat(parts)  # of one schema
    assert len(parts) > 1 and rows.schema["share"] == pl.Float64
    assert rows["id"].to_list() == list(range(9007199254740993 - 150000, 9007199254740993 + 150000))
    assert rows["mixed"].head(1).to_list() == ["9007199254740993"] and rows["mixed"].tail(1).to_list() == ["0.5"]


def test_a_cursor_of_numerics_rises_as_numbers_do(home: Home, postgres: str) -> None:
    run = _in_postgres(postgres)
    run("create table counted as select n::numeric as id, n % 2 as y from generate_series(1, 12) n")
    source, roles = ms.sql(postgres, "counted", cursor="id"), Roles("y")
    ingest(source=source, roles=roles, home=home, loop="counted")
    run("insert into counted values (13, 1)")

    more = ingest(source=source, roles=roles, home=home, loop="counted")

    assert (more.rows, more.new_rows) == (13, 1)


def test_a_postgres_that_does_not_answer_is_named_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MS_TEST_PG", "postgresql://me:hunter22@127.0.0.1:1/secretdb")

    with pytest.raises(SourceError, match=r"database 'env:MS_TEST_PG' can't be read") as error:
        rows_of(ms.sql("env:MS_TEST_PG", "flights"))
    assert not {"hunter22", "secretdb"} & set(str(error.value).split())
