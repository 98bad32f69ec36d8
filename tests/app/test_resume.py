"""`mainspring resume`: an interrupted run goes on as it was asked for, from whatever folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mainspring.store.home import Home
from mainspring.store.journal import Journal

FILE = """
import time
from pathlib import Path
import mainspring as ms

here = Path(__file__).parent

def first(times: int = 1, exact: bool = False):
    with open(here / "calls", "a") as file:
        file.write("first ")
    return times

def second(first):
    (here / "began").touch()
    while not (here / "go").exists():
        time.sleep(0.02)
    return first + 1

def third(second):
    return second

chain = ms.Pipeline("chain", [first, second, third])
"""


def mainspring(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mainspring.app.cli", "--home", str(folder / ".mainspring"), *arguments]
    return subprocess.run(command, cwd=folder.parent, capture_output=True, text=True, timeout=60)


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A project whose run was killed in its second step."""
    folder = tmp_path / "project ü"
    folder.mkdir()
    (folder / "chain.py").write_text(FILE)
    command = [sys.executable, "-m", "mainspring.app.cli", "run", "chain.py", "--set", "times=4", "--set", "exact=true"]
    running = subprocess.Popen([*command, "--until", "second"], cwd=folder, stdout=subprocess.DEVNULL)
    for _ in range(1500):
        if (folder / "began").exists():
            break
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    (folder / "go").touch()
    return folder


def test_a_killed_run_goes_on_with_its_parameters_and_selection(killed: Path) -> None:
    (before,) = Journal(Home.open(killed / ".mainspring")).runs()
    done = mainspring(killed, "resume", "--json")
    told: dict[str, Any] = json.loads(done.stdout)

    assert done.returncode == 0 and (told["id"], told["status"]) == (before.id, "done"), done.stderr
    assert {step["name"]: step["state"] for step in told["steps"]} == {"first": "cached", "second": "run"}
    assert (killed / "calls").read_text() == "first "
    (after,) = Journal(Home.open(killed / ".mainspring")).runs()
    assert after.parameters == {"times": 4, "exact": True} and after.selection == {"until": "second"}

    again = mainspring(killed, "resume", before.id)
    assert again.returncode == 2 and f"run {before.id} of chain is done, not interrupted" in again.stderr
    assert "no run was interrupted" in mainspring(killed, "resume").stderr


def test_what_cannot_be_gone_on_with_is_told_by_name(killed: Path) -> None:
    (before,) = Journal(Home.open(killed / ".mainspring")).runs()
    (killed / "chain.py").rename(killed / "other.py")
    gone = mainspring(killed, "resume", before.id)
    assert gone.returncode == 2 and "its FILE" in gone.stderr and "is gone" in gone.stderr

    assert mainspring(killed, "run", str(killed / "other.py")).returncode == 0
    followed = mainspring(killed, "resume", before.id)
    assert followed.returncode == 2 and "was followed by" in followed.stderr
    assert "no run 'nothere'" in mainspring(killed, "resume", "nothere").stderr
