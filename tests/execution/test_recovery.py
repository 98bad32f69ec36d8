"""Real processes: killed at any instant, eight at once, interrupted from the keyboard. The next start goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from mainspring.store.home import Home
from mainspring.store.journal import Journal

PROJECT = '''
import os, sys, time
from pathlib import Path
from mainspring.execution.engine import execute
from mainspring.pipeline.graph import Graph
from mainspring.store.home import Home

HERE = Path(__file__).parent

def done(name, value):
    """A side effect at the very end of a step: how often it was finished."""
    time.sleep(0.02)
    with open(HERE / "effects.txt", "a") as file:
        file.write(f"{os.getpid()} {name}\\n")
    return value

def rows(count: int = 3000): return done("rows", list(range(count)))
def even(rows): return done("even", [row for row in rows if row % 2 == 0])
def odd(rows): return done("odd", {"odd": [row for row in rows if row % 2]})
def total(even, odd): return done("total", sum(even) - sum(odd["odd"]))
def text(total, rows): return done("text", f"{total}" * 3000)
def length(text): return done("length", len(text))

if __name__ == "__main__":
    home = Home.open(HERE / ".mainspring")
    outcome = execute(Graph([rows, even, odd, total, text, length]), home=home, pipeline="six")
    print(outcome.status, outcome.run_id, *(outcome.outputs.artifact(name).digest[:16] for name in outcome.outputs))
    sys.exit(0 if outcome.status == "done" else 1)
'''
NAMES = ("rows", "even", "odd", "total", "text", "length")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a project ü"
    folder.mkdir()
    (folder / "six.py").write_text(PROJECT)
    return folder


def start(project: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, str(project / "six.py")], text=True, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(child: subprocess.Popen[str]) -> list[str]:
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    return out.split()


def finished(project: Path) -> set[str]:
    """The steps that the journal holds as finished, as the next process would see them."""
    home = Home.open(project / ".mainspring")
    runs = Journal(home).runs()
    return set(Journal(home).finished(runs[0].id)) if runs else set()


@pytest.mark.parametrize("rounds", [4, pytest.param(70, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_a_run_killed_at_random_instants_goes_on_and_repeats_no_finished_step(project: Path, rounds: int) -> None:
    instants = random.Random(7)
    began = time.monotonic()
    expected = finish(start(project))[2:]
    long = time.monotonic() - began
    killed = 0
    for turn in range(rounds):
        folder = project.with_name(f"{project.name} {turn}")
        folder.mkdir()
        (folder / "six.py").write_text(PROJECT)
        durable: dict[str, int] = {}
        for _ in range(3):
            child = start(folder)
            time.sleep(instants.uniform(0.3, 1.0) * long)
            child.send_signal(signal.SIGKILL)
            child.communicate()
            killed += child.returncode == -signal.SIGKILL
            assert all(effects(folder)[name] == times for name, times in durable.items())
            durable = {name: effects(folder)[name] for name in finished(folder)}

        status, _, *digests = finish(start(folder))

        assert (status, digests) == ("done", expected)
        assert all(effects(folder)[name] == times for name, times in durable.items())
        assert all(times <= 4 for times in effects(folder).values())
        assert {each.status for each in Journal(Home.open(folder / ".mainspring")).runs()} == {"done"}
    assert killed >= rounds  # of three kills a round; a quick machine finishes before some of them


def effects(project: Path) -> Counter[str]:
    """How often each step came to its end."""
    path = project / "effects.txt"
    return Counter(line.split()[1] for line in path.read_text().splitlines()) if path.exists() else Counter()


def test_eight_processes_on_one_home_all_end_well(project: Path) -> None:
    children = [start(project) for _ in range(8)]
    results = [finish(child) for child in children]

    assert {status for status, *_ in results} == {"done"}
    assert len({run for _, run, *_ in results}) == 8
    assert len({tuple(digests) for _, _, *digests in results}) == 1
    journal = Journal(Home.open(project / ".mainspring"))
    assert [each.status for each in journal.runs()] == ["done"] * 8


def test_ctrl_c_from_the_keyboard_leaves_a_run_to_go_on_with(project: Path) -> None:
    (project / "six.py").write_text(PROJECT.replace("time.sleep(0.02)", "time.sleep(0.3)"))
    child = start(project)
    deadline = time.monotonic() + 30
    while effects(project).total() < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode != 0 and "KeyboardInterrupt" in err
    (record,) = Journal(Home.open(project / ".mainspring")).runs()
    assert record.status == "interrupted"

    status, run, *_ = finish(start(project))

    assert (status, run) == ("done", record.id)
    assert effects(project)["rows"] == 1
