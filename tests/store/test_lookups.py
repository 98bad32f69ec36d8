"""Point-in-time joins: for each row what was known of its key by then, and nothing of the future."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import DeclarationError, SchemaMismatch
from mainspring.core.joins import Join, join
from mainspring.data.casting import instants
from mainspring.store.home import Home
from mainspring.store.lookup_index import LookupIndex
from mainspring.store.lookups import Lookups, looked_up

BASE = datetime(2013, 1, 1)
KEYS = st.sampled_from(["JFK", "LGA", None])
TIMES = st.one_of(st.none(), st.integers(0, 12))


def frame(rows: list[tuple[Any, Any]], values: str) -> pl.DataFrame:
    moments = [None if at is None else BASE + timedelta(hours=at) for _, at in rows]
    columns = {"origin": [key for key, _ in rows], "at": moments, values: range(len(rows))}
    return pl.DataFrame(columns, schema={"origin": pl.String, "at": pl.Datetime("us"), values: pl.Int64})


def known_by_then(row: dict[str, Any], right: list[dict[str, Any]], within: int | None, delay: int) -> int | None:
    """The definition, one row at a time."""
    best = None
    for other in right:
        if None in (row["origin"], row["at"], other["at"]) or row["origin"] != other["origin"]:
            continue
        known = other["at"] + timedelta(hours=delay)
        old = within is not None and row["at"] - other["at"] > timedelta(hours=within)
        if known <= row["at"] and not old and (best is None or other["at"] >= best["at"]):
            best = other
    return None if best is None else best["temp"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(KEYS, TIMES), max_size=12),
    st.lists(st.tuples(KEYS, TIMES), max_size=12),
    st.sampled_from([(None, 0), (3, 0), (3, 1), (None, 2)]),
)
def test_it_is_what_a_look_at_every_row_finds(
    left: list[tuple[Any, Any]], right: list[tuple[Any, Any]], limits: tuple[int | None, int]
) -> None:
    within, delay = limits
    flights, weather = frame(left, "flight"), frame(right, "temp")
    how = Join(None, None, ("origin",), "at", within=None if within is None else within * 3600.0, delay=delay * 3600.0)

    joined = looked_up(flights, weather, how)

    assert joined.columns == ["origin", "at", "flight", "temp"] and joined.drop("temp").equals(flights)
    expected = [known_by_then(row, weather.to_dicts(), within, delay) for row in flights.to_dicts()]
    assert joined["temp"].to_list() == expected
    index = LookupIndex(weather, how)
    places = [index.place({**row, "at": row["at"] and row["at"].isoformat()}) for row in flights.to_dicts()]
    assert [None if at is None else weather["temp"][at] for at in places] == expected


def test_one_row_finds_what_it_finds_among_many() -> None:
    flights = frame([("JFK", hour) for hour in range(10)], "flight")
    weather = frame([("JFK", 1), ("LGA", 2), ("JFK", 4), ("JFK", 4), ("JFK", 9)], "temp")
    how = Join(None, None, ("origin",), "at", within=3 * 3600.0)
    alone = pl.concat([looked_up(flights[row : row + 1], weather, how) for row in range(flights.height)])
    assert alone.equals(looked_up(flights, weather, how))
    assert alone["temp"].to_list() == [None, 0, 0, 0, 3, 3, 3, 3, None, 4]


def test_without_a_time_the_last_row_of_a_key_counts() -> None:
    planes = pl.DataFrame({"tailnum": ["N1", "N2", "N1"], "seats": [100, 200, 150], "year": [1990, 2000, 2001]})
    flights = pl.DataFrame({"tailnum": ["N2", "N1", None, "N9"], "year": [2013] * 4})
    how = join(flights, planes, on="tailnum", prefix="plane_")
    joined = looked_up(flights, planes, how)
    assert joined.columns == ["tailnum", "year", "plane_seats", "plane_year"]
    assert joined["plane_seats"].to_list() == [200, 150, None, None]


def test_the_right_time_may_have_another_name() -> None:
    flights, weather = frame([("JFK", 5)], "flight"), frame([("JFK", 4)], "temp").rename({"at": "measured"})
    joined = looked_up(flights, weather, Join(None, None, ("origin",), "at", "measured"))
    assert joined["temp"].to_list() == [0] and "measured" not in joined.columns


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"on": "origin", "within": "2h"}, "no as_of="),
        ({"on": []}, "must name the columns"),
        ({"on": ["at"], "as_of": "at"}, "also in on="),
        ({"on": "origin", "as_of": "at", "within": "1h", "delay": "2h"}, "must be longer than delay"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        join(pl.DataFrame(), pl.DataFrame(), **arguments)


def test_columns_that_do_not_fit_are_named() -> None:
    flights, weather = frame([("JFK", 5)], "flight"), frame([("JFK", 4)], "temp")
    how = Join(None, None, ("origin",), "at")
    with pytest.raises(SchemaMismatch, match="right side of the join has no column 'at'"):
        looked_up(flights, weather.drop("at"), how)
    with pytest.raises(SchemaMismatch, match="prefix='NAME_'"):
        looked_up(flights.with_columns(temp=1), weather, how)


def test_keys_may_be_text_on_one_side() -> None:
    flights = pl.DataFrame({"gate": [7, 8], "at": [BASE + timedelta(hours=5), BASE]})
    weather = pl.DataFrame({"gate": ["7", "8"], "at": [BASE + timedelta(hours=4)] * 2, "temp": [1, 2]})
    joined = looked_up(flights, weather, Join(None, None, ("gate",), "at"))
    assert joined["temp"].to_list() == [1, None] and joined.drop("temp").equals(flights)


@pytest.mark.parametrize(
    ("keys", "known"),
    [
        ([1.0, 2.0, None], [1, 2, 3]),
        ([1.0, 2.0, None], ["1", "2", "3"]),
        (["01", "2", "x"], [1, 2, 3]),
        ([True, False, True], [0, 1, 2]),
        (["1", "2", "x"], [1.0, 2.0, 3.5]),
        ([1, 0, None], [True, False, None]),
        (["2013-01-01", "2013-01-02", "x"], [date(2013, 1, 1), date(2013, 1, 2), date(2013, 1, 3)]),
        ([BASE, BASE + timedelta(days=1), None], [date(2013, 1, 1), date(2013, 1, 2), date(2013, 1, 3)]),
        ([date(2013, 1, 1), date(2013, 1, 2), None], ["2013-01-01", "2013-01-02", "2013-01-03"]),
    ],
)
def test_a_request_finds_by_a_key_of_another_type_what_training_found(
    tmp_path: Path, keys: list[Any], known: list[Any]
) -> None:
    home, how = Home.open(tmp_path / ".mainspring"), Join(None, None, ("key",))
    rows = pl.DataFrame({"key": known, "seats": [10, 20, 30]})
    Lookups(home, "loop").keep(how, rows, {})
    trained = looked_up(pl.DataFrame({"key": keys}), rows, how)["seats"].to_list()
    assert trained[:2] in ([10, 20], [20, 10])
    asked = [{"key": key.isoformat() if isinstance(key, date) else key} for key in keys]
    served = [dict(Lookups(home, "loop").complete([row], {"seats"})[0])["seats"] for row in asked]
    assert served == trained
    together = Lookups(home, "loop").complete(asked * 20, {"seats"})  # so many are joined
    assert [row["seats"] for row in together] == trained * 20


@pytest.mark.parametrize("kind", [pl.Int64, pl.String, pl.Date, pl.Float64, pl.Boolean])
def test_a_key_that_is_none_finds_nothing(tmp_path: Path, kind: Any) -> None:
    home, how = Home.open(tmp_path / ".mainspring"), Join(None, None, ("key",))
    rows = pl.DataFrame({"key": pl.Series([1], dtype=pl.Int64).cast(kind), "seats": [10]})
    Lookups(home, "loop").keep(how, rows, {})
    lookups = Lookups(home, "loop")
    for key in ([1], {"a": 1}, None, 2**70, "", float("nan")):
        assert lookups.complete([{"key": key}], {"seats"}) == [{"key": key, "seats": None}]


def test_a_join_may_look_by_what_another_gives_and_the_model_need_not_see_it(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")
    lookups = Lookups(home, "loop")
    lookups.keep(Join(None, None, ("tail",)), pl.DataFrame({"tail": ["N1"], "type": ["B"]}), {})
    lookups.keep(Join(None, None, ("type",)), pl.DataFrame({"type": ["B"], "seats": [200]}), {})
    found = lookups.complete([{"tail": "N1"}], {"tail", "seats"})
    assert found == [{"tail": "N1", "seats": 200}]


@pytest.mark.parametrize(
    "at",
    [
        "2013-01-01T04:00:00", " 2013-01-01 04:00 ", "2013-01-01 06:00:00 +0200", "2013-01-01T04:00:00 Z",
        "2013-01-02+20:00", "2013-02-30", "soon", "0001-01-01T00:00:00+02:00",
    ],
)  # fmt: skip
def test_a_request_finds_at_a_time_as_it_is_written_what_training_found(tmp_path: Path, at: str) -> None:
    home, how = Home.open(tmp_path / ".mainspring"), Join(None, None, ("origin",), "at")
    rows = pl.DataFrame({"origin": ["JFK"] * 2, "at": [datetime(2013, 1, 1, 4), datetime(2013, 1, 2)], "temp": [1, 2]})
    Lookups(home, "loop").keep(how, rows, {})
    flights = pl.DataFrame({"origin": ["JFK"], "at": instants(pl.Series([at]))})
    trained = looked_up(flights, rows, how)["temp"].to_list()
    asked = [{"origin": "JFK", "at": at}]
    for many in (1, 40):
        found = Lookups(home, "loop").complete(asked * many, {"temp"})
        assert [row["temp"] for row in found] == trained * many


def test_instants_with_a_zone_are_compared_as_instants() -> None:
    weather = frame([("JFK", 4)], "temp")
    flights = pl.DataFrame({"origin": ["JFK"], "at": [datetime(2013, 1, 1, 4, tzinfo=UTC)]})
    assert looked_up(flights, weather, Join(None, None, ("origin",), "at"))["temp"].to_list() == [0]
