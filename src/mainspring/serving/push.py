"""The local datagram socket by which other processes tell the endpoint that routes or the clock have changed."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mainspring.store.home import Home

_NAME = "serving"
_LONGEST_ANSWER = 4096
_LONGEST = 100  # the kernel takes 107 bytes for the name of a socket


def notify(home: Home, timeout_seconds: float = 5.0) -> bool:
    """Tell the endpoint to look at routes and clock now; True once all its processes serve by them, False when none
    answers, or one doesn't."""
    return ask(home, timeout_seconds) is not None


def ask(home: Home, timeout_seconds: float = 5.0) -> list[str] | None:
    """The same; what troubles the processes, in sentences, or None."""
    folder = home.folder("run")
    own = f"ask-{os.getpid()}-{secrets.token_hex(4)}.sock"
    with _bound(folder, own) as sock:
        asked, deadline = 0, time.monotonic() + timeout_seconds
        for name in sorted(path.name for path in folder.glob(f"{_NAME}*.sock")):
            with contextlib.suppress(ConnectionRefusedError, FileNotFoundError), _address(folder, name) as address:
                sock.settimeout(timeout_seconds)
                sock.sendto(own.encode(), address)  # refused: of a process that is dead; it reads routes when it starts
                asked += 1
        troubles: set[str] = set()
        try:
            for _ in range(asked):
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                troubles |= set(sock.recv(_LONGEST_ANSWER).decode(errors="replace").split("\n")[1:])
        except TimeoutError:
            return None
        return sorted(troubles) if asked else None


class Listener:
    """The endpoint's side: waits for a push, at most as long as the poll's interval. number: of this process."""

    def __init__(self, home: Home, number: int = 0, troubles: Callable[[], list[str]] = list) -> None:
        self._folder = home.folder("run")
        self._stack = contextlib.ExitStack()
        self._troubles = troubles
        self._socket = self._stack.enter_context(_bound(self._folder, f"{_NAME}{number or ''}.sock"))

    def wait(self, seconds: float) -> list[Callable[[], None]]:
        """The acknowledgements to call once the endpoint has caught up; none when the time ran out."""
        deadline = time.monotonic() + seconds
        asked: list[Callable[[], None]] = []
        while True:
            self._socket.settimeout(0.0001 if asked else max(0.001, deadline - time.monotonic()))
            try:
                name = self._socket.recv(256).decode("ascii", "replace")
            except (TimeoutError, BlockingIOError):
                return asked
            if name.startswith("ask-") and "/" not in name:
                asked.append(lambda name=name: self._done(name))  # type: ignore[misc]

    def close(self) -> None:
        self._stack.close()

    def _done(self, name: str) -> None:
        with contextlib.suppress(OSError), _address(self._folder, name) as address:  # who asked may be gone
            self._socket.sendto("\n".join(["done", *self._troubles()]).encode()[:_LONGEST_ANSWER], address)


@contextmanager
def _bound(folder: Path, name: str) -> Iterator[socket.socket]:
    """A datagram socket at folder/name; a dead process's socket of this name is replaced."""
    path = folder / name
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        path.unlink(missing_ok=True)
        with _address(folder, name) as address:
            sock.bind(address)
        path.chmod(0o600)
        inode = path.stat().st_ino
        try:
            yield sock
        finally:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == inode:  # another endpoint may have taken the name over
                    path.unlink()


@contextmanager
def _address(folder: Path, name: str) -> Iterator[str]:
    """A name for the kernel, which takes about 100 bytes: a longer one goes by way of the open folder."""
    path = str(folder / name)
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
