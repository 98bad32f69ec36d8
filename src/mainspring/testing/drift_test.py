"""The contract of a drift test."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mainspring.monitoring.drift import Array, Drift


def check_drift_test(test: Callable[[Any, Any], Drift]) -> None:
    """A drift test gives a finite number for any two samples, the same for the same ones, and more for a shift.

    Raises AssertionError.

    >>> def shift(reference, current):
    ...     return Drift(abs(current.mean() - reference.mean()))
    >>> check_drift_test(shift)
    """
    name = getattr(test, "__name__", "<lambda>")
    if name == "<lambda>":
        raise AssertionError(f"{test!r} has no name to stand in the report; write a function: def my_test(...)")
    random = np.random.default_rng(0)
    reference = np.percentile(random.normal(0, 1, 10_000), range(101))
    same, moved = random.normal(0, 1, 2_000), random.normal(3, 1, 2_000)
    calm, shifted = _value(test, name, reference, same), _value(test, name, reference, moved)
    if _value(test, name, reference, same) != calm:
        raise AssertionError(f"{name} gave {calm} and another value for the same samples; seed what is random in it")
    if not shifted > calm:
        raise AssertionError(
            f"{name} gave {shifted} for values three deviations away and {calm} for none; more drift must give more"
        )
    flat, one = np.ones(101), np.array([2.0])
    for before, now in ((flat, np.ones(50)), (flat, one), (reference, one), (reference, 1e12 * moved)):
        _value(test, name, before, now)


def _value(test: Callable[[Any, Any], Drift], name: str, reference: Array, current: Array) -> float:
    kept = reference.copy(), current.copy()
    found = test(reference, current)
    if not isinstance(found, Drift):
        raise AssertionError(f"{name} returned {found!r}; return mainspring.monitoring.drift.Drift(statistic)")
    if not all(map(np.array_equal, kept, (reference, current))):
        raise AssertionError(f"{name} changed the arrays that it was given; work on a copy")
    value = float(found.statistic)
    if not math.isfinite(value):
        raise AssertionError(
            f"{name} gave {value} for {len(reference)} values around {np.median(reference):g} and {len(current)} "
            f"around {np.median(current):g}; constant columns and single rows happen: give a number"
        )
    return value
