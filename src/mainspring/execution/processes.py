"""A worker process with all that it starts: begun, talked to, measured and ended together."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection

_PAGE = os.sysconf("SC_PAGE_SIZE")
_GUARD = 'while read -r now; do groups=$now; done; for group in $groups; do kill -s KILL -- "-$group"; done'


class Processes:
    """The processes of one owner. Their children don't outlive it either, however it ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._alive: set[Process] = set()
        self._ended = False
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self) -> Process:
        """One more; raises OSError."""
        process = Process()
        with self._lock:
            self._alive.add(process)
            self._watch()
            ended = self._ended
        try:
            threading.Thread(target=self._reap, args=(process,), name="mainspring-reaper", daemon=True).start()
        except RuntimeError as error:
            process.end()
            self._reap(process)
            raise OSError(errno.EAGAIN, str(error)) from error
        if ended:
            process.end()
        return process

    def end(self) -> None:
        """End them all, and those that start later at once."""
        with self._lock:
            self._ended = True
            alive = list(self._alive)
        for process in alive:
            process.end()

    def _reap(self, process: Process) -> None:
        process.reap()
        with self._lock:
            self._alive.discard(process)
            self._watch()

    def _watch(self) -> None:
        """Have the guard know whom to end when this process was killed; without processes there is none."""
        if self._guard is None:
            with suppress(OSError):  # a system without a shell: children of a killed owner's workers may live on
                self._guard = subprocess.Popen(
                    ["/bin/sh", "-c", _GUARD],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        if self._guard is None or self._guard.stdin is None:
            return
        with suppress(OSError):  # somebody has killed it
            os.write(self._guard.stdin.fileno(), f"{' '.join(str(each.pid) for each in self._alive)}\n".encode())
        if not self._alive:
            self._guard.kill()
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None


class Process:
    """A Python process that works for this one, in a session of its own: Ctrl-C is for the process that owns the run.

    Raises OSError when the system has no room for one.
    """

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "mainspring.execution.worker", str(theirs.fileno()), str(os.getpid())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            self._connection = Connection(os.dup(self._socket.fileno()))
        except BaseException:
            self._socket.close()
            raise
        self._lock = threading.Lock()
        self._over = threading.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def over(self) -> bool:
        return self._over.is_set()

    def send(self, content: bytes) -> None:
        """Raises OSError when it has ended."""
        self._connection.send_bytes(content)

    def receive(self) -> bytes:
        """Its next message; raises EOFError or OSError when it has ended, whoever else holds its end of the line."""
        return self._connection.recv_bytes()

    def memory(self, limit: int) -> int:
        """The bytes that it and its children have; a page they share counts once, which is looked into when they seem
        to have more than *limit*."""
        tree = list(_tree(self.pid))
        resident = sum(map(_resident, tree))
        return sum(map(_proportional, tree)) if len(tree) > 1 and resident > limit else resident

    def end(self) -> None:
        """Kill it and what it has started."""
        with self._lock:
            if not self.over:  # else the number may be another's by now
                self._kill()

    def reap(self) -> None:
        """Wait for its end, however that comes, and end with it what it has started."""
        with suppress(ChildProcessError):  # somebody else waits for all children
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._kill()
            self._process.wait()
            self._over.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # a child in a session of its own may hold the other end
        self._socket.close()

    def close(self) -> int:
        """End it, and give back its exit code."""
        self.end()
        self._over.wait()
        self._connection.close()
        return self._process.returncode

    def _kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of the dead
            os.killpg(self.pid, signal.SIGKILL)


def words(code: int) -> str:
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


def _tree(pid: int) -> Iterator[int]:
    """*pid* and its descendants, where the system tells them (Linux)."""
    yield pid
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                children = file.read().split()
            for child in children:
                yield from _tree(int(child))


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):  # it has ended
        return 0


def _proportional(pid: int) -> int:
    """What *pid* has in memory; of a page that n processes share, the nth part."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return _resident(pid)
