"""Ctrl-C in a real process: once lets what is at work end, twice stops at once, wherever the steps are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mainspring.store.home import Home
from mainspring.store.journal import Journal

_STEPS = """
import os, time
from pathlib import Path
import mainspring as ms

here = Path(__file__).parent

def work(name):
    (here / f"{name}-began").touch()
    time.sleep(float(os.environ["STEP_SECONDS"]))
    (here / f"{name}-ended").touch()
    return 1

@ms.step(cache=False)
def left():
    return work("left")

@ms.step(cache=False)
def right():
    return work("right")

pipeline = ms.Pipeline("seed", [left, right][: int(os.environ["STEPS"])])
"""
_RUN = """
from mainspring.app.files import load

(pipeline,) = load("steps.py")
try:
    pipeline.run(executor="here")
except KeyboardInterrupt:
    print("came back", flush=True)
"""
_COMMAND = "from mainspring.app.cli import main; main()"


@contextmanager
def started(
    folder: Path, program: str, *arguments: str, steps: int = 2, seconds: float = 30
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=folder, env={**os.environ, "STEPS": str(steps), "STEP_SECONDS": str(seconds)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as child:  # fmt: skip
        try:
            yield child
        finally:
            child.kill()


def wait_for(*files: Path) -> None:
    deadline = time.monotonic() + 30
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, f"{files} didn't come"
        time.sleep(0.02)


def seen(folder: Path) -> dict[str, str]:
    """The status of the only run, and of each of its steps."""
    journal = Journal(Home.open(folder / ".mainspring"))
    (run,) = journal.runs()
    return {"": run.status, **{row.name: row.status for row in journal.steps(run.id)}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text(_STEPS)
    return tmp_path


@pytest.mark.parametrize(("steps", "executor"), [(1, "here"), (2, "here"), (2, "process:2")])
def test_twice_stops_at_once_and_the_next_run_goes_on(folder: Path, steps: int, executor: str) -> None:
    arguments = ("run", "steps.py", "--executor", executor)
    with started(folder, _COMMAND, *arguments, steps=steps) as child:
        wait_for(*[folder / "left-began", folder / "right-began"][:steps])
        child.send_signal(signal.SIGINT)
        time.sleep(0.6)
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, err = child.communicate(timeout=40)

    assert time.monotonic() - began < 5
    assert child.returncode == 130 and "run the same command again to go on" in err and "Traceback" not in err, err
    assert set(seen(folder).values()) == {"interrupted"}

    with started(folder, _COMMAND, *arguments, steps=steps, seconds=0) as again:
        _, err = again.communicate(timeout=60)

    assert again.returncode == 0 and set(seen(folder).values()) == {"done"}, err


def test_in_python_twice_comes_back_at_once_and_the_process_can_end(folder: Path) -> None:
    with started(folder, _RUN) as child:
        wait_for(folder / "left-began", folder / "right-began")
        for _ in range(2):
            child.send_signal(signal.SIGINT)
            time.sleep(0.4)
        began = time.monotonic()
        out, err = child.communicate(timeout=40)

    assert time.monotonic() - began < 5 and out == "came back\n" and child.returncode == 0, err


@pytest.mark.parametrize("executor", ["here", "process:1"])
def test_once_lets_what_is_at_work_end_and_starts_nothing_more(folder: Path, executor: str) -> None:
    with started(folder, _COMMAND, "run", "steps.py", "--executor", executor, seconds=1.5) as child:
        wait_for(folder / "left-began")
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=40)

    assert child.returncode == 130, err
    assert (folder / "left-ended").exists() and seen(folder)["left"] == "done"
    if executor == "process:1":
        assert not (folder / "right-began").exists() and seen(folder).get("right", "interrupted") == "interrupted"
