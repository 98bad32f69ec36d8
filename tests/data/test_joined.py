"""A join as the source of a loop: what was known then is in the rows, and the endpoint looks up the same."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mainspring.core.declarations import Roles
from mainspring.core.errors import SourceEmpty
from mainspring.core.joins import Join, join
from mainspring.core.sources import sql
from mainspring.data import contract
from mainspring.data.ingest import ingest, new_rows, refresh
from mainspring.data.joined import Joined
from mainspring.data.quarantine import Quarantine
from mainspring.store.deployments import DECLARED, Deployments
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

    assert_known_by_then(rows, range(12))
    again = ingest(source=declared(tmp_path), roles=ROLES, home=home, loop="delays")
    assert again.version == first.version and again.digest == first.digest

    weather(range(12, 20)).write_csv(tmp_path / "weather-2.csv")
    flights(40, 4).write_csv(tmp_path / "flights-2.csv")
    more = ingest(source=declared(tmp_path), roles=ROLES, home=home, loop="delays")
    later = rows_of(home, more.version)
    assert later.height == 44 and more.new_rows == 4
    assert_known_by_then(later, range(20))
    assert later.tail(4)["temp"].to_list() == [190.0, 191.0, 190.0, None]  # by half past nine it is too old


def assert_known_by_then(rows: pl.DataFrame, hours: range) -> None:
    by_hand = {(row["origin"], row["measured"]): row["temp"] for row in weather(hours).to_dicts()}
    for row in rows.to_dicts():
        hour = row["at"].replace(minute=0)
        known = next((by_hand[key] for back in range(3) if (key := (row["origin"], hour - timedelta(hours=back)))
                      in by_hand and row["at"] - key[1] <= timedelta(hours=2)), None)  # fmt: skip
        assert row["temp"] == known, row


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


class TestWhatComesLate:
    @pytest.fixture
    def airline(self, tmp_path: Path) -> sqlite3.Connection:
        database = sqlite3.connect(tmp_path / "airline.db")
        database.execute("create table flights (seen, flight, origin, plane, at, late)")
        database.execute("create table weather (seen, origin, measured, temp)")
        database.execute("create table planes (seen, plane, seats)")
        return database

    def source(self, folder: Path, planes: bool = False) -> Join:
        address = f"sqlite:///{folder / 'airline.db'}"
        flown = sql(address, "flights", cursor="seen")
        known = sql(address, "select seen as weather_seen, origin, measured, temp from weather", cursor="weather_seen")
        told = join(flown, known, on="origin", as_of="at", right_time="measured", within="3h")
        seats = sql(address, "select seen as planes_seen, plane, seats from planes", cursor="planes_seen")
        return join(told, seats, on="plane") if planes else told

    @pytest.mark.parametrize("key", ["flight", None])
    def test_is_joined_to_the_rows_of_before_and_never_from_the_future(
        self, home: Home, tmp_path: Path, airline: sqlite3.Connection, key: str | None
    ) -> None:
        roles = Roles("late", key=key, time="at")
        insert(airline, "flights", (1, "f1", "JFK", "p", hour(1), 0), (2, "f2", "JFK", "p", hour(2), 1))
        insert(airline, "flights", (2, "f3", "LGA", "p", hour(2), 0))
        insert(airline, "weather", (1, "JFK", hour(0), 0.5), (2, "JFK", hour(2), 2.5))
        first = ingest(source=self.source(tmp_path), roles=roles, home=home, loop="delays")
        assert rows_of(home, first.version)["temp"].to_list() == [0.5, 2.5, None]

        late = ("JFK", hour(1), 1.5), ("LGA", hour(2), 7.5), ("JFK", hour(2), 2.75), ("LGA", hour(3), 99.0)
        insert(airline, "weather", *((3 + place, *row) for place, row in enumerate(late)))
        more = ingest(source=self.source(tmp_path), roles=roles, home=home, loop="delays")
        assert rows_of(home, more.version)["temp"].to_list() == [1.5, 2.75, 7.5]
        assert more.rows == 3 and "3 rows of earlier versions joined with what came late" in more.notes
        assert rows_of(home, first.version)["temp"].to_list() == [0.5, 2.5, None]
        assert ingest(source=self.source(tmp_path), roles=roles, home=home, loop="delays").version == more.version

    def test_is_looked_for_once(
        self, home: Home, tmp_path: Path, airline: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        insert(airline, "flights", (1, "f1", "JFK", "p", hour(1), 0))
        insert(airline, "weather", (1, "JFK", hour(0), 0.5))
        first = ingest(source=self.source(tmp_path), roles=ROLES, home=home, loop="delays")
        insert(airline, "weather", (2, "JFK", hour(5), 5.5))
        assert ingest(source=self.source(tmp_path), roles=ROLES, home=home, loop="delays").version == first.version
        monkeypatch.setattr(Joined, "rejoined", None)
        assert ingest(source=self.source(tmp_path), roles=ROLES, home=home, loop="delays").version == first.version

    def test_of_what_the_endpoint_has_looked_up_already_too(
        self, home: Home, tmp_path: Path, airline: sqlite3.Connection
    ) -> None:
        insert(airline, "flights", (1, "f1", "JFK", "p", hour(1), 0))
        insert(airline, "weather", (1, "JFK", hour(0), 0.5))
        ingest(source=self.source(tmp_path), roles=ROLES, home=home, loop="delays")
        insert(airline, "weather", (2, "JFK", hour(1), 1.5))
        assert refresh(self.source(tmp_path), home, "delays")
        more = ingest(source=self.source(tmp_path), roles=ROLES, home=home, loop="delays")
        assert rows_of(home, more.version)["temp"].to_list() == [1.5]

    def test_through_joins_one_after_another(self, home: Home, tmp_path: Path, airline: sqlite3.Connection) -> None:
        insert(airline, "flights", (1, "f1", "JFK", "p", hour(1), 0), (2, "f2", "JFK", "q", hour(2), 1))
        insert(airline, "weather", (1, "JFK", hour(0), 0.5))
        insert(airline, "planes", (1, "p", 100))
        ingest(source=self.source(tmp_path, planes=True), roles=ROLES, home=home, loop="delays")
        insert(airline, "planes", (2, "q", 180))
        insert(airline, "weather", (2, "JFK", hour(2), 2.5))
        more = ingest(source=self.source(tmp_path, planes=True), roles=ROLES, home=home, loop="delays")
        rows = rows_of(home, more.version)
        assert rows["seats"].to_list() == [100, 180] and rows["temp"].to_list() == [0.5, 2.5]

    def test_what_the_right_side_forgets_stays_known(
        self, home: Home, tmp_path: Path, airline: sqlite3.Connection
    ) -> None:
        insert(airline, "flights", (1, "f1", "JFK", "p", hour(1), 0))
        weather(range(2)).write_csv(tmp_path / "weather.csv")
        flown = sql(f"sqlite:///{tmp_path / 'airline.db'}", "flights", cursor="seen")
        source = join(flown, str(tmp_path / "weather.csv"), on="origin", as_of="at", right_time="measured", within="2h")
        ingest(source=source, roles=ROLES, home=home, loop="delays")
        weather(range(30, 40)).write_csv(tmp_path / "weather.csv")
        insert(airline, "flights", (2, "f2", "LGA", "p", hour(31), 0))
        more = ingest(source=source, roles=ROLES, home=home, loop="delays")
        assert rows_of(home, more.version)["temp"].to_list() == [10.0, 311.0]

    def test_what_a_right_side_that_is_read_as_a_whole_withdraws_goes_from_the_rows_of_before(
        self, home: Home, tmp_path: Path, airline: sqlite3.Connection
    ) -> None:
        insert(airline, "flights", (1, "f1", "JFK", "p", hour(5), 0), (2, "f2", "JFK", "q", hour(1), 1))
        weather(range(8)).write_csv(tmp_path / "weather.csv")
        pl.DataFrame({"plane": ["p", "q"], "seats": [100, 180]}).write_csv(tmp_path / "planes.csv")
        flown = sql(f"sqlite:///{tmp_path / 'airline.db'}", "flights", cursor="seen")
        source = join(flown, str(tmp_path / "weather.csv"), on="origin", as_of="at", right_time="measured", within="2h")
        source = join(source, str(tmp_path / "planes.csv"), on="plane")
        first = ingest(source=source, roles=ROLES, home=home, loop="delays")
        assert rows_of(home, first.version)["temp"].to_list() == [50.0, 10.0]
        weather(range(3)).write_csv(tmp_path / "weather.csv")
        pl.DataFrame({"plane": ["q"], "seats": [180]}).write_csv(tmp_path / "planes.csv")
        more = ingest(source=source, roles=ROLES, home=home, loop="delays")
        rows = rows_of(home, more.version)
        assert rows["temp"].to_list() == [None, 10.0] and rows["seats"].to_list() == [None, 180]

    def test_a_right_side_without_any_rows_withdraws_nothing(
        self, home: Home, tmp_path: Path, airline: sqlite3.Connection
    ) -> None:
        insert(airline, "flights", (1, "f1", "JFK", "p", hour(1), 0))
        pl.DataFrame({"plane": ["p"], "seats": [100]}).write_csv(tmp_path / "planes.csv")
        flown = sql(f"sqlite:///{tmp_path / 'airline.db'}", "flights", cursor="seen")
        source = join(flown, str(tmp_path / "planes.csv"), on="plane")
        ingest(source=source, roles=ROLES, home=home, loop="delays")
        (tmp_path / "planes.csv").write_text("plane,seats\n")
        more = ingest(source=source, roles=ROLES, home=home, loop="delays")
        assert rows_of(home, more.version)["seats"].to_list() == [100]

    def test_what_a_compared_right_side_withdraws_goes_from_the_rows_of_before(
        self, home: Home, tmp_path: Path, airline: sqlite3.Connection
    ) -> None:
        insert(airline, "flights", (1, "f1", "JFK", "p", hour(1), 0), (2, "f2", "JFK", "q", hour(2), 1))
        insert(airline, "planes", (1, "p", 100), (2, "q", 180))
        address = f"sqlite:///{tmp_path / 'airline.db'}"
        seats = sql(address, "select plane, seats from planes", changes="compare")
        source = join(sql(address, "flights", cursor="seen"), seats, on="plane")
        ingest(source=source, roles=ROLES, home=home, loop="delays")
        airline.execute("delete from planes where plane = 'q'")
        airline.commit()
        more = ingest(source=source, roles=ROLES, home=home, loop="delays")
        assert rows_of(home, more.version)["seats"].to_list() == [100, None]

    def test_of_rows_that_came_back_from_quarantine_too(
        self, home: Home, tmp_path: Path, airline: sqlite3.Connection
    ) -> None:
        insert(airline, "flights", *((n, f"f{n}", "JFK", "p", hour(n), n % 2) for n in range(1, 30)))
        insert(airline, "flights", (30, "f30", "LGA", "p", "soon", 1))
        insert(airline, "weather", (1, "JFK", hour(0), 0.5), (2, "LGA", hour(29), 29.5))
        first = ingest(source=self.source(tmp_path), roles=ROLES, home=home, loop="delays")
        Deployments(home).save_state("delays", DECLARED, {"roles": {"target": "late", "key": "flight", "time": "at"}})
        Quarantine(home, "delays").replay([f"at='{hour(30)}'"])

        more = ingest(source=self.source(tmp_path), roles=ROLES, home=home, loop="delays")

        assert (first.rows, more.rows) == (29, 30) and rows_of(home, more.version)["temp"].to_list()[-1] == 29.5
        assert ingest(source=self.source(tmp_path), roles=ROLES, home=home, loop="delays").version == more.version

    def test_what_breaks_the_contract_leaves_the_row_as_it_was(
        self, home: Home, tmp_path: Path, airline: sqlite3.Connection
    ) -> None:
        insert(airline, "flights", (1, "f1", "JFK", "p", hour(1), 0), (2, "f2", "JFK", "p", hour(2), 1))
        insert(airline, "weather", (1, "JFK", hour(0), 0.5))
        made = ingest(source=self.source(tmp_path), roles=ROLES, home=home, loop="delays")
        columns = (replace(each, maximum=50.0) if each.name == "temp" else each for each in made.schema)
        contract.accept(home, "delays", replace(made.schema, columns=tuple(columns)))
        ingest(source=self.source(tmp_path), roles=ROLES, home=home, loop="delays")
        insert(airline, "weather", (2, "JFK", hour(1), 4000.0), (3, "JFK", hour(2), 2.5))
        more = ingest(source=self.source(tmp_path), roles=ROLES, home=home, loop="delays")
        assert rows_of(home, more.version)["temp"].to_list() == [0.5, 2.5]
        assert any("1 row of earlier versions stay as joined before" in note for note in more.notes)

    def test_what_is_of_another_type_leaves_the_row_as_it_was(
        self, home: Home, tmp_path: Path, airline: sqlite3.Connection
    ) -> None:
        insert(airline, "flights", (1, "f1", "JFK", "p", hour(1), 0), (2, "f2", "LGA", "p", hour(1), 1))
        airport = tmp_path / "airports.csv"
        airport.write_text("origin,gates\nJFK,128\nLGA,72\n")
        flown = sql(f"sqlite:///{tmp_path / 'airline.db'}", "flights", cursor="seen")
        source = join(flown, str(airport), on="origin")
        ingest(source=source, roles=ROLES, home=home, loop="delays")
        airport.write_text("origin,gates\nJFK,many\nLGA,73\n")
        insert(airline, "flights", (3, "f3", "LGA", "p", hour(2), 0))

        more = ingest(source=source, roles=ROLES, home=home, loop="delays")

        assert rows_of(home, more.version)["gates"].to_list() == [128, 73, 73]


def hour(number: int) -> str:
    return (BASE + timedelta(hours=number)).strftime("%Y-%m-%d %H:%M:%S")


def insert(database: sqlite3.Connection, table: str, *rows: tuple[Any, ...]) -> None:
    database.executemany(f"insert into {table} values ({', '.join('?' * len(rows[0]))})", rows)
    database.commit()


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
