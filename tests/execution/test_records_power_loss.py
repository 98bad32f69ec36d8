"""Power loss while records are written and compacted: what was acknowledged is there, once, and a start goes on."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from power import Disk
from soak import Soak
from syscalls import Call, Syscalls, build, compiler

from mainspring.store.history import History, compact
from mainspring.store.home import Home
from mainspring.store.tables import Table

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler (cc, gcc, clang) to build the log of calls")

SAMPLE = 40
SHARES = (0.0, 0.5, 0.9)
_WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from mainspring.store.history import compact
from mainspring.store.home import Home
from mainspring.store.records import FeedbackRecord, PredictionRecord, Records

root, at = Path(sys.argv[1]), datetime(2024, 1, 1, tzinfo=UTC)
home = Home.open(root / ".mainspring")
records = Records(home, "late", rotate_bytes=700)
with open(root / "told.txt", "w", buffering=1) as told:
    for number in range(45):
        records.append([PredictionRecord(id=f"p{number}", at=at, key=number, version=1, loop="late")])
        records.sync()
        records.append_feedback([FeedbackRecord(id=f"p{number}", label="yes", at=at, arrived=at)])
        told.write(f"p{number}\\n")
        if number % 15 == 14:
            compact(home, "late")
"""


@dataclass(frozen=True)
class Recorded:
    """An undisturbed run, call by call; told: the predictions that were acknowledged by then."""

    root: Path
    calls: list[Call]
    told: list[frozenset[str]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    folder = tmp_path_factory.mktemp("power")
    root = folder / "root"
    root.mkdir()
    syscalls = Syscalls(folder / "state", log_bytes=64 << 20)
    syscalls.tell(root, log=True)
    environment = {**os.environ, "LD_PRELOAD": str(build(folder)), "SYSCALLS_STATE": str(folder / "state")}
    subprocess.run([sys.executable, "-c", _WRITER, str(root)], check=True, env=environment, timeout=60)
    calls, shown, told = list(syscalls.calls()), "", []
    for call in calls:
        shown += call.data.decode() if call.path.endswith("told.txt") else ""
        told.append(frozenset(shown.split()))
    return Recorded(root, calls, told)


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=(pytest.mark.soak, pytest.mark.timeout(7200)))])
def test_acknowledged_records_survive_a_power_loss_once(recorded: Recorded, full: bool) -> None:
    assert len(recorded.told[-1]) == 45
    begun = next(index for index, told in enumerate(recorded.told) if told)
    every = [f"{share} {index}" for index in range(begun, len(recorded.calls)) for share in SHARES]
    soak = Soak("records-power", short=not full)
    for point in soak.points(every if full else random.Random(2).sample(every, SAMPLE)):
        try:
            lose_power(recorded, point)
        except AssertionError as error:
            call = recorded.calls[int(point.split()[1]) - 1]
            soak.failed(f"{point} (after {call.name} {Path(call.path).name})", error)
    soak.assert_passed()


def lose_power(recorded: Recorded, point: str) -> None:
    share, index = float(point.split()[0]), int(point.split()[1])
    disk = Disk(recorded.root / ".mainspring")
    disk.happen(recorded.calls[:index])
    shutil.rmtree(recorded.root / ".mainspring")
    disk.materialise(share, random.Random(point))
    home, told = Home.open(recorded.root / ".mainspring"), recorded.told[index - 1]

    for again in (False, True):
        if again:
            compact(home, "late")
        history = History(home, "late")
        for found in (history.predictions()[0], history.feedback()[0]):
            ids = [record.id for record in found]
            assert len(set(ids)) == len(ids), f"doubled {'again' if again else ''}"
            assert told <= set(ids), f"lost {sorted(told - set(ids))} {'again' if again else ''}"
        assert not history.damage
    for kind in ("predictions", "feedback"):
        table = Table(home, "late", kind)
        assert table.version() is None or table.read()["id"].is_unique().all()
