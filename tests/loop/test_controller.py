"""The controller: one tick one decision, and what was asked for survives whoever was asked."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mainspring.app.project import Loop, Surroundings
from mainspring.core.declarations import Immediate, Monitor, Retrain
from mainspring.core.errors import Conflict, NotInStore
from mainspring.loop.controller import NEXT, PENDING, Controller, Turned
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Turns:
    """Stands where the step process is: notes what was asked for; *open* turns end when the test says so."""

    def __init__(self, act: Callable[[str, datetime], str] | None = None) -> None:
        self.asked: list[datetime] = []
        self.open: list[Future[Turned]] = []
        self.act = act
        self.hold = False

    def __call__(self, loop: str, now: datetime) -> Future[Turned]:
        self.asked.append(now)
        future: Future[Turned] = Future()
        self.open.append(future)
        if not self.hold:
            self.end(self.act(loop, now) if self.act else "")
        return future

    def end(self, error: str = "") -> None:
        turned = Turned("r", "failed" if error else "done", None if error else "late@1", (), error, 0.1)
        self.open.pop().set_result(turned)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Loop]:
    """A home with a champion, and its loop."""
    import numpy as np
    import polars as pl
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("controller")
    random = np.random.default_rng(3)
    x = random.normal(size=(400, 2))
    y = (x[:, 0] + random.normal(size=400) > 0).astype(int)
    frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": y})
    loop = Loop(
        "late", frame, "y", LogisticRegression(), release=Immediate(),
        monitor=Monitor(every="1d"), retrain=Retrain(every="3d", cooldown="1d", min_labels=1),
    )  # fmt: skip
    home = Home.open(folder / ".mainspring")
    done = loop.start(Surroundings(home, clock=lambda: START), {})
    assert done.model == "late@1", done.error
    return folder / ".mainspring", loop


@pytest.fixture
def home(released: tuple[Path, Loop], tmp_path: Path) -> Home:
    import shutil

    shutil.copytree(released[0], tmp_path / ".mainspring")
    home = Home.open(tmp_path / ".mainspring")
    Deployments(home).set_clock(START)
    return home


@pytest.fixture
def control(released: tuple[Path, Loop], home: Home) -> Callable[..., Controller]:
    def make(turns: Turns, *, changed: bool = False) -> Controller:
        return Controller(
            home, {"late": released[1].declaration}, turn=turns, changed=lambda _: changed, manual=True,
            endpoint="http://127.0.0.1:1", say=lambda _: None,
        )  # fmt: skip

    return make


def decided(home: Home, kind: str) -> list[tuple[datetime, str]]:
    return [(each.at, each.decision) for each in Deployments(home).decisions("late") if each.kind == kind]


def test_a_start_with_a_champion_and_nothing_new_turns_nothing(control: Callable[..., Controller]) -> None:
    turns = Turns()
    control(turns).start()

    assert turns.asked == []


def test_a_changed_declaration_is_turned_and_the_reason_written(control: Callable[..., Controller], home: Home) -> None:
    turns = Turns()
    control(turns, changed=True).start()

    assert turns.asked == [START]
    assert decided(home, "retrain")[-1] == (START, "retrain")
    assert Deployments(home).load_state("late", PENDING) is None


def test_each_due_report_is_made_once_and_each_decision_has_a_reason(
    control: Callable[..., Controller], home: Home
) -> None:
    works = control(Turns())
    Deployments(home).save_state("late", NEXT, (START + DAY).isoformat())

    works.advance(START + 2.5 * DAY)
    works.advance(START + 2.6 * DAY)

    assert [at for at, _ in decided(home, "monitor")] == [START + DAY, START + 2 * DAY]
    assert all(each.reason for each in Deployments(home).decisions("late"))


def test_a_turn_that_was_asked_for_is_taken_up_by_the_next_controller(
    control: Callable[..., Controller], home: Home
) -> None:
    killed = Turns()
    killed.hold = True
    control(killed)._ask("late", START, "by hand", "because I say so")

    turns = Turns()
    control(turns).start()

    assert turns.asked == [START]
    assert Deployments(home).load_state("late", PENDING) is None


def test_what_is_asked_for_while_a_turn_runs_comes_after_it(control: Callable[..., Controller], home: Home) -> None:
    turns = Turns()
    works = control(turns)
    works.manual = False
    turns.hold = True
    works.turn("late", "first")
    works.turn("late", "second")
    assert len(turns.asked) == 1

    turns.end()
    works.tick(datetime.now(UTC))

    assert len(turns.asked) == 2
    reasons = [each.reason for each in Deployments(home).decisions("late") if each.decision == "retrain"]
    assert any("second" in reason for reason in reasons)


def test_a_failed_turn_is_written_down_with_its_error(control: Callable[..., Controller], home: Home) -> None:
    works = control(Turns(lambda loop, now: "column 'a' is gone"), changed=True)
    works.start()

    last = [each for each in Deployments(home).decisions("late") if each.kind == "retrain"][-1]
    assert last.decision == "failed" and "column 'a' is gone" in last.reason


def test_the_manual_clock_only_moves_forward(control: Callable[..., Controller]) -> None:
    works = control(Turns())
    works.advance(START + DAY / 2)

    with pytest.raises(Conflict, match="only moves forward"):
        works.advance(START)


def test_the_systems_clock_can_not_be_moved(control: Callable[..., Controller]) -> None:
    works = control(Turns())
    works.manual = False

    with pytest.raises(Conflict, match="--clock manual"):
        works.advance(START)


def test_an_unknown_loop_is_named(control: Callable[..., Controller]) -> None:
    with pytest.raises(NotInStore, match="nobody"):
        control(Turns()).decisions("nobody")
