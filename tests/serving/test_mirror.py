"""What the champion answers is shown to a shadow, which harms nobody whatever it does."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from answering import World, serving
from stand_in import ROW, Logistic

from mainspring.serving import mirror
from mainspring.serving.mirror import Mirror
from mainspring.statistics.metrics import Predictions
from mainspring.store.shadows import ShadowRecord, Shadows


def shadowing(tmp_path: Path, shadow: Logistic, share: float = 1.0, most_waiting: int = 2_000) -> World:
    """An endpoint whose second version is a shadow."""
    world = serving(tmp_path, Logistic(), shadow, share=0.0)
    routing = world.served.routing
    world.served.routing = replace(routing, route=replace(routing.route, strategy="shadow", mirrored=share))
    world.served.mirror = Mirror(Shadows(world.home, "flights"), most_waiting)
    return world


def shown(world: World) -> list[ShadowRecord]:
    batches = Shadows(world.home, "flights").batches()
    return [record for _, batch in batches for record in batch.records]


def settled(world: World) -> None:
    """Wait until the queue is empty."""
    end = time.monotonic() + 10
    while world.served.mirror.waiting and time.monotonic() < end:
        time.sleep(0.01)


class Slow(Logistic):
    """Waits until it may *go*, once it is *stopped*."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped, self.go = False, threading.Event()

    def predict(self, rows: pl.DataFrame) -> Predictions:
        if self.stopped:
            self.go.wait(10)
        return super().predict(rows)


def test_a_shadow_is_shown_each_answered_row_and_answers_none(tmp_path: Path) -> None:
    world = shadowing(tmp_path, Logistic(slope=-0.1))
    answers = [world.post("/predict/flights", {**ROW, "id": unit}).json() for unit in range(20)]
    settled(world)

    assert {answer["model"] for answer in answers} == {"flights@1"}
    kept = shown(world)
    assert [each.id for each in kept] == [answer["ids"][0] for answer in answers]
    assert {(each.label, each.said, each.error) for each in kept} == {("no", "yes", None)}
    assert {each.propensity for each in world.predictions()} == {1.0}


def test_only_the_declared_share_of_the_units_is_mirrored_and_sticks(tmp_path: Path) -> None:
    world = shadowing(tmp_path, Logistic(), share=0.3)
    for unit in range(200):
        for _ in range(2):
            world.post("/predict/flights", ROW, headers={"Mainspring-Unit": str(unit)})
    settled(world)

    units = [each.unit for each in shown(world)]
    assert 40 <= len(set(units)) <= 80 and len(units) == 2 * len(set(units))


def test_a_shadow_that_raises_spoils_no_answer_and_its_failures_are_kept(tmp_path: Path) -> None:
    world = shadowing(tmp_path, Logistic(fail_on="XX"))
    answers = [world.post("/predict/flights", {**ROW, "carrier": "XX"}) for _ in range(5)]
    settled(world)

    assert {answer.status_code for answer in answers} == {200}
    assert len(shown(world)) == 5 and all(each.error for each in shown(world))


def test_a_shadow_that_dawdles_slows_no_answer_and_what_finds_no_place_is_counted(tmp_path: Path) -> None:
    slow = Slow()
    world = shadowing(tmp_path, slow, most_waiting=10)
    slow.stopped = True

    async def ask() -> list[int]:
        async with world.client() as client:
            return [(await client.post("/predict/flights", json=ROW)).status_code for _ in range(60)]

    began = time.monotonic()
    codes = asyncio.run(ask())
    took = time.monotonic() - began
    waiting, dropped = world.served.mirror.waiting, world.served.mirror.dropped
    slow.go.set()
    settled(world)

    assert set(codes) == {200} and took < 5, "the shadow would have waited for 10 seconds"
    assert (waiting, dropped) == (10, 50)
    assert 'mainspring_shadow_dropped{loop="flights"} 50' in world.get("/metrics").text
    world.post("/predict/flights", ROW)
    settled(world)
    assert sum(batch.dropped for _, batch in Shadows(world.home, "flights").batches()) == 50


@pytest.mark.parametrize("seconds", [2.0, 0.0])
def test_what_waits_when_the_process_ends_is_shown_or_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(mirror, "_PARTING_SECONDS", seconds)
    slow = Slow()
    world = shadowing(tmp_path, slow)
    slow.stopped = True
    for _ in range(20):
        world.post("/predict/flights", ROW)
    threading.Timer(0.1, slow.go.set).start()
    world.served.mirror.stop()

    dropped = sum(batch.dropped for _, batch in Shadows(world.home, "flights").batches())
    assert len(shown(world)) + dropped == 20 and (dropped == 0) == (seconds > 0)
    assert world.served.mirror.waiting == 0 and world.served.mirror.dropped == dropped


def test_what_waits_behind_a_candidate_that_does_not_come_back_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "_PARTING_SECONDS", 0.05)
    monkeypatch.setattr(mirror, "_LONGEST_SECONDS", 0.05)
    slow = Slow()
    world = shadowing(tmp_path, slow)
    slow.stopped = True
    for _ in range(20):
        world.post("/predict/flights", ROW)
    world.served.mirror.stop()
    slow.go.set()

    assert sum(batch.dropped for _, batch in Shadows(world.home, "flights").batches()) == 20
    assert world.served.mirror.dropped == 20 and shown(world) == []
