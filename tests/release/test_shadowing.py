"""A shadow sees each request, answers none, and ends as its declaration says."""

from __future__ import annotations

import fcntl
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from mainspring.core.declarations import Canary, Shadow
from mainspring.core.errors import DeclarationError
from mainspring.release.by_hand import reject
from mainspring.release.page import page
from mainspring.release.release import release, step
from mainspring.release.shadowing import ShadowEvidence, forget
from mainspring.store.records import Records
from mainspring.store.shadows import ShadowBatch, ShadowRecord, Shadows

MINUTE = timedelta(minutes=1)
QUICK: dict[str, Any] = {"min_units": 50, "min_time": 0, "window": "1m", "slices": ["carrier"]}


def shadowed(world: SimpleNamespace, strategy: Shadow) -> None:
    """A champion, and a shadow beside it."""
    for digest in ("aa", "bb"):
        release(world.verdict(digest), strategy=strategy, loop="late", home=world.home, run=digest, now=world.start)


def tick(world: SimpleNamespace, strategy: Shadow, minutes: int) -> Any:
    records = Records(world.home, "late")
    return step(world.deployments, records, "late", strategy, world.start + minutes * MINUTE)


def test_a_shadow_begins_beside_the_champion_and_answers_nobody(world: SimpleNamespace) -> None:
    shadowed(world, Shadow(share=0.25))

    route = world.deployments.route("late")
    assert (route.strategy, route.champion, route.canary, route.share, route.mirrored) == ("shadow", 1, 2, 0.0, 0.25)
    assert world.deployments.version("late", 2).state == "shadow"


def test_by_hand_a_shadow_tells_its_disagreement_by_slice_and_asks(world: SimpleNamespace) -> None:
    strategy = Shadow(**QUICK)
    shadowed(world, strategy)
    world.mirror(range(200), world.start + MINUTE, says=lambda unit: "no" if unit % 4 == 0 else "yes", dropped=7)

    action = tick(world, strategy, 2)

    assert action.kind == "hold"
    assert action.reason.startswith("the shadow disagrees on 25 % of 200 rows, most where carrier = UA (100 %)")
    assert "7 rows not mirrored for want of time" in action.reason and "0.0150 ms a row" in action.reason
    assert action.data["slices"]["carrier"] == {
        "UA": {"rows": 50, "disagreement": 1.0},
        "AA": {"rows": 150, "disagreement": 0.0},
    }
    assert world.deployments.route("late").holding
    assert "Where the shadow disagrees" in page(world.deployments, "late")


def test_a_shadow_that_fails_is_ended(world: SimpleNamespace) -> None:
    strategy = Shadow(**QUICK)
    shadowed(world, strategy)
    world.mirror(range(40), world.start + MINUTE, fails=lambda unit: True)

    action = tick(world, strategy, 2)

    assert action.kind == "rollback" and action.reason.startswith("the shadow fails: 40 of 40 units failed")
    assert world.deployments.version("late", 2).state == "rolled back"


def test_labels_that_bear_the_shadow_out_promote_it(world: SimpleNamespace) -> None:
    strategy = Shadow(promote="labels", margin=0.05, **QUICK)
    shadowed(world, strategy)
    world.mirror(
        range(600), world.start + MINUTE, says=lambda unit: "no" if unit % 3 == 0 else "yes",
        true=lambda unit: "no" if unit % 3 == 0 else "yes",
    )  # fmt: skip

    action = tick(world, strategy, 4)

    assert action.kind == "promote" and "0.333 more right predictions in 600 judged units" in action.reason
    assert world.deployments.route("late").champion == 2


def test_labels_that_contradict_the_shadow_end_it(world: SimpleNamespace) -> None:
    strategy = Shadow(promote="labels", margin=0.05, **QUICK)
    shadowed(world, strategy)
    world.mirror(
        range(600), world.start + MINUTE, says=lambda unit: "no" if unit % 3 == 0 else "yes", true=lambda unit: "yes"
    )

    assert tick(world, strategy, 4).kind == "rollback"


def test_a_hundred_units_without_a_disagreement_do_not_show_that_there_is_none(world: SimpleNamespace) -> None:
    """One that is worse by 1.1 % agrees with the champion on 100 units with a chance of a third."""
    strategy = Shadow(promote="labels", **{**QUICK, "min_units": 100})
    shadowed(world, strategy)
    world.mirror(range(120), world.start + MINUTE, true=lambda unit: "yes")
    few = tick(world, strategy, 4)
    world.mirror(range(120, 4000), world.start + 5 * MINUTE, true=lambda unit: "yes")
    many = tick(world, strategy, 8)

    assert few.kind == "wait" and few.data["low"] < -0.01
    assert many.kind == "promote"


