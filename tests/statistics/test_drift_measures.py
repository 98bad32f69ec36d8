"""Sizes of a drift for one report."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.statistics.drift_measures import (
    chi_square,
    jensen_shannon,
    kolmogorov_smirnov,
    population_stability,
    total_variation,
    wasserstein,
)

histograms = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=12).filter(
    lambda bins: all(sum(side) > 0 for side in zip(*bins, strict=True))
)


@given(histograms)
def test_every_binned_measure_is_bounded_and_nothing_where_nothing_changed(bins: list[tuple[int, int]]) -> None:
    reference, current = (list(side) for side in zip(*bins, strict=True))

    assert population_stability(reference, current) >= 0 and population_stability(reference, reference) == 0
    assert 0 <= jensen_shannon(reference, current) <= 1 and jensen_shannon(reference, reference) == 0
    assert 0 <= total_variation(reference, current) <= 1 and total_variation(reference, reference) == 0
    assert 0 <= chi_square(reference, current)[0] <= 1 and chi_square(reference, reference)[0] == pytest.approx(0)


def test_a_shift_by_half_a_standard_deviation_is_measured_in_standard_deviations() -> None:
    reference = np.random.default_rng(0).normal(10, 4, 20_000)

    assert wasserstein(reference, reference + 2) == pytest.approx(0.5, abs=0.02)
    assert kolmogorov_smirnov(reference, reference + 2)[0] == pytest.approx(0.197, abs=0.01)
    assert kolmogorov_smirnov(reference[:10_000], reference[10_000:])[1] > 0.001


def test_missing_values_and_empty_samples_are_no_drift() -> None:
    sample, gaps = np.array([1.0, 2.0, 3.0]), np.array([1.0, np.nan, 2.0, 3.0])

    assert wasserstein(sample, gaps) == 0 and wasserstein(sample, np.array([np.nan])) == 0
    assert kolmogorov_smirnov(sample, np.empty(0)) == (0.0, 1.0)
    assert chi_square([5, 0], [3, 0]) == chi_square([5, 5], [0, 0]) == (0.0, 1.0)
    assert wasserstein(np.ones(3), np.full(3, 2.0)) == 1.0
