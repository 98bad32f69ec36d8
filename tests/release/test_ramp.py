"""The ramp promotes what is healthy, stops what is worse, and never takes silence for health."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mainspring.core.declarations import Canary
from mainspring.release.evidence import Evidence, Exposure, Guardrail, GuardrailName
from mainspring.release.ramp import decide
from mainspring.statistics.assignment import assigned
from mainspring.store.deployments import Route

START = datetime(2013, 4, 1, tzinfo=UTC)
DECLARED = Canary(steps=(5, 25, 100), guardrails=("errors",), min_units=100, min_time="10m", deadline="1d")
ROUTE = Route("late", 2, 1, 2, None, 0.05, 0, START, START, "salt", False)
Rates = Callable[[int], tuple[float, float]]


def begin(declaration: Canary = DECLARED) -> Evidence:
    return Evidence.begin(2, 2, declaration, {})


def observe(evidence: Evidence, canary: int, bad: int, stable: int, stable_bad: int) -> None:
    """One bin of so many units, as counts: what `Guardrail.fold` does with sets, without the sets."""
    share = canary / (canary + stable) if canary + stable else 0.0
    for guardrail in evidence.guardrails.values():
        guardrail.worse = guardrail.worse.update(bad, stable_bad, share)
        guardrail.not_worse = guardrail.not_worse.update(bad, stable_bad, share)
        guardrail.healthy = guardrail.healthy.update(bad, canary)
        guardrail.canary += bad
        guardrail.champion += stable_bad
    evidence.crashed = evidence.crashed.update(bad, canary)
    new = set(range(len(evidence.tried), len(evidence.tried) + canary))
    evidence.units |= new
    evidence.tried |= new
    evidence.failed |= set(sorted(new)[:bad])


def live(rates: Rates, seed: int, declaration: Canary = DECLARED, units: int = 400, looks: int = 240) -> str:
    """One release, a look every ten minutes; how it ended."""
    draw = np.random.default_rng(seed)
    evidence, route = begin(declaration), replace(ROUTE, share=declaration.steps[0] / 100)
    for look in range(1, looks + 1):
        canary = int(draw.binomial(units, route.share))
        of_canary, of_stable = rates(look)
        bad, stable_bad = int(draw.binomial(canary, of_canary)), int(draw.binomial(units - canary, of_stable))
        observe(evidence, canary, bad, units - canary, stable_bad)
        now = START + look * timedelta(minutes=10)
        action = decide(evidence, declaration, route, now)
        if action.kind in ("promote", "rollback", "hold"):
            return action.kind
        if action.kind == "advance":
            share = declaration.steps[route.step + 1] / 100
            route = replace(route, step=route.step + 1, share=share, step_started=now)
            evidence.next_step(route.step, share, route.revision)
    return "still running"


def test_a_canary_as_good_as_the_champion_is_seldom_stopped() -> None:
    ends = Counter(live(lambda look: (0.02, 0.02), seed) for seed in range(80))

    assert ends["rollback"] <= 8, "alpha is 5 %: 4 are expected at most, 8 are within two standard deviations"


def test_a_healthy_canary_is_promoted() -> None:
    ends = Counter(live(lambda look: (0.003, 0.003), seed) for seed in range(40))

    assert ends["promote"] >= 37


def test_a_clean_small_service_gets_through() -> None:
    ends = Counter(live(lambda look: (0.0, 0.0), seed, units=60) for seed in range(20))

    assert ends == {"promote": 20}


@pytest.mark.parametrize("rate", [0.03, 0.08])
def test_a_worse_canary_is_stopped_and_hardly_ever_promoted(rate: float) -> None:
    ends = Counter(live(lambda look: (rate, 0.01), seed) for seed in range(40))

    assert ends["rollback"] >= 38 and ends["promote"] == 0


def test_a_common_outage_stops_no_canary() -> None:
    def outage(look: int) -> tuple[float, float]:
        return (0.12, 0.12) if 5 <= look < 15 else (0.004, 0.004)

    ends = Counter(live(outage, seed) for seed in range(40))

    assert ends["rollback"] <= 4


def test_a_canary_that_only_fails_is_stopped_hard_even_while_the_champion_fails_too() -> None:
    evidence = begin()
    observe(evidence, 25, 24, 475, 470)

    action = decide(evidence, DECLARED, ROUTE, START + timedelta(minutes=1))

    assert action.kind == "rollback"
    assert action.reason.startswith("hard stop: 24 of 25 canary units failed")


def test_a_service_of_very_many_units_that_fail_now_and_then_is_not_stopped_hard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mainspring.release.evidence._MOST_SEEN", 2000)
    evidence, failed = begin(), frozenset[GuardrailName]({"errors"})
    for minute in range(20):
        at, units = START + timedelta(minutes=minute), range(1000 * minute, 1000 * (minute + 1))
        evidence.fold(
            (Exposure(at, 2, "canary", str(unit), frozenset() if unit % 20 else failed) for unit in units), ("errors",)
        )

    assert evidence.crashed.e_value < 1, "5 % of the units fail, and a fifth may"
    assert (len(evidence.failed), len(evidence.tried)) == (100, 2000)


def test_the_hard_stop_waits_for_twenty_units() -> None:
    evidence = begin()
    observe(evidence, 19, 19, 300, 300)

    assert decide(evidence, DECLARED, ROUTE, START + timedelta(minutes=1)).kind == "wait"


def test_silence_never_promotes_and_the_deadline_asks() -> None:
    evidence = begin()
    waiting = decide(evidence, DECLARED, ROUTE, START + timedelta(hours=23))
    late = decide(evidence, DECLARED, ROUTE, START + timedelta(hours=25))

    assert waiting.kind == "wait" and "0 of 100 canary units" in waiting.reason
    assert late.kind == "hold"
    assert "has lasted 25 hours without enough evidence" in late.reason
    assert late.reason.endswith("promote or roll back by hand")


def test_units_and_time_are_both_needed() -> None:
    evidence = begin()
    observe(evidence, 2000, 0, 20_000, 0)

    early = decide(evidence, DECLARED, ROUTE, START + timedelta(minutes=9))
    assert early.kind == "wait" and early.reason == "at 5 % of the units: 9 minutes of at least 10 minutes"
    assert decide(evidence, DECLARED, ROUTE, START + timedelta(minutes=10)).kind == "advance"

    few = decide(evidence, replace(DECLARED, min_units=5000), ROUTE, START + timedelta(minutes=10))
    assert few.kind == "wait" and "2000 of 5,000 canary units" in few.reason


def test_each_step_needs_evidence_of_its_own() -> None:
    evidence = begin()
    observe(evidence, 2000, 0, 20_000, 0)
    evidence.next_step(1, 0.25, 3)

    action = decide(evidence, DECLARED, replace(ROUTE, step=1, share=0.25), START + timedelta(hours=1))

    assert action.kind == "wait" and "0 of 100 canary units" in action.reason


def test_evidence_against_the_canary_outlives_the_step() -> None:
    evidence = begin()
    observe(evidence, 500, 10, 9500, 40)
    before = evidence.guardrails["errors"].worse.e_value
    evidence.next_step(1, 0.25, 3)

    assert evidence.guardrails["errors"].worse.e_value == before > 1


def test_a_held_ramp_waits_but_is_still_stopped() -> None:
    held = replace(ROUTE, holding=True)
    healthy, broken = begin(), begin()
    observe(healthy, 2000, 0, 20_000, 0)
    observe(broken, 200, 60, 4000, 40)

    assert decide(healthy, DECLARED, held, START + timedelta(hours=1)).kind == "wait"
    assert decide(broken, DECLARED, held, START + timedelta(hours=1)).kind == "rollback"


def test_alpha_is_split_over_the_guardrails() -> None:
    both = replace(DECLARED, guardrails=("errors", "wrong"))
    evidence = begin(both)
    observe(evidence, 200, 10, 3800, 60)
    worst = evidence.guardrails["errors"].worse.e_value
    assert 20 < worst < 40, "the case lies between the two bars"

    assert decide(evidence, both, ROUTE, START).kind == "wait"
    alone = replace(evidence, guardrails={"errors": evidence.guardrails["errors"]})
    assert decide(alone, DECLARED, ROUTE, START).kind == "rollback"


def test_the_step_before_a_hundred_percent_promotes() -> None:
    evidence = begin()
    evidence.next_step(1, 0.25, 3)
    observe(evidence, 2000, 2, 6000, 6)

    action = decide(evidence, DECLARED, replace(ROUTE, step=1, share=0.25), START + timedelta(hours=1))

    assert action.kind == "promote"
    assert "after 2,000 canary units at 25 %" in action.reason and "errors: e-value" in action.reason


def test_a_unit_counts_once_for_a_guardrail() -> None:
    once, often = (Guardrail.begin(1.5, 0.01) for _ in range(2))
    units, bad = set(range(100)), {1, 2, 3}
    nobody: set[int] = set()
    once.fold({"canary": units, "champion": units}, {"canary": bad, "champion": nobody})
    for _ in range(10):
        often.fold({"canary": units, "champion": units}, {"canary": bad, "champion": nobody})

    assert often.canary == once.canary == 3
    assert often.worse.e_value == once.worse.e_value
    assert often.healthy.e_value == once.healthy.e_value


def test_the_canary_of_a_service_with_one_unit_a_minute_is_compared_too() -> None:
    evidence, route, draw = begin(), replace(ROUTE, share=0.25), np.random.default_rng(1)
    for minute in range(1200):
        canary = assigned(route.salt, str(minute), route.share)
        bad = frozenset[GuardrailName]({"errors"} if draw.random() < (0.12 if canary else 0.01) else ())
        at = START + timedelta(minutes=minute)
        evidence.fold([Exposure(at, 2, "canary" if canary else "champion", str(minute), bad)], ("errors",))

    assert decide(evidence, DECLARED, route, START + timedelta(hours=20)).reason.startswith("errors: ")


def test_evidence_survives_json() -> None:
    evidence = begin(replace(DECLARED, guardrails=("errors", "latency", "wrong")))
    for guardrail in evidence.guardrails.values():
        guardrail.fold({"canary": {1, 2**63}, "champion": {3, 4}}, {"canary": {1}, "champion": set()})
    evidence.sample_latency(1.5)

    assert Evidence.from_json(evidence.to_json()) == evidence


def meet(evidence: Evidence, route: Route, units: range, at: datetime, canary_loaded: bool = True) -> None:
    """Each unit asks once and is answered well; a canary that couldn't be loaded leaves all of them to the champion."""
    chosen = {unit: canary_loaded and assigned(route.salt, str(unit), route.share) for unit in units}
    exposures = [
        Exposure(at, route.revision, "canary" if canary else "champion", str(unit)) for unit, canary in chosen.items()
    ]
    evidence.fold(exposures, ("errors",))


