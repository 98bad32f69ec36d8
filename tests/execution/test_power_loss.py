"""Power loss at any point of a run: what was told as finished is still finished, and the next start goes on.

Only what was synced is sure to be on the disk afterwards; of the rest nothing, or any part, is there.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from power import Disk
from soak import Soak
from syscalls import Call, Syscalls, build, compiler
from ten import Watch, write
from warm import Warm

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler (cc, gcc, clang) to build the log of calls")

SAMPLE = 12
SHARES = (0.0, 0.5, 0.9)
TOLD = re.compile(r"^  (\w+) +done", re.MULTILINE)


@dataclass(frozen=True)
class Recorded:
    """An undisturbed run, call by call; told: the steps that it had told as finished by then."""

    warm: Warm
    project: Path
    calls: list[Call]
    told: list[frozenset[str]]
    outputs: dict[str, str]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("power")
    syscalls = Syscalls(folder / "state", log_bytes=64 << 20)
    whole = folder / "whole"
    with Warm(whole / "warm", LD_PRELOAD=str(build(folder)), SYSCALLS_STATE=str(folder / "state")) as warm:
        project = write(whole / "project", pause=0.002, large=200_000)
        syscalls.tell(whole, log=True)
        assert warm.run(project, "run", "ten.py").code == 0
        calls = list(syscalls.calls())
        syscalls.tell(folder / "nothing")
        seen = Watch(warm.run, project).look()
        assert seen is not None
        yield Recorded(warm, project, calls, told(calls), seen.outputs)


def told(calls: list[Call]) -> list[frozenset[str]]:
    """After each call: the steps that the terminal had shown as done."""
    shown, found = "", []
    for call in calls:
        if call.name == "write" and call.path.endswith((".err", ".out")):
            shown += call.data.decode(errors="replace")
        found.append(frozenset(TOLD.findall(shown)))
    return found


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=(pytest.mark.soak, pytest.mark.timeout(7200)))])
def test_what_was_told_as_finished_survives_a_power_loss(recorded: Recorded, full: bool) -> None:
    assert len(recorded.told[-1]) == 10
    every = [f"{share} {index}" for index in range(1, len(recorded.calls)) for share in SHARES]
    soak = Soak("power", short=not full)
    for point in soak.points(every if full else random.Random(2).sample(every, SAMPLE)):
        try:
            lose_power(recorded, point)
        except AssertionError as error:
            call = recorded.calls[int(point.split()[1]) - 1]
            soak.failed(f"{point} (after {call.name} {Path(call.path).name})", error)
    soak.assert_passed()


def lose_power(recorded: Recorded, point: str) -> None:
    share, index = float(point.split()[0]), int(point.split()[1])
    project, before = recorded.project, recorded.calls[:index]
    shutil.rmtree(project)
    write(project, pause=0.002, large=200_000)
    beside = "".join(call.data.decode() for call in before if call.path.endswith("finished.txt"))
    (project / "finished.txt").write_text(beside)
    home = Disk(project / ".mainspring")
    home.happen(before)
    home.materialise(share, random.Random(point))

    watch = Watch(recorded.warm.run, project)
    seen = watch.look(unsynced=True)
    done = frozenset() if seen is None else seen.done
    assert recorded.told[index - 1] <= done, f"lost: {sorted(recorded.told[index - 1] - done)}"
    resumed = recorded.warm.run(project, "run", "ten.py", timeout=30)

    assert resumed.code == 0, resumed
    final = watch.look()
    assert final is not None and (final.status, final.outputs) == ("done", recorded.outputs)
