"""Who does a run's tasks: this thread, threads beside it, or an executor's processes; their limits; what has ended."""

from __future__ import annotations

import heapq
import itertools
import os
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from mainspring.core.errors import MainspringError
from mainspring.execution import elsewhere, logs
from mainspring.execution.elsewhere import Setup
from mainspring.execution.task import Task
from mainspring.execution.work import Bench, Call, Failed, Result, Stopped
from mainspring.execution.workers import Workers

LOOK_SECONDS = 0.25
_CLOSE_LOOK_SECONDS = 0.05
_LOADING_SECONDS = 120.0
Ended = tuple[Task, Result | None]
"""A task and its result; None: it was stopped with the run."""


@dataclass(slots=True, eq=False)
class _Running:
    """A task at work. log: the file that another process writes what it prints to; shown: how much of it was told."""

    task: Task
    log: str
    since: float = field(default_factory=time.monotonic)
    shown: int = 0
    dismissed: bool = False


class Crew:
    """Runs tasks. Only the thread that walks the run calls it.

    executor: where steps run; None: lone tasks in this thread, others in threads beside it, and those with a timeout or
    a memory limit in worker processes. heard: takes (task, what, done, of) from a step of another process that tells
    how far it is; printed: takes (task, text) that such a step has printed.
    """

    def __init__(
        self,
        bench: Bench,
        executor: Executor | None,
        setup: Setup,
        heard: Callable[[str, str, int, int], None],
        printed: Callable[[str, str], None],
    ) -> None:
        self._bench, self._executor, self._setup = bench, executor, setup
        self._heard, self._printed = heard, printed
        self._threads: ThreadPoolExecutor | None = None
        self._workers: Workers | None = None
        self._packed: bytes | None = None
        self._running: dict[Future[Any], _Running] = {}
        self._news: SimpleQueue[Future[Any] | tuple[Any, ...]] = SimpleQueue()
        self._ended: list[Ended] = []
        self._waiting: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()
        given = getattr(executor, "width", None) or getattr(executor, "_max_workers", None)
        self.width: float = given if isinstance(given, int | float) else max(2, min(4, os.cpu_count() or 1))
        if isinstance(executor, Workers):
            executor.heard = lambda *told: self._news.put(told)

    @property
    def idle(self) -> bool:
        """Whether nothing is at work, over or waiting for another try."""
        return not (self._running or self._ended or self._waiting)

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def room(self, task: Task) -> bool:
        """Whether *task* may start beside what is at work. One that asks for more than there is runs alone."""
        if not self._running:
            return not self._ended
        cpus = sum(running.task.node.step.cpus for running in self._running.values())
        memory = sum(running.task.node.step.memory or 0 for running in self._running.values())
        step = task.node.step
        return cpus + step.cpus <= self.width and (not step.memory or memory + step.memory <= _machine_memory())

    def start(self, task: Task, call: Call, *, alone: bool) -> None:
        """Begin *task*. alone: nothing else is ready, so it may as well run in this thread."""
        here = self._here(task)
        if here and self._executor is None and alone and not self._running:
            self._ended.append((task, _do(self._bench, call)))
            return
        try:
            if here:
                future: Future[Any] = self._side_by_side().submit(_do, self._bench, call)
            else:
                future = self._elsewhere().submit(elsewhere.make, self._header(), elsewhere.packed(call))
        except MainspringError as error:
            self._ended.append((task, Failed(error, str(error), again=False)))
            return
        self._running[future] = _Running(task, "" if here else call.log)
        future.add_done_callback(self._news.put)

    def again(self, task: Task, seconds: float) -> None:
        """Have `due` give *task* back after some time."""
        heapq.heappush(self._waiting, (time.monotonic() + seconds, next(self._numbers), task))

    def due(self) -> Iterator[Task]:
        """The tasks whose time for another try has come."""
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            yield heapq.heappop(self._waiting)[2]

    def ended(self) -> list[Ended]:
        """What has ended; waits a moment for it when nothing has and something is at work or to be tried again."""
        if not (self._ended or self.idle):
            self._hear(self._patience())
        self._watch()
        ended, self._ended = self._ended, []
        return ended

    def dismiss(self) -> None:
        """End what can be ended; the rest is told to stop when it next says how far it is. Nothing is tried again."""
        self._waiting.clear()
        for future, running in self._running.items():
            running.dismissed = True
            if (kill := getattr(future, "kill", None)) is not None:
                kill("the run was stopped")

    def close(self) -> None:
        for pool in (self._threads, self._workers):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------------------------------------------------- private

    def _here(self, task: Task) -> bool:
        """Whether *task* runs in this process: not where it may have to be ended, or somebody's processes are to be
        used."""
        step = task.node.step
        ours = self._executor is None or isinstance(self._executor, ThreadPoolExecutor)
        return ours and step.timeout is None and step.memory is None

    def _side_by_side(self) -> Executor:
        if self._executor is not None:
            return self._executor
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max(2, int(self.width)), "mainspring-step")
        return self._threads

    def _elsewhere(self) -> Executor:
        if self._executor is not None and not isinstance(self._executor, ThreadPoolExecutor):
            return self._executor
        if self._workers is None:
            self._workers = Workers(max(1, int(self.width)))
            self._workers.heard = lambda *told: self._news.put(told)
        return self._workers

    def _header(self) -> bytes:
        if self._packed is None:
            self._packed = pickle.dumps(self._setup)
        return self._packed

    def _patience(self) -> float:
        """How long to wait for news: never past a try that is due, and briefly while somebody's memory is watched."""
        close = any(running.task.node.step.memory for running in self._running.values())
        patience = _CLOSE_LOOK_SECONDS if close else LOOK_SECONDS
        if self._waiting:
            patience = min(patience, max(0.0, self._waiting[0][0] - time.monotonic()))
        return patience

    def _hear(self, seconds: float) -> None:
        try:
            news = self._news.get(timeout=seconds)
            while True:
                if isinstance(news, tuple):
                    self._heard(*news)
                elif news in self._running:
                    self._ended.append(self._result(news))
                news = self._news.get_nowait()
        except Empty:
            return

    def _relay(self, running: _Running) -> None:
        """Tell what a step of another process has printed since the last look."""
        if not running.log:
            return
        try:
            with open(running.log, encoding="utf-8", errors="replace") as file:
                file.seek(running.shown)
                text = file.read()
                running.shown = file.tell()
        except FileNotFoundError:  # nothing was printed
            return
        if text:
            self._printed(running.task.name, text)

    def _result(self, future: Future[Any]) -> Ended:
        running = self._running.pop(future)
        self._relay(running)
        try:
            result = future.result()
        except (CancelledError, Stopped):
            return running.task, None
        except Exception as error:
            if running.dismissed:
                return running.task, None
            words = str(error) if isinstance(error, MainspringError) else f"{type(error).__name__}: {error}"
            return running.task, Failed(None, words, seconds=time.monotonic() - running.since)
        return running.task, pickle.loads(result) if isinstance(result, bytes) else result

    def _watch(self) -> None:
        """Tell what is printed; end what takes more time or memory than its step allows."""
        for future, running in list(self._running.items()):
            self._relay(running)
            step, took = running.task.node.step, _took(future, running)
            kill = getattr(future, "kill", None)
            if step.timeout is not None and took > step.timeout:
                reason = f"it took longer than its timeout of {step.timeout:g} s and was ended"
                if kill is None:
                    self._give_up(future, running, reason)
                else:
                    kill(reason)
            elif step.memory is not None and kill is not None and (has := _resident(future)) > step.memory:
                kill(f"it used {has / 1e6:,.0f} MB of memory, more than its {step.memory / 1e6:,.0f} MB, and was ended")

    def _give_up(self, future: Future[Any], running: _Running, reason: str) -> None:
        """Somebody's executor that can't end its work: the step is over, the work goes on for nobody."""
        del self._running[future]
        self._ended.append((running.task, Failed(None, reason)))


def _do(bench: Bench, call: Call) -> Result | None:
    try:
        with logs.kept(call.log):
            return bench.do(call)
    except Stopped:
        return None


def _took(future: Future[Any], running: _Running) -> float:
    """How long the step itself has been at work; what loads before it has time of its own."""
    started = getattr(future, "started", running.since)
    return time.monotonic() - (running.since + _LOADING_SECONDS if started is None else started)


def _resident(future: Future[Any]) -> int:
    return int(getattr(future, "resident", int)())


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
