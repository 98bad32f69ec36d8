"""Who does a run's tasks: this thread, threads beside it, or an executor's processes; their limits; what has ended."""

from __future__ import annotations

import codecs
import heapq
import itertools
import os
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from mainspring.core.errors import MainspringError
from mainspring.execution import elsewhere, logs
from mainspring.execution.elsewhere import Setup
from mainspring.execution.task import Task
from mainspring.execution.threads import Threads
from mainspring.execution.work import Bench, Call, Failed, Result, Stopped
from mainspring.execution.workers import Work, Workers

LOOK_SECONDS = 0.25
_CLOSE_LOOK_SECONDS = 0.05
_LOADING_SECONDS = 120.0
_Decoder = codecs.getincrementaldecoder("utf-8")
Ended = tuple[Task, Result | None]
"""A task and its result; None: it was stopped with the run."""


@dataclass(slots=True, eq=False)
class _Running:
    """A task at work. log: the file that another process writes what it prints to; shown: how much of it was told;
    mark: the file that is there once the step itself has begun, where nothing else tells; reason: why it was ended."""

    task: Task
    log: str
    mark: str
    shown: int
    since: float = field(default_factory=time.monotonic)
    begun: float | None = None
    dismissed: bool = False
    reason: str = ""
    decode: codecs.IncrementalDecoder = field(default_factory=lambda: _Decoder("replace"))


class Crew:
    """Runs tasks. Only the thread that walks the run calls it.

    executor: where steps run; None: lone tasks in this thread, others in threads beside it, and those with a timeout or
    a memory limit in worker processes. heard: takes (task, what, done, of) from a step of another process that tells
    how far it is; printed: takes (task, text) that such a step has printed. wide: there is a fan-out, so two workers
    may as well start at once.
    """

    def __init__(
        self,
        bench: Bench,
        executor: Executor | None,
        setup: Setup,
        heard: Callable[[str, str, int, int], None],
        printed: Callable[[str, str], None],
        *,
        wide: bool = False,
    ) -> None:
        self._bench, self._executor, self._setup = bench, executor, setup
        self._heard, self._printed, self._wide = heard, printed, wide
        self._threads = Threads()
        self._workers: Workers | None = None
        self._packed: bytes | None = None
        self._running: dict[Future[Any], _Running] = {}
        self._news: SimpleQueue[tuple[Any, ...] | None] = SimpleQueue()
        self._ended: list[Ended] = []
        self._waiting: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()
        given = getattr(executor, "width", None) or getattr(executor, "_max_workers", None)
        self.width: float = given if isinstance(given, int | float) else max(2, min(4, os.cpu_count() or 1))
        self._looked = 0.0

    @property
    def idle(self) -> bool:
        """Whether nothing is at work, over or waiting for another try."""
        return not (self._running or self._ended or self._waiting)

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def room(self, task: Task) -> bool:
        """Whether *task* may start beside what is at work. One that asks for more than there is runs alone. Warm
        workers are given a task ahead each, so that none waits for the walk. A step with a seed shares no process."""
        if not self._running:
            return not self._ended
        tasks = [task, *(running.task for running in self._running.values())]
        steps = [each.node.step for each in tasks]
        together = [each.node.step for each in tasks if self._here(each)]
        if self._here(task) and len(together) > 1 and any(step.seed is not None for step in together):
            return False  # threads share the generators that a seed sets
        memory = sum(step.memory or 0 for step in steps)
        plain = isinstance(self._executor, Workers) and all(step.cpus == 1 and not step.memory for step in steps)
        width = self.width * 2 if plain else self.width
        return sum(step.cpus for step in steps) <= width and (not steps[0].memory or memory <= _machine_memory())

    def start(self, task: Task, call: Call, *, alone: bool) -> None:
        """Begin *task*. alone: nothing else is ready, so it may as well run in this thread."""
        here = self._here(task)
        if here and self._executor is None and alone and not self._running:
            self._ended.append((task, _do(self._bench, call)))
            return
        running = _Running(task, "", "", 0) if here else self._away(task, call)
        try:
            future = self._submit(call, here, running.mark)
        except Exception as error:  # somebody's executor may refuse in its own words
            known = error if isinstance(error, MainspringError) else None
            again = known is None and not isinstance(error, BrokenExecutor)
            self._ended.append((task, Failed(known, _refusal(error), again=again)))
            return
        self._running[future] = running
        future.add_done_callback(lambda ended: self._news.put(None))

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

    def recall(self) -> None:
        """Take back what no worker has taken up."""
        for future in self._running:
            future.cancel()

    def dismiss(self, *, abandon: bool = False) -> None:
        """End what can be ended; the rest is told to stop when it next says how far it is. Nothing is tried again.
        abandon: the rest goes on for nobody."""
        self._waiting.clear()
        for future, running in list(self._running.items()):
            running.dismissed = True
            if (kill := getattr(future, "kill", None)) is not None:
                kill("the run was stopped")
            elif not future.cancel() and abandon:
                del self._running[future]
                self._ended.append((running.task, None))

    def close(self) -> None:
        if self._workers is not None:
            self._workers.shutdown(cancel_futures=True)

    # ------------------------------------------------------------------------------------------------------- private

    def _here(self, task: Task) -> bool:
        """Whether *task* runs in this process: not where it may have to be ended, or somebody's processes are to be
        used."""
        step = task.node.step
        ours = self._executor is None or isinstance(self._executor, ThreadPoolExecutor)
        return ours and step.timeout is None and step.memory is None

    def _away(self, task: Task, call: Call) -> _Running:
        """*task*, to be done by another process. What an earlier try has printed was told then."""
        shown, mark = 0, ""
        with suppress(FileNotFoundError):
            shown = os.path.getsize(call.log)
        if task.node.step.timeout is not None and not isinstance(self._elsewhere(), Workers):
            mark = f"{call.log}.begun"
            Path(mark).unlink(missing_ok=True)
        return _Running(task, call.log, mark, shown)

    def _submit(self, call: Call, here: bool, mark: str) -> Future[Any]:
        if here:
            return (self._executor or self._threads).submit(_do, self._bench, call)
        executor, packed = self._elsewhere(), elsewhere.packed(call)
        if isinstance(executor, Workers):
            work = executor.heard_by(lambda *told: self._news.put(told), elsewhere.make, self._header(), packed)
            if self._wide:
                executor.warm(elsewhere.prepare, self._header(), packed, processes=2)
                self._wide = False
            return work
        return executor.submit(elsewhere.make, self._header(), packed, mark)

    def _elsewhere(self) -> Executor:
        if self._executor is not None and not isinstance(self._executor, ThreadPoolExecutor):
            return self._executor
        if self._workers is None:
            self._workers = Workers(max(1, int(self.width)))
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
        """Wait for news, and take up what was told and what is over."""
        with suppress(Empty):
            told = self._news.get(timeout=seconds)
            while True:
                if told is not None:
                    self._heard(*told)
                told = self._news.get_nowait()
        for future in [each for each in self._running if each.done()]:
            self._ended.append(self._result(future))

    def _relay(self, running: _Running) -> None:
        """Tell what a step of another process has printed since the last look."""
        if not running.log:
            return
        try:
            with open(running.log, "rb") as file:
                file.seek(running.shown)
                content = file.read()
        except FileNotFoundError:  # nothing was printed
            return
        running.shown += len(content)
        if text := running.decode.decode(content):
            self._printed(running.task.name, text)

    def _result(self, future: Future[Any]) -> Ended:
        running = self._running.pop(future)
        self._relay(running)
        if running.mark:
            Path(running.mark).unlink(missing_ok=True)
        try:
            result = future.result()
        except (Exception, Stopped) as error:
            if running.dismissed or isinstance(error, Stopped):
                return running.task, None
            if isinstance(error, CancelledError):
                return running.task, Failed(None, running.reason) if running.reason else None
            return running.task, Failed(None, _refusal(error), seconds=time.monotonic() - running.since)
        return running.task, pickle.loads(result) if isinstance(result, bytes) else result

    def _watch(self) -> None:
        """Tell what is printed; end what takes more time or memory than its step allows."""
        if time.monotonic() - self._looked < _CLOSE_LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for future, running in list(self._running.items()):
            self._relay(running)
            running.reason = running.reason or _excess(future, running)
            if running.reason and (kill := getattr(future, "kill", None)) is not None:
                kill(running.reason)
            elif running.reason:
                self._give_up(future, running, running.reason)

    def _give_up(self, future: Future[Any], running: _Running, reason: str) -> None:
        """Somebody's executor that can't end its work: the step is over, the work goes on for nobody."""
        del self._running[future]
        Path(running.mark).unlink(missing_ok=True)
        self._ended.append((running.task, Failed(None, reason)))


