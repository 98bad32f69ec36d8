"""A worker process: does one piece of work after the other, until the process that started it ends."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from mainspring.execution import elsewhere

RESULT, ERROR, PROGRESS, BEGUN = b"R", b"E", b"P", b"B"


def main() -> None:
    """Work for the process behind descriptor argv[1], whose number is argv[2]."""
    die_with(int(sys.argv[2]))
    connection = Connection(int(sys.argv[1]))
    elsewhere.said = lambda *told: connection.send_bytes(PROGRESS + pickle.dumps(told))
    elsewhere.begun = lambda: connection.send_bytes(BEGUN + pickle.dumps(None))
    while True:
        try:
            sent = connection.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            function, arguments = pickle.loads(sent)
            answer = RESULT + pickle.dumps(function(*arguments))
        except KeyboardInterrupt:  # in a session of its own no Ctrl-C is meant for this process
            answer = ERROR + _portable(RuntimeError("the step raised KeyboardInterrupt"))
        except (Exception, SystemExit) as error:
            answer = ERROR + _portable(error)
        connection.send_bytes(answer)


def die_with(parent: int) -> None:
    """End with process *parent*, however that ends, where the system can do that (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it has ended already
            os._exit(1)


def _portable(error: BaseException) -> bytes:
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
    except Exception:
        content = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return content


def received(answer: bytes) -> tuple[bytes, Any]:
    """The kind of a worker's message, and what it says."""
    return answer[:1], pickle.loads(answer[1:])


if __name__ == "__main__":
    main()
