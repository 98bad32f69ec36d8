"""The works: what is due, one tick one decision, and that nothing which was asked for gets lost."""

from __future__ import annotations

import threading
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from living import DONE, START, TRAINED_ROWS, Turns, drive, loop, serve, table

import mainspring as ms
from mainspring.core.errors import Conflict, NotInStore, TrainingError
from mainspring.loop import watch
from mainspring.loop.controller import NEXT, RETRY
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.lookups import Lookups

DAY = timedelta(days=1)
SCHEDULE = ms.Retrain(on=(), every="3d", cooldown="2d", min_labels=10)


def put_clock(home: Home, at: object = START) -> None:
    Deployments(home).set_clock(at)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------- the start


def test_a_loop_without_a_champion_gets_its_first_turn_at_once(empty: Home) -> None:
    put_clock(empty)
    driven = drive(empty, loop().declaration)

    driven.controller.start()

    assert driven.turns.asked == [("late", START)] and driven.decisions == []
    assert any("the turn ended" in line for line in driven.said)


def test_a_loop_with_a_champion_waits_for_a_reason(home: Home) -> None:
    put_clock(home)
    driven = drive(home, loop().declaration)

    driven.controller.start()

    assert driven.turns.asked == [] and driven.decisions == []


def test_a_changed_declaration_is_turned_with_a_written_reason_that_survives_a_kill(home: Home) -> None:
    put_clock(home)
    killed = drive(home, loop().declaration, Turns(None), changed=True, manual=False)
    killed.controller.start()
    assert killed.decisions == [("retrain", "retrain", "changed")] and len(killed.turns.asked) == 1

    after = drive(home, loop().declaration, changed=False)  # half done, so the code looks like that of the last turn
    after.controller.start()

    assert after.turns.asked == killed.turns.asked and after.decisions == []


# -------------------------------------------------------------------------------------------------------------- ticks


def test_before_its_time_nothing_is_reported_and_then_once(home: Home) -> None:
    put_clock(home)
    driven = drive(home, loop().declaration)

    for hours in (1, 24, 24.9):  # a champion of `mainspring run`: the first report is due a period after the first tick
        driven.controller.advance(START + timedelta(hours=hours))
    assert driven.decisions == []

    for hours in (25, 25, 26):
        driven.controller.advance(START + timedelta(hours=hours))
    assert driven.decisions == [("monitor", "report", ""), ("retrain", "wait", "nothing new")]


def test_each_window_has_one_report_and_one_decision_whatever_the_ticks(home: Home) -> None:
    put_clock(home)
    Deployments(home).save_state("late", "next_report", (START + DAY).isoformat())
    one, many = drive(home, loop().declaration), drive(home, loop().declaration)

    one.controller.advance(START + 2 * DAY)
    for hours in range(49, 97):
        many.controller.advance(START + timedelta(hours=hours))

    reports = [each for each in Deployments(home).decisions("late") if each.kind == "monitor"]
    assert [each.at for each in reports] == [START + day * DAY for day in (1, 2, 3, 4)]
    decided = [each for each in Deployments(home).decisions("late") if each.kind == "retrain"]
    assert [each.at for each in decided] == [each.at for each in reports] and all(each.reason for each in decided)


def test_after_a_standstill_the_last_windows_are_reported_and_the_rest_told(home: Home) -> None:
    put_clock(home)
    Deployments(home).save_state("late", "next_report", (START + timedelta(minutes=1)).isoformat())
    driven = drive(home, loop(monitor=ms.Monitor(every="1m")).declaration)

    driven.controller.advance(START + timedelta(minutes=250))

    reports = [each.at for each in Deployments(home).decisions("late") if each.kind == "monitor"]
    assert len(reports) == 100 and reports[-1] == START + timedelta(minutes=250)
    assert any("150 reports fell into a standstill and are left out" in line for line in driven.said)


