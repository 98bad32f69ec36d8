"""The contract suite of drift tests names what is wrong with one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.stats import energy_distance, ks_2samp, wasserstein_distance

from mainspring.monitoring.drift import Drift
from mainspring.testing import check_drift_test

COUNTER = itertools.count()


def energy(reference: Any, current: Any) -> Drift:
    return Drift(energy_distance(reference, current))


def earth_mover(reference: Any, current: Any) -> Drift:
    return Drift(wasserstein_distance(reference, current))


def largest_distance(reference: Any, current: Any) -> Drift:
    return Drift(ks_2samp(reference, current).statistic)


@pytest.mark.parametrize("test", [energy, earth_mover, largest_distance])
def test_sound_drift_tests_pass(test: Any) -> None:
    check_drift_test(test)


def number(reference: Any, current: Any) -> Any:
    return float(current.mean())


def counting(reference: Any, current: Any) -> Drift:
    return Drift(next(COUNTER))


def similarity(reference: Any, current: Any) -> Drift:
    return Drift(-abs(float(current.mean() - reference.mean())))


def z_score(reference: Any, current: Any) -> Drift:
    with np.errstate(all="ignore"):
        return Drift(abs(float((current.mean() - reference.mean()) / reference.std())))


def sorting(reference: Any, current: Any) -> Drift:
    current.sort()
    return Drift(abs(float(current[len(current) // 2] - reference[50])))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (lambda reference, current: Drift(0.0), "has no name"),
        (number, "return mainspring.monitoring.drift.Drift"),
        (counting, "seed what is random"),
        (similarity, "more drift must give more"),
        (z_score, "constant columns and single rows happen"),
        (sorting, "work on a copy"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_promise_is_named(test: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_drift_test(test)
