"""Worker processes: however one ends, or can't begin, its work ends with a reason, and nothing of it is left."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mainspring.execution.engine import Outcome
from mainspring.execution.workers import Work, WorkerDied, Workers
from mainspring.pipeline.step import step

Run = Callable[..., Outcome]


@pytest.fixture
def workers() -> Iterator[Workers]:
    opened = Workers(1)
    yield opened
    opened.shutdown(cancel_futures=True)


def doing(workers: Workers, text: str) -> Work:
    return workers.submit(exec, textwrap.dedent(text))


def died(work: Work) -> str:
    with pytest.raises(WorkerDied) as caught:
        work.result(15)
    return str(caught.value)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


# ------------------------------------------------------------------------------------------------------- their children


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGSEGV)", "os._exit(3)", "time.sleep(60)"])
def test_the_children_of_a_worker_end_with_it(workers: Workers, tmp_path: Path, end: str) -> None:
    work = doing(
        workers,
        f"""
        import os, signal, time
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        with open({str(tmp_path / "new")!r}, "w") as file:
            file.write(str(child))
        os.rename({str(tmp_path / "new")!r}, {str(tmp_path / "child")!r})
        {end}
        """,
    )
    if "sleep" in end:
        while not (tmp_path / "child").exists():
            time.sleep(0.01)
        work.kill("enough")
    words = died(work)

    assert words == {"o": "its process was killed by SIGSEGV, a fault in compiled code", "t": "enough"}[end[0]] or (
        words == "its process ended with exit code 3"
    )
    assert gone(int((tmp_path / "child").read_text()))
    assert workers.submit(max, 1, 2).result(15) == 2


def test_a_keyboard_interrupt_of_the_work_itself_is_no_death(workers: Workers) -> None:
    with pytest.raises(RuntimeError, match="the step raised KeyboardInterrupt"):
        doing(workers, "raise KeyboardInterrupt").result(15)

    assert workers.submit(max, 1, 2).result(15) == 2


def test_a_daemon_that_a_step_leaves_behind_holds_nobody_up(workers: Workers, tmp_path: Path) -> None:
    work = doing(
        workers,
        f"""
        import os, signal, time
        child = os.fork()
        if not child:
            os.setsid()
            time.sleep(60)
            os._exit(0)
        with open({str(tmp_path / "child")!r}, "w") as file:
            file.write(str(child))
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert "killed by SIGKILL" in died(work)
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def test_the_children_of_workers_end_also_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "own.py"
    script.write_text(
        textwrap.dedent("""
            import sys
            from mainspring.execution.workers import Workers

            workers = Workers(1)
            print(workers.submit(eval, "__import__('subprocess').Popen(['sleep', '60']).pid").result(), flush=True)
            sys.stdin.read()
        """)
    )
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        assert alive(child)
        owner.kill()
    assert gone(child)


def test_nothing_is_left_when_workers_are_shut_down(workers: Workers) -> None:
    before = set(_children())
    pid = workers.submit(os.getpid).result(15)
    assert pid in _children()
    workers.shutdown(cancel_futures=True)

    assert gone(pid)
    deadline = time.monotonic() + 5
    while set(_children()) - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not set(_children()) - before


def _children() -> list[int]:
    """The workers among the processes of this one: others, such as Python's tracker of resources, come and go."""
    found = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for pids in found for pid in pids if b"mainspring" in _command(pid)]


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


# ---------------------------------------------------------------------------------------------------- those that can't


@contextmanager
def no_room_for_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_work_ends_with_a_reason_where_no_process_can_be_started(workers: Workers) -> None:
    with no_room_for_files():
        words = died(workers.submit(max, 1, 2))

    assert words.startswith("no worker process can be started (Too many open files)")
    assert workers.submit(max, 1, 2).result(15) == 2

    with no_room_for_files():
        assert "exit code 4" in died(workers.submit(os._exit, 4))
        assert died(workers.submit(max, 1, 2)).startswith("no worker process can be started (Too many open files)")
    assert workers.submit(max, 1, 2).result(15) == 2


def test_an_answer_that_cant_be_read_is_an_error_of_its_work_alone(workers: Workers) -> None:
    odd = "type('Odd', (), {'__reduce__': lambda self: (int, ('no number',))})()"
    short = "type('Odd', (), {'__reduce__': lambda self: (__import__('pickle').loads, (b'',))})()"

    assert "what it gave can't be read back (ValueError: invalid literal" in died(workers.submit(eval, odd))
    assert "what it gave can't be read back (EOFError" in died(workers.submit(eval, short))
    assert workers.submit(max, 1, 2).result(15) == 2


def test_work_that_is_ended_before_its_process_is_there_ends(workers: Workers) -> None:
    pid = workers.submit(os.getpid).result(15)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    work = workers.submit(time.sleep, 60)
    while not work.running():
        pass
    work.kill("enough")

    assert died(work) == "enough"


def test_work_that_is_ended_at_any_moment_ends_and_the_next_is_done(workers: Workers) -> None:
    for moment in range(12):
        work = workers.submit(time.sleep, 60)
        time.sleep(moment * 0.0004)
        work.kill("enough")
        assert isinstance(work.exception(15) if not work.cancelled() else WorkerDied("enough"), WorkerDied)
        assert workers.submit(max, 1, 2).result(15) == 2


def test_work_for_a_worker_that_still_loads_starts_no_second_process_and_begins_after_all_it_loads(
    tmp_path: Path,
) -> None:
    opened, loaded, more = Workers(2), tmp_path / "loaded", tmp_path / "more"
    opened.warm(exec, f"import os, time; open({str(loaded)!r}, 'w').write(str(os.getpid())); time.sleep(0.3)")
    opened.warm(exec, f"import os; open({str(more)!r}, 'w').write(str(os.getpid()))")

    assert opened.submit(os.getpid).result(15) == int(loaded.read_text()) == int(more.read_text())
    opened.shutdown(cancel_futures=True)


# ------------------------------------------------------------------------------------------------------------- limits


def test_memory_counts_the_children_of_a_worker(run: Run, workers: Workers) -> None:
    @step(memory="200MB")
    def many() -> int:
        fill = "import time; held = bytearray(70_000_000); held[::4096] = b'x' * len(held[::4096]); time.sleep(20)"
        children = [subprocess.Popen([sys.executable, "-c", fill]) for _ in range(3)]
        return sum(child.wait() for child in children)

    began = time.monotonic()

    assert "more than its 200 MB, and was ended" in str(run(many, executor=workers).error)
    assert time.monotonic() - began < 15


def test_memory_that_forked_children_share_counts_once(run: Run, workers: Workers) -> None:
    @step(memory="400MB")
    def shared() -> int:
        held = bytearray(150_000_000)
        held[::4096] = b"x" * len(held[::4096])
        children = []
        for _ in range(4):
            child = os.fork()
            if not child:
                time.sleep(0.6)
                os._exit(0)
            children.append(child)
        return sum(os.waitpid(child, 0)[1] for child in children)

    assert run(shared, executor=workers).outputs["shared"] == 0