def test_a_tick_that_fails_is_told_and_the_works_go_on(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    driven, ticked = drive(home, loop().declaration, manual=False), threading.Event()

    def tick(_: object) -> None:
        if any("database is locked" in line for line in driven.said):
            ticked.set()
            return
        raise OSError("database is locked")

    monkeypatch.setattr("mainspring.loop.controller.TICK_SECONDS", 0.01)
    monkeypatch.setattr(driven.controller, "tick", tick)
    thread = threading.Thread(target=driven.controller.work)
    thread.start()

    assert ticked.wait(10)
    driven.controller.stop()
    thread.join(10)
    assert not thread.is_alive() and "mainspring: OSError: database is locked" in driven.said


def test_a_loop_that_fails_keeps_no_other_from_its_turn_and_is_told_once(home: Home) -> None:
    driven, deployments = drive(home, loop().declaration, manual=False), Deployments(home)
    driven.controller.declarations["second"] = replace(loop().declaration, name="second")
    deployments.save_state("late", NEXT, "no time")
    deployments.save_state("second", NEXT, START.isoformat())

    for _ in range(3):
        driven.controller.tick(START + DAY)

    assert [name for name, _ in driven.turns.asked] == ["second"]
    assert [line for line in driven.said if line.startswith("late:")] == [
        "late: ValueError: Invalid isoformat string: 'no time'; it is tried again"
    ]


# ---------------------------------------------------------------------------------------------------------- the clock


def test_the_manual_clock_only_moves_forward(home: Home) -> None:
    put_clock(home)
    driven = drive(home, loop().declaration)
    driven.controller.advance(START + DAY)

    with pytest.raises(Conflict, match=r"the clock stands at 2024-03-02T00:00:00.* and only moves forward"):
        driven.controller.advance(START)

    assert Deployments(home).clock() == START + DAY
    assert driven.controller.status()["now"] == (START + DAY).isoformat()


def test_the_systems_clock_is_not_moved_by_hand(home: Home) -> None:
    driven = drive(home, loop().declaration, manual=False)

    with pytest.raises(Conflict, match="start with `mainspring up --clock manual`"):
        driven.controller.advance(START + DAY)

    assert driven.controller.status()["clock"] == "system" and Deployments(home).clock() is None


# --------------------------------------------------------------------------------------------------------- retraining


def test_new_rows_and_a_schedule_make_one_turn_and_then_there_is_a_cooldown(home: Home) -> None:
    put_clock(home)
    Deployments(home).save_state("late", "next_report", (START + DAY).isoformat())
    driven = drive(home, loop(TRAINED_ROWS + 50, retrain=SCHEDULE).declaration)

    answer = driven.controller.advance(START + 5 * DAY)

    assert driven.turns.asked == [("late", START + 3 * DAY)]
    causes = [cause for kind, _, cause in driven.decisions if kind == "retrain"]
    assert causes == ["cooldown", "few labels", "schedule", "cooldown", "few labels"]
    assert [each["decision"] for each in answer["decisions"]["late"]].count("retrain") == 1


def test_a_request_survives_a_new_controller_and_is_answered_once(home: Home) -> None:
    put_clock(home)
    Deployments(home).save_state("late", "next_report", (START + 3 * DAY).isoformat())
    declared = loop(TRAINED_ROWS + 50, retrain=SCHEDULE).declaration
    killed = drive(home, declared, Turns(None), manual=False)
    killed.controller.tick(START + 3 * DAY)
    assert len(killed.turns.asked) == 1

    after = drive(home, declared)
    after.controller.start()
    after.controller.advance(START + 3 * DAY + timedelta(hours=1))

    assert after.turns.asked == killed.turns.asked and after.decisions == []
    again = drive(home, declared)
    again.controller.start()
    assert again.turns.asked == []


def test_what_is_asked_while_a_turn_runs_is_done_after_it(home: Home) -> None:
    driven = drive(home, loop().declaration, Turns(None), manual=False)
    driven.controller.turn("late", "first")
    driven.controller.turn("late", "second")
    assert len(driven.turns.asked) == 1

    driven.turns.running[0].set_result(DONE)
    driven.controller.tick(START)
    driven.turns.running[1].set_result(DONE)
    driven.controller.tick(START)
    driven.controller.tick(START)

    assert len(driven.turns.asked) == 2 and driven.turns.asked[0] != driven.turns.asked[1]
    assert driven.decisions == [("retrain", "retrain", "by hand")] * 2


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (replace(DONE, status="failed", model=None, error="no such file: 'x.csv'"), "no such file: 'x.csv'"),
        (BrokenProcessPool(), "the step process died (out of memory?)"),
        (TrainingError("all rows\nare alike"), "the turn failed: all rows are alike"),
        (ZeroDivisionError("nobody foresaw"), "the turn failed: ZeroDivisionError: nobody foresaw"),
    ],
)
def test_a_turn_that_fails_is_written_down_and_its_labels_are_still_new(home: Home, result: object, said: str) -> None:
    put_clock(home)
    serve(home, table(260).tail(20), START + timedelta(hours=1), label_after=timedelta(hours=1))
    Deployments(home).save_state("late", "next_report", (START + 3 * DAY).isoformat())
    driven = drive(home, loop(retrain=SCHEDULE).declaration, Turns(result))  # type: ignore[arg-type]

    driven.controller.advance(START + 3 * DAY)

    last = Deployments(home).decisions("late")[-1]
    assert (last.kind, last.decision) == ("retrain", "failed") and said in last.reason and "\n" not in last.reason
    report, _ = watch.Watch.of(home, driven.controller.declarations["late"]).report(START + 4 * DAY)
    assert report.new_labels == 20 and report.in_cooldown
    driven.turns.result = DONE
    driven.controller.advance(START + 6 * DAY)
    assert driven.turns.asked == [("late", START + 3 * DAY), ("late", START + 6 * DAY)]
    report, _ = watch.Watch.of(home, driven.controller.declarations["late"]).report(START + 7 * DAY)
    assert report.new_labels == 0


