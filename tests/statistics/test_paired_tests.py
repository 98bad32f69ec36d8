"""The promotion gate's tests: signed differences, honest bounds, and a holdout that is not worn out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import bdtrc
from sklearn.metrics import roc_auc_score

from mainspring.statistics.metrics import Predictions, metric
from mainspring.statistics.paired_tests import (
    delong,
    holm,
    mcnemar,
    mcnemar_p,
    paired_bootstrap,
    paired_difference,
    spent_alpha,
    tango,
)

counts = st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(0, 60)).filter(lambda c: sum(c) > 0)


def binary(p: np.ndarray) -> Predictions:
    return Predictions(probabilities=np.column_stack([1 - p, p]), classes=(0, 1))


def two_models(rows: int, seed: int, better: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = (generator.random(rows) < 0.4).astype(int)
    common = y + generator.normal(size=rows)
    champion, candidate = (
        common + generator.normal(size=rows) * 0.4,
        common + generator.normal(size=rows) * 0.4 + better * y,
    )
    return y, 1 / (1 + np.exp(-champion)), 1 / (1 + np.exp(-candidate))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 5)), min_size=4, max_size=40))
def test_delong_estimates_the_difference_of_the_two_areas_with_ties(rows: list[tuple[bool, int, int]]) -> None:
    y = np.array([row[0] for row in rows] + [True, True, False, False])
    old, new = (np.array([row[k] for row in rows] + [1, 3, 2, 3], dtype=float) for k in (1, 2))

    assert delong(y, old, new).estimate == pytest.approx(roc_auc_score(y, new) - roc_auc_score(y, old))


def test_delong_agrees_with_the_bootstrap() -> None:
    y, old, new = two_models(4_000, seed=1, better=0.2)
    closed = delong(y, old, new)
    drawn = paired_bootstrap(metric("roc_auc", "binary"), y, binary(old), binary(new), alpha=0.05)

    assert closed.estimate == pytest.approx(drawn.estimate)
    assert closed.standard_error == pytest.approx(drawn.standard_error, rel=0.1)
    assert closed.low == pytest.approx(closed.estimate - 1.645 * closed.standard_error, rel=1e-3)


def test_delong_bounds_an_equal_candidate_too_high_in_about_alpha_of_all_cases() -> None:
    found = [delong(*two_models(300, seed)).low > 0 for seed in range(600)]

    assert 0.025 <= np.mean(found) <= 0.075


@pytest.mark.parametrize(("gains", "losses", "low"), [(1, 7, -0.517), (7, 1, 0.026)])
def test_tango_gives_the_published_interval_of_21_airway_patients(gains: int, losses: int, low: float) -> None:
    """Fagerland, Lydersen & Laake, Statistics in Medicine 2014: -0.517 to -0.026 for 1, 1, 7 and 12 patients."""
    assert tango(gains, losses, 21, alpha=0.025).low == pytest.approx(low, abs=0.0006)


@given(counts)
def test_at_tangos_bound_the_score_test_with_a_searched_variance_has_exactly_alpha(cell: tuple[int, int, int]) -> None:
    gains, losses, agree = cell
    n, low = sum(cell), tango(gains, losses, sum(cell)).low

    def loss(q: float) -> float:
        chances = (q + low, q, 1 - 2 * q - low)
        return -sum(k * math.log(max(c, 1e-300)) for k, c in zip((gains, losses, agree), chances, strict=True) if k)

    q = minimize_scalar(loss, bounds=(max(0.0, -low), (1 - low) / 2), method="bounded", options={"xatol": 1e-12}).x
    error = math.sqrt(n * (2 * q + low - low**2))

    assert (gains - losses - n * low) == pytest.approx(1.6449 * error, rel=0.02, abs=0.02)


def test_tango_covers_what_it_promises_where_few_rows_differ() -> None:
    generator = np.random.default_rng(5)
    cells = generator.multinomial(150, [0.05, 0.07, 0.88], 1_500)

    assert 0.925 <= np.mean([tango(int(a), int(b), 150).low <= -0.02 for a, b, _ in cells]) <= 0.985


def test_no_rows_show_nothing() -> None:
    assert math.isnan(tango(0, 0, 0).low) and math.isnan(mcnemar(0, 0, 0).low)


@given(counts, st.sampled_from([0.05, 0.01]))
def test_mcnemars_bound_is_above_zero_exactly_when_its_p_value_is_below_alpha(
    cell: tuple[int, int, int], alpha: float
) -> None:
    gains, losses, _ = cell

    assert (mcnemar(gains, losses, sum(cell), alpha).low > 0) == (mcnemar_p(gains, losses) < alpha)


def test_the_method_suits_the_metric() -> None:
    y, old, new = two_models(400, seed=2)

    def method(name: str, **options: object) -> str:
        return paired_difference(metric(name, "binary"), y, binary(old), binary(new), 0.05, **options).method  # type: ignore[arg-type]

    assert method("roc_auc") == "delong" and method("accuracy") == "tango"
    assert method("accuracy", superiority=True) == "mcnemar"
    assert (
        method("log_loss") == "paired bootstrap"
        and method("roc_auc", clusters=np.arange(400) // 2) == "cluster bootstrap"
    )


@pytest.mark.parametrize("name", ["roc_auc", "log_loss", "brier", "accuracy", "f1"])
def test_positive_means_that_the_candidate_is_better_whatever_the_metric(name: str) -> None:
    y, old, _ = two_models(600, seed=3)
    sharper = np.clip(0.5 * old + 0.5 * y, 0.01, 0.99)

    found = paired_difference(metric(name, "binary"), y, binary(old), binary(sharper), 0.05)
    swapped = paired_difference(metric(name, "binary"), y, binary(sharper), binary(old), 0.05)

    assert found.low > 0 and found.non_inferior(0.0) and found.p_worse > 0.99
    assert (
        swapped.estimate == pytest.approx(-found.estimate)
        and swapped.p_worse < 0.001
        and not swapped.non_inferior(0.01)
    )


def test_an_error_that_falls_is_a_gain() -> None:
    y = np.random.default_rng(4).normal(size=500)
    found = paired_difference(
        metric("rmse", "regression"), y, Predictions(values=y + 1), Predictions(values=y + 0.5), 0.05
    )

    assert found.estimate == pytest.approx(0.5) and found.low == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["roc_auc", "accuracy", "log_loss"])
def test_identical_predictions_are_not_worse(name: str) -> None:
    y, old, _ = two_models(100, seed=6)
    found = paired_difference(metric(name, "binary"), y, binary(old), binary(old.copy()), alpha=0.001)

    assert (found.estimate, found.standard_error, found.low) == (0.0, 0.0, 0.0)
    assert found.non_inferior(0.01) and not found.non_inferior(0.0) and found.p_worse == 1.0


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "recall", "log_loss"])
@pytest.mark.parametrize("rows", [0, 1, 6])
def test_a_slice_that_shows_nothing_is_never_called_not_inferior(name: str, rows: int) -> None:
    y, p = np.zeros(rows), np.linspace(0.1, 0.9, rows)
    found = paired_difference(metric(name, "binary"), y, binary(p), binary(p**2), 0.05)

    assert not found.non_inferior(0.05) or (name == "log_loss" and rows == 6)


def test_repeated_entities_widen_the_bound() -> None:
    y, old, new = two_models(300, seed=7)
    entity = np.repeat(np.arange(300), 5)
    y, old, new = np.repeat(y, 5), np.repeat(old, 5), np.repeat(new, 5)
    naive = paired_difference(metric("brier", "binary"), y, binary(old), binary(new), 0.05)
    honest = paired_difference(metric("brier", "binary"), y, binary(old), binary(new), 0.05, clusters=entity)

    assert honest.standard_error == pytest.approx(naive.standard_error * math.sqrt(5), rel=0.2) and honest.n == 300


def test_two_hundred_retrains_without_gain_promote_nothing_when_alpha_is_spent() -> None:
    """Without spending, one holdout of 5,000 rows that is used 200 times promotes an equal model almost surely."""
    generator = np.random.default_rng(8)
    runs, uses, rows, accuracy, differs = 1_000, 200, 5_000, 0.8, 0.03
    right = generator.binomial(rows, accuracy, (runs, 1))
    gains = generator.binomial(rows - right, differs / (1 - accuracy), (runs, uses))
    losses = generator.binomial(right, differs / accuracy, (runs, uses))
    p = np.where(gains > 0, bdtrc(np.maximum(gains - 1, 0), gains + losses, 0.5), 1.0)
    spent = np.array([spent_alpha(0.05, k) for k in range(1, uses + 1)])

    assert (p < spent).any(axis=1).mean() <= 0.05
    assert (p < 0.05).any(axis=1).mean() > 0.8
    assert spent.sum() < 0.05


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_raises_p_values_in_order_and_at_most_as_bonferroni_does(p_values: list[float]) -> None:
    adjusted = holm(p_values)

    assert all(p <= q <= min(1.0, p * len(p_values)) + 1e-12 for p, q in zip(p_values, adjusted, strict=True))
    assert [adjusted[k] for k in np.argsort(p_values, kind="stable")] == sorted(adjusted)


def test_a_slice_without_a_p_value_does_not_count_for_holm() -> None:
    assert holm([0.02, math.nan, 0.5])[0] == 0.04
