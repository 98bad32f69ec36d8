"""A home under strain: eight writers at once, no room, no inodes, a failing disk, a clock that steps back."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mainspring.app.config import Settings
from mainspring.app.doctor import examine
from mainspring.core.errors import HomeUnwritable, MainspringError
from mainspring.execution import planning
from mainspring.execution.code import Code
from mainspring.execution.engine import Outcome, execute
from mainspring.pipeline.graph import Graph
from mainspring.pipeline.step import Step
from mainspring.store import home as homes
from mainspring.store.home import Home
from mainspring.store.journal import Journal


def rows() -> list[int]:
    return list(range(30_000))


def text(rows: list[int]) -> str:
    return "x" * 5 * len(rows)


def total(rows: list[int], text: str) -> int:
    return sum(rows) + len(text)


GRAPH = Graph([rows, text, total])
TOTAL = 449_985_000 + 150_000


def code(step: Step) -> Code:
    return Code({step.name: step.name}, {})


def run(path: Path) -> Outcome:
    home = Home.open(path)
    try:
        return execute(GRAPH, home=home, pipeline="p", code=code)
    finally:
        home.database.close()


def refused(path: Path) -> MainspringError | None:
    """The one line with which a run ends, if it doesn't end well."""
    try:
        error = run(path).error
    except MainspringError as raised:
        error = raised
    assert error is None or isinstance(error, MainspringError), repr(error)
    assert "\n" not in str(error)
    return error


def all_is_well(path: Path) -> None:
    """The same run goes on, with the right values, and leaves none under way."""
    outcome = run(path)
    assert outcome.error is None and outcome.outputs["total"] == TOTAL and len(outcome.outputs["rows"]) == 30_000
    journal = Journal(Home.open(path))
    assert {each.status for each in journal.runs()} <= {"done", "failed"}
    assert journal._database.query("pragma integrity_check")[0][0] == "ok"
    journal._database.close()


# ---------------------------------------------------------------------------------------------------- many at once

WRITER = """
import sys, time
sys.path[:0] = {path!r}
from pathlib import Path
from mainspring.store.home import Home
worst, until, count = 0.0, time.monotonic() + {seconds}, 0
while time.monotonic() < until:
    home = Home.open(Path({home!r}))
    home.database.create(["create table if not exists numbers (writer int, number int)"])
    for _ in range(20):
        began = time.monotonic()
        with home.database.transaction() as connection:
            last = connection.execute("select coalesce(max(number), 0) from numbers").fetchone()[0]
            connection.execute("insert into numbers values (?, ?)", ({writer}, last + 1))
        worst, count = max(worst, time.monotonic() - began), count + 1
    home.database.close()
print(count, worst)
"""


@pytest.mark.parametrize("seconds", [3, pytest.param(120, marks=(pytest.mark.soak, pytest.mark.timeout(600)))])
def test_eight_processes_that_write_at_full_speed_never_find_the_database_locked(tmp_path: Path, seconds: int) -> None:
    home = tmp_path / "a home ü"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER.format(path=sys.path, home=str(home), writer=writer, seconds=seconds)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for writer in range(8)
    ]  # fmt: skip
    told = [child.communicate() for child in children]

    assert [error for _, error in told] == [""] * 8
    counts, worst = zip(*(map(float, said.split()) for said, _ in told), strict=True)
    numbers = Home.open(home).database.query("select count(*), count(distinct number), max(number) from numbers")[0]
    assert tuple(numbers) == (sum(counts),) * 3 and max(worst) < homes.BUSY_SECONDS


def test_who_waits_too_long_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes, "BUSY_SECONDS", 0.2)
    home = Home.open(tmp_path / "home")
    others = Home.open(tmp_path / "home").database.connect()
    others.execute("begin immediate")

    with pytest.raises(HomeUnwritable, match="other processes kept") as told, home.database.transaction():
        pass

    assert "run again" in str(told.value) and "locked" not in str(told.value)
    others.close()


