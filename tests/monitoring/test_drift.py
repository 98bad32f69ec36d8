"""Drift: silent on unchanged inputs however often it looks, quick on changed ones, and it names what moved."""

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from mainspring.core.declarations import Monitor
from mainspring.core.errors import DeclarationError
from mainspring.monitoring.drift import Drift, InputDrift, outside_support, watch
from mainspring.store.profile import Profile

MONITOR = Monitor()


def live(traffic: Any, profile: Profile, windows: int, rows: int = 500, change: Any = None, state: Any = None) -> tuple:
    found = None
    for _ in range(windows):
        window = traffic.rows(rows)
        found, state = watch(profile, window if change is None else window.with_columns(change), MONITOR, state)
        if found.alarm:
            break
    return found, json.loads(json.dumps(state))


def feature(found: InputDrift, name: str) -> Any:
    return next(each for each in found.features if each.feature == name)


def test_without_drift_there_is_no_alarm_in_sixty_windows(traffic: Any) -> None:
    found, _ = live(traffic, traffic.watched().profile, 60)

    assert found.windows == 60 and not found.alarm and found.drifted == []
    assert found.evidence < 100


def test_a_shifted_feature_is_found_and_named(traffic: Any) -> None:
    profile = traffic.watched().profile
    _, state = live(traffic, profile, 20)
    found, _ = live(traffic, profile, 20, change=pl.col("temp") + 1.5, state=state)

    assert found.alarm and found.drifted == ["temp"] and found.windows <= 30
    assert found.features[0].feature == "temp" and 0.2 < found.features[0].shift < 0.4


def test_three_points_more_missing_values_are_found(traffic: Any) -> None:
    holes = pl.when(pl.int_range(pl.len()) % 33 == 0).then(None).otherwise("delay").alias("delay")
    found, _ = live(traffic, traffic.watched().profile, 10, change=holes)

    assert found.drifted == ["delay"]
    assert (feature(found, "delay").missing, feature(found, "delay").missing_in_training) == (pytest.approx(0.032), 0.0)


def test_a_new_category_is_found_and_named(traffic: Any) -> None:
    lima = pl.when(pl.int_range(pl.len()) % 20 == 0).then(pl.lit("Lima")).otherwise("city").alias("city")
    found, _ = live(traffic, traffic.watched().profile, 5, change=lima)

    assert found.drifted == ["city"] and feature(found, "city").new_levels == (("Lima", 0.05),)


def test_the_evidence_survives_a_restart_bit_for_bit(traffic: Any) -> None:
    profile, other = traffic.watched().profile, type(traffic)()
    whole, _ = live(traffic, profile, 6)
    _, state = live(other, profile, 3)
    resumed, _ = live(other, profile, 3, state=state)

    assert resumed.evidence == whole.evidence and resumed.windows == 6


def test_a_window_seen_before_adds_no_evidence(traffic: Any) -> None:
    profile, rows = traffic.watched().profile, traffic.rows(500)
    first, state = watch(profile, rows, MONITOR, None)
    again, kept = watch(profile, rows, MONITOR, state, seen=True)

    assert again == first and kept == state


def test_an_empty_window_is_no_evidence_and_no_error(traffic: Any) -> None:
    found, _ = watch(traffic.watched().profile, traffic.rows(0), MONITOR, None)

    assert (found.windows, found.features, found.alarm) == (0, (), False)


def test_a_drift_within_the_declared_tolerance_is_none(traffic: Any) -> None:
    profile, state = traffic.watched().profile, None
    for _ in range(20):
        rows = traffic.rows(500).with_columns(pl.col("temp") + 1.0)
        found, state = watch(profile, rows, Monitor(tolerance=0.3), state)

    assert not found.alarm and feature(found, "temp").shift > 0.1


def test_a_plain_function_adds_a_column_for_numeric_features(traffic: Any) -> None:
    def median_gap(reference: np.ndarray, current: np.ndarray) -> Drift:
        return Drift(statistic=float(np.median(current) - np.median(reference)))

    rows = traffic.rows(2_000).with_columns(pl.col("temp") + 2)
    found, _ = watch(traffic.watched().profile, rows, Monitor(tests=[median_gap]), None)

    assert feature(found, "temp").tests["median_gap"] == pytest.approx(2.0, abs=0.3)
    assert feature(found, "city").tests == {}


def test_rows_outside_the_training_support_need_evidence_before_they_count(traffic: Any) -> None:
    profile = traffic.watched().profile
    hot = pl.when(pl.int_range(pl.len()) % 5 == 0).then(pl.col("temp") + 100).otherwise("temp").alias("temp")
    few = outside_support(profile, traffic.rows(40).with_columns(hot), looks=1)
    many = outside_support(profile, traffic.rows(500).with_columns(hot), looks=30)

    assert few.share == 0.2 and not few.beyond
    assert many.beyond and many.low > many.tolerated and list(many.columns) == ["temp"]
    assert outside_support(profile, traffic.rows(500), looks=1).share == 0.0


def test_a_threshold_or_tolerance_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(DeclarationError, match="arl=1"):
        Monitor(arl=1)
    with pytest.raises(DeclarationError, match="tolerance=-1"):
        Monitor(tolerance=-1)
