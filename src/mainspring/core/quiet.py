"""Warnings of libraries, kept apart by thread.

`warnings.catch_warnings` is one for the whole process: where two threads overlap, one hears what the other's libraries
warn of, and the last to leave restores the wrong filters.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

Heard = list[Warning | str]

_lock = threading.Lock()
_own = threading.local()
_open: list[Heard] = []
_process: list[Any] = []
"""While anybody listens: what restores the process's warnings at the end."""


@contextmanager
def heard() -> Iterator[Heard]:
    """What this thread, and the workers that it starts, warn of; nothing of it is shown.

    >>> with heard() as said:
    ...     warnings.warn("mind the gap")
    >>> [str(each) for each in said]
    ['mind the gap']
    """
    said: Heard = []
    mine: list[Heard] = _own.__dict__.setdefault("open", [])
    mine.append(said)
    _enter(said)
    try:
        yield said
    finally:
        _leave(said)
        mine.pop()


def _enter(said: Heard) -> None:
    with _lock:
        if not _open:
            process = warnings.catch_warnings()
            process.__enter__()
            _process.append(process)
            warnings.simplefilter("always")
            warnings.showwarning = _told
        _open.append(said)


def _leave(said: Heard) -> None:
    with _lock:
        del _open[next(place for place, each in enumerate(_open) if each is said)]
        if not _open:
            _process.pop().__exit__(None, None, None)


def _told(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A thread that doesn't listen itself is taken for a worker of the one that came last."""
    listening: list[Heard] = getattr(_own, "open", []) or _open
    if listening:
        listening[-1].append(message)
