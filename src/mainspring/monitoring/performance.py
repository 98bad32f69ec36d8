"""How good are the predictions? Measured on matured labels only; what is estimated without labels is called so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mainspring.monitoring.served import Array, Served
from mainspring.statistics.drift_measures import jensen_shannon
from mainspring.statistics.intervals import Interval, calibration, interval, normal_quantile
from mainspring.statistics.metrics import Metric, Predictions, metric
from mainspring.statistics.paired_tests import spent_alpha

ALPHA = 0.05
"""The chance that decay is ever found in a version that has none."""
CLOSED_FORM = frozenset({"roc_auc", "accuracy"})
BOOTSTRAPPED_ROWS = 20_000
"""Most rows, the newest, for an interval that needs the bootstrap."""
_TWO_SIDED = normal_quantile(0.975)
_PREDICTION_BINS = 10

Scope = Literal["window", "since release"]


@dataclass(frozen=True, slots=True)
class Measured:
    """The metric on matured rows of one version with its 95 % interval; None where these rows can't tell."""

    version: int
    scope: Scope
    rows: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Loss:
    """How much worse the version is than at the gate, positive where worse.

    In points of the metric, or as a share of the gate's value for an error in the target's unit. low: the bound that
    the true loss exceeds; whoever looks at each of its values errs once with chance ALPHA. looks: how many there were.
    """

    estimate: float
    low: float
    rows: int
    scope: Literal["latest labels", "since release"]
    looks: int


@dataclass(frozen=True, slots=True)
class CalibrationNow:
    """The reliability curve on matured rows since release; ece: mean distance of predicted and observed rate."""

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rows: tuple[int, ...]
    ece: float


@dataclass(frozen=True, slots=True)
class PredictionDrift:
    """The window's predictions against those since release before it: mean score, and Jensen-Shannon distance."""

    mean: float
    mean_before: float
    jensen_shannon: float


@dataclass(frozen=True, slots=True)
class Performance:
    """What is known of the watched version's quality. estimate: without labels, from the model's own probabilities
    (CBPE); blind to a change of what the inputs mean, so it is shown and nothing acts on it."""

    metric: str
    greater_is_better: bool
    reference: float | None
    measured: tuple[Measured, ...] = ()
    loss: Loss | None = None
    calibration: CalibrationNow | None = None
    prediction_drift: PredictionDrift | None = None
    estimate: float | None = None

    def of(self, scope: Scope, version: int) -> Measured | None:
        """The metric of *version*, if it was measured."""
        return next((each for each in self.measured if (each.scope, each.version) == (scope, version)), None)


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of the watched version since its release. matured: known, and old enough to be counted.

    pending: predictions younger than the delay; unlabelled: older, and still without. delays in seconds, from
    prediction to label, of the labels that came.
    """

    matured: int
    pending: int
    unlabelled: int
    delay_p50: float | None = None
    delay_p95: float | None = None


def labels(own: Served, now: float, label_delay: float) -> Labels:
    """The state of the labels of *own*, one version's predictions since its release."""
    answered = own.where(~own.failed)
    old_enough = answered.at + label_delay <= now
    known = answered.truth_at <= now
    delays = (answered.truth_at - answered.at)[known]
    p50, p95 = (float(each) for each in np.percentile(delays, (50, 95))) if len(delays) else (None, None)
    return Labels(
        matured=int((old_enough & known).sum()),
        pending=int((~old_enough).sum()),
        unlabelled=int((old_enough & ~known).sum()),
        delay_p50=p50,
        delay_p95=p95,
    )


def performance(
    served: Served,
    *,
    version: int,
    metric_name: str,
    reference: Interval | None,
    start: float,
    end: float,
    label_delay: float,
    min_labels: int,
    state: Mapping[str, Any] | None,
) -> tuple[Performance, dict[str, Any]]:
    """The performance in the window from *start* to *end*, and the new state of the looks (JSON).

    served: predictions since the release of *version*, of all versions. A prediction belongs to the window in which
    its label matures. state: None at a release.
    """
    chosen = metric(metric_name, served.task)
    answered = served.where(~served.failed & ~np.isnan(served.said))
    matured_at = answered.matured_at(label_delay)
    matured, when = answered.where(matured_at <= end), matured_at[matured_at <= end]
    own, own_when = matured.where(matured.version == version), when[matured.version == version]
    loss, looks = _look(chosen, own, own_when, reference, end, min_labels, state)
    in_window = answered.at > start
    found = Performance(
        metric=chosen.name,
        greater_is_better=chosen.greater_is_better,
        reference=None if reference is None else reference.value,
        measured=(
            *_measured(chosen, matured.where(when > start), "window"),
            *_measured(chosen, matured, "since release"),
        ),
        loss=loss,
        calibration=_calibration(own),
        prediction_drift=_prediction_drift(answered.where(answered.version == version), start),
        estimate=estimate_without_labels(chosen, answered.where(in_window & (answered.version == version)).predictions),
    )
    return found, looks


