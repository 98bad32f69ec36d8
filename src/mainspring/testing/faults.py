"""Faults on purpose: steps that fail, dawdle or die, and kept outputs that are damaged, for the tests of a pipeline."""

from __future__ import annotations

import inspect
import os
import signal
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mainspring.core.errors import UsageError
from mainspring.execution.work import resolve
from mainspring.pipeline.graph import Graph, nearest
from mainspring.store.catalog import Catalog
from mainspring.store.home import Home
from mainspring.store.journal import Journal

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the first *times* calls of *step*, in whatever process."""

    step: str
    times: int
    error: BaseException | None = None
    seconds: float = 0.0
    kill: bool = False


def failing(step: str, *, times: int = 1, error: BaseException | None = None) -> Fault:
    """The step raises *error* (a RuntimeError unless told) *times* times, then does its work."""
    return Fault(step, times, error or RuntimeError(f"{step} fails on purpose"))


def slow(step: str, seconds: float, *, times: int = 1) -> Fault:
    """The step waits so long before it does its work."""
    return Fault(step, times, seconds=seconds)


def killed(step: str, *, times: int = 1) -> Fault:
    """The process that does the step is killed, as by a machine that is out of memory. For executors with processes:
    where the step runs in the caller's own process, as in `testing.run`, it raises UsageError each time."""
    return Fault(step, times, kill=True)


def with_faults(pipeline: P, *faults: Fault) -> P:
    """*pipeline* whose steps suffer *faults*; fingerprints stay as they are, so its outputs are found in the cache.

    >>> import mainspring as ms
    >>> from mainspring.testing import failing, run, with_faults
    >>> @ms.step(retries=2)
    ... def rows() -> list[int]:
    ...     return [1, 2]
    >>> run(with_faults(ms.Pipeline("p", [rows]), failing("rows", times=2)))
    {'rows': [1, 2]}
    """
    graph: Graph = pipeline.graph  # type: ignore[attr-defined]
    steps = {name: node.step for name, node in graph.nodes.items()}
    for fault in faults:
        if fault.step not in steps:
            raise UsageError(
                f"no step {fault.step!r}{nearest(fault.step, graph.names)}; the steps are {', '.join(graph.names)}"
            )
        step = steps[fault.step]
        steps[fault.step] = replace(step, function=_Faulty(step.function, fault))
    kind: Any = type(pipeline)
    made: P = kind(pipeline.name, list(steps.values()))  # type: ignore[attr-defined]
    return made


def damage(pipeline: Any, step: str, *, home: Home | Path | str) -> None:
    """Flip a bit in the kept output of *step*'s last run: the next run must notice and make it again."""
    opened = home if isinstance(home, Home) else Home.open(Path(home))
    record = Journal(opened).latest(pipeline.name).get(step)
    if record is None or record.output is None:
        raise UsageError(f"step {step!r} of {pipeline.name!r} has no kept output in {opened.path}; run it first")
    catalog = Catalog(opened)
    for digest in catalog.objects(record.output):
        path = catalog.files.path(digest)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    if record.output.content is not None:  # a small value stands in the database itself
        with opened.database.transaction() as connection:
            for table, column in (("cache", "step"), ("steps", "name")):
                connection.execute(
                    f"update {table} set output = json_set(output, '$.content', 'damaged') "
                    f"where pipeline = ? and {column} = ?",
                    (pipeline.name, step),
                )


class _Faulty:
    """A step's function, before which *fault* happens. How often it has is counted in a file, for all processes."""

    def __init__(self, function: Callable[..., Any] | str, fault: Fault) -> None:
        self.function, self.fault, self.home_process = function, fault, os.getpid()
        self.__wrapped__ = resolve(function)
        self.__name__ = self.__qualname__ = fault.step
        self.__module__ = self.__wrapped__.__module__
        self.__signature__ = inspect.signature(self.__wrapped__)
        descriptor, self.counter = tempfile.mkstemp(prefix="mainspring-fault-")
        os.close(descriptor)
        weakref.finalize(self, Path(self.counter).unlink, missing_ok=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.fault.kill and os.getpid() == self.home_process:
            raise UsageError(
                f"killed({self.fault.step!r}) would end this very process; run the pipeline with executor='local'"
            )
        if self._count() <= self.fault.times:
            self._suffer()
        return resolve(self.function)(*args, **kwargs)

    def _count(self) -> int:
        descriptor = os.open(self.counter, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, b".")
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def _suffer(self) -> None:
        time.sleep(self.fault.seconds)
        if self.fault.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault.error is not None:
            raise self.fault.error
