"""The contract of a metric."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from mainspring.statistics.metrics import Column, Metric, Needs, Predictions, Task
from mainspring.statistics.weighted import Array

ROWS = 60


def check_metric(metric: Metric) -> None:
    """A metric gives a number per row of weights, counts a row as often as its weight says, and never raises.

    Where it is undefined it is nan; predictions that are the truth are no worse than others. Raises AssertionError.

    >>> from mainspring.statistics.metrics import metric
    >>> check_metric(metric("f1", "binary"))
    """
    if not metric.name.isidentifier():
        raise AssertionError(f"name {metric.name!r} must be a word, such as 'within_15', to stand in Gate(metric=...)")
    tasks, needs = get_args(Task), get_args(Needs)
    if not metric.task or not set(metric.task) <= set(tasks):
        raise AssertionError(f"{metric.name}: task={sorted(metric.task)} must be some of {', '.join(tasks)}")
    if metric.needs not in needs:
        raise AssertionError(f"{metric.name}: needs={metric.needs!r} must be one of {', '.join(needs)}")
    for task in sorted(metric.task):
        sample = _sample(task, metric.needs)
        _check_weights(metric, sample)
        _check_order(metric, sample)
        _check_direction(metric, sample)
        _check_undefined(metric, sample)


@dataclass(frozen=True, slots=True)
class _Sample:
    """Labels and predictions; *perfect* says what is true."""

    truth: Column
    said: Predictions
    perfect: Predictions

    def at(self, rows: Column) -> _Sample:
        return _Sample(self.truth[rows], _at(self.said, rows), _at(self.perfect, rows))


def _sample(task: str, needs: Needs) -> _Sample:
    random = np.random.default_rng(0)
    if task == "regression":
        truth = random.gamma(2.0, 10.0, ROWS)
        return _Sample(truth, Predictions(values=truth + random.normal(0, 5, ROWS)), Predictions(values=truth))
    classes = ("no", "yes") if task == "binary" else ("low", "middle", "top")
    codes = np.arange(ROWS) % len(classes)
    certain = np.eye(len(classes))[codes]
    shares = random.dirichlet(np.ones(len(classes)), ROWS) * 0.6 + certain * 0.4
    truth = np.array(classes)[codes]
    said = Predictions(np.array(classes)[shares.argmax(axis=1)], shares, classes=classes)
    return _Sample(truth, _needed(said, needs), _needed(Predictions(truth, certain, classes=classes), needs))


def _needed(said: Predictions, needs: Needs) -> Predictions:
    """Only what a metric says that it needs."""
    return replace(said, labels=None) if needs == "probabilities" else replace(said, probabilities=None)


def _at(said: Predictions, rows: Column) -> Predictions:
    labels, probabilities, values = (
        None if part is None else part[rows] for part in (said.labels, said.probabilities, said.values)
    )
    return Predictions(labels, probabilities, values, said.classes)


def _check_weights(metric: Metric, sample: _Sample) -> None:
    weights = np.random.default_rng(1).integers(0, 4, (5, ROWS)).astype(float)
    together = _values(metric, sample, weights)
    if together.shape != (5,) or not np.isfinite(together).all():
        raise AssertionError(f"{metric.name} gave {together!r} for 5 rows of weights; give one finite number for each")
    for counts, value in zip(weights, together, strict=True):
        repeated = np.repeat(np.arange(ROWS), counts.astype(int))
        counted = sample.at(repeated)
        alone = metric.function(counted.truth, counted.said)
        if not math.isclose(value, alone, rel_tol=1e-9, abs_tol=1e-12):
            raise AssertionError(
                f"{metric.name} gave {value} for rows weighted 0 to 3 and {alone} for rows repeated so often; "
                "a row's weight must count it so many times"
            )


def _check_order(metric: Metric, sample: _Sample) -> None:
    order = np.random.default_rng(2).permutation(ROWS)
    mixed = sample.at(order)
    one, two = metric.function(sample.truth, sample.said), metric.function(mixed.truth, mixed.said)
    if not math.isclose(one, two, rel_tol=1e-9):
        raise AssertionError(f"{metric.name} gave {one}, and {two} for the same rows in another order")


def _check_direction(metric: Metric, sample: _Sample) -> None:
    best, other = metric.function(sample.truth, sample.perfect), metric.function(sample.truth, sample.said)
    if (best < other) if metric.greater_is_better else (best > other):
        raise AssertionError(
            f"{metric.name} gave {best} for predictions that are the truth and {other} for worse ones, though "
            f"greater_is_better={metric.greater_is_better}"
        )


def _check_undefined(metric: Metric, sample: _Sample) -> None:
    for rows in (np.arange(0), np.arange(1), np.flatnonzero(sample.truth == sample.truth[0])):
        few = sample.at(rows)
        try:
            with np.errstate(divide="raise", invalid="raise"):
                metric.function(few.truth, few.said)
        except Exception as error:
            raise AssertionError(
                f"{metric.name} raised {type(error).__name__} ({error}) for {len(rows)} rows of one class; give nan "
                "where it is undefined (statistics.weighted.ratio divides so)"
            ) from error


def _values(metric: Metric, sample: _Sample, weights: Array) -> Array:
    return np.asarray(metric.weighted(sample.truth, sample.said)(weights))
