"""The ledger: groups that are durable as a whole, told only then, and never written by who has lost the run."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.errors import StoreError
from mainspring.store.catalog import Catalog
from mainspring.store.home import Home
from mainspring.store.journal import Journal
from mainspring.store.ledger import Ledger

PARTS: dict[str, Any] = {"code": {}, "libraries": {}, "parameters": {}, "inputs": {}, "state": None}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


@pytest.fixture
def journal(home: Home) -> Journal:
    return Journal(home)


def finish(ledger: Ledger, home: Home, name: str, value: Any) -> None:
    artifact, objects = Catalog(home).write(value)
    ledger.started(name, f"f-{name}", PARTS, "new")
    ledger.finished(name, artifact, seconds=0.5, attempt=1, keep_as=name, objects=objects)


def test_what_is_settled_is_there_for_every_other_reader(home: Home, journal: Journal) -> None:
    claim = journal.begin("seed", {})
    ledger = Ledger(home, claim)
    for number in range(50):
        finish(ledger, home, f"s{number}", [number] * 5000)
        ledger.push()
    ledger.settle()

    with sqlite3.connect(home.path / "mainspring.db") as other:
        assert other.execute("select count(*) from steps where status = 'done'").fetchone() == (50,)
        assert other.execute("select count(*) from cache").fetchone() == (50,)
    assert [step.name for step in journal.steps(claim.run)] == [f"s{number}" for number in range(50)]
    assert all(Catalog(home).sound(step.output) for step in journal.steps(claim.run) if step.output)
    ledger.close()


def test_nothing_is_told_before_it_is_durable(home: Home, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("synced"), sync(descriptor))[1])
    ledger = Ledger(home, journal.begin("seed", {}))
    order.clear()

    finish(ledger, home, "big", "x" * 100_000)
    ledger.tell(lambda: order.append("told"))
    ledger.push()
    assert "told" not in order
    ledger.settle()

    assert order == ["synced", "synced", "told"]  # the object, its folder
    ledger.close()


def test_the_fast_mode_waits_for_no_disk(home: Home, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(home, journal.begin("seed", {}), "fast")
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("fsync in the fast mode"))
    finish(ledger, home, "big", "x" * 100_000)
    ledger.settle()

    with sqlite3.connect(home.path / "mainspring.db") as other:
        assert other.execute("select status from steps").fetchall() == [("done",)]
    ledger.close()


def test_who_has_lost_the_run_writes_nothing_and_is_told(home: Home, journal: Journal) -> None:
    first = journal.begin("seed", {})
    journal.release(first)
    assert journal.resume("seed", {}) is not None
    ledger = Ledger(home, first)
    finish(ledger, home, "late", 1)

    with pytest.raises(StoreError, match="belongs to another process"):
        ledger.settle()
    with pytest.raises(StoreError, match="belongs to another process"):
        ledger.push()
    assert journal.steps(first.run) == [] and journal.hit("seed", "late", "f-late") is None
    ledger.close()


def test_a_group_is_all_or_nothing(home: Home, journal: Journal) -> None:
    claim = journal.begin("seed", {})
    ledger = Ledger(home, claim)
    finish(ledger, home, "good", 1)
    ledger.started("bad", "f", PARTS, "new")
    ledger.finished("bad", Catalog(home).write(2)[0], seconds=float("nan"), attempt=1, keep_as="bad", objects=[])

    with pytest.raises(StoreError, match=r"can't be written .*NOT NULL constraint failed"):
        ledger.settle()
    assert journal.steps(claim.run) == [] and journal.hit("seed", "good", "f-good") is None
    ledger.close()


def test_a_cancelled_run_is_noticed_with_the_next_group(home: Home, journal: Journal) -> None:
    claim = journal.begin("seed", {})
    ledger = Ledger(home, claim)
    journal.cancel(claim.run)
    assert not ledger.cancelled
    finish(ledger, home, "one", 1)
    ledger.settle()

    assert ledger.cancelled
    ledger.close()


def test_any_text_of_an_error_can_be_written(home: Home, journal: Journal) -> None:
    claim = journal.begin("seed", {})
    ledger = Ledger(home, claim)
    ledger.failed("odd", "a\0b \ud800", 'trace "quoted"\n\\', attempt=2, seconds=0.1)
    ledger.settle()

    (step,) = journal.steps(claim.run)
    assert (step.reason, step.trace, step.attempt) == ("a\\0b \\ud800", 'trace "quoted"\n\\', 2)
    ledger.close()
