"""What a person decides: hold, approve, reject; once each, with who and why."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from mainspring.core.declarations import ABTest, Canary, Immediate, Manual, Shadow
from mainspring.core.errors import NotInStore
from mainspring.release.by_hand import approve, hold, promote, reject, rollback
from mainspring.release.release import release, step
from mainspring.store.audit import Audit
from mainspring.store.records import Records

CANARY = Canary(steps=(20, 100), min_units=100, min_time=0)
LATER = timedelta(hours=1)


def publish(world: SimpleNamespace, digest: str, strategy: Any = CANARY, next: str = "release") -> Any:
    gate = world.verdict(digest, next)
    return release(gate, strategy=strategy, loop="late", home=world.home, run=digest, now=world.start)


def decided(world: SimpleNamespace) -> list[tuple[str, int | None, str, str | None]]:
    return [
        (each.decision, each.version, each.reason, (each.data or {}).get("by"))
        for each in world.deployments.decisions("late")
        if each.kind == "release"
    ]


def test_a_held_trial_waits_until_it_is_approved(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb")
    told: dict[str, Any] = {"now": world.start, "reason": "a holiday", "by": "ada"}

    said = [hold(world.deployments, "late", **told) for _ in range(2)]
    world.serve(range(2000), world.start + timedelta(minutes=1))
    action = step(world.deployments, Records(world.home, "late"), "late", CANARY, world.start + LATER)

    assert said[0].startswith("the canary of late@2 is held at 20 %") and "held already" in said[1]
    assert action.kind == "wait" and world.deployments.route("late").canary == 2
    assert "goes on" in approve(world.deployments, "late", strategy=CANARY, now=world.start, reason="back", by="eve")
    assert not world.deployments.route("late").holding
    assert decided(world)[-2:] == [("hold", 2, "a holiday", "ada"), ("approve", 2, "back", "eve")]
    acts = [(each.act, each.by, each.version, each.reason) for each in Audit(world.home).entries()]
    assert acts == [("hold", "ada", 2, "a holiday"), ("approve", "eve", 2, "back")]


def test_to_promote_the_champion_ends_the_trial_beside_it(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb")

    for _ in range(2):
        assert promote(world.deployments, "late", 1, now=world.start, reason="the old one", by="ada").number == 1

    route = world.deployments.route("late")
    assert (route.champion, route.canary, route.share) == (1, None, 0.0)
    assert world.deployments.version("late", 2).state == "rolled back"
    assert decided(world)[-1] == ("rollback", 2, "the old one", "ada")
    assert [(each.act, each.version) for each in Audit(world.home).entries()] == [("rollback", 2)]


def test_a_shadow_can_be_held_promoted_and_rejected(world: SimpleNamespace) -> None:
    publish(world, "aa", Shadow())
    publish(world, "bb", Shadow())

    hold(world.deployments, "late", now=world.start)
    reject(world.deployments, "late", now=world.start, reason="it adds nothing", by="ada")

    assert world.deployments.route("late").canary is None and world.deployments.version("late", 2).state == "rejected"
    publish(world, "cc", Shadow())
    assert promote(world.deployments, "late", now=world.start).name == "late@3"
    assert rollback(world.deployments, "late", now=world.start).name == "late@1"


@pytest.mark.parametrize(
    ("strategy", "state"),
    [(CANARY, "canary"), (Shadow(), "shadow"), (ABTest(outcome="right"), "canary"), (Immediate(), "champion"),
     (Manual(), "champion"), (None, "champion")],
)  # fmt: skip
def test_what_the_gate_asks_about_is_released_as_declared_once_approved(
    world: SimpleNamespace, strategy: Any, state: str
) -> None:
    publish(world, "aa", strategy or CANARY)
    assert publish(world, "bb", strategy or CANARY, "ask").state == "waiting"

    approve(world.deployments, "late", 2, strategy=strategy, now=world.start, reason="seen", by="ada")

    assert world.deployments.version("late", 2).state == state
    assert any(decision[2].startswith("approved: seen") and decision[3] == "ada" for decision in decided(world))
    assert [(each.act, each.by, each.reason) for each in Audit(world.home).entries()] == [("approve", "ada", "seen")]


def test_a_version_that_the_gate_held_is_approved_or_rejected_for_good(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb", next="hold")
    publish(world, "cc", next="hold")

    assert "begins as canary" in approve(world.deployments, "late", 2, strategy=CANARY, now=world.start)
    assert reject(world.deployments, "late", 3, now=world.start, reason="biased") == "late@3 is rejected"
    assert "rejected already" in reject(world.deployments, "late", 3, now=world.start)
    assert publish(world, "cc").state == "held", "no run brings a rejected version back"
    with pytest.raises(NotInStore, match="late@3 is rejected, so there is nothing to approve"):
        approve(world.deployments, "late", 3, strategy=CANARY, now=world.start)


@pytest.mark.parametrize("verb", [hold, reject])
def test_with_nothing_to_decide_that_is_said(world: SimpleNamespace, verb: Any) -> None:
    publish(world, "aa")

    with pytest.raises(NotInStore, match="no trial and no version that waits or is held"):
        verb(world.deployments, "late", now=world.start)
