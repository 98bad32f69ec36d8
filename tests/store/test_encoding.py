import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import FeaturesError
from mainspring.store.encoding import Encoding, apply_features

KINDS = ("ordered", "filled", "scaled")
START = datetime(2020, 1, 1)


def table(rows: int, seed: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "amount": [None if draw.random() < 0.2 else draw.normal(50, 9) for _ in range(rows)],
            "count": draw.integers(0, 9, rows),
            "paid": draw.random(rows) < 0.5,
            "carrier": draw.choice(["UA", "AA", "DL"], rows, p=[0.5, 0.3, 0.2]),
            "gate": [None if draw.random() < 0.3 else str(draw.choice(["A", "B"])) for _ in range(rows)],
            "booked": [START + timedelta(hours=int(hours)) for hours in draw.integers(0, 24 * 365 * 5, rows)],
        }
    )


def test_numbers_that_need_nothing_stay_bit_for_bit_in_column_order() -> None:
    draw = np.random.default_rng(0)
    numbers = pl.DataFrame({f"x{i}": draw.normal(size=500) * 10.0**i for i in range(6)})

    for kind in ("ordered", "filled"):
        matrix = Encoding.fit(numbers, kind).transform(numbers)

        assert matrix.tobytes(order="C") == np.ascontiguousarray(numbers.to_numpy()).tobytes()


def test_each_kind_treats_a_missing_number_in_its_own_way() -> None:
    ages = pl.DataFrame({"age": [20.0, None, 40.0, 90.0]})

    assert np.isnan(Encoding.fit(ages, "ordered").transform(ages)[1, 0])
    assert Encoding.fit(ages, "filled").transform(ages)[1].tolist() == [40.0, 1.0]
    scaled = Encoding.fit(ages, "scaled").transform(ages)
    assert np.allclose(scaled.mean(axis=0), 0) and np.allclose(scaled.std(axis=0), 1)


def test_a_number_missing_only_when_serving_is_filled_by_the_training_median() -> None:
    encoding = Encoding.fit(pl.DataFrame({"age": [20, 30, 90]}), "filled")

    assert encoding.names == ("age",)
    assert encoding.transform(pl.DataFrame({"age": [None]})).tolist() == [[30.0]]


def test_codes_follow_the_frequency_of_levels_and_unknown_comes_after_the_rarest() -> None:
    encoding = Encoding.fit(pl.DataFrame({"city": ["b"] * 5 + ["a"] * 3 + ["c"] * 3}), "filled")

    assert encoding.transform(pl.DataFrame({"city": ["b", "a", "c", "z", None]})).ravel().tolist() == [0, 1, 2, 3, 3]


def test_missing_text_is_a_level_of_its_own_where_training_had_it() -> None:
    cities = pl.DataFrame({"city": ["b"] * 5 + [None] * 3})

    assert Encoding.fit(cities, "filled").transform(cities)[-1, 0] == -1.0
    assert np.isnan(Encoding.fit(cities, "ordered").transform(cities)[-1, 0])
    scaled = Encoding.fit(cities, "scaled")
    assert scaled.names == ("city = b", "city is missing")
    assert scaled.transform(cities)[-1].tolist() == [0.0, 1.0]


def test_rare_levels_are_pooled_and_unknown_ones_join_them() -> None:
    levels = ["a"] * 500 + ["b"] * 490 + ["c"] * 4 + ["d"] * 6
    encoding = Encoding.fit(pl.DataFrame({"city": levels}), "scaled")

    assert encoding.names == ("city = a", "city = b", "city (other)")
    assert encoding.transform(pl.DataFrame({"city": ["c", "never seen", "b"]})).tolist() == [
        [0, 0, 1],
        [0, 0, 1],
        [0, 1, 0],
    ]
    assert encoding.notes == ("column 'city': 2 rare levels (10 rows) are pooled as 'other'",)


def test_columns_without_anything_to_learn_are_dropped_with_a_note() -> None:
    rows = 300
    frame = pl.DataFrame(
        {
            "x": range(rows),
            "name": [f"person {i}" for i in range(rows)],
            "same": ["yes"] * rows,
            "empty": pl.Series([None] * rows, dtype=pl.Float64),
            "list": [[1, 2]] * rows,
            "day": [START + timedelta(days=i % 3) for i in range(rows)],
        }
    )

    encoding = Encoding.fit(frame, "filled")

    assert encoding.names == ("x",)
    reasons = {"name": "300 levels", "same": "'yes' in all", "empty": "no value", "list": "List", "day": "span 2 days"}
    assert len(encoding.notes) == len(reasons)
    for (name, reason), note in zip(reasons.items(), encoding.notes, strict=True):
        assert repr(name) in note and reason in note


