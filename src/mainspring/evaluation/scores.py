"""All metrics of a card with their intervals, of several models on the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mainspring.evaluation.holdout import Labels
from mainspring.statistics.intervals import interval
from mainspring.statistics.metrics import Metric, Predictions, metric
from mainspring.statistics.weighted import Array, resampled_weights

SHOWN = {
    "binary": (
        "roc_auc",
        "average_precision",
        "accuracy",
        "balanced_accuracy",
        "f1",
        "precision",
        "recall",
        "log_loss",
        "brier",
    ),
    "multiclass": ("balanced_accuracy", "accuracy", "f1_macro", "roc_auc_ovr", "log_loss"),
    "regression": ("rmse", "mae", "median_ae", "r2", "mape"),
}
"""The metrics of a card, after the primary one."""

RESAMPLES = 200
_CLOSED_FORMS = ("roc_auc", "accuracy")

Scores = dict[str, tuple[float, float, float]]
"""Metric name -> value, low, high."""


def scores(primary: Metric, task: str, labels: Labels, models: Sequence[Predictions], seed: int) -> list[Scores]:
    """Per model the primary metric first, then those that its answers allow, each with its 95 % interval.

    The primary metric's interval decides and has all its resamples; the others share one set of drawn rows, for drawing
    takes as long as measuring.
    """
    found: list[Scores] = []
    shared: list[tuple[int, Metric]] = []
    for place, said in enumerate(models):
        shown = [metric(name, task) for name in SHOWN[task] if name != primary.name]
        shown = [one for one in shown if one.needs != "probabilities" or said.probabilities is not None]
        found.append({one.name: (math.nan,) * 3 for one in (primary, *shown)})
        for one in (primary, *shown):
            if one is primary or (one.name in _CLOSED_FORMS and labels.weight is None and labels.clusters is None):
                sure = interval(labels.weighing(one), labels.target, said, clusters=labels.clusters, seed=seed)
                found[place][one.name] = (sure.value, sure.low, sure.high)
            else:
                shared.append((place, one))
    for (place, one), triple in zip(shared, _bootstrapped(shared, labels, models, seed), strict=True):
        found[place][one.name] = triple
    return found


def _bootstrapped(
    shared: Sequence[tuple[int, Metric]], labels: Labels, models: Sequence[Predictions], seed: int
) -> list[tuple[float, float, float]]:
    """Value and percentile interval of each (model, metric), all on the same resampled rows or clusters."""
    own = np.ones((1, len(labels))) if labels.weight is None else labels.weight[None, :]
    measures = [one.weighted(labels.target, models[place]) for place, one in shared]
    drawn: list[list[Array]] = [[] for _ in measures]
    for block in resampled_weights(len(labels), RESAMPLES, seed, labels.clusters):
        for measure, values in zip(measures, drawn, strict=True):
            values.append(measure(block * own))
    return [_triple(float(measure(own)[0]), values) for measure, values in zip(measures, drawn, strict=True)]


def _triple(value: float, blocks: Sequence[Array]) -> tuple[float, float, float]:
    values = np.concatenate(blocks)
    values = values[~np.isnan(values)]
    if math.isnan(value) or not len(values):
        return value, math.nan, math.nan
    low, high = np.quantile(values, [0.025, 0.975])
    return value, float(low), float(high)
