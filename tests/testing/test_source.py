"""The contract suite of sources passes for ours and names what is wrong with others."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mainspring.core.declarations import csv, frame, parquet, sql
from mainspring.core.errors import SourceError
from mainspring.testing import check_source

ROWS = pl.DataFrame({"id": [1, 2, 3], "delay": [0.5, None, 20.0], "late": [False, None, True]})


@dataclass
class Ledger:
    """A growing list of rows; its position is how many there are."""

    rows: list[dict[str, Any]] = field(default_factory=lambda: ROWS.to_dicts())

    def position(self) -> Any:
        return len(self.rows)

    def read(self, since: Any) -> Iterator[Any]:
        yield self.rows[since or 0 :]


def test_each_declared_source_keeps_the_contract(tmp_path: Path) -> None:
    ROWS.write_csv(tmp_path / "rows.csv")
    ROWS.write_parquet(tmp_path / "rows.parquet")
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("create table rows (id integer, delay real)")
        connection.executemany("insert into rows values (?, ?)", ROWS.select("id", "delay").rows())

    check_source(csv(str(tmp_path / "rows.csv")))
    check_source(parquet(str(tmp_path / "*.parquet")))
    check_source(sql(f"sqlite:///{tmp_path}/rows.db", "select * from rows order by id", cursor="id"))
    check_source(frame(ROWS.to_pandas()))
    check_source(lambda: iter([ROWS, ROWS.to_arrow()]))


def test_a_plug_in_that_gives_rows_beyond_its_position_passes() -> None:
    check_source(Ledger())


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