def test_a_constant_number_is_kept_for_trees_and_dropped_for_linear_models() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0], "same": [7.1, 7.1, 7.1]})

    assert Encoding.fit(frame, "filled").names == ("x", "same")
    assert Encoding.fit(frame, "scaled").names == ("x",)


def test_a_moment_becomes_the_parts_whose_whole_cycle_training_saw() -> None:
    weeks = pl.DataFrame({"at": [START + timedelta(hours=5 * i) for i in range(100)]})
    years = pl.DataFrame({"at": [START + timedelta(days=9.3 * i) for i in range(100)]})

    assert Encoding.fit(weeks, "ordered").names == ("at hour", "at weekday")
    assert Encoding.fit(years, "ordered").names == ("at hour", "at weekday", "at month", "at days")
    assert Encoding.fit(years, "scaled").names[:2] == ("at hour sine", "at hour cosine")


def test_parts_of_a_moment_are_those_of_the_calendar() -> None:
    years = pl.DataFrame({"at": [START + timedelta(days=9.3 * i) for i in range(100)]})
    encoding = Encoding.fit(years, "ordered")

    matrix = encoding.transform(pl.DataFrame({"at": [datetime(2021, 7, 4, 15, 30), None]}))

    days = (datetime(2021, 7, 4, 15, 30) - datetime(1970, 1, 1)) / timedelta(days=1)
    assert matrix[0].tolist() == [15.5, 6.0, 7.0, days]
    assert np.isnan(matrix[1]).all()


def test_a_date_beyond_training_does_not_extrapolate() -> None:
    years = pl.DataFrame({"born": [date(1950, 1, 1) + timedelta(days=37 * i) for i in range(400)]})
    encoding = Encoding.fit(years, "ordered")

    latest, future = encoding.transform(pl.DataFrame({"born": [years["born"].max(), date(2300, 1, 1)]}))

    assert future[encoding.names.index("born days")] == latest[encoding.names.index("born days")]


def test_time_zones_tell_the_local_hour() -> None:
    local = pl.Series("at", [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=7 * i) for i in range(80)])
    frame = pl.DataFrame({"at": local.dt.convert_time_zone("America/New_York")})

    assert Encoding.fit(frame, "ordered").transform(frame)[0, 0] == 19.0


def test_every_numeric_type_is_read() -> None:
    frame = pl.DataFrame(
        {
            "decimal": pl.Series([Decimal("1.5"), None], dtype=pl.Decimal(10, 2)),
            "small": pl.Series([1, 2], dtype=pl.UInt8),
            "huge": pl.Series([2**63, 1], dtype=pl.UInt64),
            "wide": pl.Series([2**100, 1], dtype=pl.Int128),
            "true": [True, None],
            "took": [timedelta(seconds=1), timedelta(seconds=2)],
            "single": pl.Series([0.1, 0.2], dtype=pl.Float32),
        }
    )

    first = Encoding.fit(frame, "ordered").transform(frame)[0].tolist()

    assert first == [1.5, 1.0, 2.0**63, 2.0**100, 1.0, 1e6, float(np.float32(0.1))]


def test_infinity_is_the_greatest_number_for_trees_and_missing_for_linear_models() -> None:
    frame = pl.DataFrame({"x": [1.0, 2.0, 3.0, np.inf, -np.inf, 1e300]})

    trees = Encoding.fit(frame, "filled").transform(frame).ravel()
    assert np.isfinite(trees.astype(np.float32)).all() and trees[4] < 1.0 and trees[3] > 3.0
    linear = Encoding.fit(frame, "scaled").transform(frame).ravel()
    assert np.abs(linear).max() < 10


def test_a_named_encoding_hands_on_a_pandas_frame() -> None:
    frame = table(50)
    encoding = Encoding.fit(frame, "named")

    handed = encoding.transform(frame.select(reversed(frame.columns)).head(3))

    assert list(handed.columns) == frame.columns and len(handed) == 3
    assert encoding.transform(frame.head(2).with_columns(carrier=pl.lit(None)))["carrier"].isna().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_changed_is_named(kind: str) -> None:
    encoding = Encoding.fit(table(50), kind)

    with pytest.raises(FeaturesError, match="no column 'amount', which the model was trained on"):
        encoding.transform(table(3).drop("amount"))
    with pytest.raises(FeaturesError, match="column 'amount' is String, but the model was trained on numbers"):
        encoding.transform(table(3).with_columns(amount=pl.lit("many")))
    with pytest.raises(FeaturesError, match="column 'carrier' is Int32, but the model was trained on text"):
        encoding.transform(table(3).with_columns(carrier=pl.lit(1)))
    with pytest.raises(FeaturesError, match="column 'booked' is Int32, but the model was trained on dates"):
        encoding.transform(table(3).with_columns(booked=pl.lit(1)))


