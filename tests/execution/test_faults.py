"""A fault at each state-changing system call of a run: killed before, after or within it, failed once or from there on.
The next start goes on, to the same outputs, and repeats nothing that was finished."""

from __future__ import annotations

import errno
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from soak import Soak
from syscalls import AFTER, ALL, BEFORE, FAIL, FAIL_ON, ONE, TORN, Call, Syscalls, build, compiler
from ten import Watch, one_line, write
from warm import Warm

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler (cc, gcc, clang) for the fault library")

SAMPLE = 12
FAULTS = {
    "killed before": (BEFORE, 0, ALL),
    "killed after": (AFTER, 0, ALL),
    "killed within": (TORN, 0, ALL),
    "its process killed": (BEFORE, 0, ONE),
    "EIO once": (FAIL, errno.EIO, ALL),
    "EIO from there on": (FAIL_ON, errno.EIO, ALL),
    "ENOSPC once": (FAIL, errno.ENOSPC, ALL),
    "ENOSPC from there on": (FAIL_ON, errno.ENOSPC, ALL),
}


@dataclass(frozen=True)
class Bench:
    """The warm process with the library, and what an undisturbed run does."""

    warm: Warm
    syscalls: Syscalls
    calls: list[Call]
    outputs: dict[str, str]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("faults")
    syscalls = Syscalls(folder / "state", log_bytes=64 << 20)
    with Warm(folder / "warm", LD_PRELOAD=str(build(folder)), SYSCALLS_STATE=str(folder / "state")) as warm:
        project = write(folder / "undisturbed", large=200_000)
        syscalls.tell(project / ".mainspring", log=True)
        answer = warm.run(project, "run", "ten.py")
        assert answer.code == 0, answer
        calls = list(syscalls.calls())
        syscalls.tell(folder / "nothing")
        seen = Watch(warm.run, project).look()
        assert seen is not None
        yield Bench(warm, syscalls, calls, seen.outputs)


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=(pytest.mark.soak, pytest.mark.timeout(7200)))])
def test_a_fault_at_a_state_changing_call_is_recovered_from(bench: Bench, tmp_path: Path, full: bool) -> None:
    every = [f"{fault} {call.number}" for call in bench.calls for fault in FAULTS if sensible(fault, call)]
    assert len(bench.calls) > 40
    soak = Soak("faults", short=not full)
    for point in soak.points(every if full else random.Random(5).sample(every, SAMPLE)):
        try:
            recover(bench, tmp_path / "project", point)
        except AssertionError as error:
            soak.failed(f"{point} ({bench.syscalls.hit})", error)
        shutil.rmtree(tmp_path / "project")
    soak.assert_passed()


def sensible(fault: str, call: Call) -> bool:
    return call.name == "write" or fault != "killed within"


def recover(bench: Bench, project: Path, point: str) -> None:
    fault, _, number = point.rpartition(" ")
    mode, error, scope = FAULTS[fault]
    write(project, large=200_000)
    kills = mode in (BEFORE, AFTER, TORN)
    watch = Watch(bench.warm.run, project, again=not kills or scope == ONE)

    bench.syscalls.tell(project / ".mainspring", mode, int(number), error, scope)
    struck = bench.warm.run(project, "run", "ten.py", timeout=30)
    bench.syscalls.tell(project.parent)

    assert struck.code is not None, "it hung"
    if struck.code != -signal.SIGKILL:
        assert struck.code == 0 or one_line(struck), f"code {struck.code}, said: {struck.err[-600:]}"
        assert struck.code == 0 or not kills or scope == ONE
    seen = watch.look()
    if seen is None or seen.status != "done":
        resumed = bench.warm.run(project, "run", "ten.py", timeout=30)
        assert resumed.code == 0, f"then: code {resumed.code}, {resumed.err[-600:]}"
        seen = watch.look()
    assert seen is not None and (seen.status, seen.outputs) == ("done", bench.outputs)
    assert not bench.warm.left(), "processes were left at work"