def _do(bench: Bench, call: Call) -> Result | None:
    try:
        with logs.kept(call.log):
            return bench.do(call)
    except Stopped:
        return None


def _excess(future: Future[Any], running: _Running) -> str:
    """What the step takes more of than it may; nothing if it keeps its limits."""
    step = running.task.node.step
    if step.timeout is not None and _took(future, running) > step.timeout:
        return f"it took longer than its timeout of {step.timeout:g} s and was ended"
    if step.memory is not None and (memory := getattr(future, "memory", None)) is not None:
        has = memory(step.memory)
        if has > step.memory:
            return f"it used {has / 1e6:,.0f} MB of memory, more than its {step.memory / 1e6:,.0f} MB, and was ended"
    return ""


def _took(future: Future[Any], running: _Running) -> float:
    """How long the step itself has been at work. What waits for a worker takes no time; what a worker loads before it
    begins has time of its own."""
    if isinstance(future, Work):
        taken = None if future.taken is None else future.taken + _LOADING_SECONDS
        began = taken if future.started is None else future.started
    else:
        if running.begun is None and os.path.exists(running.mark):
            running.begun = time.monotonic()
        began = running.begun
    return 0.0 if began is None else time.monotonic() - began


def _refusal(error: Exception) -> str:
    """Why an executor didn't do the work, in words."""
    if isinstance(error, MainspringError):
        return str(error)
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, BrokenExecutor):
        return f"the executor given to the run is broken ({words}); make a new one, or name one: executor='local'"
    return words


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
