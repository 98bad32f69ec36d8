"""A judged bundle gets its traffic by verdict, strategy and evidence; each change is written down with its reason."""

from __future__ import annotations

import random
from datetime import timedelta
from hashlib import blake2b
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from mainspring.core.declarations import Canary, Immediate, Manual
from mainspring.core.errors import NotInStore
from mainspring.release import release as releasing
from mainspring.release.by_hand import promote, rollback
from mainspring.release.release import release, step
from mainspring.store.deployments import Deployments
from mainspring.store.records import FeedbackRecord, Records

CANARY = Canary(steps=(20, 50, 100), guardrails=("errors",), min_units=50, min_time="10m", deadline="1d")
MINUTE = timedelta(minutes=1)


def publish(world: SimpleNamespace, digest: str, strategy: Any = CANARY, next: str = "release", run: str = "") -> Any:
    return release(
        world.verdict(digest, next), strategy=strategy, loop="late", home=world.home, run=run or f"run-{digest}",
        now=world.start,
    )  # fmt: skip


def told(world: SimpleNamespace) -> list[tuple[str, str, int | None]]:
    return [(record.kind, record.decision, record.version) for record in world.deployments.decisions("late")]


def tick(world: SimpleNamespace, minutes: float) -> Any:
    return step(world.deployments, world.records, "late", CANARY, world.start + minutes * MINUTE)


@pytest.mark.parametrize("strategy", [CANARY, Immediate(), Manual()])
def test_the_first_version_takes_all_traffic_at_once(world: SimpleNamespace, strategy: Any) -> None:
    released = publish(world, "aa", strategy)

    route = world.deployments.route("late")
    assert (released.state, released.share, released.version) == ("champion", 1.0, 1)
    assert (route.champion, route.canary, route.previous) == (1, None, None)
    assert told(world) == [("gate", "promote", 1), ("release", "promote", 1)]


def test_a_first_version_that_the_gate_holds_serves_nobody(world: SimpleNamespace) -> None:
    released = publish(world, "aa", next="hold")

    assert released.state == "held" and world.deployments.route("late") is None
    assert world.deployments.version("late", 1).state == "held"
    assert told(world) == [("gate", "hold", 1), ("release", "hold", 1)]


@pytest.mark.parametrize(
    ("strategy", "next", "state", "share"),
    [
        (CANARY, "release", "canary", 0.2),
        (CANARY, "canary", "canary", 0.2),
        (CANARY, "hold", "held", 0.0),
        (Immediate(), "release", "champion", 1.0),
        (Immediate(), "canary", "waiting", 0.0),
        (Immediate(), "hold", "held", 0.0),
        (Manual(), "release", "waiting", 0.0),
        (Manual(), "hold", "held", 0.0),
    ],
)
def test_verdict_and_strategy_place_the_next_version(
    world: SimpleNamespace, strategy: Any, next: str, state: str, share: float
) -> None:
    publish(world, "aa")
    released = publish(world, "bb", strategy, next)

    assert (released.state, released.share) == (state, share)
    assert world.deployments.version("late", 2).state == state
    assert released.reasons[-1] and told(world)[2] == ("gate", world.verdict("bb", next).decision, 2)
    route = world.deployments.route("late")
    assert route.champion == (2 if state == "champion" else 1)
    assert route.previous == (1 if state == "champion" else None)


def test_a_run_that_is_taken_up_again_releases_once(world: SimpleNamespace) -> None:
    publish(world, "aa")
    first = publish(world, "bb")
    decisions, revision = told(world), world.deployments.route("late").revision
    again = publish(world, "bb")

    assert (again.version, again.state, again.share) == (first.version, first.state, first.share)
    assert told(world) == decisions and world.deployments.route("late").revision == revision


