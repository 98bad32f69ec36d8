"""Runs that are killed at random instants, from the command line: the next start goes on with the same run, to the same
outputs, repeats nothing that was finished and leaves no process behind. And Ctrl-C."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from soak import Soak
from ten import STEPS, Seen, Watch, finished, write
from warm import MARK, Warm, marked, wait_until_none

KILLS = 12
EXECUTORS = ("local", "here", "process:3")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm(tmp_path_factory.mktemp("warm")) as warm:
        yield warm


@pytest.fixture(scope="module")
def undisturbed(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    project = write(tmp_path_factory.mktemp("undisturbed") / "project", pause=0.01)
    assert warm.run(project, "run", "ten.py").code == 0
    seen = Watch(warm.run, project).look()
    assert seen is not None and len(seen.outputs) == STEPS
    return seen


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=(pytest.mark.soak, pytest.mark.timeout(7200)))])
def test_killed_at_random_instants_a_run_goes_on_and_repeats_nothing(
    warm: Warm, undisturbed: Seen, tmp_path: Path, full: bool, request: pytest.FixtureRequest
) -> None:
    """Each point is a run that is killed once or twice: its process group, or (one in three) its own process alone."""
    kills = request.config.getoption("kills") if full else KILLS
    soak = Soak("kills", short=not full)
    for point in soak.points(f"kill {number}" for number in range(kills)):
        chance = random.Random(point)
        project = tmp_path / f"a project ü {point}"
        settings = {"executor": chance.choice(EXECUTORS), "durability": chance.choice(["durable", "fast"])}
        try:
            while not killed_and_resumed(warm, write(project, pause=0.01, **settings), undisturbed, chance):
                shutil.rmtree(project)  # it was done before the kill came
        except AssertionError as error:
            soak.failed(point, error)
        shutil.rmtree(project)
    soak.assert_passed()


def killed_and_resumed(warm: Warm, project: Path, undisturbed: Seen, chance: random.Random) -> bool:
    """Whether a kill came before the run was done."""
    struck = False
    watch = Watch(warm.run, project)
    for long in (0.5, 0.25):
        running = warm.start(project, "run", "ten.py")
        time.sleep(chance.uniform(0, long))
        running.kill(group=chance.random() < 0.67)
        answer = running.end()
        assert answer.code in (-signal.SIGKILL, 0), answer
        if chance.random() < 0.5:  # else the next start comes at once
            assert not warm.left(), "processes were left at work"
        seen = watch.look()
        if answer.code == 0:
            return struck
        struck = True
        if seen is not None and seen.status == "done":
            break  # it came between the run's end and the process's
    answer = warm.run(project, "run", "ten.py")
    assert answer.code == 0, answer
    final = watch.look() if seen is None or seen.status != "done" else seen
    assert final is not None and (final.status, final.digests) == ("done", undisturbed.digests)
    assert not warm.left(), "processes were left at work"
    return True


def mainspring(project: Path, *arguments: str) -> subprocess.Popen[str]:
    """The installed command, in a session of its own."""
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), MARK: str(project),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "mainspring.app.cli", *arguments], cwd=project, text=True, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def when(project: Path, count: int, child: subprocess.Popen[str]) -> None:
    """Until *count* steps have come to their end."""
    deadline = time.monotonic() + 30
    while finished(project).total() < count and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert child.poll() is None, child.communicate()


@pytest.mark.parametrize("count", [1, 7])
def test_the_installed_command_killed_at_work_goes_on(
    warm: Warm, undisturbed: Seen, tmp_path: Path, count: int
) -> None:
    project = write(tmp_path / "a project ü", pause=0.05)
    watch = Watch(warm.run, project)
    child = mainspring(project, "run", "ten.py")
    when(project, count, child)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    assert not wait_until_none(lambda: marked(str(project)), 5)
    seen = watch.look()
    assert seen is not None and seen.status == "interrupted"

    child = mainspring(project, "run", "ten.py")
    _, err = child.communicate(timeout=60)

    assert child.returncode == 0, err
    seen = watch.look()
    assert seen is not None and seen.outputs == undisturbed.outputs


def test_a_worker_that_is_killed_ends_its_step_and_not_the_run(warm: Warm, tmp_path: Path) -> None:
    project = write(tmp_path / "project", pause=0.5)
    watch = Watch(warm.run, project, again=True)
    child = mainspring(project, "run", "ten.py")
    when(project, 1, child)
    workers = marked(str(project)) - {child.pid}
    assert workers
    time.sleep(0.2)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1 and "Traceback" not in err
    assert [line for line in err.splitlines() if line.startswith("mainspring: ") and "killed" in line], err
    seen = watch.look()
    assert seen is not None and seen.status == "failed" and len(seen.done) > 1, "the branches beside it went on"
    assert not wait_until_none(lambda: marked(str(project)), 5)

    assert warm.run(project, "run", "ten.py").code == 0

    seen = watch.look()
    assert seen is not None and seen.status == "done"


def test_ctrl_c_from_the_keyboard_leaves_a_run_to_go_on_with(warm: Warm, tmp_path: Path) -> None:
    project = write(tmp_path / "project", pause=0.3)
    watch = Watch(warm.run, project)
    child = mainspring(project, "run", "ten.py")
    when(project, 2, child)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130 and "run the same command again to go on" in err and "Traceback" not in err
    seen = watch.look()
    assert seen is not None and seen.status == "interrupted" and "numbers" in seen.done

    assert warm.run(project, "run", "ten.py").code == 0

    seen = watch.look()
    assert seen is not None and seen.status == "done" and finished(project)["numbers"] == 1
