"""Executors by name: where the steps of a run are done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from mainspring.core.errors import UsageError
from mainspring.execution import elsewhere
from mainspring.execution.workers import Workers

NAMES = "here, local, process, process:N, ray, ray://HOST:PORT"


@contextmanager
def opened(executor: str | Executor | None) -> Iterator[Executor | None]:
    """The executor of this name, shut down at the end of the block; one that is given stays its owner's.

    here (or None): this process, where a debugger works and a crash is yours. local: warm worker processes, one more
    when a step is ready and the others are busy, up to the number of cores. process[:N]: the same with N processes.
    ray: a Ray cluster, one of this machine unless an address is given.
    """
    if executor is None or isinstance(executor, Executor):
        yield executor
        return
    made = named(executor)
    try:
        yield made
    finally:
        if made is not None:
            made.shutdown(cancel_futures=True)


def warmed(executor: Executor | None, load: tuple[str, str] | None, processes: int = 1) -> None:
    """Have worker processes start, and *load* what their steps will need, while this one gets ready too."""
    if isinstance(executor, Workers):
        executor.warm(elsewhere.know, elsewhere.search_path(), load, processes=processes)


def named(name: str) -> Executor | None:
    """The executor that *name* stands for; raises UsageError when it stands for none."""
    kind, _, width = name.partition(":")
    cores = max(2, os.cpu_count() or 1)
    if name == "here":
        return None
    if name == "local":
        return Workers(cores)
    if kind == "process" and (not width or (width.isdigit() and int(width) > 0)):
        return Workers(int(width or cores))
    if name == "ray" or name.startswith("ray://"):
        from mainspring.execution.ray import RayExecutor  # the extra `ray`

        return RayExecutor(name if name.startswith("ray://") else None)
    raise UsageError(f"no executor {name!r}; there are {NAMES}")
