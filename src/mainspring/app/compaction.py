"""Compaction beside `mainspring serve`, where no controller does it: a process of low priority."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from mainspring.store.home import Home

PROGRAM = "mainspring.loop.compaction"
LOOK_SECONDS, RETRY_SECONDS = 60.0, 900.0
_KINDS = ("predictions", "feedback")


class Compaction:
    """Looks now and then whether records of *home* wait to be compacted, and has it done. A kill costs nothing."""

    def __init__(self, home: Home, look_seconds: float = LOOK_SECONDS) -> None:
        self._home, self._look_seconds = home, look_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._next, self._waiting = time.monotonic() + look_seconds, 0

    def keep(self) -> None:
        """Begin it where there is something to do; where the last one could do nothing, much later."""
        if time.monotonic() < self._next or (self._process is not None and self._process.poll() is None):
            return
        waiting, before = self._sealed(), self._waiting if self._process is not None else 0
        idle = before and waiting >= before
        self._next = time.monotonic() + (RETRY_SECONDS if idle else self._look_seconds)
        self._process, self._waiting = None, 0 if idle else waiting
        if self._waiting:
            command = [sys.executable, "-m", PROGRAM, str(self._home.path), str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _sealed(self) -> int:
        """How many files aren't the newest of their kind, or wait for their index to be made anew."""
        folders = [path for path in self._home.folder("records").iterdir() if path.is_dir()]
        files = [max(0, len(list(folder.glob(f"{kind}-*.seg"))) - 1) for folder in folders for kind in _KINDS]
        return sum(files) + sum(1 for folder in folders for _ in folder.glob("*.unsound"))
