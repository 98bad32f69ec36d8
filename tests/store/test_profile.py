"""The profile of training rows: counted exactly, told as JSON exactly, and honest about what training never saw."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.schema import Column, Schema, Type
from mainspring.store.profile import Levels, Numbers, Profile


def schema(**types: Type) -> Schema:
    return Schema(tuple(Column(name, type) for name, type in types.items()))


def profile_of(values: list, type: Type) -> Profile:
    dtype = {Type.FLOAT: pl.Float64, Type.INTEGER: pl.Int64, Type.TEXT: pl.String, Type.BOOLEAN: pl.Boolean}[type]
    return Profile.of(pl.DataFrame({"x": pl.Series(values, dtype=dtype)}), schema(x=type))


numeric = st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=True), max_size=60)
text = st.lists(st.none() | st.text(max_size=2), max_size=60)


@given(numeric, numeric)
def test_every_number_falls_in_exactly_one_bin(training: list, served: list) -> None:
    profile = profile_of(training, Type.FLOAT)
    counts = profile.counts(pl.DataFrame({"x": pl.Series(served, dtype=pl.Float64)}))["x"]

    assert counts.min() >= 0 and counts.sum() == len(served) and len(counts) == len(profile["x"].bins)
    assert counts[-1] == sum(value is None or np.isnan(value) for value in served)


@given(text, text)
def test_every_text_falls_in_exactly_one_bin(training: list, served: list) -> None:
    profile = profile_of(training, Type.TEXT)
    for column in profile:
        counts = profile.counts(pl.DataFrame({"x": pl.Series(served, dtype=pl.String)}))["x"]
        assert counts.sum() == len(served) and counts[-1] == served.count(None)
        assert counts[-2] == sum(value is not None and value not in column.levels for value in served)


@given(numeric, text)
def test_a_profile_survives_json_bit_for_bit(numbers: list, words: list) -> None:
    for profile in (profile_of(numbers, Type.FLOAT), profile_of(words, Type.TEXT)):
        assert Profile.from_json(json.loads(json.dumps(profile.to_json(), allow_nan=False))) == profile


def test_training_rows_counted_again_give_the_reference() -> None:
    random = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "number": np.where(random.random(5_000) < 0.6, 0.0, random.normal(size=5_000)),
            "small": random.integers(0, 4, 5_000),
            "flag": random.random(5_000) < 0.2,
            "city": random.choice([f"c{i}" for i in range(50)], 5_000),
        }
    )
    profile = Profile.of(frame, schema(number=Type.FLOAT, small=Type.INTEGER, flag=Type.BOOLEAN, city=Type.TEXT))

    assert {name: tuple(counts) for name, counts in profile.counts(frame).items()} == {
        column.name: column.counts for column in profile
    }
    assert all(shares.sum() == pytest.approx(1) for shares in profile.probabilities.values())
    assert profile["small"].bins == ("< 0", "≤ 0", "≤ 1", "≤ 2", "≤ 3", "> 3", "missing")
    assert profile["flag"].bins == ("false", "true", "other", "missing")
    assert len(profile["city"].levels) == 30 and profile["city"].counts[-2] > 0
    assert len(profile["city"].known) == 50


def test_bins_of_a_continuous_column_hold_equal_shares() -> None:
    values = np.random.default_rng(1).lognormal(size=10_000)
    counts = profile_of(values.tolist(), Type.FLOAT)["x"].counts

    assert len(counts) == 13 and set(counts[1:-2]) == {1_000}


def test_ids_times_and_what_is_excluded_are_left_out() -> None:
    rows = 200
    frame = pl.DataFrame(
        {
            "id": np.arange(rows) + 7,
            "name": [f"person {i}" for i in range(rows)],
            "at": pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 1, 3, 19), "1m", eager=True),
            "key": ["a", "b"] * 100,
            "age": np.random.default_rng(0).integers(0, 80, rows),
        }
    )
    types = schema(id=Type.INTEGER, name=Type.TEXT, at=Type.DATETIME, key=Type.TEXT, age=Type.INTEGER)
    profile = Profile.of(frame, types, exclude=("key",))

    assert profile.names == ("age",) and profile.skipped == ("id", "name", "at")


def test_values_beyond_the_training_range_and_unseen_levels_are_outside() -> None:
    training = pl.DataFrame({"age": [20.0, 30.0, 40.0] * 100, "city": ["a", "b", "c"] * 100, "year": [2013] * 300})
    profile = Profile.of(training, schema(age=Type.FLOAT, city=Type.TEXT, year=Type.INTEGER))
    served = pl.DataFrame({"age": [41.0, 43.0, None, 25.0], "city": ["a", "d", "d", None], "year": [2014] * 4})

    outside = profile.outside(served)

    assert (outside.rows, outside.outside, outside.share) == (4, 2, 0.5)
    assert outside.columns == {"age": 1, "city": 2}  # a constant column taught the model nothing: it isn't judged
    assert profile.outside(training).outside == 0
    assert profile.outside(served.clear()).share == 0.0


def test_a_column_where_new_levels_are_usual_is_not_judged() -> None:
    random = np.random.default_rng(0)
    tails = [f"N{number}" for number in random.zipf(1.5, 5_000)]
    column = profile_of(tails, Type.TEXT)["x"]

    assert isinstance(column, Levels) and column.known is None and not column.judged
    assert column.outside(pl.Series(["brand new"])).tolist() == [False]


def test_a_served_column_that_is_gone_or_of_another_type_is_counted_as_missing() -> None:
    profile = Profile.of(pl.DataFrame({"age": [1.0, 2.0], "rows": ["u", "v"]}), schema(age=Type.FLOAT, rows=Type.TEXT))

    assert profile.counts(pl.DataFrame({"rows": ["u", "w"]}))["age"].tolist() == [0, 0, 0, 0, 2]
    assert profile.counts(pl.DataFrame({"age": ["1.5", "old"]}))["age"].tolist() == [0, 0, 1, 0, 1]
    assert profile.counts(pl.DataFrame({"age": [1.0], "rows": [None]}))["rows"].tolist() == [0, 0, 0, 1]


def test_a_column_that_is_all_missing_can_still_be_watched() -> None:
    column = profile_of([None] * 50, Type.FLOAT)["x"]

    assert isinstance(column, Numbers) and column.counts[-1] == 50 and not column.judged
    assert column.count(pl.Series([1.0, None])).tolist() == [0, 0, 1, 1]
