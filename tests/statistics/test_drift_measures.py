"""Sizes of a drift for one report."""

from hypothesis import given
from hypothesis import strategies as st

from mainspring.statistics.drift_measures import jensen_shannon, population_stability

histograms = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=12).filter(
    lambda bins: all(sum(side) > 0 for side in zip(*bins, strict=True))
)


@given(histograms)
def test_every_binned_measure_is_bounded_and_nothing_where_nothing_changed(bins: list[tuple[int, int]]) -> None:
    reference, current = (list(side) for side in zip(*bins, strict=True))

    assert population_stability(reference, current) >= 0 and population_stability(reference, reference) == 0
    assert 0 <= jensen_shannon(reference, current) <= 1 and jensen_shannon(reference, reference) == 0


def test_a_larger_shift_is_a_larger_drift() -> None:
    reference, little, much = [400, 300, 300], [350, 300, 350], [100, 300, 600]

    assert population_stability(reference, little) < 0.1 < 0.25 < population_stability(reference, much)
    assert jensen_shannon(reference, little) < jensen_shannon(reference, much)
