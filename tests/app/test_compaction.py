"""`serve` alone keeps its records compacted, by a process that stands back and that may be killed."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mainspring.app.compaction import Compaction
from mainspring.store.history import History
from mainspring.store.home import Home
from mainspring.store.records import PredictionRecord, Records


def test_an_endpoint_outlives_a_compaction_that_can_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_process(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    home = Home.open(tmp_path / ".mainspring")
    records = Records(home, "late", rotate_bytes=60)
    for number in range(9):
        records.append([PredictionRecord(id=f"p{number}", at=datetime(2013, 4, 1, tzinfo=UTC), row={"delay": 1.5})])
    records.sync()
    monkeypatch.setattr("mainspring.app.compaction.subprocess.Popen", no_process)

    compaction = Compaction(home, look_seconds=0)
    for _ in range(3):
        compaction.keep()
    compaction.end()

    assert capfd.readouterr().err.count("records can't be compacted now: [Errno 11]") == 1


def test_records_that_wait_are_compacted_beside_the_endpoint(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")
    compaction, records = Compaction(home, look_seconds=0), Records(home, "late", rotate_bytes=60)
    compaction.keep()
    for number in range(9):
        records.append([PredictionRecord(id=f"p{number}", at=datetime(2013, 4, 1, tzinfo=UTC), row={"delay": 1.5})])
    records.sync()  # a file that is full is let go once it is durable
    assert len(records.segments("predictions").files()) > 3

    deadline = time.monotonic() + 60
    while len(records.segments("predictions").files()) > 1 and time.monotonic() < deadline:
        compaction.keep()
        time.sleep(0.05)
    compaction.end()

    assert len(records.segments("predictions").files()) == 1
    assert [each.id for each in History(home, "late").predictions()[0]] == [f"p{number}" for number in range(9)]