def test_a_bundle_that_was_rolled_back_is_not_released_again_by_itself(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb")
    rollback(world.deployments, "late", now=world.start)
    released = publish(world, "bb", run="another")

    assert released.state == "held" and "was rolled back before" in released.reasons[-1]
    assert world.deployments.route("late").canary is None
    assert world.deployments.version("late", 2).state == "rolled back"


def test_a_held_bundle_that_a_milder_gate_lets_through_gets_its_canary(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb", next="hold")

    assert publish(world, "bb", run="later").state == "canary"


def test_a_newer_candidate_replaces_a_running_canary_and_its_evidence(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb")
    world.serve(range(300), world.start)
    tick(world, 2)
    released = publish(world, "cc")

    route = world.deployments.route("late")
    assert route.canary == 3 and "in place of version 2" in world.deployments.decisions("late")[-1].reason
    assert released.state == "canary" and world.deployments.version("late", 2).state == "retired"
    assert world.deployments.load_state("late", "evidence")["units"] == []


def test_a_healthy_canary_climbs_and_is_promoted(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb")
    kinds = []
    for minute in range(0, 60, 12):
        world.serve(range(minute * 1000, minute * 1000 + 2500), world.start + minute * MINUTE)
        kinds.append(tick(world, minute + 11).kind)

    route = world.deployments.route("late")
    assert kinds == ["advance", "promote", "wait", "wait", "wait"]
    assert (route.champion, route.canary, route.previous, route.share) == (2, None, 1, 0.0)
    assert [told(world)[-2][1], told(world)[-1][1]] == ["advance", "promote"]
    assert world.deployments.version("late", 1).state == "retired"


def test_a_failing_canary_is_rolled_back_and_the_champion_serves_on(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb")
    world.serve(range(1000), world.start, fails=lambda arm, unit: arm == "canary" and unit % 5 == 0)
    action = tick(world, 1)

    route = world.deployments.route("late")
    assert action.kind == "rollback" and "e-value" in action.reason
    assert (route.champion, route.canary, route.share) == (1, None, 0.0)
    record = world.deployments.decisions("late")[-1]
    assert (record.decision, record.version, record.reason) == ("rollback", 2, action.reason)
    assert record.data["evidence"]["guardrails"]["errors"]["canary_affected"] > 20


def test_wrong_predictions_count_when_their_labels_come(world: SimpleNamespace) -> None:
    declared = Canary(steps=(50, 100), guardrails=("wrong",), min_units=50, min_time=0)
    publish(world, "aa")
    publish(world, "bb", declared)
    world.serve(range(1500), world.start, right=lambda arm, unit: unit % (3 if arm == "canary" else 10) != 0)
    action = step(world.deployments, world.records, "late", declared, world.start + 2 * MINUTE)

    assert action.kind == "rollback" and action.reason.startswith("wrong: ")


def test_labels_that_come_together_are_one_bin_whatever_times_they_tell(world: SimpleNamespace) -> None:
    declared = Canary(steps=(50, 100), guardrails=("wrong",), min_units=50, min_time=0)
    publish(world, "aa")
    publish(world, "bb", declared)
    world.serve(range(300), world.start)
    labels = [
        FeedbackRecord(
            id=each.id, label="no" if int(each.unit) % (3 if each.arm == "canary" else 10) == 0 else "yes",
            at=world.start - 90 * MINUTE * (300 - int(each.unit)), arrived=world.start,
        )
        for each in world.records.predictions()[0]
    ]  # fmt: skip
    world.records.append_feedback(labels)

    action = step(world.deployments, world.records, "late", declared, world.start + 2 * MINUTE)

    assert action.kind == "rollback" and action.reason.startswith("wrong: ")


def test_a_label_from_the_future_keeps_no_other_from_being_read(world: SimpleNamespace) -> None:
    declared = Canary(steps=(50, 100), guardrails=("wrong",), min_units=50, min_time=0)
    publish(world, "aa")
    publish(world, "bb", declared)
    ahead = FeedbackRecord(id="p", label="yes", at=world.start + 9999 * MINUTE, arrived=world.start)
    world.records.append_feedback([ahead])
    world.serve(range(150), world.start, right=lambda arm, unit: arm == "champion")

    action = step(world.deployments, world.records, "late", declared, world.start + 2 * MINUTE)
    assert action.kind == "rollback"


def test_a_corrected_label_does_not_judge_its_prediction_again(world: SimpleNamespace) -> None:
    declared = Canary(steps=(50, 100), guardrails=("wrong",), min_units=5_000, min_time=0)
    publish(world, "aa")
    publish(world, "bb", declared)
    world.serve(range(300), world.start, right=lambda arm, unit: True)
    step(world.deployments, world.records, "late", declared, world.start + 2 * MINUTE)
    before = world.deployments.load_state("late", "evidence")["guardrails"]

    said = world.records.feedback()[0]
    later = world.start + 3 * MINUTE
    world.records.append_feedback([replace(each, label="no", at=later, corrects=True) for each in said])
    step(world.deployments, world.records, "late", declared, world.start + 5 * MINUTE)

    assert world.deployments.load_state("late", "evidence")["guardrails"] == before


def complaints(world: SimpleNamespace, rate: float, canary_rate: float, minutes: int) -> list[Any]:
    """What is decided each minute of a canary at 20 % of 300 new units a minute, which complain three minutes later."""
    declared = Canary(
        steps=(20, 100), guardrails=("errors", "event:complaint"), min_units=50, min_time="8m", objective=0.05
    )
    publish(world, "aa")
    publish(world, "bb", declared)
    draw, actions = random.Random(1), []
    for minute in range(1, minutes + 1):
        world.serve(
            range(minute * 300, (minute + 1) * 300), world.start + minute * MINUTE, after=3 * MINUTE,
            complains=lambda arm, unit: draw.random() < (canary_rate if arm == "canary" else rate),
        )  # fmt: skip
        # each look is that of a controller that has just been started: all it knows is in the home
        looking = Deployments(world.home), Records(world.home, "late")
        actions.append(step(*looking, "late", declared, world.start + (minute + 1) * MINUTE))
        if actions[-1].kind != "wait":
            break
    return actions


def test_a_canary_of_which_ten_times_as_many_complain_goes(world: SimpleNamespace) -> None:
    *_, last = complaints(world, 0.01, 0.1, minutes=15)

    assert last.kind == "rollback" and last.reason.startswith("complaint: "), last.reason
    assert last.data["thresholds"]["worse"] == 40
    assert world.deployments.route("late").canary is None


def test_a_canary_of_which_as_many_complain_is_promoted_once_units_had_the_time_for_it(world: SimpleNamespace) -> None:
    actions = complaints(world, 0.02, 0.02, minutes=60)

    assert {action.kind for action in actions[:-1]} == {"wait"} and actions[-1].kind == "promote"
    guarded = [action.data["guardrails"]["event:complaint"] for action in actions]
    assert max(each["healthy"] for each in guarded[:7]) <= 1.0 < guarded[-1]["healthy"], "silence counts after min_time"
    assert guarded[-1]["champion_affected"] > 30 and "; complaint: e-value" in actions[-1].reason


def test_slow_answers_count_against_the_champions_own_p95(world: SimpleNamespace) -> None:
    declared = Canary(steps=(50, 100), guardrails=("latency",), min_units=50, min_time=0)
    publish(world, "aa")
    world.serve(range(300), world.start, latency_ms=2.0)
    publish(world, "bb", declared)
    step(world.deployments, world.records, "late", declared, world.start + MINUTE)
    assert world.deployments.load_state("late", "evidence")["slow_ms"] == 2.0

    slow = Records(world.home, "late")
    world.serve(range(1000), world.start + 2 * MINUTE, latency_ms=1.5)
    route = world.deployments.route("late")
    records = [record for record in slow.predictions()[0] if record.revision == route.revision]
    slow.append(
        [
            type(each)(**{**_fields(each), "id": each.id + "s", "latency_ms": 9.0})
            for each in records
            if each.arm == "canary"
        ]
    )
    action = step(world.deployments, world.records, "late", declared, world.start + 4 * MINUTE)

    assert action.kind == "rollback" and action.reason.startswith("latency: ")


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def test_records_from_before_the_release_say_nothing_about_it(world: SimpleNamespace) -> None:
    publish(world, "aa")
    world.serve(range(1000), world.start, fails=lambda arm, unit: True)
    publish(world, "bb")
    tick(world, 5)

    state = world.deployments.load_state("late", "evidence")
    assert state["guardrails"]["errors"]["champion"] == 0


def test_the_running_minute_waits_for_its_end(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb")
    world.serve(range(50), world.start)
    tick(world, 0.5)
    assert world.deployments.load_state("late", "evidence")["units"] == []
    tick(world, 1)
    assert len(world.deployments.load_state("late", "evidence")["units"]) > 0


def test_a_kill_between_reading_and_saving_never_doubles_evidence(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, "aa")
    publish(world, "bb")
    world.serve(range(400), world.start, fails=lambda arm, unit: unit % 40 == 0)
    tick(world, 1)
    once = world.deployments.load_state("late", "evidence")
    world.serve(range(400, 800), world.start + MINUTE, fails=lambda arm, unit: unit % 40 == 0)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(releasing, "_act", killed)
        tick(world, 2)
    assert world.deployments.load_state("late", "evidence") == once
    tick(world, 2)
    tick(world, 3)
    errors = world.deployments.load_state("late", "evidence")["guardrails"]["errors"]
    assert errors["canary"] + errors["champion"] == 20


def test_two_controllers_never_count_the_same_records_twice(
    world: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(world, "aa")
    publish(world, "bb")
    world.serve(range(400), world.start)
    real = releasing.ramp.decide

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(releasing.ramp, "decide", real)
        step(Deployments(world.home), Records(world.home, "late"), "late", CANARY, world.start + 2 * MINUTE)
        return real(*arguments)

    monkeypatch.setattr(releasing.ramp, "decide", meanwhile)
    action = tick(world, 2)

    assert action.kind == "wait" and "changed meanwhile" in action.reason
    assert world.deployments.load_state("late", "evidence")["folds"] == 1


def test_nothing_happens_without_a_canary(world: SimpleNamespace) -> None:
    assert tick(world, 1).kind == "wait"
    publish(world, "aa")
    assert tick(world, 1).reason == "no canary is running"


def test_a_stage_that_lasts_too_long_is_held_once(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb")
    kinds = [tick(world, 24 * 60 + minute).kind for minute in (1, 2, 3)]

    assert kinds == ["hold", "wait", "wait"]
    assert world.deployments.route("late").holding is True
    assert told(world).count(("release", "hold", 2)) == 1


def test_a_person_promotes_the_canary_or_the_waiting_version(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb", Manual())
    assert promote(world.deployments, "late", now=world.start, reason="looks good").number == 2
    publish(world, "cc")
    assert promote(world.deployments, "late", now=world.start).number == 3

    route = world.deployments.route("late")
    assert (route.champion, route.previous, route.canary) == (3, 2, None)
    assert world.deployments.decisions("late")[-4].reason == "looks good"


def test_a_rollback_goes_to_the_previous_champion(world: SimpleNamespace) -> None:
    publish(world, "aa")
    publish(world, "bb", Immediate())
    moved: list[tuple[str, int]] = []
    serving = rollback(
        world.deployments,
        "late",
        now=world.start,
        announce=lambda alias, version: moved.append((alias, version.number)),
    )

    assert serving.number == 1 and moved == [("champion", 1)]
    assert [version.state for version in world.deployments.versions("late")] == ["champion", "rolled back"]
    with pytest.raises(NotInStore, match="neither a canary nor a previous champion"):
        rollback(world.deployments, "late", now=world.start)


def test_what_cannot_be_promoted_is_said(world: SimpleNamespace) -> None:
    with pytest.raises(NotInStore, match="serves no version"):
        rollback(world.deployments, "late", now=world.start)
    with pytest.raises(NotInStore, match="no canary and no waiting version; name one: mainspring promote late@VERSION"):
        promote(world.deployments, "late", now=world.start)
    with pytest.raises(NotInStore, match="late has no version 9"):
        promote(world.deployments, "late", 9, now=world.start)


def test_a_registry_that_fails_undoes_the_release(world: SimpleNamespace) -> None:
    def broken(alias: str, version: Any) -> None:
        raise OSError("no outbox")

    with pytest.raises(OSError, match="no outbox"):
        release(
            world.verdict("aa"),
            strategy=CANARY,
            loop="late",
            home=world.home,
            run="r",
            now=world.start,
            announce=broken,
        )
    assert world.deployments.versions("late") == [] and world.deployments.decisions("late") == []


def test_which_units_meet_a_canary_derives_from_the_loops_seed(world: SimpleNamespace) -> None:
    salts = []
    for digest, seed in (("aa", 0), ("bb", 1), ("cc", 2)):
        release(
            world.verdict(digest), strategy=CANARY, loop="late", home=world.home, run=f"run-{digest}", now=world.start,
            seed=seed,
        )  # fmt: skip
        salts.append(world.deployments.route("late").salt)
    named = "2:late:3:2"  # seed, loop, version, and the route's revision that the canary replaced

    assert salts[2] == blake2b(named.encode(), digest_size=8).hexdigest() != salts[1]
