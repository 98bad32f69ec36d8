"""Where steps run: in this process, in worker processes, on Ray. The same steps, the same words."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mainspring.core.errors import DataError, StepFailed, UsageError
from mainspring.execution import crew, executors, logs
from mainspring.execution.engine import Event, Outcome, execute
from mainspring.execution.workers import WorkerDied, Workers
from mainspring.pipeline.graph import Graph
from mainspring.pipeline.step import Step, step
from mainspring.store.home import Home
from mainspring.store.journal import Journal

Run = Callable[..., Outcome]


@pytest.fixture(scope="module", params=["local", "process:2", "pool", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    if request.param == "pool":
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            yield pool
        return
    if request.param == "ray":
        pytest.importorskip("ray")
    with executors.opened(request.param) as opened:
        yield opened


def states(outcome: Outcome) -> dict[str, str]:
    return {result.name: result.state for result in outcome.steps}


def table(count: int = 4) -> pl.DataFrame:
    return pl.DataFrame({"n": range(count)})


def big(table: pl.DataFrame) -> list[int]:
    return list(range(50_000)) + table["n"].to_list()


def size(big: list[int], table: pl.DataFrame) -> int:
    return len(big) + table.height


def test_a_pipeline_gives_the_same_as_here(run: Run, executor: Executor) -> None:
    outcome = run(table, big, size, executor=executor)

    assert outcome.status == "done" and outcome.outputs["size"] == 50_008
    assert outcome.outputs["table"].equals(table())
    assert set(states(run(table, big, size)).values()) == {"cached"}


def test_a_closure_and_a_lambda_travel(run: Run, executor: Executor) -> None:
    factor = 3

    def scaled(table: pl.DataFrame) -> int:
        return int(table["n"].map_elements(lambda value: value * factor, return_dtype=pl.Int64).sum())

    assert run(table, scaled, executor=executor).outputs["scaled"] == 18


def test_an_error_keeps_its_words_place_and_trace(run: Run, home: Home, executor: Executor) -> None:
    def broken(table: pl.DataFrame) -> int:
        raise ValueError("no\nluck")

    outcome = run(table, broken, size, big, executor=executor)

    assert states(outcome) == {"table": "run", "broken": "failed", "big": "run", "size": "run"}
    assert isinstance(outcome.error, StepFailed)
    assert "step 'broken' failed with table: DataFrame 4 x 1: ValueError: no luck (test_executors.py, line" in str(
        outcome.error
    )
    failed = next(row for row in Journal(home).steps(outcome.run_id) if row.name == "broken")
    assert failed.trace is not None and "in broken" in failed.trace and "ValueError: no" in failed.trace


def test_our_own_errors_pass_as_they_are(run: Run, executor: Executor) -> None:
    def strict() -> None:
        raise DataError("column 'age' is text; cast it")

    error = run(strict, executor=executor).error

    assert isinstance(error, DataError) and str(error) == "column 'age' is text; cast it"


class Stubborn(Exception):
    """An error that can't be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


def test_an_error_that_cant_travel_keeps_its_words(run: Run, executor: Executor) -> None:
    def odd() -> None:
        raise Stubborn("one", "two")

    assert "Stubborn: one two" in str(run(odd, executor=executor).error)


def test_what_a_step_prints_is_kept_for_it_alone(run: Run, home: Home, executor: Executor) -> None:
    def loud(table: pl.DataFrame) -> int:
        print("from Python")
        os.system("echo from a child")
        return 1

    def quiet(table: pl.DataFrame) -> int:
        return 2

    outcome = run(table, loud, quiet, executor=executor)

    assert logs.read(home, outcome.run_id) == {"loud": "from Python\nfrom a child\n"}


def test_retries_count_in_the_journal(run: Run, home: Home, executor: Executor, tmp_path: Path) -> None:
    mark = str(tmp_path / "tried")

    @step(retries=2, backoff=0.01)
    def flaky() -> int:
        tries = os.path.getsize(mark) if os.path.exists(mark) else 0
        with open(mark, "a") as file:
            file.write(".")
        if tries < 2:
            raise OSError("gone")
        return tries

    outcome = run(flaky, executor=executor)

    assert outcome.outputs["flaky"] == 2 and Journal(home).steps(outcome.run_id)[0].attempt == 3


def test_a_fan_out_keeps_its_order(run: Run, executor: Executor) -> None:
    @step(each={"number": [3, 1, 2]})
    def waited(number: int) -> int:
        time.sleep(number / 50)
        return number

    assert run(waited, executor=executor).outputs["waited"] == [3, 1, 2]


