"""Warm worker processes as a standard Executor: one that crashes or is ended takes only its own work with it."""

from __future__ import annotations

import os
import pickle
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from mainspring.core.errors import MainspringError
from mainspring.execution.processes import Process, Processes, words
from mainspring.execution.worker import BEGUN, ERROR, PROGRESS, received

Heard = Callable[..., None]


class WorkerDied(MainspringError):
    """A worker process ended before its work did, or couldn't begin it."""


class Work(Future[Any]):
    """Work in a worker process: a future that can be ended."""

    def __init__(self) -> None:
        super().__init__()
        self.reason = ""
        self.taken: float | None = None
        """When a worker took it up, by the monotonic clock."""
        self.started: float | None = None
        """When the step itself began; its process and modules have been loaded by then."""
        self._lock = threading.Lock()
        self._process: Process | None = None

    def kill(self, reason: str) -> None:
        """End the work with its process, now or as soon as it has one; the future's error says *reason*."""
        with self._lock:
            self.reason = self.reason or reason
            if not self.cancel() and self._process is not None:
                self._process.end()

    def memory(self, limit: int) -> int:
        """The bytes that its process and that one's children have now, exact when they are more than *limit*."""
        with self._lock:
            return 0 if self._process is None else self._process.memory(limit)

    def _in(self, process: Process | None) -> None:
        """Have `kill` end *process*, which does this work now, or none."""
        with self._lock:
            self._process = process
            if process is not None and self.reason:
                process.end()


@dataclass(slots=True)
class _Item:
    work: Work
    content: bytes
    heard: Heard
    warming: bool = False
    """Its worker may be given work meanwhile, to begin after it."""


class Workers(Executor):
    """Up to *width* processes, each started when there is work and no idle one, and kept warm."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = []
        self._backlog: deque[_Item] = deque()
        self._processes = Processes()
        self._closed = self._ended = False
        weakref.finalize(self, self._processes.end)  # also at the end of this process

    def warm(self, fn: Callable[..., Any], /, *args: Any, processes: int = 1) -> None:
        """Have processes before there is work; the idle and the new ones call *fn*. If that fails, the work will say
        so."""
        content = pickle.dumps((fn, args))
        with self._lock:
            for worker in self._idle:
                worker.inbox.put(_Item(Work(), content, _nobody, warming=True))
            for _ in range(min(processes, self.width) - len(self._all)):
                with suppress(RuntimeError):
                    self._idle.append(self._hire(_Item(Work(), content, _nobody, warming=True)))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Work:
        """Call *fn* in a worker; it and its arguments must pickle, and *fn* be a module's."""
        if kwargs:
            raise TypeError(f"{fn.__name__} takes no keywords here: {', '.join(kwargs)}")
        return self.heard_by(_nobody, fn, *args)

    def heard_by(self, heard: Heard, fn: Callable[..., Any], /, *args: Any) -> Work:
        """The same; *heard* takes what the work tells on its way, in a thread of this class."""
        item = _Item(Work(), pickle.dumps((fn, args)), heard)
        with self._lock:
            if self._closed:
                raise RuntimeError("these workers have been shut down")
            if self._idle:
                self._idle.pop().inbox.put(item)
            elif len(self._all) < self.width:
                self._hire(item)
            else:
                self._backlog.append(item)
        return item.work

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; end the processes once what they do is done, or at once with *cancel_futures*."""
        with self._lock:
            self._closed, self._ended = True, self._ended or cancel_futures
            left = list(self._backlog) if cancel_futures else []
            if cancel_futures:
                self._backlog.clear()
            for worker in self._idle:
                worker.inbox.put(None)
            self._idle.clear()
        for item in left:
            item.work.cancel()
        if cancel_futures:
            self._processes.end()

    def _hire(self, item: _Item) -> _Worker:
        """One worker more, for *item*; raises RuntimeError when the system has no room for its thread."""
        worker = _Worker(self)
        worker.inbox.put(item)
        threading.Thread(target=worker.work, name="mainspring-worker", daemon=True).start()
        self._all.append(worker)
        return worker

    def _free(self, worker: _Worker) -> None:
        """*worker* has nothing to do: the next in the backlog, an idle moment, or the end."""
        with self._lock:
            if self._backlog:
                worker.inbox.put(self._backlog.popleft())
            elif self._closed:
                worker.inbox.put(None)
            else:
                self._idle.append(worker)


@dataclass(slots=True, eq=False)
class _Worker:
    """One process at a time, and the thread that talks to it; the process lives as long as the thread."""

    pool: Workers
    inbox: SimpleQueue[_Item | None] = field(default_factory=SimpleQueue)
    process: Process | None = None

    def work(self) -> None:
        while (item := self.inbox.get()) is not None:
            if self.pool._ended:
                item.work.cancel()
            if item.work.set_running_or_notify_cancel():
                self._do(item)
            warming = item.warming
            del item  # its arguments may be big
            if not warming:
                self.pool._free(self)
        if self.process is not None:
            self.process.close()

    def _do(self, item: _Item) -> None:
        """Whatever goes wrong here, the work ends with a reason."""
        work = item.work
        work.taken = time.monotonic()
        try:
            answer = self._answer(item)
        except Exception as error:
            work._in(None)
            why = self._gone(error)
            work.set_exception(WorkerDied(work.reason or why))
        else:
            work._in(None)
            kind, said = answer
            work.set_exception(said) if kind == ERROR else work.set_result(said)

    def _answer(self, item: _Item) -> tuple[bytes, Any]:
        if self.process is None or self.process.over:
            self.process = self._started()
        item.work._in(self.process)
        self.process.send(item.content)
        while True:
            kind, said = _read(self.process.receive())
            if kind == BEGUN:
                item.work.started = time.monotonic()
            elif kind == PROGRESS:
                item.heard(*said)
            else:
                return kind, said

    def _started(self) -> Process:
        if self.process is not None:
            self.process.close()
            self.process = None
        return self.pool._processes.start()

    def _gone(self, error: Exception) -> str:
        """Why the process isn't there; the next work gets another."""
        if self.process is None:
            why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
            return f"no worker process can be started ({why}); run it with fewer at once, or free what they lack"
        code = self.process.close()
        self.process = None
        return str(error) if isinstance(error, _Unreadable) else words(code)


class _Unreadable(Exception):
    """What a worker said can't be unpickled in this process."""


def _read(message: bytes) -> tuple[bytes, Any]:
    try:
        return received(message)
    except Exception as error:  # whatever code of others that unpickling calls
        raise _Unreadable(f"what it gave can't be read back ({type(error).__name__}: {error})") from error


def _nobody(*told: Any) -> None:
    """Nobody listens."""
