"""A project runs where it lies: on a read-only disk, under names of any script, on a clock that was put back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mainspring.store.home import Home
from mainspring.store.journal import Journal

MAIN = """
import mainspring as ms
from helfer import add

def rows() -> list[int]:
    return list(range(5))

def total(rows: list[int]) -> int:
    return add(rows)

summe = ms.Pipeline("summe", [rows, total])
"""
HELPER = "def add(numbers):\n    return sum(numbers)\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A folder with a project in it, a disk of its own where this machine lets one be mounted."""
    folder = tmp_path / "Größe und Maß 数据"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True).returncode == 0
    (folder / "mein Ablauf.py").write_text(MAIN)
    (folder / "helfer.py").write_text(HELPER)
    yield folder
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def called(folder: Path, home: Path, verb: str, *more: str) -> dict[str, object]:
    command = [sys.executable, "-m", "mainspring.app.cli", "--home", str(home), verb, "mein Ablauf.py", "--json", *more]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def states(plan: dict[str, object]) -> list[str]:
    return [step["state"] for step in plan["steps"]]  # type: ignore[attr-defined]


def test_a_project_on_a_read_only_disk_runs_and_an_edit_there_is_seen(project: Path, tmp_path: Path) -> None:
    def writable(yes: bool) -> None:
        done = subprocess.run(["mount", "-o", f"remount,{'rw' if yes else 'ro'}", str(project)], capture_output=True)
        if done.returncode:
            pytest.skip("this machine lets nobody mount a disk")

    home = tmp_path / "a home"
    writable(False)
    assert called(project, home, "run")["metrics"] == {"total": 10.0}
    assert states(called(project, home, "plan")) == ["cached", "cached"]
    writable(True)
    (project / "helfer.py").write_text(HELPER.replace("sum(numbers)", "sum(numbers) + 1"))
    writable(False)

    assert states(called(project, home, "plan")) == ["cached", "run"]
    assert called(project, home, "run")["metrics"] == {"total": 11.0}


def test_a_project_runs_under_names_of_any_script(project: Path) -> None:
    home = project / ".mainspring"

    assert called(project, home, "run")["metrics"] == {"total": 10.0}
    assert states(called(project, home, "plan")) == ["cached", "cached"]


def test_runs_follow_each_other_when_the_clock_was_put_back(tmp_path: Path) -> None:
    (tmp_path / "mein Ablauf.py").write_text(MAIN)
    (tmp_path / "helfer.py").write_text(HELPER)
    home, tomorrow = tmp_path / ".mainspring", time.time() + 86_400
    first = called(tmp_path, home, "run")["id"]
    later = datetime.fromtimestamp(tomorrow, UTC).isoformat()
    with Home.open(home).database.transaction() as database:  # as the clock of tomorrow would have had it
        database.execute("update runs set number = number + 86400, created = ?, ended = ?", (later, later))
        database.execute("update steps set started = ?, ended = ?", (later, later))
    for path in tmp_path.glob("*.py"):
        os.utime(path, (tomorrow, tomorrow))

    assert states(called(tmp_path, home, "plan")) == ["cached", "cached"]
    (tmp_path / "helfer.py").write_text(HELPER.replace("sum(numbers)", "sum(numbers) + 1"))
    again = called(tmp_path, home, "run")

    assert again["metrics"] == {"total": 11.0}
    assert [run.id for run in Journal(Home.open(home)).runs()] == [again["id"], first]
