"""`serve` alone keeps its records compacted, by a process that stands back and that may be killed."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from mainspring.app.compaction import Compaction
from mainspring.store.history import History
from mainspring.store.home import Home
from mainspring.store.records import PredictionRecord, Records


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