def test_failures_of_units_that_count_no_more_do_not_end_a_shadow() -> None:
    strategy = Shadow()
    evidence = ShadowEvidence.begin(2, 2, strategy, False, {})
    evidence.met.keep = 0.01
    at = datetime(2013, 4, 1, tzinfo=UTC)
    for first in range(0, 4000, 100):
        shown = [
            ShadowRecord(
                id=str(unit), at=at, unit=str(unit), label="yes", latency_ms=1.0, said="yes", row={},
                error="it failed" if unit % 20 == 0 else None,
            )
            for unit in range(first, first + 100)
        ]  # fmt: skip
        evidence.fold(ShadowBatch(version=2, revision=2, dropped=0, records=shown), ())

    assert evidence.units > 10 and evidence.failures <= evidence.units / 5


def test_labels_count_only_when_their_window_is_closed(world: SimpleNamespace) -> None:
    strategy = Shadow(promote="labels", margin=0.05, **{**QUICK, "window": "1h"})
    shadowed(world, strategy)
    world.mirror(range(600), world.start + MINUTE, true=lambda unit: "yes")

    early, late = tick(world, strategy, 10), tick(world, strategy, 62)

    assert early.kind == "wait" and "labels count 1 hour after their prediction" in early.reason
    assert late.kind == "promote"


def test_what_a_shadow_was_shown_goes_once_it_is_folded_and_judged(world: SimpleNamespace) -> None:
    strategy = Shadow(**{**QUICK, "window": "1h"})
    shadowed(world, strategy)
    shadows, route = Shadows(world.home, "late", rotate_bytes=1), world.deployments.route("late")
    for minute in range(1, 5):  # each in a file of its own
        shown = ShadowRecord(id=f"s{minute}", at=world.start + minute * MINUTE, unit="1", label="yes", said="no")
        shadows.append(ShadowBatch(version=2, revision=route.revision, dropped=0, records=[shown]))
    first, second, third = shadows.older()

    tick(world, strategy, 10)
    forget(world.deployments, "late")
    assert shadows.older() == [first, second, third], "labels may still come"

    action = tick(world, strategy, 62)
    with second.open("rb") as file:  # of another process
        fcntl.flock(file, fcntl.LOCK_SH)
        forget(world.deployments, "late")
        assert shadows.older() == [second, third]
    assert action.data["rows"] == 4 and tick(world, strategy, 63).data["rows"] == 4

    reject(world.deployments, "late", now=world.start)
    forget(world.deployments, "late")
    assert not shadows.older(), "nobody asks for those of a shadow that is over"


def test_a_healthy_shadow_goes_on_as_the_canary_that_is_declared(world: SimpleNamespace) -> None:
    strategy = Shadow(promote="health", then=Canary(steps=(20, 100), min_units=100, min_time=0), **QUICK)
    shadowed(world, strategy)
    world.mirror(range(100), world.start + MINUTE)
    assert tick(world, strategy, 2).kind == "wait", "100 clean units don't show a rate below 1 % yet"

    world.mirror(range(100, 500), world.start + 2 * MINUTE)
    assert tick(world, strategy, 3).kind == "canary"
    route = world.deployments.route("late")
    assert (route.strategy, route.canary, route.share, route.mirrored) == ("canary", 2, 0.2, 0.0)
    assert world.deployments.version("late", 2).state == "canary"

    for minute in range(3, 6):
        world.serve(range(1000 * minute, 1000 * minute + 600), world.start + minute * MINUTE)
        tick(world, strategy, minute + 1)
    assert world.deployments.route("late").champion == 2


def test_silence_ends_in_a_question_at_the_deadline(world: SimpleNamespace) -> None:
    strategy = Shadow(promote="labels", deadline="1h", **QUICK)
    shadowed(world, strategy)
    world.mirror(range(100), world.start + MINUTE)

    assert tick(world, strategy, 30).kind == "wait"
    action = tick(world, strategy, 61)

    assert action.kind == "hold" and action.reason.startswith("undecided after 61 minutes")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"share": 0.0}, "share=0.0"),
        ({"promote": "health"}, "add then=Canary"),
        ({"then": Canary()}, "needs promote='labels' or promote='health'"),
        ({"promote": "silence"}, "'by hand', 'labels' or 'health'"),
    ],
)
def test_a_shadow_that_can_not_be_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said.replace("(", r"\(")):
        Shadow(**arguments)