def test_without_a_champion_the_turn_is_tried_again_and_the_same_failure_told_once(empty: Home) -> None:
    put_clock(empty)
    failed = replace(DONE, status="failed", model=None, error="no such file: 'x.csv'")
    driven = drive(empty, loop().declaration, Turns(failed))
    driven.controller.start()
    driven.controller.advance(START + RETRY / 2)
    assert driven.turns.asked == [("late", START)]

    driven.controller.advance(START + RETRY)
    driven.turns.result = replace(failed, error="'x.csv' is empty")
    driven.controller.advance(START + DAY)

    assert driven.turns.asked[1:] == [("late", START + RETRY), ("late", START + DAY)]
    reasons = [each.reason for each in Deployments(empty).decisions("late")]
    assert reasons == ["the turn failed: no such file: 'x.csv'", "the turn failed: 'x.csv' is empty"]


def test_a_first_version_that_the_gate_holds_back_is_tried_again_once_a_period(empty: Home) -> None:
    put_clock(empty)
    driven = drive(empty, loop().declaration, Turns(replace(DONE, status="held")))
    driven.controller.start()

    for hours in (1, 23, 24, 25, 47):
        driven.controller.advance(START + timedelta(hours=hours))

    assert driven.turns.asked == [("late", START), ("late", START + DAY)]


def test_once_is_a_turn_and_a_report_and_its_code_tells_how_it_went(home: Home) -> None:
    for result, code in ((DONE, 0), (replace(DONE, status="held"), 3), (replace(DONE, error="no rows"), 1)):
        driven = drive(home, loop().declaration, Turns(result), manual=False)

        assert driven.controller.once() == code
        assert [kind for kind, *_ in driven.decisions][-2:] == ["monitor", "retrain"]


# ------------------------------------------------------------------------------------------------- what a person asks