def estimate_without_labels(chosen: Metric, said: Predictions) -> float | None:
    """Confidence-based estimate (CBPE): each row counts as every class, with the probability the model gave to it.

    >>> sure = Predictions(np.zeros(2), np.array([[0.9, 0.1], [0.9, 0.1]]), classes=(0, 1))
    >>> estimate_without_labels(metric("accuracy", "binary"), sure)
    0.9
    """
    if said.probabilities is None or not len(said.probabilities):
        return None
    rows, classes = said.probabilities.shape
    labels = None if said.labels is None else np.tile(said.labels, classes)
    repeated = Predictions(labels, np.tile(said.probabilities, (classes, 1)), classes=said.classes)
    truth = np.repeat(np.arange(classes), rows)
    return _finite(chosen.function(truth, repeated, weight=said.probabilities.T.reshape(-1)))


def _look(
    chosen: Metric,
    own: Served,
    matured_at: Array,
    reference: Interval | None,
    end: float,
    min_labels: int,
    state: Mapping[str, Any] | None,
) -> tuple[Loss | None, dict[str, Any]]:
    """One more look at the loss, once *min_labels* labels have matured since the last one; else what that one found.

    Look k spends alpha/(k(k+1)), half of it on the latest labels (sudden decay), half on all since release (slow).
    """
    before: dict[str, Any] = dict(state or {"looks": 0, "until": 0.0, "loss": None})
    latest = own.where(matured_at > before["until"])
    known = None if before["loss"] is None else Loss(**before["loss"])
    if reference is None or len(latest) < min_labels or not len(latest):
        return known, before
    looks = before["looks"] + 1
    quantile = normal_quantile(1 - spent_alpha(ALPHA, looks) / 2)
    bounds = [
        _bound(chosen, latest, reference, quantile, "latest labels", looks),
        _bound(chosen, own, reference, quantile, "since release", looks),
    ]
    found = max((each for each in bounds if each is not None), key=lambda each: each.low, default=None)
    if found is None:
        return known, before
    fields = {name: getattr(found, name) for name in Loss.__slots__}
    return found, {"looks": looks, "until": end, "loss": fields}


def _bound(
    chosen: Metric,
    own: Served,
    reference: Interval,
    quantile: float,
    scope: Literal["latest labels", "since release"],
    looks: int,
) -> Loss | None:
    now = _interval(chosen, own)
    sign = 1.0 if chosen.greater_is_better else -1.0
    scale = chosen.scale(reference.value) or 1.0
    estimate = sign * (reference.value - now.value) / scale
    error = math.hypot(_standard_error(now), _standard_error(reference)) / scale
    low = estimate - quantile * error
    return Loss(estimate, low, len(own), scope, looks) if math.isfinite(low) else None


def _standard_error(found: Interval) -> float:
    """From a 95 % interval; the longer side, for an interval near 0 or 1 is cut on the other."""
    return max(found.high - found.value, found.value - found.low) / _TWO_SIDED


def _interval(chosen: Metric, rows: Served) -> Interval:
    """Rows whose labels were unlikely to come stand for those without: weighted by the inverse of their propensity."""
    if (chosen.name not in CLOSED_FORM or rows.weight is not None) and len(rows) > BOOTSTRAPPED_ROWS:
        newest = np.zeros(len(rows), dtype=bool)
        newest[np.argsort(rows.at, kind="stable")[-BOOTSTRAPPED_ROWS:]] = True
        rows = rows.where(newest)
    said = rows.predictions
    if not len(rows) or (chosen.needs == "probabilities" and said.probabilities is None):
        return Interval(math.nan, math.nan, math.nan)
    return interval(chosen if rows.weight is None else chosen.weighing(rows.weight), rows.truth, said)


def _measured(chosen: Metric, matured: Served, scope: Scope) -> list[Measured]:
    """The metric of each version that has matured rows."""
    found = []
    for version in np.unique(matured.version).tolist():
        rows = matured.where(matured.version == version)
        now = _interval(chosen, rows)
        found.append(Measured(version, scope, len(rows), _finite(now.value), _finite(now.low), _finite(now.high)))
    return found


def _calibration(own: Served) -> CalibrationNow | None:
    probabilities = own.predictions.probabilities
    if own.task != "binary" or probabilities is None or not len(own):
        return None
    curve = calibration(own.truth == 1, probabilities[:, 1])
    points = (curve.mean_predicted, curve.observed_rate, curve.low, curve.high)
    predicted, observed, low, high = (tuple(float(each) for each in values) for values in points)
    return CalibrationNow(predicted, observed, low, high, tuple(int(each) for each in curve.counts), curve.ece)


def _prediction_drift(own: Served, start: float) -> PredictionDrift | None:
    scores = _scores(own)
    before, now = scores[own.at <= start], scores[own.at > start]
    if len(before) < _PREDICTION_BINS or not len(now):
        return None
    edges = np.unique(np.quantile(before, np.linspace(0, 1, _PREDICTION_BINS + 1)[1:-1]))
    counts = [np.bincount(np.searchsorted(edges, part), minlength=len(edges) + 1) for part in (before, now)]
    return PredictionDrift(float(now.mean()), float(before.mean()), jensen_shannon(*counts))


def _scores(own: Served) -> Array:
    """One number a row: the positive class's probability, the probability of the class that was said, or the value."""
    probabilities = own.predictions.probabilities
    if probabilities is None:
        return own.said
    likeliest: Array = probabilities[:, 1] if own.task == "binary" else probabilities.max(axis=1)
    return likeliest


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
