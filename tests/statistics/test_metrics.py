"""Metrics: the same values as scikit-learn's, and never an error on a slice where they are undefined."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mainspring.core.errors import UnknownMetric
from mainspring.statistics.metrics import Predictions, default_metric, metric

BINARY = (
    "roc_auc",
    "average_precision",
    "log_loss",
    "brier",
    "accuracy",
    "balanced_accuracy",
    "f1",
    "precision",
    "recall",
)
MULTICLASS = ("accuracy", "balanced_accuracy", "log_loss", "roc_auc_ovr", "f1_macro")
REGRESSION = ("r2", "mae", "rmse", "mape", "median_ae")

cells = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 9), st.integers(1, 9), st.integers(0, 3)), min_size=12, max_size=60
)


def sklearn_value(function: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(function(*arguments, **options))


@settings(max_examples=60, deadline=None)
@given(cells)
def test_binary_metrics_equal_scikit_learn_with_ties_and_weights(rows: list[tuple[int, int, int, int]]) -> None:
    y = np.array([cell[0] % 2 for cell in rows] + [0, 1])
    p = np.array([cell[1] / 10 for cell in rows] + [0.3, 0.2])
    weight = np.array([float(cell[3]) for cell in rows] + [1.0, 2.0])
    said = Predictions(np.where(p > 0.5, "yes", "no"), np.column_stack([1 - p, p]), classes=("no", "yes"))
    labels = np.where(y == 1, "yes", "no")
    found = (p > 0.5).astype(int)
    expected = {
        "roc_auc": sklearn_value(sk.roc_auc_score, y, p, sample_weight=weight),
        "average_precision": sklearn_value(sk.average_precision_score, y, p, sample_weight=weight),
        "log_loss": sklearn_value(sk.log_loss, y, p, sample_weight=weight),
        "brier": sklearn_value(sk.brier_score_loss, y, p, sample_weight=weight),
        "accuracy": sklearn_value(sk.accuracy_score, y, found, sample_weight=weight),
        "balanced_accuracy": sklearn_value(sk.balanced_accuracy_score, y, found, sample_weight=weight),
        "f1": sklearn_value(sk.f1_score, y, found, sample_weight=weight, zero_division=0),
        "precision": sklearn_value(sk.precision_score, y, found, sample_weight=weight, zero_division=0),
        "recall": sklearn_value(sk.recall_score, y, found, sample_weight=weight),
    }

    assert {name: metric(name, "binary").function(labels, said, weight) for name in BINARY} == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(cells)
def test_multiclass_metrics_equal_scikit_learn(rows: list[tuple[int, int, int, int]]) -> None:
    y = np.array([cell[0] for cell in rows] + [0, 1, 2])
    p = np.array([[cell[1], cell[2], cell[3] + 1] for cell in rows] + [[1, 1, 1]] * 3, dtype=float)
    p /= p.sum(axis=1, keepdims=True)
    said, found = Predictions(probabilities=p, classes=(0, 1, 2)), p.argmax(axis=1)
    expected = {
        "accuracy": sklearn_value(sk.accuracy_score, y, found),
        "balanced_accuracy": sklearn_value(sk.balanced_accuracy_score, y, found),
        "log_loss": sklearn_value(sk.log_loss, y, p, labels=[0, 1, 2]),
        "roc_auc_ovr": sklearn_value(sk.roc_auc_score, y, p, multi_class="ovr"),
        "f1_macro": sklearn_value(sk.f1_score, y, found, average="macro", zero_division=0),
    }

    assert {name: metric(name, "multiclass").function(y, said) for name in MULTICLASS} == pytest.approx(expected)


@settings(max_examples=40, deadline=None)
@given(cells)
def test_regression_metrics_equal_scikit_learn(rows: list[tuple[int, int, int, int]]) -> None:
    y = np.array([cell[1] * 1.5 for cell in rows] + [2.0, 7.0])
    values = np.array([cell[2] * 1.3 for cell in rows] + [2.5, 6.0])
    expected = {
        "r2": sk.r2_score(y, values),
        "mae": sk.mean_absolute_error(y, values),
        "rmse": sk.root_mean_squared_error(y, values),
        "mape": sk.mean_absolute_percentage_error(y, values),
        "median_ae": sk.median_absolute_error(y, values),
    }

    assert {
        name: metric(name, "regression").function(y, Predictions(values=values)) for name in REGRESSION
    } == pytest.approx(expected)


@pytest.mark.parametrize("rows", [0, 1, 5])
@pytest.mark.parametrize("label", [0, 1])
def test_a_slice_of_one_class_gives_a_number_or_nan_and_never_an_error(rows: int, label: int) -> None:
    p = np.linspace(0.1, 0.9, rows)
    said = Predictions(probabilities=np.column_stack([1 - p, p]), classes=(0, 1))

    values = {name: metric(name, "binary").function(np.full(rows, label), said) for name in BINARY}

    assert math.isnan(values["roc_auc"])
    assert all(math.isnan(value) for value in values.values()) == (rows == 0)
    assert math.isnan(values["recall"]) == (rows == 0 or label == 0)


def test_an_absent_class_or_a_constant_target_makes_only_what_needs_it_undefined() -> None:
    three = Predictions(probabilities=np.full((4, 3), 1 / 3), classes=("a", "b", "c"))
    constant = Predictions(values=np.array([0.1, 0.3]))
    y = np.array(["a", "b", "a", "b"])

    assert math.isnan(metric("roc_auc_ovr", "multiclass").function(y, three))
    assert metric("f1_macro", "multiclass").function(y, three) == pytest.approx(1 / 3)
    assert math.isnan(metric("r2", "regression").function(np.array([0.1, 0.1]), constant))
    assert metric("mae", "regression").function(np.array([0.1, 0.1]), constant) == pytest.approx(0.1)
    assert all(
        math.isnan(metric(name, "regression").function(np.empty(0), Predictions(values=np.empty(0))))
        for name in REGRESSION
    )


def test_a_candidate_that_claims_no_positive_has_no_precision_to_boast_of() -> None:
    said = Predictions(np.array([0, 0]), classes=(0, 1))

    assert metric("precision", "binary").function(np.array([0, 1]), said) == 0.0


def test_a_label_that_the_model_does_not_know_counts_as_wrong() -> None:
    said = Predictions(np.array(["a", "odd"]), np.array([[0.9, 0.1], [0.5, 0.5]]), classes=("a", "b"))

    assert metric("accuracy", "binary").function(np.array(["a", "new"]), said) == 0.5
    assert metric("balanced_accuracy", "multiclass").function(np.array(["a", "new"]), said) == 0.5
    assert metric("log_loss", "binary").function(np.array(["new", "new"]), said) == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize("name", ["roc_auk", "f1", "neg_log_los"])
def test_an_unknown_metric_is_named_with_its_neighbours_and_what_fits(name: str) -> None:
    with pytest.raises(UnknownMetric, match=f"{name!r}.*multiclass task: accuracy, balanced_accuracy, f1_macro"):
        metric(name, "multiclass")


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UnknownMetric, match=r"'ranking'.*binary, multiclass and regression"):
        metric("roc_auc", "ranking")


def test_a_metric_that_needs_probabilities_says_so_where_there_are_none() -> None:
    with pytest.raises(UnknownMetric, match="needs probabilities"):
        metric("log_loss", "binary").function(np.array([0, 1]), Predictions(np.array([0, 1]), classes=(0, 1)))


@pytest.mark.parametrize(
    ("theirs", "task", "ours"),
    [
        ("neg_log_loss", "binary", "log_loss"),
        ("neg_brier_score", "binary", "brier"),
        ("neg_mean_absolute_error", "regression", "mae"),
        ("neg_root_mean_squared_error", "regression", "rmse"),
        ("neg_mean_absolute_percentage_error", "regression", "mape"),
        ("neg_median_absolute_error", "regression", "median_ae"),
        ("roc_auc", "binary", "roc_auc"),
    ],
)
def test_scikit_learn_names_are_understood(theirs: str, task: str, ours: str) -> None:
    assert metric(theirs, task).name == ours


def test_every_task_has_a_default_that_fits_it() -> None:
    assert all(task in default_metric(task).task for task in ("binary", "multiclass", "regression"))
