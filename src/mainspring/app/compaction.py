"""Compaction beside `mainspring serve`, where no controller does it: a process of low priority."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

from mainspring.store.home import Home

PROGRAM = "mainspring.loop.compaction"
LOOK_SECONDS, RETRY_SECONDS = 60.0, 900.0


class Compaction:
    """Looks now and then whether records of *home* wait to be compacted, and has it done. A kill loses nothing."""

    def __init__(self, home: Home, look_seconds: float = LOOK_SECONDS) -> None:
        self._home, self._look_seconds = home, look_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._next, self._taken = time.monotonic() + look_seconds, frozenset[Path]()

    def keep(self) -> None:
        """Begin it where there is something to do; much later where the last one could do nothing, or none begins."""
        if time.monotonic() < self._next or (self._process is not None and self._process.poll() is None):
            return
        self._next = time.monotonic() + RETRY_SECONDS
        try:
            waiting, before = self._waiting(), self._taken
            self._process, self._taken = None, frozenset()
            if not before or not before <= waiting:
                self._begin(waiting)
                self._next = time.monotonic() + self._look_seconds
        except OSError as error:  # the endpoint answers as before
            print(f"mainspring: records can't be compacted now: {error}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _begin(self, waiting: frozenset[Path]) -> None:
        if waiting:
            command = [sys.executable, "-m", PROGRAM, str(self._home.path), str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
            self._taken = waiting

    def _waiting(self) -> frozenset[Path]:
        """The files that aren't the newest of their kind, nor written by anybody, and marks of unsound indices."""
        found: set[Path] = set()
        for folder in self._home.folder("records").iterdir():
            for kind in ("predictions", "feedback"):
                found.update(path for path in sorted(folder.glob(f"{kind}-*.seg"))[:-1] if _is_let_go(path))
            found.update(folder.glob("*.unsound"))
        return frozenset(found)


def _is_let_go(path: Path) -> bool:
    """Whether no process has *path* locked, as who writes it has."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True