def test_a_transaction_that_fails_to_commit_leaves_none_open(tmp_path: Path) -> None:
    """A later one would silently join it, and nothing would ever be written."""
    home = Home.open(tmp_path / "home")
    home.database.create(["create table if not exists parent (id int primary key)"])
    home.database.create(
        ["create table if not exists child (id int references parent (id) deferrable initially deferred)"]
    )
    with pytest.raises(Exception, match="FOREIGN KEY"), home.database.transaction() as connection:
        connection.execute("insert into child values (1)")

    with home.database.transaction() as connection:
        connection.execute("insert into parent values (7)")
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(len(home.database.query("select * from parent"))))
    thread.start(), thread.join()
    assert found == [1]


def test_a_clock_that_steps_back_loses_nothing(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    ahead = Journal(home, lambda: datetime.now(UTC) + timedelta(days=400))
    ahead.end(ahead.begin("p", {}), "done")
    journal = Journal(home)
    first, second = journal.begin("p", {}), journal.begin("p", {})
    journal.end(first, "done"), journal.end(second, "done")

    assert [each.id for each in journal.runs()][:2] == [second.run, first.run] and len(journal.runs()) == 3


# ---------------------------------------------------------------------------------------------------------- no room


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a small file system of its own."""
    folder = tmp_path / "a disk"
    folder.mkdir()
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip(f"this machine lets nobody mount a disk: {done.stderr.decode().strip()[:80]}")
        mounted.append(folder)
        return folder

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("room", [0, 20, 60, 100, 150, 200, 260, 350])
def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(disk: Callable[..., Path], room: int) -> None:
    folder = disk("size=1m")
    (folder / "ballast").write_bytes(b"b" * (1 << 20))
    os.truncate(folder / "ballast", (1 << 20) - room * 1024)

    error = refused(folder / "home")
    assert error is not None and ("make room" in str(error) or "can't be made" in str(error))

    (folder / "ballast").unlink()
    all_is_well(folder / "home")


@pytest.mark.parametrize("inodes", [4, 12, 14, 16, 18])
def test_no_inodes_left_is_one_line_and_the_run_goes_on_once_there_are_some(
    disk: Callable[..., Path], inodes: int
) -> None:
    folder = disk(f"size=20m,nr_inodes={inodes}")
    error = refused(folder / "home")

    assert error is None or "room" in str(error) or "can't be made" in str(error)
    subprocess.run(["mount", "-o", "remount,nr_inodes=1000", str(folder)], check=True)
    all_is_well(folder / "home")


def test_a_read_only_home_is_one_line(disk: Callable[..., Path]) -> None:
    folder = disk("size=20m")
    python(ELSEWHERE.format(path=sys.path, home=str(folder / "home")))
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)

    assert isinstance(refused(folder / "home"), MainspringError)
    found = examine(Settings(folder / "home"))
    assert any(finding.state == "wrong" for finding in found) and all("\n" not in each.detail for each in found)
    try:
        planning.plan(GRAPH, home=Home.open(folder / "home"), pipeline="p", code=code)
    except MainspringError as error:
        assert "\n" not in str(error)


ELSEWHERE = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from tests.store.test_home import all_is_well
all_is_well(Path({home!r}))
"""
LIMITED = """
import resource, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from tests.store.test_home import refused
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
print(refused(Path({home!r})))
"""


def python(script: str) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert done.stderr == "" and done.returncode == 0
    return done.stdout


@pytest.mark.parametrize("limit", [0, 3_000, 30_000, 100_000])
def test_a_limit_on_file_sizes_is_one_line_too(tmp_path: Path, limit: int) -> None:
    """A disk that is full for big files only; needs no mount."""
    script = LIMITED.format(path=sys.path, home=str(tmp_path / "home"), limit=limit)
    said = python(script)

    assert "run again" in said or "choose another" in said
    all_is_well(tmp_path / "home")


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("nth", [1, 2, 3, 5])
def test_a_disk_that_fails_is_one_line_and_the_run_goes_on_when_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, nth: int
) -> None:
    Home.open(tmp_path / "home").database.close()
    real: Any = getattr(os, call)
    count = 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == nth:
            raise OSError(number, os.strerror(number))
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing)
        error = refused(tmp_path / "home")

    assert (error is None) == (count < nth) and (error is None or "make room or mend it" in str(error))
    time.sleep(0.01)
    all_is_well(tmp_path / "home")
