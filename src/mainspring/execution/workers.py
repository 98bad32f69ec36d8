"""Warm worker processes as a standard Executor: one that crashes or is ended takes only its own work with it."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from mainspring.core.errors import MainspringError
from mainspring.execution.worker import BEGUN, ERROR, PROGRESS, received

_PAGE = os.sysconf("SC_PAGE_SIZE")


class WorkerDied(MainspringError):
    """A worker process ended before its work did."""


class Work(Future[Any]):
    """Work in a worker process: a future that can be ended."""

    def __init__(self) -> None:
        super().__init__()
        self.process: subprocess.Popen[bytes] | None = None
        self.reason = ""
        self.started: float | None = None
        """When the step itself began, by the monotonic clock; its process and modules have been loaded by then."""

    def kill(self, reason: str) -> None:
        """End the work with its process; the future's error says *reason*."""
        self.reason = self.reason or reason
        if not self.cancel() and self.process is not None:
            _end(self.process)

    def resident(self) -> int:
        """The bytes of memory that the process has now; 0 when it has ended."""
        if self.process is None:
            return 0
        try:
            with open(f"/proc/{self.process.pid}/statm") as file:
                return int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0


@dataclass(slots=True)
class _Item:
    future: Work
    content: bytes


@dataclass(slots=True, eq=False)
class _Worker:
    """One process and the thread that talks to it; the process lives as long as the thread."""

    pool: Workers
    inbox: SimpleQueue[_Item | None] = field(default_factory=SimpleQueue)
    process: subprocess.Popen[bytes] | None = None
    connection: Connection | None = None

    def work(self) -> None:
        self._start()
        while (item := self.inbox.get()) is not None:
            if item.future.set_running_or_notify_cancel():
                self._do(item)
            self.pool._free(self)
        self._stop()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            os.set_inheritable(theirs.fileno(), True)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mainspring.execution.worker", str(theirs.fileno()), str(os.getpid())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the process that owns the run
            )
        self.connection = Connection(ours.detach())
        self.pool._processes[self.process.pid] = self.process

    def _stop(self) -> None:
        if self.process is not None and self.connection is not None:
            self.connection.close()
            _end(self.process)
            self.process.wait()
            self.pool._processes.pop(self.process.pid, None)
            self.process = None

    def _do(self, item: _Item) -> None:
        if self.process is None or self.process.poll() is not None:
            self._stop()
            self._start()
        assert self.process is not None and self.connection is not None
        item.future.process = self.process
        try:
            self.connection.send_bytes(item.content)
            kind, said = received(self.connection.recv_bytes())
            while kind in (BEGUN, PROGRESS):
                if kind == BEGUN:
                    item.future.started = time.monotonic()
                else:
                    self.pool.heard(*said)
                kind, said = received(self.connection.recv_bytes())
        except (EOFError, OSError):
            reason = item.future.reason or _words(self.process.wait())
            self._stop()
            self._start()
            item.future.set_exception(WorkerDied(reason))
            return
        item.future.process = None
        if kind == ERROR:
            item.future.set_exception(said)
        else:
            item.future.set_result(said)


class Workers(Executor):
    """Up to *width* processes, each started when there is work and no idle one, and kept warm.

    heard: takes what the work tells on its way, in a thread of this class.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.heard: Callable[..., None] = lambda *told: None
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: list[_Worker] = []
        self._backlog: deque[_Item] = deque()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._closed = False
        self._end_all = weakref.finalize(self, _end_all, self._processes)
        self._end_all.atexit = True

    def warm(self, fn: Callable[..., Any], /, *args: Any, processes: int = 1) -> None:
        """Start processes before there is work, and have each call *fn*; if that fails, the work will say so."""
        with self._lock:
            for _ in range(min(processes, self.width) - len(self._all)):
                self._hire().inbox.put(_Item(Work(), pickle.dumps((fn, args))))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Work:
        """Call *fn* in a worker; it and its arguments must pickle, and *fn* be a module's."""
        if kwargs:
            raise TypeError(f"{fn.__name__} takes no keywords here: {', '.join(kwargs)}")
        item = _Item(Work(), pickle.dumps((fn, args)))
        with self._lock:
            if self._closed:
                raise RuntimeError("these workers have been shut down")
            if self._idle:
                self._idle.pop().inbox.put(item)
            elif len(self._all) < self.width:
                self._hire().inbox.put(item)
            else:
                self._backlog.append(item)
        return item.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; end the processes once what they do is done, or at once with *cancel_futures*."""
        with self._lock:
            self._closed = True
            left = list(self._backlog) if cancel_futures else []
            if cancel_futures:
                self._backlog.clear()
            for worker in self._idle:
                worker.inbox.put(None)
            self._idle.clear()
        for item in left:
            item.future.cancel()
        if cancel_futures:
            for process in list(self._processes.values()):
                _end(process)

    def _hire(self) -> _Worker:
        worker = _Worker(self)
        self._all.append(worker)
        threading.Thread(target=worker.work, name="mainspring-worker", daemon=True).start()
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


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill *process* and what it has started."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def _end_all(processes: dict[int, subprocess.Popen[bytes]]) -> None:
    for process in list(processes.values()):
        _end(process)


def _words(code: int) -> str:
    """How a process ended that wasn't meant to."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"its process was killed by {name}{_GUESSES.get(name, '')}"


_GUESSES = {
    "SIGKILL": ", which is what a machine does that is out of memory",
    "SIGSEGV": ", a fault in compiled code",
    "SIGABRT": ": compiled code gave up",
}
