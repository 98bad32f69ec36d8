"""Leaks that are proven, and honest features that must not be taken for one."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import datasets

from mainspring.core import declarations as ms
from mainspring.core.declarations import Roles
from mainspring.core.errors import LeakFound
from mainspring.data.edges import chance_digits, sharp_rule
from mainspring.data.leaks import Leak, class_leaks, refuse_leaks, value_leaks
from mainspring.data.sources import reader

RANDOM = np.random.default_rng(0)
CLASSES = RANDOM.integers(0, 2, 500)


START = RANDOM.bit_generator.state


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """Each test draws the same numbers, whichever ran before it."""
    RANDOM.bit_generator.state = START


def found(codes: Any, **columns: Any) -> list[Leak]:
    return class_leaks(pl.DataFrame(columns), np.asarray(codes, dtype=np.int64), "y")


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits"])
def test_scikit_learns_data_sets_have_no_leak(name: str) -> None:
    data = getattr(datasets, f"load_{name}")(as_frame=True)

    assert class_leaks(pl.from_pandas(data.data), data.target.to_numpy().astype(np.int64), "target") == []


@pytest.mark.parametrize("kinds", [(0, 1), (0, 2), (1, 2)])
def test_petals_may_tell_two_kinds_of_iris_apart_perfectly(kinds: tuple[int, int]) -> None:
    data = datasets.load_iris(as_frame=True).frame
    two = data[data.target.isin(kinds)]

    assert (
        class_leaks(pl.from_pandas(two.drop(columns="target")), (two.target == kinds[1]).to_numpy(np.int64), "y") == []
    )


def test_diabetes_has_no_leak() -> None:
    data = datasets.load_diabetes(as_frame=True)

    assert value_leaks(pl.from_pandas(data.data), data.target.to_numpy(), "target") == []


def test_clusters_that_lie_apart_are_no_leak_at_any_distance() -> None:
    for seed in range(60):
        rows, distance = 100 + 30 * seed, 4 + seed / 6
        points, classes = datasets.make_blobs(rows, centers=[[0, 0], [distance, 0]], random_state=seed)
        assert found(classes, a=points[:, 0], b=points[:, 1]) == [], (rows, distance)


def test_a_threshold_anywhere_in_dense_rows_is_always_found() -> None:
    for rows in (200, 1_000, 5_000):
        for share in (0.05, 0.2, 0.5, 0.9):
            values = RANDOM.normal(size=rows)
            leaks = found(values > np.quantile(values, share), x=values, other=RANDOM.normal(size=rows))
            assert [leak.ignore for leak in leaks] == ["x"], (rows, share)


def test_the_threshold_of_a_time_is_told_as_a_time() -> None:
    days = pl.datetime_range(pl.datetime(2013, 1, 1), pl.datetime(2014, 1, 1), "6h", eager=True)
    for times in (days, days.dt.date()):
        (leak,) = found((days >= datetime(2013, 9, 1)).to_numpy(), at=times)

        assert "by a threshold at 2013-08-31" in leak.evidence, leak.evidence


@pytest.mark.parametrize(
    "column",
    [
        CLASSES,
        CLASSES * -2.5 + 7,
        CLASSES.astype(bool),
        np.where(CLASSES == 1, "late", "on time"),
        np.char.add(np.where(CLASSES == 1, "late ", "early "), RANDOM.integers(0, 5, 500).astype(str)),
    ],
)
def test_the_target_in_other_words_is_found(column: Any) -> None:
    (leak,) = found(CLASSES, copy=column, x=RANDOM.normal(size=500))

    assert leak.ignore == "copy" and "(right on 500 of 500 rows)" in leak.evidence


def test_a_recoding_must_be_beyond_chance() -> None:
    few = np.array([1] * 2 + [0] * 20)

    assert found(few, x=few) == []
    assert [leak.ignore for leak in found([1] * 15 + [0] * 15, x=[1] * 15 + [0] * 15)] == ["x"]
    assert found(CLASSES, name=[f"name {i}" for i in range(500)]) == []
    assert chance_digits(np.array([0, 1]), 2) < 0


def test_a_column_that_is_empty_for_one_class_only_is_found() -> None:
    three = RANDOM.integers(0, 3, 500)
    reason = [None if code == 1 else ("price", "service")[i % 2] for i, code in enumerate(three)]

    (leak,) = found(three, reason=reason)

    assert leak.evidence == f"'reason' is empty exactly where 'y' has one value ({(three == 1).sum()} rows)"
    assert found(three, reason=[None, *reason[1:]] if three[0] != 1 else ["price", *reason[1:]]) == []


def test_a_class_by_two_thresholds_is_found_and_missing_values_do_not_hide_it() -> None:
    score = RANDOM.normal(size=3_000)
    codes = np.digitize(score, [-0.5, 0.8])
    with_gaps = [None if value > 2 else value for value in score]

    (leak,) = found(codes, score=with_gaps)

    assert leak.evidence.startswith("'score' alone determines it by a threshold at -0.")
    assert leak.evidence.endswith("(right on 3,000 of 3,000 rows)")


def test_a_noisy_feature_is_honest_however_good() -> None:
    values = RANDOM.normal(size=5_000)
    codes = values + RANDOM.normal(scale=0.05, size=5_000) > 0

    assert np.mean((values > 0) == codes) > 0.98
    assert found(codes, x=values) == []


def test_the_difference_of_two_times_is_found() -> None:
    scheduled = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2020, 3, 1), "1h", eager=True)
    delay = pl.Series(RANDOM.gamma(2, 10, len(scheduled)).round()).cast(pl.Int64)
    landed = (scheduled + delay.cast(pl.Duration("ms")) * 60_000).cast(pl.Datetime("ms"))

    (leak,) = found((delay > 15).to_numpy(), scheduled=scheduled, landed=landed)

    assert set(leak.columns) == {"scheduled", "landed"}


def test_of_two_columns_the_one_that_is_known_later_is_to_be_ignored() -> None:
    planned, late = RANDOM.normal(size=2_000), RANDOM.random(2_000) < 0.3
    real = planned + np.where(late, RANDOM.uniform(1, 3, 2_000), RANDOM.uniform(0, 1, 2_000))
    columns = pl.DataFrame({"planned": planned, "real": real})

    def ignored(gaps: dict[str, int]) -> list[str]:
        return [leak.ignore for leak in class_leaks(columns, late.astype(np.int64), "late", gaps)]

    assert ignored({}) == ["real"]
    assert ignored({"planned": 9, "real": 3}) == ["planned"]


def test_flights_arrival_columns_are_caught_and_departure_columns_are_not(flights_csv: Path) -> None:
    flights = next(reader(ms.csv(str(flights_csv))).read(None))[0]
    flights = flights.filter(pl.col("arr_delay").is_not_null()).sample(20_000, seed=0)
    late = (flights["arr_delay"] > 15).cast(pl.Int64).to_numpy()

    leaks = class_leaks(flights, late, "late")

    assert [leak.columns for leak in leaks] == [("arr_delay",), ("arr_time", "sched_arr_time")]
    assert "threshold at 15.5" in leaks[1].evidence  # clock times, in minutes and across midnight
    assert class_leaks(flights.drop("arr_delay", "arr_time"), late, "late") == []
    assert value_leaks(flights.drop("arr_delay"), flights["arr_delay"].cast(float).to_numpy(), "arr_delay") == []


def test_a_number_in_another_unit_or_a_function_of_one_is_found() -> None:
    metres = RANDOM.gamma(3, size=4_000)
    start = RANDOM.normal(size=4_000)

    def names(**columns: Any) -> list[str]:
        return [leak.ignore for leak in value_leaks(pl.DataFrame(columns), metres, "metres")]

    assert names(feet=metres * 3.28 + 1, other=start) == ["feet"]
    assert names(root=np.sqrt(metres), other=start) == ["root"]
    assert names(start=start, end=start + metres) in (["start"], ["end"])
    assert names(rounded=metres.round(1), noisy=metres + start / 20) == []


def test_a_number_that_is_missing_exactly_where_the_target_is_zero_is_found() -> None:
    refund = np.where(RANDOM.random(500) < 0.3, 0.0, RANDOM.gamma(2, size=500))
    reason = [None if value == 0 else "broken" for value in refund]

    (leak,) = value_leaks(pl.DataFrame({"reason": reason}), refund, "refund")

    assert leak.evidence == "'reason' is empty exactly where 'refund' is 0"


def test_a_slow_series_may_be_predicted_by_its_last_value() -> None:
    series = np.cumsum(RANDOM.normal(size=20_001)) + 1_000

    assert value_leaks(pl.DataFrame({"yesterday": series[:-1]}), series[1:], "price") == []


def test_the_message_names_each_leak_its_evidence_and_the_line_to_write() -> None:
    leaks = [Leak(("a",), "a", "'a' alone determines it"), Leak(("b", "c"), "c", "'b' - 'c' together determine it")]

    with pytest.raises(LeakFound) as error:
        refuse_leaks(leaks, ["a", "b", "c"], Roles("y", ignore=("z",)))
    with pytest.raises(LeakFound, match="take a out of the features function"):
        refuse_leaks(leaks[:1], ["b"], Roles("y"))

    assert str(error.value).startswith("target 'y' is given away: 'a' alone determines it; 'b' - 'c' together")
    assert str(error.value).endswith('write ignore=["z", "a", "c"]')


def test_a_rule_of_flukes_is_no_rule() -> None:
    points, classes = datasets.make_blobs(153, centers=[[0], [4.16]], random_state=0)

    assert sharp_rule(points[:, 0], classes.astype(np.int64)) is None
