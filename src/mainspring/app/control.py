"""The controller's process: the API in the event loop, the works in a thread, the steps in a niced process."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import uvicorn

from mainspring.app import server
from mainspring.app.files import load
from mainspring.app.project import Loop
from mainspring.app.running import Surroundings
from mainspring.core.errors import MainspringError, UsageError
from mainspring.core.wording import one_line
from mainspring.loop.controller import Controller, Turned
from mainspring.serving.door import loopback
from mainspring.serving.worker import die_with
from mainspring.store.home import Home

NICENESS = 10


def main() -> None:
    """Read the settings from standard input and work until a signal."""
    settings = json.load(sys.stdin)
    die_with(settings["parent"])
    try:
        sys.exit(_run(settings))
    except MainspringError as error:
        print(f"mainspring: {one_line(error)}", file=sys.stderr, flush=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)


def _run(settings: dict[str, Any]) -> int:
    home = Home.open(Path(settings["home"]))
    loops = [(file, found) for file in settings["files"] for found in load(file) if isinstance(found, Loop)]
    if not loops:
        raise UsageError(f"{', '.join(settings['files'])}: no Loop to serve; `mainspring run` runs a Pipeline")
    manual = settings["manual_clock"]
    turns = Turns({loop.name: file for file, loop in loops}, home.path, settings["mlflow"])
    works = Controller(
        home,
        {loop.name: loop.declaration for _, loop in loops},
        turn=turns,
        changed=lambda name: _changed(next(loop for _, loop in loops if loop.name == name), home),
        manual=manual,
        endpoint=settings["endpoint"],
        mlflow=settings["mlflow"],
    )
    try:
        return works.once() if settings["once"] else _serve(works, home, settings["fd"])
    finally:
        turns.stop()


def _serve(works: Controller, home: Home, descriptor: int) -> int:
    """The API in this thread and the works in another, until a signal."""
    thread = threading.Thread(target=works.work, daemon=True)
    thread.start()
    sock = socket.socket(fileno=descriptor)
    app = server.api(works, server.token(home), loopback(sock.getsockname()[1]))
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it again once it has drained
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[sock])
    works.stop()
    thread.join(10)
    return 0


def _changed(loop: Loop, home: Home) -> bool:
    """Whether what the user wrote differs from the loop's last turn; new rows alone are the policy's business."""
    kinds = {reason.kind for step in loop.foresee(Surroundings(home), {}) for reason in step.reasons}
    return bool(kinds & {"new", "code", "parameter", "library"})


class Turns:
    """Runs each turn in a step process of its own: it has the code as it is now, and its crash or memory kill ends the
    turn, not the controller."""

    def __init__(self, files: dict[str, str], home: Path, mlflow: str | None) -> None:
        self.files, self.home, self.mlflow = files, home, mlflow
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, loop: str, now: datetime) -> Future[Turned]:
        try:
            return self._submit(loop, now)
        except BrokenProcessPool:  # the last turn's process was killed
            self._pool = None
            return self._submit(loop, now)

    def _submit(self, loop: str, now: datetime) -> Future[Turned]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, get_context("spawn"), initializer=_calm_down, initargs=(os.getpid(),), max_tasks_per_child=1
            )
        return self._pool.submit(run_turn, self.files[loop], loop, str(self.home), self.mlflow, now)

    def stop(self) -> None:
        """Wait for the turn that runs (whoever stops us waits so long, then kills) and end the step process."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def run_turn(file: str, name: str, home: str, mlflow: str | None, now: datetime) -> Turned:
    """One turn of loop *name* in this process; its errors come back as text."""
    started = time.monotonic()
    loop = next((found for found in load(file) if isinstance(found, Loop) and found.name == name), None)
    if loop is None:
        raise UsageError(f"{file} has no Loop {name!r} any more; put it back, or stop `mainspring up` and start anew")
    where = Surroundings(Home.open(Path(home)), mlflow=mlflow, clock=lambda: now, report=_say_progress(name))
    run = loop.start(where, {})
    seconds = time.monotonic() - started
    if run.error is not None:  # that the steps after it were skipped goes without saying
        return Turned(run.id, run.status, run.model, (), one_line(run.error), seconds)
    return Turned(run.id, run.status, run.model, run.reasons, "", seconds)


def _say_progress(name: str) -> Any:
    last = [0.0]

    def report(event: Any) -> None:
        if event.kind == "progress" and time.monotonic() - last[0] > 2.0:
            last[0] = time.monotonic()
            print(f"{name}: {event.message} {event.done}{f' of {event.of}' if event.of else ''}", flush=True)

    return report


def _calm_down(parent: int) -> None:
    """Serving keeps a core: this process yields, and its libraries use what is left."""
    os.nice(NICENESS)
    cores = max(1, (os.cpu_count() or 2) - 1)
    for name in (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "POLARS_MAX_THREADS",
        "LOKY_MAX_CPU_COUNT",
    ):
        os.environ[name] = str(cores)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """The kernel's parent-death signal would follow the thread that started this process, so the parent is watched."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(70)


if __name__ == "__main__":
    main()