def test_a_person_moves_versions_and_the_reason_is_kept(home: Home) -> None:
    put_clock(home, START + DAY)
    deployments = Deployments(home)
    first = deployments.version("late", 1)
    second = deployments.register(
        "late", replace(first.bundle, digest="f" * 64), run="r2", champion_digest=first.digest, metrics={}, at=START
    )
    driven = drive(home, loop().declaration)

    assert driven.controller.promote("late", second, "better at night") == {"reason": "late@2 has all traffic"}
    assert driven.controller.rollback("late", "worse by day")["reason"] == "late@1 has all traffic again"

    told = [(each.decision, each.reason, each.at) for each in deployments.decisions("late")[-2:]]
    assert told == [("promote", "better at night", START + DAY), ("rollback", "worse by day", START + DAY)]
    assert [each["state"] for each in driven.controller.models("late")] == ["champion", "rolled back"]


def test_a_loop_that_is_not_here_is_named_with_those_that_are(home: Home) -> None:
    works = drive(home, loop().declaration).controller

    for ask in (
        lambda: works.models("early"),
        lambda: works.decisions("early"),
        lambda: works.promote("early", 1, "x"),
        lambda: works.rollback("early", "x"),
        lambda: works.turn("early", "x"),
    ):
        with pytest.raises(NotInStore, match="no loop 'early' here; there are late"):
            ask()


def test_the_status_tells_who_has_the_traffic_and_what_is_next(home: Home) -> None:
    put_clock(home)
    driven = drive(home, loop().declaration, Turns(None))
    driven.controller._start("late", START)

    status = driven.controller.status()

    assert status["clock"] == "manual" and status["endpoint"] == "http://127.0.0.1:8700"
    assert status["loops"]["late"]["route"]["champion"] == 1 and status["loops"]["late"]["turning"] is True


def test_a_canary_moves_on_with_the_clock_and_silence_holds_it_at_the_deadline(home: Home) -> None:
    put_clock(home)
    strategy = ms.Canary(steps=(20, 100), min_units=20, min_time="1h", deadline="2d", guardrails=("errors",))
    deployments = Deployments(home)
    first = deployments.version("late", 1)
    deployments.register(
        "late", replace(first.bundle, digest="e" * 64), run="r2", champion_digest=first.digest, metrics={}, at=START
    )
    route = deployments.route("late")
    assert route is not None
    deployments.change_route(
        replace(route, canary=2, share=0.2, step_started=START, started=START, salt="s"), expected=route.revision
    )
    driven = drive(home, loop(release=strategy).declaration)

    driven.controller.advance(START + DAY)
    assert not any(each[0] == "release" for each in driven.decisions)
    driven.controller.advance(START + 3 * DAY)

    assert ("release", "hold", "") in driven.decisions
    held = deployments.route("late")
    assert held is not None and held.holding and held.canary == 2 and held.share == 0.2


# ------------------------------------------------------------------------------------------------- what is looked up


def test_between_two_turns_the_endpoint_sees_what_a_joins_right_side_tells(home: Home, tmp_path: Path) -> None:
    weather = tmp_path / "weather.csv"
    weather.write_text("city,wind\nBern,1\n")
    joined = replace(loop().declaration, source=ms.join(ms.frame(table()), str(weather), on="city"))
    driven = drive(home, joined)
    put_clock(home)

    def told() -> list[object]:
        rows = [{"city": "Bern"}, {"city": "Oslo"}]
        return [row.get("wind") for row in Lookups(home, "late").complete(rows, {"wind"})]

    driven.controller.advance(START + timedelta(hours=1))
    assert told() == [1, None]

    weather.write_text("city,wind\nBern,1\nOslo,7\n")
    driven.controller.advance(START + timedelta(hours=2))
    assert told() == [1, 7]

    weather.unlink()
    driven.controller.advance(START + timedelta(hours=3))
    assert told() == [1, 7] and any("can't be read on" in line for line in driven.said)