@pytest.fixture(params=["local", "ray"])
def isolating(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    """An executor whose work can end without it."""
    if request.param == "ray":
        pytest.importorskip("ray")
    with executors.opened(request.param) as opened:
        yield opened


def test_a_crash_ends_its_step_and_the_run_goes_on_where_it_can(run: Run, isolating: Executor) -> None:
    def crash(table: pl.DataFrame) -> int:
        os.kill(os.getpid(), signal.SIGSEGV)
        return 0

    def after(crash: int) -> int:
        return crash

    outcome = run(table, crash, after, big, executor=isolating)

    assert states(outcome) == {"table": "run", "crash": "failed", "after": "skipped", "big": "run"}
    assert "step 'crash' failed: its process" in str(outcome.error)


def test_a_timeout_ends_the_step(run: Run, isolating: Executor) -> None:
    @step(timeout=0.3)
    def slow(table: pl.DataFrame) -> int:
        time.sleep(60)
        return 0

    began = time.monotonic()
    outcome = run(table, slow, big, executor=isolating)

    assert states(outcome) == {"table": "run", "slow": "failed", "big": "run"} and time.monotonic() - began < 40
    assert "it took longer than its timeout of 0.3 s and was ended" in str(outcome.error)


def test_waiting_for_a_place_doesnt_count_as_a_steps_time(
    run: Run, isolating: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "_LOADING_SECONDS", 30.0)

    @step(timeout=1.2, cpus=0.25, each={"number": [1, 2, 3, 4, 5]})
    def queued(number: int) -> int:
        time.sleep(0.8)
        return number

    outcome = run(queued, executor=isolating)

    assert outcome.error is None and outcome.outputs["queued"] == [1, 2, 3, 4, 5]


# ----------------------------------------------------------------------------------------------- the worker processes


@pytest.fixture
def workers() -> Iterator[Workers]:
    with executors.opened("local") as opened:
        assert isinstance(opened, Workers)
        yield opened


def test_one_warm_process_does_a_chain(run: Run, workers: Workers) -> None:
    def first() -> int:
        return os.getpid()

    def second(first: int) -> list[int]:
        return [first, os.getpid()]

    pids = run(first, second, executor=workers).outputs["second"]

    assert pids[0] == pids[1] != os.getpid()


def test_a_step_that_takes_too_much_memory_is_ended(run: Run, workers: Workers) -> None:
    @step(memory="400MB")
    def hungry() -> int:
        filled = bytearray(800_000_000)
        filled[::4096] = b"x" * len(filled[::4096])
        time.sleep(10)
        return 0

    assert "more than its 400 MB, and was ended" in str(run(hungry, executor=workers).error)


def test_a_limit_needs_no_executor(run: Run) -> None:
    @step(timeout="200ms")
    def slow() -> int:
        time.sleep(60)
        return 0

    def beside() -> int:
        return os.getpid()

    outcome = run(slow, beside)

    assert "timeout of 0.2 s" in str(outcome.error) and outcome.outputs["beside"] == os.getpid()


def test_a_crash_is_tried_again_where_the_step_says_so(run: Run, workers: Workers, tmp_path: Path) -> None:
    mark = str(tmp_path / "tried")

    @step(retries=1, backoff=0.01)
    def flaky() -> int:
        if not os.path.exists(mark):
            open(mark, "w").close()
            os._exit(3)
        return 1

    events: list[Event] = []
    assert run(flaky, executor=workers, report=events.append).outputs["flaky"] == 1
    assert [event.message for event in events if event.kind == "retry"] == [
        "attempt 1 of 2 failed: its process ended with exit code 3"
    ]


def test_two_runs_on_the_same_workers_hear_each_of_its_own(home: Home) -> None:
    def long(progress: Any) -> int:
        time.sleep(0.3)
        progress("half", 1, 2)
        return 1

    heard: dict[str, list[str]] = {"one": [], "two": []}

    def one(name: str, shared: Workers) -> None:
        def report(event: Event) -> None:
            if event.kind == "progress":
                heard[name].append(event.step)

        execute(
            Graph([Step(name, long, services=("progress",), cache=False)]),
            home=home, pipeline=name, executor=shared, report=report,
        )  # fmt: skip

    with executors.opened("process:2") as shared:
        assert isinstance(shared, Workers)
        threads = [threading.Thread(target=one, args=(name, shared)) for name in heard]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert heard == {"one": ["one"], "two": ["two"]}


def test_progress_and_prints_come_while_the_step_runs(run: Run, workers: Workers) -> None:
    def long(progress: Any) -> int:
        print("begun", flush=True)
        progress("half", 1, 2)
        time.sleep(1.0)
        return 1

    events: list[tuple[str, float]] = []
    run(
        Step("long", long, services=("progress",)),
        executor=workers,
        report=lambda event: events.append((event.kind, time.monotonic())),
    )
    times = dict(events)

    assert times["run"] - times["progress"] > 0.5 and times["run"] - times["output"] > 0.3


def test_a_cancelled_run_ends_its_processes_at_once(run: Run, home: Home, workers: Workers) -> None:
    def endless(table: pl.DataFrame) -> int:
        time.sleep(600)
        return 0

    def cancel(event: Event) -> None:
        if event.kind == "started" and event.step == "endless":
            Journal(home).cancel(event.run)

    outcome = run(table, endless, executor=workers, report=cancel)

    assert outcome.status == "cancelled" and outcome.error is None
    assert [row.status for row in Journal(home).steps(outcome.run_id)] == ["done", "interrupted"]


def test_a_step_that_no_worker_has_taken_up_isnt_ended_for_its_time(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_LOADING_SECONDS", 0.2)

    @step(cpus=0.5)
    def long() -> int:
        time.sleep(1.2)
        return 1

    @step(cpus=0.5, timeout=0.3)
    def short() -> int:
        return 2

    with executors.opened("process:1") as one:
        assert isinstance(one, Workers) and one.submit(max, 1, 2).result(30) == 2
        outcome = run(long, short, executor=one)

    assert states(outcome) == {"long": "run", "short": "run"} and outcome.status == "done"


def test_a_broken_pool_is_a_failure_of_its_steps_that_says_what_to_do(run: Run, home: Home) -> None:
    @step(retries=1, backoff=0.01)
    def crash() -> int:
        os._exit(3)

    def after(crash: int) -> int:
        return crash

    def before() -> int:
        return 1

    run(before)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        outcome = run(crash, after, before, executor=pool)

    assert states(outcome) == {"crash": "failed", "after": "skipped", "before": "cached"}
    assert "the executor given to the run is broken (BrokenProcessPool" in str(outcome.error)
    assert "make a new one, or name one: executor='local'" in str(outcome.error)
    assert Journal(home).runs()[0].status == "failed"


def test_what_an_earlier_try_has_printed_isnt_told_again(run: Run, workers: Workers, tmp_path: Path) -> None:
    mark = str(tmp_path / "tried")

    @step(retries=1, backoff=0.01)
    def flaky() -> int:
        first = not os.path.exists(mark)
        open(mark, "w").close()
        print("first ü" if first else "second ü")
        if first:
            raise OSError("gone")
        time.sleep(0.5)
        return 1

    told: list[str] = []

    def report(event: Event) -> None:
        if event.kind == "output":
            told.append(event.message)
            if len(told) == 2 and not interrupted:
                interrupted.append(True)
                raise KeyboardInterrupt

    interrupted: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        run(flaky, executor=workers, report=report)
    assert told == ["first ü\n", "second ü\n"]
    told.clear()

    assert run(flaky, executor=workers, report=report).resumed
    assert told == ["second ü\n"]


def test_a_seed_makes_a_step_repeat_itself(run: Run, workers: Workers) -> None:
    @step(seed=7, cache=False)
    def drawn() -> list[float]:
        import random

        import numpy as np

        return [random.random(), float(np.random.default_rng(random.randrange(9)).random()), float(np.random.rand())]

    assert run(drawn, executor=workers).outputs["drawn"] == run(drawn).outputs["drawn"]


def test_the_steps_that_matter_more_start_first(run: Run) -> None:
    order = []

    @step(priority=-1)
    def late() -> None:
        order.append("late")

    def usual() -> None:
        order.append("usual")

    @step(priority=5)
    def early() -> None:
        order.append("early")

    with ThreadPoolExecutor(1) as one:
        run(late, usual, early, executor=one)

    assert order == ["early", "usual", "late"]


def test_a_step_takes_as_many_places_as_it_asks_for(run: Run) -> None:
    at_once: list[int] = []
    inside = []

    def work(number: int) -> int:
        inside.append(number)
        at_once.append(len(inside))
        time.sleep(0.05)
        inside.remove(number)
        return number

    run(Step("wide", work, each={"number": [1, 2, 3]}, cpus=64))
    assert max(at_once) == 1
    at_once.clear()
    run(Step("narrow", work, each={"number": [4, 5, 6]}))
    assert max(at_once) == 2


def test_words_for_what_cant_be_sent_or_isnt_there(run: Run, workers: Workers) -> None:
    lock = threading.Lock()

    def holds() -> bool:
        return lock.locked()

    assert "can't be sent to another process" in str(run(holds, executor=workers).error)
    with pytest.raises(UsageError, match="no executor 'spark'; there are here, local"):
        executors.named("spark")


def test_a_worker_that_died_is_replaced(workers: Workers) -> None:
    with pytest.raises(WorkerDied, match="exit code 4"):
        workers.submit(os._exit, 4).result(30)
    assert workers.submit(max, 1, 2).result(30) == 2
    with pytest.raises(ZeroDivisionError):
        workers.submit(divmod, 1, 0).result(30)
    workers.shutdown()
    with pytest.raises(RuntimeError, match="shut down"):
        workers.submit(max, 1, 2)


def test_no_process_outlives_the_one_that_owns_the_run(tmp_path: Path) -> None:
    script = tmp_path / "own.py"
    script.write_text(
        textwrap.dedent("""
            import os, sys
            from mainspring.execution.workers import Workers

            workers = Workers(1)
            print(workers.submit(os.getpid).result(), flush=True)
            sys.stdin.read()
        """)
    )
    with subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        worker = int(owner.stdout.readline())
        owner.kill()
    deadline = time.monotonic() + 10
    while (there := Path(f"/proc/{worker}/cmdline")).exists() and there.read_text():
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.05)
