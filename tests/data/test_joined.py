"""A join as the source of a loop: what was known then is in the rows, and the endpoint looks up the same."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mainspring.core.declarations import Roles
from mainspring.core.errors import SourceEmpty
from mainspring.core.joins import Join, join
from mainspring.core.sources import sql
from mainspring.data.ingest import ingest, new_rows
from mainspring.store.home import Home
from mainspring.store.lookups import Lookups
from mainspring.store.tables import Table

BASE = datetime(2013, 1, 1)
ROLES = Roles("late", key="flight", time="at")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


def flights(first: int, count: int) -> pl.DataFrame:
    rows = range(first, first + count)
    return pl.DataFrame({
        "flight": [f"f{row}" for row in rows], "origin": [("JFK", "LGA")[row % 2] for row in rows],
        "at": [BASE + timedelta(minutes=30 * row) for row in rows], "late": [row % 3 == 0 for row in rows],
    })  # fmt: skip


def weather(hours: range) -> pl.DataFrame:
    return pl.DataFrame({
        "origin": [name for hour in hours for name in ("JFK", "LGA")],
        "measured": [BASE + timedelta(hours=hour) for hour in hours for _ in range(2)],
        "temp": [float(10 * hour + place) for hour in hours for place in range(2)],
    })  # fmt: skip


def declared(folder: Path) -> Join:
    return join(
        str(folder / "flights-*.csv"), str(folder / "weather-*.csv"), on="origin", as_of="at", right_time="measured",
        within="2h",
    )  # fmt: skip


def rows_of(home: Home, version: int) -> pl.DataFrame:
    return Table(home, "delays", "rows").read(version)


def test_rows_carry_what_was_known_and_only_new_ones_are_read(home: Home, tmp_path: Path) -> None:
    flights(0, 40).write_csv(tmp_path / "flights-1.csv")
    weather(range(12)).write_csv(tmp_path / "weather-1.csv")
    first = ingest(source=declared(tmp_path), roles=ROLES, home=home, loop="delays")
    rows = rows_of(home, first.version)

    by_hand = {(row["origin"], row["measured"]): row["temp"] for row in weather(range(12)).to_dicts()}
    for row in rows.to_dicts():
        hour = row["at"].replace(minute=0)
        known = next((by_hand[key] for back in range(3) if (key := (row["origin"], hour - timedelta(hours=back)))
                      in by_hand and row["at"] - key[1] <= timedelta(hours=2)), None)  # fmt: skip
        assert row["temp"] == known, row
    again = ingest(source=declared(tmp_path), roles=ROLES, home=home, loop="delays")
    assert again.version == first.version and again.digest == first.digest

    weather(range(12, 20)).write_csv(tmp_path / "weather-2.csv")
    flights(40, 4).write_csv(tmp_path / "flights-2.csv")
    more = ingest(source=declared(tmp_path), roles=ROLES, home=home, loop="delays")
    later = rows_of(home, more.version)
    assert later.height == 44 and later.head(40)["temp"].equals(rows["temp"])
    assert later.tail(4)["temp"].to_list() == [190.0, 191.0, 190.0, None]  # by half past nine it is too old


def test_a_request_finds_what_the_training_rows_had(home: Home, tmp_path: Path) -> None:
    flights(0, 40).write_csv(tmp_path / "flights-1.csv")
    weather(range(20)).write_csv(tmp_path / "weather-1.csv")
    made = ingest(source=declared(tmp_path), roles=ROLES, home=home, loop="delays")
    trained = rows_of(home, made.version)
    lookups = Lookups(home, "delays")
    wanted = ["origin", "at", "temp"]

    asked = [{"origin": row["origin"], "at": row["at"].isoformat()} for row in trained.to_dicts()]
    assert [row["temp"] for row in lookups.complete(asked, wanted)] == trained["temp"].to_list()
    assert [row["temp"] for one in asked for row in lookups.complete([one], wanted)] == trained["temp"].to_list()
    unknown: list[dict[str, Any]] = [{"origin": "EWR", "at": asked[0]["at"]}, {"origin": "JFK", "at": "noon"}]
    assert [row["temp"] for row in lookups.complete(unknown, wanted)] == [None, None]
    given = [{**asked[0], "temp": -1.0}]
    assert lookups.complete(given, wanted) == given
    assert lookups.complete([{"origin": "JFK"}], wanted) == [{"origin": "JFK"}]


def test_new_rows_are_those_of_the_left_side(home: Home, tmp_path: Path) -> None:
    flights(0, 40).write_csv(tmp_path / "flights-1.csv")
    weather(range(12)).write_csv(tmp_path / "weather-1.csv")
    assert new_rows(declared(tmp_path), home, "delays") == 40
    ingest(source=declared(tmp_path), roles=ROLES, home=home, loop="delays")

    weather(range(12, 20)).write_csv(tmp_path / "weather-2.csv")
    assert new_rows(declared(tmp_path), home, "delays") == 0
    flights(40, 4).write_csv(tmp_path / "flights-2.csv")
    assert new_rows(declared(tmp_path), home, "delays") == 4


def test_new_rows_behind_a_cursor_are_those_of_the_left_side(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "airline.db"
    address = f"sqlite:///{path}"
    sides = (("flights", flights(0, 40)), ("weather", weather(range(12))))
    with sqlite3.connect(path) as database:
        for name, rows in sides:
            database.execute(f"create table {name} ({', '.join(rows.columns)})")
            add(database, name, rows)
    data = join(
        sql(address, "select * from flights", cursor="at"), sql(address, "select * from weather", cursor="measured"),
        on="origin", as_of="at", right_time="measured",
    )  # fmt: skip
    ingest(source=data, roles=ROLES, home=home, loop="delays")

    with sqlite3.connect(path) as database:
        add(database, "weather", weather(range(12, 20)))
    assert new_rows(data, home, "delays") == 0
    with sqlite3.connect(path) as database:
        add(database, "flights", flights(40, 4))
    assert new_rows(data, home, "delays") == 4
    database.close()


def add(database: sqlite3.Connection, name: str, rows: pl.DataFrame) -> None:
    texts = rows.with_columns(pl.col(pl.Datetime).dt.strftime("%Y-%m-%d %H:%M:%S"))
    database.executemany(f"insert into {name} values ({', '.join('?' * rows.width)})", texts.rows())


def test_rows_whose_time_can_not_be_read_are_told(home: Home) -> None:
    seen = ["2013-01-01 00:00", "01.01.2013 01:00", "2013-01-01 02:00"]
    known = pl.DataFrame({"origin": ["JFK"] * 3, "seen": seen, "wind": [1, 2, 3]})
    flown = pl.DataFrame({"id": [1], "origin": ["JFK"], "at": ["2013-01-01T01:30:00"], "late": [True]})
    source = join(flown, known, on="origin", as_of="at", right_time="seen")
    dataset = ingest(source=source, roles=Roles("late", key="id"), home=home, loop="flights")
    assert "1 row of the frame can't be joined: time column 'seen' holds '01.01.2013 01:00'" in dataset.notes


def test_a_right_side_without_rows_is_named(home: Home) -> None:
    flown = pl.DataFrame({"id": [1], "origin": ["JFK"], "late": [True]})
    with pytest.raises(SourceEmpty, match="has no rows to be joined"):
        ingest(source=join(flown, nothing, on="origin"), roles=Roles("late", key="id"), home=home, loop="flights")


def nothing() -> list[dict[str, int]]:
    return []
