"""The contract of an executor."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, wait
from typing import Any

SECONDS = 60.0
"""So long nothing may take that takes no time in itself; a cluster starts its processes in it."""


def check_executor(make: Callable[[], Executor], *, processes: bool = True) -> None:
    """An executor does what the standard library's do, and outlives the death of what it runs.

    make: gives a new one each time. processes: its work runs in processes of its own, whose death must end their own
    work with an error that says so, and nothing else. Raises AssertionError.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> check_executor(lambda: ThreadPoolExecutor(2), processes=False)
    """
    _with(make, _gives_results)
    _with(make, _passes_errors_on)
    _with(make, _takes_more_work_than_it_has_places)
    if processes:
        _with(make, _refuses_what_doesnt_pickle)
        _with(make, _outlives_a_crash)
        _with(make, _loses_only_the_work_that_died)
    _ends(make)


def _with(make: Callable[[], Executor], check: Callable[[Executor], None]) -> None:
    executor = make()
    try:
        check(executor)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _gives_results(executor: Executor) -> None:
    futures = [executor.submit(divmod, number, 3) for number in range(10)]
    found = [_result(future) for future in futures]
    _claim(found == [divmod(number, 3) for number in range(10)], f"submit(divmod, n, 3) gave {found}")
    large = _result(executor.submit(bytes, 5_000_000))
    _claim(len(large) == 5_000_000, f"a result of 5 MB came back with {len(large):,} bytes")


def _passes_errors_on(executor: Executor) -> None:
    error = _error(executor.submit(int, "no number"))
    _claim(isinstance(error, ValueError), f"int('no number') ended with {error!r}, not with its ValueError")
    _claim("no number" in str(error), f"the ValueError lost its message: {error!r}")
    exits = _error(executor.submit(_exit, 3))
    _claim(exits is not None, "sys.exit(3) in the work counted as a result")
    _claim(_result(executor.submit(abs, -1)) == 1, "after an error no work is done any more")


def _takes_more_work_than_it_has_places(executor: Executor) -> None:
    futures = [executor.submit(time.sleep, 0.001) for _ in range(200)]
    done = wait(futures, timeout=SECONDS).done
    _claim(len(done) == 200, f"of 200 pieces of work {len(done)} were done within {SECONDS:.0f} s")


def _refuses_what_doesnt_pickle(executor: Executor) -> None:
    try:
        error = _error(executor.submit(abs, threading.Lock()))  # type: ignore[arg-type]
    except Exception as refused:
        error = refused
    _claim(error is not None, "an argument that can't be pickled was taken")
    error = _error(executor.submit(threading.Lock))
    _claim(error is not None, "a result that can't be pickled came back")
    _claim(_result(executor.submit(abs, -1)) == 1, "after what doesn't pickle no work is done any more")


def _outlives_a_crash(executor: Executor) -> None:
    for crash in (_kill_own_process, os.abort, _leave):
        error = _error(executor.submit(crash))
        _claim(error is not None, f"{crash.__name__}() counted as a result")
        _claim(bool(str(error)), f"{crash.__name__}(): {type(error).__name__} doesn't say how the process ended")
        _claim(_result(executor.submit(abs, -1)) == 1, f"after {crash.__name__}() no work is done any more")


def _loses_only_the_work_that_died(executor: Executor) -> None:
    beside, dying = executor.submit(_slowly, 7), executor.submit(_kill_own_process)
    _claim(_error(dying) is not None, "a killed process counted as a result")
    _claim(_result(beside) == 7, "work in another process was lost with the one that was killed")


def _ends(make: Callable[[], Executor]) -> None:
    executor = make()
    future = executor.submit(_slowly, 1)
    executor.shutdown(wait=True)
    _claim(_result(future) == 1, "shutdown() lost work that had been taken")
    try:
        executor.submit(abs, 1)
    except RuntimeError:
        return
    _claim(False, "after shutdown() work was taken; raise RuntimeError")


def _result(future: Future[Any]) -> Any:
    try:
        return future.result(timeout=SECONDS)
    except TimeoutError as error:
        raise AssertionError(f"no result within {SECONDS:.0f} s") from error


def _error(future: Future[Any]) -> BaseException | None:
    try:
        return future.exception(timeout=SECONDS)
    except CancelledError as error:
        return error
    except TimeoutError as error:
        raise AssertionError(f"neither result nor error within {SECONDS:.0f} s: the work is lost") from error


def _claim(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def _slowly(value: int) -> int:
    time.sleep(0.3)
    return value


def _exit(code: int) -> None:
    raise SystemExit(code)


def _kill_own_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _leave() -> None:
    os._exit(5)
