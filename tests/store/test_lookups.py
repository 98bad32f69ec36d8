"""Point-in-time joins: for each row what was known of its key by then, and nothing of the future."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import DeclarationError, SchemaMismatch
from mainspring.core.joins import Join, join
from mainspring.store.lookup_index import LookupIndex
from mainspring.store.lookups import looked_up

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


def test_instants_with_a_zone_are_compared_as_instants() -> None:
    weather = frame([("JFK", 4)], "temp")
    flights = pl.DataFrame({"origin": ["JFK"], "at": [datetime(2013, 1, 1, 4, tzinfo=UTC)]})
    assert looked_up(flights, weather, Join(None, None, ("origin",), "at"))["temp"].to_list() == [0]
