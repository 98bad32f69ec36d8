"""The contract suite of metrics passes for all of ours and names what is wrong with others; `register` is the door."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mainspring.core.declarations import Gate
from mainspring.core.errors import DeclarationError, UnknownMetric
from mainspring.statistics import metrics
from mainspring.statistics.metrics import Metric, Predictions, metric, register
from mainspring.statistics.weighted import Array, Weighted, mean
from mainspring.testing import check_metric

REGRESSION, BINARY = frozenset({"regression"}), frozenset({"binary"})
WITHIN_15 = Metric("within_15", REGRESSION, True, "values", lambda y, said: mean((said.errors(y) <= 15) * 1.0))


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test begins with our metrics only."""
    known = dict(metrics._METRICS)
    yield
    metrics._METRICS.clear()
    metrics._METRICS.update(known)


@pytest.mark.parametrize("name", sorted(metrics._METRICS))
def test_each_of_our_metrics_keeps_the_contract(name: str) -> None:
    check_metric(metrics._METRICS[name])


def test_a_registered_metric_is_found_by_its_name_or_by_itself() -> None:
    check_metric(register(WITHIN_15))

    assert metric("within_15", "regression") is metric(WITHIN_15, "regression") is WITHIN_15
    assert (
        metric("within_15", "regression").function(np.array([0.0, 0.0]), Predictions(values=np.array([9, 20.0]))) == 0.5
    )


def test_a_metric_that_is_not_registered_is_refused_with_what_to_write() -> None:
    with pytest.raises(UnknownMetric, match=r"'within_15' isn't registered; write Gate\(register"):
        metric(WITHIN_15, "regression")


def test_a_registered_metric_does_not_fit_another_task() -> None:
    register(WITHIN_15)

    with pytest.raises(UnknownMetric, match="'within_15' doesn't fit a binary task"):
        metric("within_15", "binary")


@pytest.mark.parametrize("taken", ["rmse", "mean_absolute_error"])
def test_a_name_of_ours_can_not_be_taken(taken: str) -> None:
    with pytest.raises(DeclarationError, match="is there already"):
        register(Metric(taken, REGRESSION, False, "values", WITHIN_15.weighted))


def test_a_file_that_is_loaded_again_registers_again() -> None:
    register(WITHIN_15)
    again = register(Metric("within_15", REGRESSION, True, "values", lambda y, said: mean(said.errors(y))))

    assert metric(WITHIN_15, "regression") is again


@pytest.mark.parametrize("wrong", [3, np.mean, ["roc_auc"]])
def test_a_gate_says_what_it_takes_as_a_metric(wrong: Any) -> None:
    with pytest.raises(DeclarationError, match="registered Metric"):
        Gate(metric=wrong)


def unweighted(y: Any, said: Predictions) -> Weighted:
    value = float((said.errors(y)).mean()) if len(y) else float("nan")
    return lambda weights: np.full(len(weights), value)


def one_number(y: Any, said: Predictions) -> Any:
    return lambda weights: float(said.errors(y).mean())


def dividing(y: Any, said: Predictions) -> Weighted:
    def of(weights: Array) -> Array:
        return np.array([(row * said.errors(y)).sum() / row.sum() for row in weights])

    return of


def first_counts_most(y: Any, said: Predictions) -> Weighted:
    return mean(said.errors(y) / np.arange(1, len(y) + 1))


def greedy(y: Any, said: Predictions) -> Weighted:
    return mean(said.given("probabilities")[:, 1])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Metric("two words", REGRESSION, True, "values", WITHIN_15.weighted), "must be a word"),
        (Metric("nothing", frozenset({"ranking"}), True, "values", WITHIN_15.weighted), "must be some of"),
        (Metric("nothing", REGRESSION, True, "ranks", WITHIN_15.weighted), "must be one of"),  # type: ignore[arg-type]
        (Metric("loss", REGRESSION, True, "values", lambda y, said: mean(said.errors(y))), "greater_is_better=True"),
        (Metric("flat", REGRESSION, False, "values", unweighted), "count it so many times"),
        (Metric("scalar", REGRESSION, False, "values", one_number), "5 rows of weights"),
        (Metric("divides", REGRESSION, False, "values", dividing), "give nan"),
        (Metric("ordered", REGRESSION, False, "values", first_counts_most), "count it so many times|another order"),
    ],
    ids=lambda value: value.name if isinstance(value, Metric) else None,
)
def test_a_broken_promise_is_named(broken: Metric, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_metric(broken)


def test_a_metric_that_needs_more_than_it_says_is_found() -> None:
    with pytest.raises(UnknownMetric, match="needs probabilities"):
        check_metric(Metric("greedy", BINARY, True, "labels", greedy))
