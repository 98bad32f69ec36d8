"""What steps print: kept in a file per step, whether it is printed in this process or in a worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import TextIOBase
from pathlib import Path
from typing import Any, TextIO

from mainspring.core.errors import NotInStore
from mainspring.store.home import Home

_FOLDER = "logs"
_SUFFIX = ".log"
_file: ContextVar[str | None] = ContextVar("mainspring_log", default=None)
_watching = 0


def path(home: Home, run: str, task: str) -> Path:
    """The file of what *task* of *run* prints; it is there once something was printed."""
    return home.path / _FOLDER / run / f"{task}{_SUFFIX}"


def read(home: Home, run: str, step: str | None = None) -> dict[str, str]:
    """What the steps of *run* printed, by step or element of one, as far as they printed. Raises NotInStore."""
    found = sorted((home.path / _FOLDER / run).glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime)
    texts = {file.name.removesuffix(_SUFFIX): file.read_text(errors="replace") for file in found if file.stat().st_size}
    if step is None:
        return texts
    chosen = {name: text for name, text in texts.items() if name == step or name.startswith(f"{step}[")}
    if not chosen:
        raise NotInStore(f"step {step!r} printed nothing in run {run}; steps that did: {', '.join(texts) or 'none'}")
    return chosen


@contextmanager
def watching() -> Iterator[None]:
    """Within the block, what is printed in a `kept` block is also written to its file."""
    global _watching
    if not _watching:
        sys.stdout, sys.stderr = _Tee(sys.stdout), _Tee(sys.stderr)
    _watching += 1
    try:
        yield
    finally:
        _watching -= 1
        if not _watching:
            sys.stdout, sys.stderr = _plain(sys.stdout), _plain(sys.stderr)


class kept:
    """What this thread prints in the block goes to *file* too; the thread's `watching` must be about it."""

    __slots__ = ("_file", "_token")

    def __init__(self, file: str) -> None:
        self._file = file

    def __enter__(self) -> None:
        self._token = _file.set(self._file)

    def __exit__(self, *error: object) -> None:
        _file.reset(self._token)


@contextmanager
def redirected(file: str) -> Iterator[None]:
    """What this process and its libraries print in the block goes to *file* and nowhere else, even when it dies."""
    os.makedirs(os.path.dirname(file), exist_ok=True)
    _flush()
    saved = [os.dup(number) for number in (1, 2)]
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for number in (1, 2):
            os.dup2(descriptor, number)
        yield
    finally:
        _flush()
        for number, before in zip((1, 2), saved, strict=True):
            os.dup2(before, number)
            os.close(before)
        if os.fstat(descriptor).st_size == 0:
            os.unlink(file)
        os.close(descriptor)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


class _Tee(TextIOBase):
    """A stream that writes what a step prints to the step's file as well."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        file = _file.get()
        if file is not None and text:
            os.makedirs(os.path.dirname(file), exist_ok=True)
            with open(file, "a", encoding="utf-8", errors="replace") as log:
                log.write(text)
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _plain(stream: TextIO) -> TextIO:
    """The stream below ours; somebody else may have put their own on top, which stays."""
    return stream.stream if isinstance(stream, _Tee) else stream
