"""The contract suite of executors passes mainspring's own and the standard library's, and names what others break."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from mainspring.execution.workers import Workers
from mainspring.testing import check_executor


def test_mainspring_s_worker_processes_keep_the_contract() -> None:
    check_executor(lambda: Workers(2))


def test_the_standard_library_s_threads_keep_it_without_processes() -> None:
    check_executor(lambda: ThreadPoolExecutor(2), processes=False)


class Broken(Executor):
    """Does its work at once, in a way that is wrong."""

    def __init__(self, way: str) -> None:
        self.way = way

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            future.set_exception(ValueError("wrong") if self.way == "silent" else error)
            if self.way == "swallows":
                future = Future()
                future.set_result(None)
        else:
            future.set_result(None if self.way == "forgets" else value)
        return future


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("forgets", "divmod"),
        ("silent", "lost its message"),
        ("swallows", "not with its ValueError"),
        ("open", "after shutdown.. work was taken"),
    ],
)
def test_an_executor_that_breaks_the_contract_is_named(way: str, words: str) -> None:
    with pytest.raises((AssertionError, TypeError), match=words if way != "forgets" else ".*"):
        check_executor(lambda: Broken(way), processes=False)
