"""The drift detector: silent for its whole promise where nothing drifts, quick where something does."""

import json
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from mainspring.statistics.e_detector import EDetector, Reference, bet_weights, e_bh, window_log_factors

Floats = npt.NDArray[np.float64]
BINS = 10
EDGES = ndtri(np.arange(1, BINS) / BINS)


def shares(shift: float = 0.0, spread: float = 1.0, missing: float = 0.0, other: float = 0.0) -> Floats:
    """Ten bins of a normal feature, then missing and other."""
    inside = np.diff(np.concatenate([[0.0], ndtr((EDGES - shift) / spread), [1.0]]))
    return np.concatenate([inside * (1 - missing - other), [missing, other]])


def alarm_window(
    generator: np.random.Generator,
    now: Callable[[int], Floats],
    features: int,
    rows: int,
    windows: int,
    reference_rows: int,
    before: Floats | None = None,
    ordered: int = BINS,
) -> float:
    """The window of the first alarm, infinite without one; the reference is a finite sample itself."""
    m = np.zeros(windows)
    for feature in range(features):
        drawn = generator.multinomial(reference_rows, shares() if before is None else before)
        reference = Reference(tuple(drawn.tolist()), ordered)
        factors = window_log_factors(reference, generator.multinomial(rows, now(feature), windows))
        log_sum = np.zeros(factors.shape[1])
        for window, factor in enumerate(factors):
            log_sum = np.logaddexp(0.0, log_sum + factor)
            m[window] += bet_weights(reference) @ np.expm1(np.minimum(log_sum, 600)) / features
    alarms = np.flatnonzero(m >= 1000)
    return float(alarms[0] + 1) if len(alarms) else np.inf


def alarm_windows(runs: int, seed: int, now: Callable[[int], Floats], **settings: object) -> Floats:
    generator = np.random.default_rng(seed)
    return np.array([alarm_window(generator, now, **settings) for _ in range(runs)])  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(-100, 100)), min_size=2, max_size=15),
    st.integers(0, 15),
    st.sampled_from([0.0, 0.02, 0.3]),
    st.floats(0.0, 1.0),
)
@example([(11, 0), (14, 0), (0, 0)], 3, 0.0, 0.0)
def test_no_bet_wins_in_the_mean_under_any_tolerated_distribution(
    bins: list[tuple[int, int]], ordered: int, tolerance: float, part: float
) -> None:
    """Every p within chi-square distance tau of the reference, however the distance is spread over the bins."""
    counts = np.array([count for count, _ in bins]) + np.eye(len(bins), dtype=int)[0]
    q, direction = counts / counts.sum(), np.array([away / 100 for _, away in bins])
    tau = max(tolerance, 3 / np.sqrt(counts.sum()))
    step = q * (direction - q @ direction)
    distance = np.sqrt((step[q > 0] ** 2 / q[q > 0]).sum())
    reach = part * tau / distance if distance > 1e-9 else 0.0
    p = q + step * min(reach, np.min(q[step < 0] / -step[step < 0], initial=np.inf))

    one_row = np.exp(
        window_log_factors(Reference(tuple(counts.tolist()), min(ordered, len(bins))), np.eye(len(bins)), tolerance)
    )

    assert all(p @ one_row <= 1 + 1e-9)


def test_fifty_unchanged_features_stay_silent_over_fifty_windows() -> None:
    found = alarm_windows(12, 1, lambda _: shares(), features=50, rows=5_000, windows=50, reference_rows=100_000)

    assert np.isinf(found).all()


@pytest.mark.parametrize("reference_rows", [300, 2_000])
def test_a_small_reference_that_differs_from_the_population_raises_no_alarm(reference_rows: int) -> None:
    found = alarm_windows(
        20, 2, lambda _: shares(), features=20, rows=20_000, windows=90, reference_rows=reference_rows
    )

    assert np.isinf(found).all()


def test_rare_categories_and_missing_values_that_the_reference_hardly_saw_raise_no_alarm() -> None:
    often = 1 / np.arange(1, 41) ** 1.5
    often /= often.sum()
    categories = alarm_windows(
        10, 3, lambda _: often, features=10, rows=5_000, windows=50, reference_rows=1_000, before=often, ordered=0
    )
    gaps = shares(missing=0.001)
    missing = alarm_windows(
        10, 4, lambda _: gaps, features=20, rows=5_000, windows=50, reference_rows=1_000, before=gaps
    )

    assert np.isinf(categories).all() and np.isinf(missing).all()


