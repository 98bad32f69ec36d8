"""Metrics by name, and what a model predicted as one value. How sure a metric is, is in `intervals`."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import DeclarationError, UnknownMetric
from mainspring.core.protocols import Named
from mainspring.statistics import weighted
from mainspring.statistics.weighted import Array, Codes, Truth, Weighted

Task = Literal["binary", "multiclass", "regression"]
Needs = Literal["labels", "probabilities", "values"]
_IN_THE_TARGETS_UNIT = frozenset({"mae", "rmse", "median_ae"})
Column = npt.NDArray[Any]
"""One value a row, as it came from the data: numbers, text, booleans."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model said about some rows; what it can't say is None.

    *labels* has one class a row, *probabilities* rows x classes in the order of *classes*, *values* one number a row.
    In a binary task the second class is the positive one.
    """

    labels: Column | None = None
    probabilities: Array | None = None
    values: Array | None = None
    classes: tuple[Any, ...] = ()

    def codes(self, labels: Column) -> Codes:
        """The position of each true label in *classes*; one that the model doesn't know comes after the last.

        >>> Predictions(classes=("no", "yes")).codes(np.array(["yes", "no", "maybe"])).tolist()
        [1, 0, 2]
        """
        return self._positions(labels, unknown=len(self.classes))

    def predicted(self) -> Codes:
        """The position of each predicted class: the label where there is one, else the most probable class."""
        if self.labels is not None:
            return self._positions(self.labels, unknown=len(self.classes) + 1)  # never equal to an unknown true label
        likeliest: Codes = np.argmax(self.given("probabilities"), axis=1)
        return likeliest

    def scores(self) -> Array:
        """The probability of the positive class."""
        return self.given("probabilities")[:, 1]

    def loss(self, truth: Codes) -> Array:
        """Minus the log of the probability that each row's true class was given, at most 36.04 nats."""
        probabilities = self.given("probabilities")
        known = truth < probabilities.shape[1]
        given = np.where(known, probabilities[np.arange(len(truth)), np.where(known, truth, 0)], 0.0)
        tiny = np.finfo(np.float64).eps
        losses: Array = -np.log(np.clip(given, tiny, 1.0))
        return losses

    def errors(self, truth: Column) -> Array:
        """The absolute error of each row, in the target's unit."""
        return np.abs(np.asarray(truth, dtype=float) - self.given("values"))

    def given(self, what: Literal["probabilities", "values"]) -> Array:
        """The probabilities or the values; raises UnknownMetric where the model gave none."""
        array = self.probabilities if what == "probabilities" else self.values
        if array is None:
            raise UnknownMetric(
                f"this metric needs {what}, which the model doesn't give; choose one that needs labels only"
            )
        return np.asarray(array, dtype=float)

    def _positions(self, labels: Column, unknown: int) -> Codes:
        position = {label: index for index, label in enumerate(self.classes)}
        return np.array([position.get(label, unknown) for label in np.asarray(labels).tolist()], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Metric:
    """One number that says how good predictions are, in its natural unit and direction (a loss is positive)."""

    name: str
    task: frozenset[str]
    greater_is_better: bool
    needs: Needs
    weighted: Callable[[Column, Predictions], Weighted]
    """Sums or sorts the rows once; the result gives the metric for any number of row weights."""

    def function(self, y_true: Column, prediction: Predictions, weight: Array | None = None) -> float:
        """The metric on these rows; nan where it is undefined there, as for ROC AUC on one class.

        >>> metric("accuracy", "binary").function(np.array([0, 1]), Predictions(np.array([0, 0]), classes=(0, 1)))
        0.5
        """
        weights = np.ones(len(y_true)) if weight is None else np.asarray(weight, dtype=float)
        return float(self.weighted(np.asarray(y_true), prediction)(weights[None, :])[0])

    def weighing(self, weight: Array) -> "Metric":
        """This metric with the rows' weights inside it.

        Its name changes, so that no closed form (which would count rows) is taken for it: intervals and differences of
        weighted metrics are bootstrapped.
        """

        def weighted(y: Column, predictions: Predictions) -> Weighted:
            of = self.weighted(y, predictions)
            return lambda times: of(times * weight)

        return replace(self, name=f"weighted {self.name}", weighted=weighted)

    @property
    def in_the_targets_unit(self) -> bool:
        """Whether it is an error in minutes, dollars or whatever the target counts."""
        return self.name in _IN_THE_TARGETS_UNIT

    @property
    def best(self) -> float | None:
        """What perfect predictions have; None for a metric that mainspring doesn't bring along."""
        if self.name not in _OURS:
            return None
        return 1.0 if self.greater_is_better else 0.0

    def scale(self, reference: float) -> float:
        """What a margin or a tolerance counts in: for an error in the target's unit the reference's size, else 1."""
        return abs(reference) if self.in_the_targets_unit else 1.0

    def resample(
        self, y_true: Column, prediction: Predictions, resamples: int, seed: int, clusters: Column | None = None
    ) -> Array:
        """The metric on bootstrap samples of the rows, or of whole *clusters*; the same seed draws the same rows."""
        of = self.weighted(np.asarray(y_true), prediction)
        return np.concatenate(
            [of(block) for block in weighted.resampled_weights(len(y_true), resamples, seed, clusters)]
        )


def register(metric: Metric) -> Metric:
    """*metric*, from now on known by its name; a loop's file calls it at module level: Gate(register(Metric(...))).

    Raises DeclarationError for the name of a metric that mainspring brings along.
    """
    if metric.name in _OURS or metric.name in _ALIASES:
        raise DeclarationError(f"metric {metric.name!r} is there already; give yours another name")
    _METRICS[metric.name] = metric
    return metric


def metric(name: str | Named, task: str) -> Metric:
    """The metric called *name*, in our spelling or scikit-learn's, or a registered one, fit for *task*.

    Raises UnknownMetric where there is none.

    >>> metric("neg_root_mean_squared_error", "regression").name
    'rmse'
    >>> metric("roc_auk", "binary")
    Traceback (most recent call last):
    mainspring.core.errors.UnknownMetric: no metric 'roc_auk'; did you mean 'roc_auc'? For a binary task: accuracy, ...
    """
    fit = sorted(known for known, entry in _METRICS.items() if task in entry.task)
    if not fit:
        raise UnknownMetric(f"no task {task!r}; the tasks are binary, multiclass and regression")
    name = name if isinstance(name, str) else _registered(name)
    ours = _ALIASES.get(name, name)
    if ours in fit:
        return _METRICS[ours]
    what = f"metric {name!r} doesn't fit a {task} task" if ours in _METRICS else f"no metric {name!r}"
    near = difflib.get_close_matches(ours, fit, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}? For" if near else "for"
    raise UnknownMetric(
        f"{what}; {hint} a {task} task: {', '.join(fit)}, and your own once the file that registers it is loaded"
    )


def _registered(metric: Named) -> str:
    known = _METRICS.get(metric.name)
    if known is None or (metric.name in _OURS and known is not metric):
        raise UnknownMetric(f"metric {metric.name!r} isn't registered; write Gate(register(Metric(...)))")
    return metric.name


def default_metric(task: str) -> Metric:
    """The primary metric where the user names none.

    ROC AUC for two classes; for more, balanced accuracy: any classifier has it (log loss needs probabilities), rare
    classes count, and its points are on the scale of the gate's margin; RMSE for a number.

    >>> [default_metric(task).name for task in ("binary", "multiclass", "regression")]
    ['roc_auc', 'balanced_accuracy', 'rmse']
    """
    return metric({"binary": "roc_auc", "multiclass": "balanced_accuracy"}.get(task, "rmse"), task)


def _correct(y: Column, said: Predictions) -> Array:
    correct: Truth = said.codes(y) == said.predicted()
    return correct.astype(float)


def _binary(y: Column, said: Predictions) -> tuple[Truth, Truth]:
    return said.codes(y) == 1, said.predicted() == 1


def _relative(y: Column, said: Predictions) -> Array:
    size = np.maximum(np.abs(np.asarray(y, dtype=float)), np.finfo(np.float64).eps)  # as scikit-learn where y is 0
    relative: Array = said.errors(y) / size
    return relative


def _positive(y: Column, said: Predictions) -> Truth:
    positive: Truth = said.codes(y) == 1
    return positive


def _classes(y: Column, said: Predictions) -> tuple[Codes, Codes, int]:
    return said.codes(y), said.predicted(), len(said.classes)


def _values(y: Column, said: Predictions) -> tuple[Array, Array]:
    return np.asarray(y, dtype=float), said.given("values")


def _table() -> dict[str, Metric]:
    binary, multiclass, regression = frozenset({"binary"}), frozenset({"multiclass"}), frozenset({"regression"})
    by_probability: Needs = "probabilities"
    by_label: Needs = "labels"
    by_value: Needs = "values"
    w = weighted
    rows: list[tuple[str, frozenset[str], bool, Needs, Callable[[Column, Predictions], Weighted]]] = [
        ("roc_auc", binary, True, by_probability, lambda y, p: w.area_under_roc(_positive(y, p), p.scores())),
        (
            "average_precision",
            binary,
            True,
            by_probability,
            lambda y, p: w.average_precision(_positive(y, p), p.scores()),
        ),
        ("brier", binary, False, by_probability, lambda y, p: w.mean((p.scores() - _positive(y, p)) ** 2)),
        ("f1", binary, True, by_label, lambda y, p: w.f1(*_binary(y, p))),
        ("precision", binary, True, by_label, lambda y, p: w.precision(*_binary(y, p))),
        ("recall", binary, True, by_label, lambda y, p: w.recall(*_binary(y, p))),
        ("accuracy", binary | multiclass, True, by_label, lambda y, p: w.mean(_correct(y, p))),
        ("balanced_accuracy", binary | multiclass, True, by_label, lambda y, p: w.balanced_accuracy(*_classes(y, p))),
        ("log_loss", binary | multiclass, False, by_probability, lambda y, p: w.mean(p.loss(p.codes(y)))),
        ("f1_macro", multiclass, True, by_label, lambda y, p: w.f1_macro(*_classes(y, p))),
        (
            "roc_auc_ovr",
            multiclass,
            True,
            by_probability,
            lambda y, p: w.area_under_roc_one_vs_rest(p.codes(y), p.given("probabilities")),
        ),
        ("r2", regression, True, by_value, lambda y, p: w.r_squared(*_values(y, p))),
        ("mae", regression, False, by_value, lambda y, p: w.mean(p.errors(y))),
        ("rmse", regression, False, by_value, lambda y, p: w.root_mean(p.errors(y) ** 2)),
        ("mape", regression, False, by_value, lambda y, p: w.mean(_relative(y, p))),
        ("median_ae", regression, False, by_value, lambda y, p: w.median(p.errors(y))),
    ]
    return {row[0]: Metric(*row) for row in rows}


_METRICS = _table()
_OURS = frozenset(_METRICS)
_ALIASES = {
    "neg_log_loss": "log_loss",
    "brier_score": "brier",
    "neg_brier_score": "brier",
    "neg_mean_absolute_error": "mae",
    "mean_absolute_error": "mae",
    "neg_root_mean_squared_error": "rmse",
    "root_mean_squared_error": "rmse",
    "neg_mean_absolute_percentage_error": "mape",
    "mean_absolute_percentage_error": "mape",
    "neg_median_absolute_error": "median_ae",
    "median_absolute_error": "median_ae",
}
