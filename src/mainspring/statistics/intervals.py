"""How sure a number on a fixed set of rows is: intervals around metrics and rates, and the reliability curve."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, logit, ndtri

from mainspring.statistics.metrics import Column, Metric, Predictions
from mainspring.statistics.weighted import Array, Codes, Truth

RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Interval:
    """A metric's value on some rows and the bounds of its two-sided confidence interval."""

    value: float
    low: float
    high: float


def interval(
    metric: Metric,
    y: Column,
    predictions: Predictions,
    level: float = 0.95,
    clusters: Column | None = None,
    seed: int = 0,
) -> Interval:
    """The metric with its interval at *level*: in closed form where one is known, else by a seeded bootstrap.

    ROC AUC: DeLong (1988) on the logit scale. Accuracy: Wilson (1927). Else percentiles over resampled rows; with
    *clusters* (an entity per row, where rows repeat one) whole clusters are drawn and every metric is bootstrapped.

    >>> from mainspring.statistics.metrics import metric
    >>> said = Predictions(np.array([1, 1, 0, 0]), classes=(0, 1))
    >>> found = interval(metric("accuracy", "binary"), np.array([1, 1, 0, 1]), said)
    >>> round(found.low, 3), found.value, round(found.high, 3)
    (0.301, 0.75, 0.954)
    """
    value = metric.function(y, predictions)
    if np.isnan(value):
        return Interval(value, value, value)
    if clusters is None and metric.name == "accuracy":
        proportion = wilson(value * len(y), len(y), level)
        return Interval(value, float(proportion[0]), float(proportion[1]))
    if clusters is None and metric.name == "roc_auc":
        return _area_interval(value, predictions.codes(y) == 1, predictions.scores(), normal_quantile((1 + level) / 2))
    values = metric.resample(y, predictions, RESAMPLES, seed, clusters)
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) if len(values) else (np.nan, np.nan)
    return Interval(value, float(low), float(high))


def _area_interval(value: float, truth: Truth, scores: Array, z: float) -> Interval:
    """An area under the ROC curve with its bounds on the logit scale, where DeLong's error is nearer to normal.

    As it stands (value ± z errors), the low bound of an area of 0.9 on 50 + 50 rows misses in 6.5 % of samples instead
    of 2.5 %, on 10 + 10 in 19 % (Qin & Hotilovac, Statistical Methods in Medical Research 2008). Of a perfect area,
    whose error is 0, the bound is Wilson's of the rarer class without a failure.
    """
    error = area_error(truth, scores)
    if not np.isfinite(error):
        return Interval(value, 0.0, 1.0)
    if error == 0 or not 0 < value < 1:
        slack = z * z / (min(int(truth.sum()), int((~truth).sum())) + z * z)
        return Interval(value, max(0.0, value - slack), min(1.0, value + slack))
    low, high = expit(logit(value) + np.array([-1.0, 1.0]) * z * error / (value * (1 - value)))
    return Interval(value, float(low), float(high))


def wilson(successes: Any, trials: Any, level: float = 0.95) -> tuple[Array, Array]:
    """Wilson's (1927) score interval of a proportion: its low and high ends, elementwise; [0, 1] without trials.

    >>> low, high = wilson(0, 20)
    >>> round(float(low), 3), round(float(high), 3)
    (0.0, 0.161)
    """
    z2 = normal_quantile((1 + level) / 2) ** 2
    x, n = np.asarray(successes, dtype=float), np.asarray(trials, dtype=float)
    centre = (x + z2 / 2) / (n + z2)
    half = np.sqrt(z2 * (x * (n - x) / np.maximum(n, 1.0) + z2 / 4)) / (n + z2)
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


def normal_quantile(chance: float) -> float:
    """The standard normal's quantile: 1.645 for 0.95."""
    return float(ndtri(chance))


def placements(truth: Truth, scores: Array) -> tuple[Array, Array]:
    """For each positive the share of negatives below it, for each negative the share of positives above it (ties half).

    The structural components of DeLong (1988), from midranks in O(n log n): Sun & Xu, IEEE Signal Processing Letters
    2014. The mean of either is the area under the ROC curve.

    >>> [part.tolist() for part in placements(np.array([False, True, True]), np.array([0.2, 0.1, 0.7]))]
    [[0.0, 1.0], [0.5]]
    """
    ranks = _midranks(scores)
    positives, negatives = scores[truth], scores[~truth]
    above = (ranks[truth] - _midranks(positives)) / max(len(negatives), 1)
    below = 1.0 - (ranks[~truth] - _midranks(negatives)) / max(len(positives), 1)
    return above, below


def area_error(truth: Truth, scores: Array) -> float:
    """DeLong's standard error of one area under the ROC curve; infinite with fewer than two rows of a class."""
    above, below = placements(truth, scores)
    if min(len(above), len(below)) < 2:
        return float("inf")
    return float(np.sqrt(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below)))


def _midranks(values: Array) -> Array:
    """Ranks from 1, the mean rank for ties; scipy.stats has it too, but takes 0.5 s to import."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Array = (last - (counts - 1) / 2)[inverse.reshape(-1)]
    return ranks


@dataclass(frozen=True, slots=True)
class Calibration:
    """A reliability curve: per bin the mean probability, the observed rate with its 95 % Wilson interval, the rows.

    *ece* is the expected calibration error: the mean distance between the two, weighted by rows.
    """

    mean_predicted: Array
    observed_rate: Array
    counts: Codes
    low: Array
    high: Array
    ece: float


def calibration(y: Column, p: Array, bins: int = 10) -> Calibration:
    """How well the probabilities *p* match the outcomes *y* (0 or 1), in at most *bins* bins of about equal counts.

    Equal counts rather than equal widths: with rare positives, nearly all rows would share one bin (Nixon et al. 2019).

    >>> calibration(np.array([0, 1, 0, 1]), np.array([0.5, 0.5, 0.5, 0.5])).ece
    0.0
    """
    p, outcomes = np.asarray(p, dtype=float), np.asarray(y).astype(float)
    if not len(p):
        empty = np.empty(0)
        return Calibration(empty, empty, np.empty(0, dtype=np.int64), empty, empty, float("nan"))
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    places = np.unique(np.searchsorted(edges, p, side="left"), return_inverse=True)[1].reshape(-1)
    counts = np.bincount(places)
    predicted, hits = np.bincount(places, p), np.bincount(places, outcomes)
    low, high = wilson(hits, counts)
    ece = float(np.abs(predicted - hits).sum() / len(p))
    return Calibration(predicted / counts, hits / counts, counts, low, high, ece)