@pytest.mark.parametrize(
    ("changed", "features"),
    [
        (shares(shift=0.1), 5),
        (shares(shift=-0.1), 5),
        (shares(spread=1.1), 5),
        (shares(missing=0.01), 1),
        (shares(missing=0.05), 1),
        (shares(other=0.01), 1),
    ],
    ids=["up by 0.1 sd", "down by 0.1 sd", "wider by a tenth", "1 % missing", "5 % missing", "a new category of 1 %"],
)
def test_a_small_change_in_few_of_fifty_features_is_found_in_one_window_of_5000_rows(
    changed: Floats, features: int
) -> None:
    found = alarm_windows(
        12,
        5,
        lambda f: changed if f < features else shares(),
        features=50,
        rows=5_000,
        windows=4,
        reference_rows=100_000,
    )

    assert np.median(found) == 1 and found.max() <= 2


def test_a_point_more_of_missing_values_is_found_in_a_few_windows_where_some_were_missing_before() -> None:
    usual, now = shares(missing=0.02), shares(missing=0.03)
    found = alarm_windows(
        12, 6, lambda f: usual if f else now, features=50, rows=5_000, windows=10, reference_rows=100_000, before=usual
    )

    assert np.median(found) <= 4


def test_a_shift_of_a_third_of_a_deviation_is_found_within_days_at_500_rows_a_day() -> None:
    found = alarm_windows(
        20, 7, lambda f: shares() if f else shares(0.3), features=20, rows=500, windows=20, reference_rows=10_000
    )

    assert np.median(found) <= 5


def test_a_shift_within_the_tolerance_is_never_an_alarm() -> None:
    generator = np.random.default_rng(8)
    reference = Reference(tuple((shares() * 1_000_000).astype(int).tolist()), BINS)
    detector = EDetector.start({"x": reference}, tolerance=0.1)
    for counts in generator.multinomial(20_000, shares(0.08), 60):
        detector = detector.update({"x": counts.tolist()})

    assert not detector.alarm and detector.drifted() == []


def test_an_alarm_names_the_features_that_drifted_and_the_state_survives_a_restart() -> None:
    generator = np.random.default_rng(9)
    reference = Reference(tuple(generator.multinomial(200_000, shares()).tolist()), BINS)
    detector = EDetector.start(dict.fromkeys(("age", "income", "height"), reference))
    for _ in range(3):
        state = json.loads(json.dumps(detector.to_dict(), allow_nan=False))
        detector = EDetector.from_dict(state).update(
            {
                "age": generator.multinomial(5_000, shares(0.3)).tolist(),
                "income": generator.multinomial(5_000, shares()).tolist(),
                "height": generator.multinomial(5_000, shares(missing=0.05)).tolist(),
            }
        )

    assert detector.alarm and sorted(detector.drifted()) == ["age", "height"] and detector.windows == 3


def test_a_feature_without_rows_or_without_a_reference_changes_nothing() -> None:
    detector = EDetector.start(
        {
            "x": Reference((50, 50), 2),
            "empty": Reference((0, 0)),
            "constant": Reference((9,), 1),
            "one row": Reference((1, 0)),
        }
    )
    idle = detector.update({}).update({"x": [0, 0]}).update({"empty": [3, 4], "one row": [2, 2], "unknown": [1]})

    assert idle.by_feature() == {"x": 0.0} and EDetector.start({}).update({}).e_value == 0.0


def test_a_constant_feature_that_begins_to_vary_is_found() -> None:
    detector = EDetector.start({"flag": Reference((100_000, 0, 0), 1)})

    assert not detector.update({"flag": [5_000, 0, 0]}).alarm
    assert detector.update({"flag": [4_900, 100, 0]}).alarm


def test_a_window_with_other_bins_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bins, its reference 2"):
        EDetector.start({"x": Reference((50, 50), 2)}).update({"x": [1, 2, 3]})


@given(st.lists(st.floats(0, 1e6), max_size=20), st.sampled_from([0.01, 0.05]))
def test_e_bh_finds_the_largest_values_and_at_least_what_bonferroni_finds(values: list[float], alpha: float) -> None:
    found = e_bh(values, alpha)
    left = [e for e, out in zip(values, found, strict=True) if not out]

    assert all(e > max(left, default=-1.0) for e, out in zip(values, found, strict=True) if out)
    assert all(out for e, out in zip(values, found, strict=True) if e * alpha >= len(values))


def test_e_bh_keeps_the_false_discovery_rate() -> None:
    generator = np.random.default_rng(10)
    false = []
    for _ in range(400):
        shift = np.where(np.arange(50) < 10, 3.5, 0.0)
        found = np.array(e_bh(np.exp(3.0 * (generator.normal(size=50) + shift) - 4.5).tolist(), alpha=0.1))
        false.append(found[10:].sum() / max(found.sum(), 1))

    assert np.mean(false) <= 0.1