def test_a_canary_that_gets_none_of_its_units_is_held_as_a_sample_ratio_mismatch() -> None:
    evidence, at = begin(), START + timedelta(hours=1)
    meet(evidence, ROUTE, range(3000), at, canary_loaded=False)
    action = decide(evidence, DECLARED, ROUTE, at)

    assert action.kind == "hold"
    assert action.reason.startswith("sample-ratio mismatch: 0 of 3,000 units met the canary, 5 % were planned")
    assert decide(evidence, DECLARED, replace(ROUTE, holding=True), at).kind == "wait", "it is told once"


def test_units_that_come_back_in_every_minute_and_step_are_no_mismatch() -> None:
    evidence, route, units = begin(), ROUTE, range(2000)
    for minute in range(1, 40):
        meet(evidence, route, units, START + timedelta(minutes=minute))
        if minute == 20:
            route = replace(route, step=1, share=0.25, revision=3)
            evidence.next_step(1, 0.25, 3)

    assert evidence.ratio.e_value < 10 and sum(evidence.ratio.counts) == 2000
    assert Evidence.from_json(evidence.to_json()) == evidence


def test_what_the_step_before_still_answered_says_nothing_of_the_new_share() -> None:
    evidence, late = begin(), ROUTE
    evidence.next_step(1, 0.25, 3)
    meet(evidence, late, range(3000), START + timedelta(minutes=5))

    assert sum(evidence.ratio.counts) == 0
