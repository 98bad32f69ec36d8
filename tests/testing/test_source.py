"""The contract suite of sources passes for ours and names what is wrong with others."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

from mainspring.core.errors import SourceError
from mainspring.core.sources import Http, arrow, csv, delta, excel, frame, iceberg, json, parquet, rest, sql
from mainspring.testing import check_source
from tests.data.web import Answer, Asked, answer, serving

ROWS = pl.DataFrame({"id": [1, 2, 3], "delay": [0.5, None, 20.0], "late": [False, None, True]})


@dataclass
class Ledger:
    """A growing list of rows; its position is how many there are."""

    rows: list[dict[str, Any]] = field(default_factory=lambda: ROWS.to_dicts())

    def position(self) -> Any:
        return len(self.rows)

    def read(self, since: Any) -> Iterator[Any]:
        yield self.rows[since or 0 :]


NEW = pl.DataFrame({"id": [4], "delay": [1.5], "late": [True]})


def test_each_kind_of_file_keeps_the_contract(tmp_path: Path) -> None:
    kinds: dict[str, tuple[Callable[[str], Any], Callable[[pl.DataFrame, Path], Any]]] = {
        "csv": (csv, pl.DataFrame.write_csv),
        "jsonl": (json, pl.DataFrame.write_ndjson),
        "json": (json, pl.DataFrame.write_json),
        "parquet": (parquet, pl.DataFrame.write_parquet),
        "arrow": (arrow, pl.DataFrame.write_ipc),
        "xlsx": (excel, pl.DataFrame.write_excel),
    }
    for kind, (declare, write) in kinds.items():
        write(ROWS, tmp_path / f"1.{kind}")

        check_source(declare(f"{tmp_path}/*.{kind}"), partial(write, NEW, tmp_path / f"2.{kind}"))
        check_source(declare(str(tmp_path)))


@pytest.mark.parametrize("cursor", ["id", None])
def test_a_query_keeps_the_contract(tmp_path: Path, cursor: str | None) -> None:
    def insert(rows: pl.DataFrame) -> None:
        with closing(sqlite3.connect(tmp_path / "rows.db")) as connection, connection:
            connection.execute("create table if not exists rows (id integer, delay real)")
            connection.executemany("insert into rows values (?, ?)", rows.select("id", "delay").rows())

    insert(ROWS)

    check_source(sql(f"sqlite:///{tmp_path}/rows.db", "rows", cursor=cursor), lambda: insert(NEW))


def test_tables_of_lakes_keep_the_contract(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "delta", ROWS)
    catalog = SqlCatalog("own", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=tmp_path.as_uri())
    catalog.create_namespace("air")
    table = catalog.create_table("air.rows", schema=ROWS.to_arrow().schema)
    table.append(ROWS.to_arrow())

    check_source(delta(str(tmp_path / "delta")), lambda: write_deltalake(tmp_path / "delta", NEW, mode="append"))
    check_source(iceberg(table.location().removeprefix("file://")), lambda: table.append(NEW.to_arrow()))
    catalog.close()


def test_apis_and_web_files_keep_the_contract() -> None:
    rows = ROWS.to_dicts()

    def say(asked: Asked) -> Answer:
        if asked.path == "/rows.csv":
            return Answer(ROWS.write_csv().encode(), {"ETag": '"one"'})
        return answer([row for row in rows if row["id"] > int(asked.query.get("since", 0))])

    with serving(say) as server:
        own = Http(private=True)
        check_source(csv(f"{server.url}/rows.csv", access=own))
        check_source(rest(server.url, since=("since", "id"), access=own), lambda: rows.extend(NEW.to_dicts()))
        check_source(rest(server.url, access=own), lambda: rows.append({**rows[0], "id": 5}))


def test_what_is_in_memory_keeps_the_contract() -> None:
    rows = [ROWS, ROWS.to_arrow()]

    check_source(frame(ROWS.to_pandas()))
    check_source(lambda: iter(rows), lambda: rows.append(NEW))


def test_a_plug_in_that_gives_rows_beyond_its_position_passes() -> None:
    ledger = Ledger()

    check_source(ledger, lambda: ledger.rows.extend(NEW.to_dicts()))


@dataclass
class Nameless(Ledger):
    def position(self) -> Any:
        return {1, 2}


@dataclass
class Paired(Ledger):
    def position(self) -> Any:
        return (1, len(self.rows))


@dataclass
class Deaf(Ledger):
    """Gives everything whatever it is asked for."""

    def read(self, since: Any) -> Iterator[Any]:
        yield self.rows


@dataclass
class Restless(Ledger):
    calls: Iterator[int] = field(default_factory=itertools.count)

    def read(self, since: Any) -> Iterator[Any]:
        yield [{"id": next(self.calls)}]


@dataclass
class Ragged(Ledger):
    def read(self, since: Any) -> Iterator[Any]:
        yield [{"id": 1}]
        yield [{"key": 2}]


@dataclass
class Still(Ledger):
    """Doesn't tell of new rows."""

    def position(self) -> Any:
        return 3


@dataclass
class Forgetful(Ledger):
    """Leaves the first new row out."""

    def read(self, since: Any) -> Iterator[Any]:
        yield self.rows[since + 1 if since else 0 :]


@dataclass
class Confused(Ledger):
    """Gives an old row in the place of a new one."""

    def read(self, since: Any) -> Iterator[Any]:
        yield self.rows[:1] if since and since < len(self.rows) else self.rows[since or 0 :]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Still(), "has new rows but still stands at 3"),
        (Forgetful(), r"had 3 rows and has 4, but gave 0 for read\(3\)"),
        (Confused(), r"gave other rows for read\(3\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_source_that_loses_new_rows_is_named(source: Ledger, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_source(source, lambda: source.rows.extend(NEW.to_dicts()))


def test_growing_by_nothing_is_named() -> None:
    with pytest.raises(AssertionError, match="grow= added nothing: 3 rows before, 3 after"):
        check_source(lambda: ROWS, lambda: None)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Ledger([]), "gave no rows for read"),
        (Nameless(), "no JSON|not JSON"),
        (Paired(), "comes back from JSON as"),
        (Deaf(), "gave 3 rows for read\\(3\\), its own position"),
        (Restless(), "other values"),
        (Ragged(), "parts with the columns"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_promise_is_named(source: Ledger, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_source(source)


def test_what_is_no_table_ends_as_in_a_run() -> None:
    with pytest.raises(SourceError, match="no table of rows"):
        check_source(lambda: 42)
