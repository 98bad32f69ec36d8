"""Runs, steps and owners: what is written once stays, and nobody's run shows as running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mainspring.core.errors import HomeDamaged, NotInStore, StoreError
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.home import Home
from mainspring.store.journal import Claim, Journal
from mainspring.store.ledger import Ledger

PARTS = {"code": {}, "libraries": {}, "parameters": {}, "inputs": {}, "state": None}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


@pytest.fixture
def journal(home: Home) -> Journal:
    return Journal(home)


def finish(home: Home, claim: Claim, name: str, output: Artifact, fingerprint: str = "f1") -> None:
    with opened(home, claim) as ledger:
        ledger.started(name, fingerprint, PARTS, "new")
        ledger.finished(name, output, seconds=1.5, attempt=2, keep_as=name, objects=[])
        ledger.settle()


@contextmanager
def opened(home: Home, claim: Claim) -> Iterator[Ledger]:
    ledger = Ledger(home, claim)
    try:
        yield ledger
    finally:
        ledger.close()


def test_a_finished_step_is_found_by_its_fingerprint(journal: Journal, home: Home) -> None:
    output = Catalog(home).write([1, 2])[0]
    claim = journal.begin("seed", {"trees": 5})
    finish(home, claim, "model", output)
    journal.end(claim, "done")

    hit = journal.hit("seed", "model", "f1")
    assert hit is not None and (hit.output, hit.run, hit.seconds) == (output, claim.run, 1.5)
    assert journal.hit("seed", "model", "f2") is None and journal.hit("other", "model", "f1") is None
    assert journal.run(claim.run).status == "done" and journal.run(claim.run).parameters == {"trees": 5}
    (step,) = journal.steps(claim.run)
    assert (step.status, step.attempt, step.output, step.parts) == ("done", 2, output, PARTS)
    assert [each.name for each in journal.made(output.digest)] == ["model"]
    assert journal.expected_seconds("seed") == {"model": 1.5}


def test_ids_are_short_and_sort_by_time_even_when_the_clock_steps_back(home: Home) -> None:
    now = [datetime(2026, 11, 23, tzinfo=UTC)]
    journal = Journal(home, clock=lambda: now[0])
    ids = []
    for step in (0, 0, 3600, -7200, -86400, 10):
        now[0] += timedelta(seconds=step)
        claim = journal.begin("seed", {})
        journal.end(claim, "done")
        ids.append(claim.run)

    assert ids == sorted(set(ids)) and all(len(each) == 6 and each.isalnum() for each in ids)
    assert [each.id for each in journal.runs("seed")] == ids[::-1]


def test_a_run_whose_writer_let_go_is_interrupted_and_goes_on_as_the_same_run(journal: Journal, home: Home) -> None:
    output = Catalog(home).write(1)[0]
    claim = journal.begin("seed", {"trees": 5})
    finish(home, claim, "rows", output)
    with opened(home, claim) as ledger:
        ledger.started("model", "f2", PARTS, "new")
        ledger.settle()
    assert journal.resume("seed", {"trees": 5}) is None

    journal.release(claim)

    assert journal.runs()[0].status == "interrupted"
    assert [step.status for step in journal.steps(claim.run)] == ["done", "interrupted"]
    assert journal.resume("seed", {"trees": 6}) is None
    assert journal.resume("seed", {"trees": 5}, {"only": ["model"]}) is None
    assert journal.resume("other", {"trees": 5}) is None
    again = journal.resume("seed", {"trees": 5})
    assert again is not None and again.run == claim.run and again.resumed
    assert {name: fingerprint for name, (fingerprint, _) in journal.finished(claim.run).items()} == {"rows": "f1"}


def test_only_the_last_run_is_gone_on_with(journal: Journal) -> None:
    journal.release(journal.begin("seed", {}))
    journal.end(journal.begin("seed", {}), "done")

    assert journal.resume("seed", {}) is None


def test_an_owner_that_lost_its_run_can_write_nothing_more(journal: Journal, home: Home) -> None:
    first = journal.begin("seed", {})
    journal.release(first)
    second = journal.resume("seed", {})
    assert second is not None and second.fence == first.fence + 1

    with pytest.raises(StoreError, match="belongs to another process"):
        finish(home, first, "rows", Catalog(home).write(1)[0])
    with pytest.raises(StoreError, match="belongs to another process"):
        journal.end(first, "done")
    assert journal.steps(first.run) == [] and journal.run(first.run).status == "running"


def test_a_run_can_be_asked_to_stop_while_it_runs(journal: Journal) -> None:
    claim = journal.begin("seed", {})
    assert not journal.cancelled(claim)

    journal.cancel(claim.run)

    assert journal.cancelled(claim)
    journal.end(claim, "cancelled")
    with pytest.raises(StoreError, match=f"run {claim.run} is cancelled, not running"):
        journal.cancel(claim.run)
    with pytest.raises(NotInStore, match="no run 'nobody'"):
        journal.cancel("nobody")


def test_a_damaged_database_is_named(journal: Journal, home: Home) -> None:
    journal.end(journal.begin("seed", {}), "done")
    home.database.close()
    for path in (home.path / "mainspring.db-wal", home.path / "mainspring.db-shm"):
        path.unlink(missing_ok=True)
    (home.path / "mainspring.db").write_bytes(b"SQLite format 3\0" + b"?" * 8000)

    with pytest.raises(HomeDamaged, match="restore it from a backup"):
        journal.runs()


BEGIN = """
    import sys, time
    from pathlib import Path
    from mainspring.store.home import Home
    from mainspring.store.journal import Journal
    print(Journal(Home.open(Path(sys.argv[1]))).begin("seed", {}).run, flush=True)
    time.sleep(60)
"""


def test_a_killed_owner_is_noticed_at_the_next_look_and_a_living_one_is_left_alone(
    journal: Journal, home: Home
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BEGIN), str(home.path)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    with child:
        assert child.stdout is not None
        run = child.stdout.readline().strip()
        assert journal.run(run).status == "running" and journal.run(run).owner["pid"] == child.pid
        assert journal.resume("seed", {}) is None

        child.send_signal(signal.SIGKILL)
        child.wait()

    assert journal.run(run).status == "interrupted"
    again = journal.resume("seed", {})
    assert again is not None and again.run == run


def test_the_journal_needs_no_big_library() -> None:
    code = "import sys, mainspring.execution.engine, mainspring.execution.planning; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ).stdout.split()  # fmt: skip

    assert not {"polars", "numpy", "pandas", "pyarrow", "sklearn", "mlflow", "sqlalchemy", "asyncio"} & set(loaded)
