"""The gate's decisions and their reasons: on given predictions, and over many simulated retrainings."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.declarations import Gate
from mainspring.core.values import Slice
from mainspring.evaluation.gate import USES, gate
from mainspring.statistics.metrics import Predictions

ROWS = 8_000


def answers(y: np.ndarray, right: np.ndarray) -> Predictions:
    return Predictions(labels=np.where(right, y, 1 - y), classes=(0, 1))


def scores(y: np.ndarray, noise: float, random: np.random.Generator) -> Predictions:
    p = 1 / (1 + np.exp(-(2.0 * y - 1.0 + random.normal(0, noise, len(y)))))
    return Predictions(probabilities=np.column_stack([1 - p, p]), classes=(0, 1))


def flipped(right: np.ndarray, gains: float, losses: float, random: np.random.Generator) -> np.ndarray:
    """Rows right for a candidate that mends *gains* of all rows and breaks *losses*, by chance."""
    chance = random.random(len(right))
    share = right.mean()
    return np.where(right, chance >= losses / share, chance < gains / (1 - share))


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.integers(0, 2, ROWS), random.random(ROWS) < 0.8


def decide(judge: Any, y: np.ndarray, new: np.ndarray, old: np.ndarray, rule: Gate, uses: int = 1) -> Any:
    return gate(judge(y, answers(y, new), answers(y, old)), rule=rule, uses=uses)


# ------------------------------------------------------------------------------------------- over many retrainings


def test_retraining_without_gain_seldom_promotes_anything_where_a_gain_is_asked_for(judge: Any) -> None:
    random = np.random.default_rng(2)
    promoted = 0
    for _ in range(40):  # 40 holdouts, each used until its budget is spent: 760 retrainings
        y, old = random.integers(0, 2, 1_000), random.random(1_000) < 0.8
        verdicts = (
            decide(judge, y, flipped(old, 0.04, 0.04, random), old, Gate(margin=0), uses) for uses in range(1, USES + 1)
        )
        promoted += any(verdict.decision == "promote" for verdict in verdicts)

    assert promoted <= 5  # 2 expected at alpha 5 %; more than 5 has a chance below 2 %


def test_two_hundred_retrainings_on_one_holdout_end_with_a_request_to_refresh_it(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    y, old = world
    random = np.random.default_rng(3)
    verdicts = [
        decide(judge, y, flipped(old, 0.03, 0.03, random), old, Gate(margin=0), uses) for uses in range(1, 201, 13)
    ]

    assert all(verdict.decision == "hold" for verdict in verdicts)
    assert "Refresh the holdout with newly labelled rows" in verdicts[-1].reasons[0]


def test_a_candidate_worse_by_twice_the_margin_is_not_promoted(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    y, old = world
    random = np.random.default_rng(4)
    verdicts = [decide(judge, y, flipped(old, 0.02, 0.04, random), old, Gate(margin=0.01)) for _ in range(40)]

    assert not any(verdict.decision == "promote" for verdict in verdicts)
    assert all(verdict.next == "hold" for verdict in verdicts)


def test_a_candidate_worse_by_just_the_margin_is_promoted_no_oftener_than_the_spent_alpha_allows(judge: Any) -> None:
    random = np.random.default_rng(12)
    promoted = 0
    for _ in range(200):
        y, old = random.integers(0, 2, 4_000), random.random(4_000) < 0.8
        promoted += decide(judge, y, flipped(old, 0.01, 0.03, random), old, Gate(margin=0.02)).decision == "promote"

    assert promoted <= 11  # 5 expected at 2.5 %; more than 11 has a chance below 1 %


def test_an_equally_good_candidate_is_promoted_where_the_holdout_can_show_the_margin(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    y, old = world
    random = np.random.default_rng(5)
    verdicts = [decide(judge, y, flipped(old, 0.02, 0.02, random), old, Gate(margin=0.01)) for _ in range(40)]

    assert sum(verdict.decision == "promote" for verdict in verdicts) >= 32


# --------------------------------------------------------------------------------------------- beside the champion


def test_a_clearly_better_candidate_is_promoted_with_figures_in_the_reason(judge: Any) -> None:
    random = np.random.default_rng(6)
    y = random.integers(0, 2, 4_000)
    verdict = gate(
        judge(y, scores(y, 1.0, random), scores(y, 2.0, random), metric="roc_auc"), rule=Gate("roc_auc"), uses=1
    )

    assert (verdict.decision, verdict.next) == ("promote", "release")
    assert "against the champion's" in verdict.reasons[0] and "delong" in verdict.reasons[0]
    assert verdict.reasons[0].endswith("better than the champion.")
    assert verdict.metrics["difference_low"] > 0


def test_on_a_tiny_holdout_the_verdict_is_inconclusive_and_names_the_rows_needed(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    y, old = world[0][:60], world[1][:60]
    new = old.copy()
    new[np.flatnonzero(~old)[:2]] = True  # two more rows right

    verdict = decide(judge, y, new, old, Gate(margin=0.01))

    assert (verdict.decision, verdict.next) == ("inconclusive", "canary")
    assert "rows are needed" in verdict.reasons[0]
    assert any("canary" in reason for reason in verdict.reasons)


def test_an_inconclusive_candidate_that_looks_worse_is_held_unless_the_gate_says_canary(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    y, old = world[0][:300], world[1][:300]
    new = old.copy()
    new[np.flatnonzero(old)[:2]] = False

    assert decide(judge, y, new, old, Gate()).next == "hold"
    assert decide(judge, y, new, old, Gate(on_inconclusive="canary")).next == "canary"
    new[np.flatnonzero(~old)[:5]] = True
    assert decide(judge, y, new, old, Gate(on_inconclusive="hold")).next == "hold"
    assert decide(judge, y, new, old, Gate(on_inconclusive="hold")).decision == "inconclusive"


def test_a_small_holdout_that_shows_a_large_gain_is_enough(judge: Any, world: tuple[np.ndarray, np.ndarray]) -> None:
    y, old = world[0][:300], world[1][:300]

    verdict = decide(judge, y, np.ones(300, dtype=bool), old, Gate(margin=0.001))

    assert verdict.decision == "promote"
    assert verdict.metrics["smallest_margin"] > verdict.metrics["margin"]


def test_perfect_predictions_on_a_handful_of_rows_prove_nothing(judge: Any) -> None:
    y = np.array([0] * 30 + [1] * 3)
    old = Predictions(probabilities=np.column_stack([1 - y * 0.9, y * 0.9]), classes=(0, 1))
    new = Predictions(probabilities=np.column_stack([1 - y * 0.8, y * 0.8]), classes=(0, 1))

    beside_champion = gate(judge(y, new, old, metric="roc_auc"), rule=Gate("roc_auc"), uses=1)
    beside_dummy = gate(judge(y, new, metric="roc_auc"), rule=Gate("roc_auc"), uses=1)

    assert beside_champion.decision == "inconclusive" and beside_dummy.decision == "inconclusive"


@pytest.mark.parametrize("rows", [1, 2, 9])
def test_fewer_than_ten_rows_are_no_ground_for_a_verdict(judge: Any, rows: int) -> None:
    y = np.arange(float(rows))
    new, old = Predictions(values=y), Predictions(values=y + 1.0 + y % 2)

    verdict = gate(judge(y, new, old), rule=Gate("rmse"), uses=1)
    first = gate(judge(y, new, baseline=10.0), rule=Gate("rmse"), uses=1)

    assert (verdict.decision, verdict.next) == ("inconclusive", "canary")
    assert (first.decision, first.next) == ("inconclusive", "hold")
    assert "no verdict is given on fewer than 10" in first.reasons[0]


def test_a_smaller_loss_is_better(judge: Any) -> None:
    random = np.random.default_rng(7)
    y = random.integers(0, 2, 4_000)
    good, bad = scores(y, 1.0, random), scores(y, 2.0, random)

    assert gate(judge(y, good, bad, metric="log_loss"), rule=Gate("log_loss"), uses=1).decision == "promote"
    assert gate(judge(y, bad, good, metric="log_loss"), rule=Gate("log_loss"), uses=1).decision == "hold"


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_the_margin_of_an_error_in_the_targets_unit_is_a_share_of_the_champions(judge: Any, scale: float) -> None:
    random = np.random.default_rng(8)
    y, shared, own = random.normal(size=(3, 6_000))
    old = Predictions(values=scale * (y + 0.5 * shared))

    def verdict(factor: float) -> Any:
        new = Predictions(values=scale * (y + factor * 0.5 * shared + 0.01 * own))
        return gate(judge(scale * y, new, old, metric="rmse", baseline=scale), rule=Gate("rmse", margin=0.02), uses=1)

    assert verdict(1.005).decision == "promote"
    assert "2 % of the champion's rmse" in verdict(1.005).reasons[0]
    assert verdict(1.04).decision == "hold"


def test_a_candidate_below_the_dummy_is_told_even_where_it_beats_the_champion(judge: Any) -> None:
    random = np.random.default_rng(4)
    y = random.integers(0, 2, 2_000)
    verdict = gate(
        judge(y, scores(1 - y, 1.0, random), scores(1 - y, 0.3, random), metric="roc_auc"), rule=Gate(), uses=1
    )

    assert verdict.decision == "promote"
    assert "A dummy that knows the training target only has 0.5000: on these rows the candidate is no better" in str(
        verdict.reasons
    )


def test_a_class_of_which_the_holdout_has_few_rows_is_named_in_the_reasons(judge: Any) -> None:
    y = np.repeat([0, 1], [400, 3])
    verdict = gate(judge(y, answers(y, np.ones(403, dtype=bool)), metric="balanced_accuracy"), rule=Gate(), uses=1)

    assert "Fewer than 10 holdout rows have class 1 (3): how well it is found isn't known." in verdict.reasons


def test_margin_zero_asks_for_exact_superiority(judge: Any, world: tuple[np.ndarray, np.ndarray]) -> None:
    y, old = world
    new = old.copy()
    new[np.flatnonzero(~old)[:6]] = True  # 6 gains, no loss: p = 1/64 < 0.025

    assert decide(judge, y, new, old, Gate(margin=0)).decision == "promote"
    assert decide(judge, y, new, old, Gate(margin=0), uses=2).decision == "hold"  # now 0.0083 is spent
    assert "mcnemar" in decide(judge, y, new, old, Gate(margin=0)).reasons[0]


def test_the_champion_itself_leaves_nothing_to_decide(judge: Any, world: tuple[np.ndarray, np.ndarray]) -> None:
    y, old = world
    verdict = gate(judge(y, answers(y, old), answers(y, old), champion_digest="new"), rule=Gate(), uses=1)

    assert (verdict.decision, verdict.next) == ("hold", "hold")
    assert "is the champion already" in verdict.reasons[0]


def test_a_champion_that_cannot_be_run_makes_the_verdict_inconclusive(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    y, old = world
    evaluation = judge(
        y, answers(y, old), champion_digest="old", facts={"champion_fault": "the champion needs column 'age'"}
    )
    verdict = gate(evaluation, rule=Gate(), uses=1)

    assert verdict.decision == "inconclusive"
    assert "the champion needs column 'age'" in verdict.reasons[0]


def test_one_class_in_the_holdout_is_inconclusive_and_says_so(judge: Any) -> None:
    random = np.random.default_rng(9)
    y = np.zeros(500, dtype=int)
    evaluation = judge(y, scores(y, 1.0, random), scores(y, 1.0, random), metric="roc_auc", baseline=math.nan)

    for subject in (evaluation, replace(evaluation, champion_digest=None, champion=None)):
        verdict = gate(subject, rule=Gate("roc_auc"), uses=1)
        assert (verdict.decision, verdict.next) == ("inconclusive", "hold")
        assert "one class only" in verdict.reasons[0]


def test_rows_that_repeat_an_entity_are_not_taken_for_independent_ones(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    y, old = world
    clusters = np.arange(ROWS) // 400  # 20 entities
    new = flipped(old.reshape(20, 400)[:, 0], 0.2, 0.2, np.random.default_rng(10)).repeat(400)
    evaluation = judge(y, answers(y, new), answers(y, old.reshape(20, 400)[:, 0].repeat(400)), clusters=clusters)

    verdict = gate(evaluation, rule=Gate(), uses=1)

    assert verdict.decision == "inconclusive"
    assert "20 entities, cluster bootstrap" in verdict.reasons[0]


# --------------------------------------------------------------------------------------------- the first candidate


def test_the_first_candidate_is_promoted_when_it_beats_the_dummy(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    y, right = world
    verdict = gate(judge(y, answers(y, right)), rule=Gate(), uses=1)

    assert (verdict.decision, verdict.next) == ("promote", "release")
    assert "against the dummy's 0.5000: better by at least" in verdict.reasons[0]


def test_a_first_candidate_that_knows_nothing_is_held(judge: Any, world: tuple[np.ndarray, np.ndarray]) -> None:
    y, right = world
    verdict = gate(judge(y, answers(y, right), baseline=0.9), rule=Gate(), uses=1)

    assert (verdict.decision, verdict.next) == ("hold", "hold")
    assert "a model that knows nothing is as good" in verdict.reasons[0]


def test_a_first_candidate_whose_gain_is_within_chance_is_inconclusive_and_waits(judge: Any) -> None:
    y, right = np.arange(30) % 2, np.arange(30) % 5 < 3
    verdict = gate(judge(y, answers(y, right)), rule=Gate(), uses=1)

    assert (verdict.decision, verdict.next) == ("inconclusive", "hold")
    assert re.search(r"30 holdout rows don't show it with 97.5 % confidence; about \d+ would", verdict.reasons[0])


def test_the_floor_holds_whatever_the_champion_does(judge: Any, world: tuple[np.ndarray, np.ndarray]) -> None:
    y, right = world
    held = gate(judge(y, answers(y, right)), rule=Gate(at_least=0.9), uses=1)
    passed = gate(judge(y, answers(y, right)), rule=Gate(at_least=0.75), uses=1)

    assert held.decision == "hold" and "is not at least the 0.9" in held.reasons[0]
    assert passed.decision == "promote"


def test_the_floor_of_a_loss_is_a_ceiling(judge: Any) -> None:
    random = np.random.default_rng(11)
    y = random.normal(size=500)
    evaluation = judge(y, Predictions(values=y + random.normal(0, 0.5, 500)), baseline=1.0)

    assert gate(evaluation, rule=Gate("rmse", at_least=0.6), uses=1).decision == "promote"
    assert gate(evaluation, rule=Gate("rmse", at_least=0.4), uses=1).decision == "hold"


# ----------------------------------------------------------------------------------------------- slices and limits


def part(rows: int, score: float, p_worse: float | None, value: str = "AA") -> Slice:
    return Slice("carrier", value, rows, score, score - 0.05, score + 0.05, 0.80, p_worse)


def sliced(judge: Any, world: tuple[np.ndarray, np.ndarray], *parts: Slice) -> Any:
    y, right = world
    return gate(judge(y, answers(y, right), answers(y, right), slices=parts), rule=Gate(slices=["carrier"]), uses=1)


def test_a_slice_that_is_shown_worse_holds_a_candidate_that_is_good_on_average(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    verdict = sliced(judge, world, part(900, 0.70, 0.001), part(900, 0.82, 0.9, "UA"))

    assert verdict.decision == "hold"
    assert verdict.reasons[0].startswith(
        "Where carrier is AA (900 rows), accuracy is 0.7000 against the champion's 0.8000"
    )


def test_slices_are_judged_together_so_that_many_of_them_do_not_hold_by_chance(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    others = [part(900, 0.80, 0.5, f"c{place}") for place in range(9)]

    assert sliced(judge, world, part(900, 0.77, 0.02), *others).decision == "promote"  # Holm: 0.2
    assert sliced(judge, world, part(900, 0.77, 0.004), *others).decision == "hold"  # Holm: 0.04


def test_a_small_slice_and_a_loss_within_the_margin_are_reported_only(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    small = sliced(judge, world, part(199, 0.20, 0.0001))
    within = sliced(judge, world, part(90_000, 0.795, 0.0001))

    assert small.decision == "promote" and any("No slice has 200 rows" in reason for reason in small.reasons)
    assert within.decision == "promote" and any("no more than the margin" in reason for reason in within.reasons)


def test_a_slow_or_a_large_bundle_is_held(judge: Any, world: tuple[np.ndarray, np.ndarray]) -> None:
    y, right = world
    evaluation = judge(y, answers(y, right))

    slow = gate(evaluation, rule=Gate(max_latency="0.5ms"), uses=1)
    large = gate(evaluation, rule=Gate(max_size=1.0), uses=1)

    assert slow.decision == "hold" and "1 ms (p95), beyond the limit of 0.5 ms" in slow.reasons[0]
    assert large.decision == "hold" and "2 MB, beyond" in large.reasons[0]
    assert gate(evaluation, rule=Gate(max_latency="1ms", max_size=2), uses=1).decision == "promote"


def test_the_budget_left_is_shown_and_the_twentieth_use_is_refused(
    judge: Any, world: tuple[np.ndarray, np.ndarray]
) -> None:
    y, right = world
    evaluation = judge(y, answers(y, right))

    assert any(
        "Use 3 of 19" in reason and "16 left" in reason for reason in gate(evaluation, rule=Gate(), uses=3).reasons
    )
    assert gate(evaluation, rule=Gate(), uses=19).decision == "promote"
    assert gate(evaluation, rule=Gate(), uses=20).decision == "hold"


# ------------------------------------------------------------------------------------------------------ properties


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 400),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.001, 0.01, 0.2]),
    st.integers(1, 30),
    st.sampled_from([None, "hold", "canary"]),
    st.booleans(),
)
def test_every_verdict_has_reasons_and_one_consistent_consequence(
    judge: Any, rows: int, new: float, old: float, margin: float, uses: int, told: Any, first: bool
) -> None:
    random = np.random.default_rng(rows)
    y = random.integers(0, 2, rows)
    candidate, champion = answers(y, random.random(rows) < new), answers(y, random.random(rows) < old)
    rule = Gate(margin=margin, on_inconclusive=told)
    evaluation = judge(y, candidate, None if first else champion)

    verdict = gate(evaluation, rule=rule, uses=uses)

    assert verdict.reasons and all(reason.endswith(".") for reason in verdict.reasons)
    assert (verdict.decision == "promote") == (verdict.next == "release")
    assert verdict.decision != "hold" or (verdict.next == "hold" and any(c.passed is False for c in verdict.checks))
    assert all(math.isfinite(value) for value in verdict.metrics.values())
    assert gate(evaluation, rule=rule, uses=uses) == verdict
