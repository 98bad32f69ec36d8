"""Intervals around one model's metric, and the reliability curve."""

import math

import numpy as np
import pytest

from mainspring.statistics.intervals import calibration, interval, wilson
from mainspring.statistics.metrics import Predictions, metric


def scores(rows: int, seed: int = 0) -> tuple[np.ndarray, Predictions]:
    generator = np.random.default_rng(seed)
    y = (generator.random(rows) < 0.3).astype(int)
    p = 1 / (1 + np.exp(0.5 - y - generator.normal(size=rows)))
    return y, Predictions(probabilities=np.column_stack([1 - p, p]), classes=(0, 1))


def test_the_closed_form_of_the_auc_agrees_with_the_bootstrap() -> None:
    y, said = scores(3_000)

    closed = interval(metric("roc_auc", "binary"), y, said)
    drawn = interval(metric("roc_auc", "binary"), y, said, clusters=np.arange(len(y)))

    assert closed.high - closed.low == pytest.approx(drawn.high - drawn.low, rel=0.15)
    assert closed.low < closed.value < closed.high


def test_the_bootstrap_of_a_mean_agrees_with_its_known_error() -> None:
    generator = np.random.default_rng(1)
    y = generator.normal(size=4_000)
    found = interval(metric("mae", "regression"), y, Predictions(values=np.zeros(4_000)))

    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.abs(y).std() / math.sqrt(4_000), rel=0.15)


def test_rows_that_repeat_an_entity_count_once() -> None:
    y, said = scores(500)
    entity = np.repeat(np.arange(500), 4)
    fourfold = Predictions(probabilities=np.repeat(said.probabilities, 4, axis=0), classes=(0, 1))
    once = interval(metric("log_loss", "binary"), y, said)
    naive = interval(metric("log_loss", "binary"), np.repeat(y, 4), fourfold)
    honest = interval(metric("log_loss", "binary"), np.repeat(y, 4), fourfold, clusters=entity)

    assert honest.high - honest.low == pytest.approx(once.high - once.low, rel=0.15)
    assert naive.high - naive.low == pytest.approx((once.high - once.low) / 2, rel=0.15)


def test_the_same_seed_gives_the_same_interval() -> None:
    y, said = scores(200)
    f1 = metric("f1", "binary")

    assert interval(f1, y, said, seed=3) == interval(f1, y, said, seed=3) != interval(f1, y, said, seed=4)


def test_an_undefined_metric_has_an_undefined_interval() -> None:
    found = interval(
        metric("roc_auc", "binary"), np.ones(5), Predictions(probabilities=np.full((5, 2), 0.5), classes=(0, 1))
    )

    assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)


def test_one_row_of_a_class_leaves_the_area_wholly_open() -> None:
    said = Predictions(probabilities=np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), classes=(0, 1))
    found = interval(metric("roc_auc", "binary"), np.array([0, 0, 1]), said)

    assert (found.low, found.value, found.high) == (0.0, 1.0, 1.0)


def test_the_bounds_of_a_high_auc_on_few_rows_hold_as_often_as_they_say() -> None:
    generator, shift = np.random.default_rng(0), 1.8124  # two normals this far apart: an area of 0.9
    y, missed = np.repeat([0, 1], 25), 0
    for _ in range(400):
        p = 1 / (1 + np.exp(-generator.normal(size=50) - shift * y))
        found = interval(metric("roc_auc", "binary"), y, Predictions(probabilities=np.c_[1 - p, p], classes=(0, 1)))
        missed += found.low > 0.9

    assert missed <= 20  # 2.5 % of 400 are 10; the plain normal bound misses 40


def test_a_perfect_auc_on_few_rows_is_not_taken_for_certain() -> None:
    p = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    said = Predictions(probabilities=np.c_[1 - p, p], classes=(0, 1))
    found = interval(metric("roc_auc", "binary"), np.array([0, 0, 0, 1, 1, 1]), said)

    assert found.low == pytest.approx(1 - float(wilson(0, 3)[1])) and (found.value, found.high) == (1.0, 1.0)


def test_accuracy_has_wilsons_interval() -> None:
    said = Predictions(np.ones(20), classes=(0, 1))

    found = interval(metric("accuracy", "binary"), np.ones(20), said)

    assert (found.value, found.high) == (1.0, 1.0) and found.low == pytest.approx(0.839, abs=0.001)


def test_wilson_covers_small_proportions() -> None:
    hits = np.random.default_rng(2).binomial(100, 0.03, 5_000)
    low, high = wilson(hits, 100)

    assert 0.93 <= ((low <= 0.03) & (high >= 0.03)).mean() <= 0.98
    assert [float(end) for end in wilson(0, 0)] == pytest.approx([0.0, 1.0])


def test_a_calibrated_model_lies_within_its_bins_intervals() -> None:
    generator = np.random.default_rng(3)
    p = generator.beta(1, 20, 20_000)
    curve = calibration((generator.random(20_000) < p).astype(int), p)

    assert len(curve.counts) == 10 and curve.counts.min() >= 1_900 and curve.ece < 0.006
    assert ((curve.low <= curve.mean_predicted) & (curve.mean_predicted <= curve.high)).sum() >= 9
    assert calibration((generator.random(20_000) < p / 2).astype(int), p).ece > 0.02


def test_calibration_of_few_distinct_or_no_rows_has_fewer_bins() -> None:
    assert calibration(np.array([0, 1, 1]), np.array([0.2, 0.2, 0.9])).counts.tolist() == [2, 1]
    assert math.isnan(calibration(np.empty(0), np.empty(0)).ece)
