"""A turn: the right to do what only one process may do at a time; a kernel lock on a file, gone with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Turn:
    """Whoever has taken it is the only one, in this process and in all others, until `end`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path, *, wait: bool = False) -> Turn | None:
        """The turn of *path*, a file that is made where there is none; None while another has it and nobody waits."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def end(self) -> None:
        os.close(self._descriptor)
