"""Threads of this process as a standard Executor. They can't be ended, and none keeps the process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class Threads(Executor):
    """A thread for each call; whoever submits decides how many run at once."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call *fn* in a thread of its own; raises RuntimeError when the system has no room for one."""
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        threading.Thread(target=_do, args=(future, fn, args, kwargs), name="mainspring-step", daemon=True).start()
        return future


def _do(future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:  # as the standard's own threads: it is the future's
        future.set_exception(error)
    else:
        future.set_result(result)