def test_rows_of_nothing_but_nulls_are_encoded() -> None:
    nothing = pl.DataFrame({name: [None] for name in table(1).columns})

    for kind in ("filled", "scaled"):
        assert np.isfinite(Encoding.fit(table(400), kind).transform(nothing)).all()


NUMBER = st.none() | st.floats(width=64) | st.sampled_from([0.0, 1.0])
LEVEL = st.none() | st.sampled_from(["a", "b", "c", "é", ""])
MOMENT = st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))


@st.composite
def frames(draw: st.DrawFn, min_size: int = 1) -> pl.DataFrame:
    rows = draw(st.lists(st.tuples(NUMBER, LEVEL, st.none() | st.booleans(), MOMENT), min_size=min_size, max_size=30))
    columns = list(zip(*rows, strict=True))
    types = {"number": pl.Float64, "level": pl.String, "flag": pl.Boolean, "moment": pl.Datetime("us")}
    return pl.DataFrame(dict(zip(types, columns, strict=True)), schema=types)


@settings(max_examples=60, deadline=None)
@given(frames(), frames(), st.sampled_from(KINDS))
def test_json_brings_the_same_encoding_back(training: pl.DataFrame, served: pl.DataFrame, kind: str) -> None:
    encoding = Encoding.fit(training, kind)

    again = Encoding.from_json(json.loads(json.dumps(encoding.to_json(), allow_nan=False)))

    assert again == encoding and again.names == encoding.names
    assert encoding.transform(served).tobytes() == again.transform(served).tobytes()


@settings(max_examples=60, deadline=None)
@given(frames(), frames(), st.sampled_from(KINDS), st.randoms(use_true_random=False))
def test_rows_are_encoded_one_by_one(training: pl.DataFrame, served: pl.DataFrame, kind: str, random: object) -> None:
    encoding = Encoding.fit(training, kind)
    order = list(range(served.height))
    random.shuffle(order)  # type: ignore[attr-defined]

    whole = encoding.transform(served)

    assert np.array_equal(encoding.transform(served[order]), whole[order], equal_nan=True)
    many = pl.concat([served] * (300 // served.height + 1))  # more rows take another path through the levels
    assert np.array_equal(encoding.transform(many)[: served.height], whole, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(frames(), frames(), st.sampled_from(["filled", "scaled"]))
def test_what_trees_and_linear_models_get_is_finite(training: pl.DataFrame, served: pl.DataFrame, kind: str) -> None:
    encoding = Encoding.fit(training, kind)

    matrix = encoding.transform(served.with_columns(level=pl.lit("never seen")))

    assert matrix.shape == (served.height, len(encoding.names))
    assert np.isfinite(matrix).all()


# ---------------------------------------------------------------------------------------------------- apply_features


def doubled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(double=pl.col("x") * 2)


def test_functions_run_in_order_and_transformers_are_passed_over() -> None:
    class Transformer:
        def fit(self, rows: object) -> None: ...

        def transform(self, rows: object) -> object:
            raise AssertionError

    made = apply_features((doubled, Transformer(), lambda rows: rows.lazy().drop("x")), pl.DataFrame({"x": [1, 2]}))

    assert made.to_dict(as_series=False) == {"double": [2, 4]}


def test_a_features_function_that_breaks_its_promise_is_named() -> None:
    def fails(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select("target")

    def forgets(rows: pl.DataFrame) -> None:
        rows.drop("x")

    def filters(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.filter(pl.col("x") > 1)

    rows = pl.DataFrame({"x": [1, 2]})
    with pytest.raises(
        FeaturesError, match=r"'fails' raised ColumnNotFoundError: .*; it is given x \(never the target"
    ):
        apply_features([fails], rows)
    with pytest.raises(FeaturesError, match="'forgets' returned NoneType, not a polars frame; return the frame"):
        apply_features([forgets], rows)
    with pytest.raises(FeaturesError, match="'filters' made 1 rows of 2; return one row per row"):
        apply_features([filters], rows)
