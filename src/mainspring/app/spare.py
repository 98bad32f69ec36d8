"""A serving process in reserve: it has loaded its libraries, and waits to be told what to serve."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

CALM_SECONDS = 2.0
"""How long the serving processes must have run before one in reserve takes time from them for its start."""
RETRY_SECONDS = 30.0
"""How long after one that couldn't be started the next is tried."""


def begin(module: str, files: Sequence[int], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process that runs *module*, has the open *files* and reads its settings from its standard input."""
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        pass_fds=files,
        env={**os.environ, **environment},
        start_new_session=True,  # Ctrl-C reaches the supervisor only, which drains its processes in order
    )


def tell(process: subprocess.Popen[bytes], settings: Mapping[str, Any], *, last: bool = True) -> None:
    """Say to *process* by what to serve, or to get ready; one that has died hears nothing."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        process.stdin.flush()
    with contextlib.suppress(BrokenPipeError):
        if last:
            process.stdin.close()


class Spare:
    """One process for all that run *module* with the same *files* and *environment*: whichever dies, it takes over.

    It gets ready by *settings* and waits for those of the other; when its input ends without them, it ends too.
    """

    def __init__(
        self, module: str, files: Sequence[int], environment: Mapping[str, str], settings: Mapping[str, Any]
    ) -> None:
        self._given, self._settings = (module, files, environment), settings
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0

    def keep(self, calm_since: float) -> None:
        """Have one, where all has been calm for long enough."""
        if self._alive() or time.monotonic() - max(calm_since, self._began) < CALM_SECONDS:
            return
        self._began = time.monotonic()
        try:
            self._process = begin(*self._given)
        except OSError as error:  # no memory, or no more processes: who serves goes on
            self._began += RETRY_SECONDS
            told = f"no serving process can be kept in reserve now ({error.strerror}); the next try is in"
            print(f"mainspring: {told} {RETRY_SECONDS:.0f} s", file=sys.stderr, flush=True)
            return
        tell(self._process, {**self._settings, "reserve": True}, last=False)

    def take(self) -> subprocess.Popen[bytes] | None:
        """The process in reserve, which is one no longer; None when there is none."""
        process, self._process = (self._process if self._alive() else None), None
        return process

    def end(self) -> None:
        """End it, where there is one."""
        process = self.take()
        if process is not None:
            process.kill()
            process.communicate()

    def _alive(self) -> bool:
        if self._process is None or self._process.poll() is None:
            return self._process is not None
        self._process.communicate()  # closes its input
        self._process = None
        return False
