"""An A/B test decides by its outcome; a bandit earns; neither decides between arms that can't be compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mainspring.core.declarations import ABTest, Bandit
from mainspring.core.errors import DeclarationError
from mainspring.release.outcome import OutcomeEvidence, Reward, compare
from mainspring.release.page import page
from mainspring.release.release import release, step
from mainspring.statistics.assignment import assigned
from mainspring.store.records import Records

MINUTE = timedelta(minutes=1)
QUICK: dict[str, Any] = {"min_units": 100, "min_time": 0, "window": "2m"}
Right = Callable[[str, int], bool]


def begun(world: SimpleNamespace, strategy: ABTest | Bandit) -> None:
    for digest in ("aa", "bb"):
        release(world.verdict(digest), strategy=strategy, loop="late", home=world.home, run=digest, now=world.start)


def live(
    world: SimpleNamespace, strategy: ABTest | Bandit, right: Right, minutes: int = 30, units: int = 300,
    told: timedelta = timedelta(),
) -> Any:  # fmt: skip
    """New units each minute, until something is decided; the last action. told: the time that labels tell, from when
    they come."""
    records, action = Records(world.home, "late"), None
    for minute in range(1, minutes + 1):
        world.serve(range(minute * units, (minute + 1) * units), world.start + minute * MINUTE, right=right, told=told)
        action = step(world.deployments, records, "late", strategy, world.start + (minute + 1) * MINUTE)
        if action.kind in ("promote", "rollback", "hold"):
            return action
    return action


def better(rates: tuple[float, float]) -> Right:
    """Predictions of the champion and the candidate are right with these *rates*."""
    draw = np.random.default_rng(1)
    return lambda arm, unit: bool(draw.random() < rates[arm == "canary"])


def test_the_better_candidate_wins_and_the_reason_tells_both_rates(world: SimpleNamespace) -> None:
    strategy = ABTest(outcome="right", shares=(60, 40), **QUICK)
    begun(world, strategy)
    assert world.deployments.route("late").share == 0.4

    action = live(world, strategy, better((0.6, 0.8)))

    assert action.kind == "promote" and "the candidate is better: wrong predictions: " in action.reason
    low, high = action.data["outcome"]["low"], action.data["outcome"]["high"]
    assert low < 0.5 < high <= 1, "the ratio of 20 % wrong to 40 %"
    assert world.deployments.route("late").champion == 2


def test_the_worse_candidate_goes(world: SimpleNamespace) -> None:
    strategy = ABTest(outcome="right", **QUICK)
    begun(world, strategy)

    action = live(world, strategy, better((0.8, 0.6)))

    assert action.kind == "rollback" and "the candidate is worse" in action.reason


def test_a_candidate_with_more_business_events_wins(world: SimpleNamespace) -> None:
    strategy = ABTest(outcome="event:complaint", goal="more", **QUICK)
    begun(world, strategy)
    draw = np.random.default_rng(1)
    for minute in range(1, 6):
        world.serve(
            range(minute * 300, (minute + 1) * 300), world.start + minute * MINUTE, right=lambda arm, unit: True,
            complains=lambda arm, unit: bool(draw.random() < (0.5 if arm == "canary" else 0.2)),
        )  # fmt: skip

    action = step(world.deployments, world.records, "late", strategy, world.start + 8 * MINUTE)

    assert action.kind == "promote" and "the candidate is better: complaint: " in action.reason


def test_a_service_of_one_unit_a_minute_is_told_too() -> None:
    declared = ABTest(outcome="event", goal="more")
    evidence, draw = OutcomeEvidence.begin({}, declared), np.random.default_rng(1)
    for _ in range(1500):
        arm = int(draw.random() < 0.5)
        evidence.fold([Reward(arm, float(draw.random() < (0.1, 0.3)[arm]), 0.5)], event=1.0, revision=2)
    again = OutcomeEvidence.from_json(json.loads(json.dumps(evidence.to_json())))

    assert compare(again, declared).better
    assert again == evidence


def test_labels_that_tell_a_time_of_long_ago_count(world: SimpleNamespace) -> None:
    strategy = ABTest(outcome="right", **{**QUICK, "window": "5m"})
    begun(world, strategy)

    action = live(world, strategy, better((0.6, 0.8)), told=-timedelta(days=1))

    assert action.kind == "promote" and "the candidate is better" in action.reason


def test_only_units_whose_window_is_closed_count(world: SimpleNamespace) -> None:
    strategy = ABTest(outcome="right", **{**QUICK, "window": "1h"})
    begun(world, strategy)

    action = live(world, strategy, better((0.2, 0.9)), minutes=20)

    assert action.kind == "wait" and "0 of 100 champion units with an outcome" in action.reason
    assert "wrong predictions: 0 % of 0 candidate units" in action.reason
    assert action.data["outcome"]["ratio"] is None


def test_units_that_do_not_come_as_planned_block_the_decision(world: SimpleNamespace) -> None:
    strategy = ABTest(outcome="right", shares=(50, 50), **QUICK)
    begun(world, strategy)
    assert "A/B test, under way" in (told := page(world.deployments, "late")) and "nothing has been seen" in told
    route = world.deployments.route("late")
    lost = [unit for unit in range(300, 20_000) if not assigned(route.salt, str(unit), 0.5) or unit % 5 == 0]
    records, right, actions = Records(world.home, "late"), better((0.6, 0.9)), []
    for minute in range(1, 9):
        world.serve(lost[minute * 400 : (minute + 1) * 400], world.start + minute * MINUTE, right=right)
        actions.append(step(world.deployments, records, "late", strategy, world.start + (minute + 1) * MINUTE))

    assert {action.kind for action in actions} == {"wait", "hold"}
    assert any("sample-ratio mismatch" in action.reason for action in actions)
    assert world.deployments.route("late").champion == 1


def test_a_bandits_share_follows_what_is_earned_within_the_floor(world: SimpleNamespace) -> None:
    strategy = Bandit(outcome="right", floor=0.1, every="1m", min_units=100, window="2m")
    begun(world, strategy)

    action = live(world, strategy, better((0.5, 0.7)), minutes=12)

    route = world.deployments.route("late")
    assert action.kind in ("wait", "shift") and route.share == pytest.approx(0.9)
    shifts = [each for each in world.deployments.decisions("late") if each.decision == "shift"]
    assert shifts and "difference by propensity" in shifts[-1].reason
    text = page(world.deployments, "late")
    assert "Difference of the means, candidate less champion" in text and text.count("<svg") >= 5


def test_of_a_bandit_that_no_event_has_come_for_no_interval_is_told(world: SimpleNamespace) -> None:
    strategy = Bandit(outcome="event:complaint", window="2m")
    begun(world, strategy)

    quiet = live(world, strategy, better((0.5, 0.5)), minutes=4)
    world.serve(range(9000, 9300), world.start + 5 * MINUTE, complains=lambda arm, unit: unit % 3 == 0)
    heard = step(world.deployments, world.records, "late", strategy, world.start + 8 * MINUTE)

    assert quiet.data["outcome"]["low"] is None and "interval" not in quiet.reason
    assert heard.data["outcome"]["low"] < 0 < heard.data["outcome"]["high"]
    told = page(world.deployments, "late")
    assert "a bandit earns and doesn&#x27;t decide by it" in told and "decided when" not in told


def test_a_bandit_asks_at_its_deadline_and_never_decides_by_itself(world: SimpleNamespace) -> None:
    strategy = Bandit(outcome="right", every="1m", min_units=100, window="2m", deadline="11m")
    begun(world, strategy)

    action = live(world, strategy, better((0.5, 0.9)), minutes=20)

    assert action.kind == "hold" and action.reason.startswith("a bandit earns and doesn't decide, after 12 minutes")
    assert action.data["outcome"]["low"] > 0, "the difference is plain by then"
    assert world.deployments.route("late").champion == 1 and world.deployments.route("late").holding


def test_each_record_keeps_the_propensity_of_its_time(world: SimpleNamespace) -> None:
    strategy = Bandit(outcome="right", floor=0.1, every="1m", min_units=100, window="2m")
    begun(world, strategy)
    live(world, strategy, better((0.5, 0.7)), minutes=8)

    kept = {(each.arm, round(each.propensity, 3)) for each in Records(world.home, "late").predictions()[0]}

    assert {("canary", 0.5), ("champion", 0.5), ("canary", 0.9), ("champion", 0.1)} <= kept


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        (ABTest, {"outcome": "joy"}, "outcome='joy'"),
        (ABTest, {"outcome": "event:"}, "'event:NAME' of a business event \\(NAME: a letter"),
        (ABTest, {"outcome": "right", "guardrails": ("event:a b",)}, "knows errors, latency, wrong, and event:NAME"),
        (ABTest, {"outcome": "right", "shares": (50, 40)}, "make 100"),
        (ABTest, {"outcome": "right", "goal": "less"}, "has its goal already"),
        (Bandit, {"outcome": "event", "floor": 0.5}, "floor"),
        (Bandit, {"outcome": "event", "window": 0}, "longer than 0"),
        (ABTest, {"outcome": "right", "window": "60s", "deadline": "40s"}, "ends before any outcome is known, '60s'"),
    ],
)
def test_an_experiment_that_can_not_be_is_refused(kind: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        kind(**arguments)
