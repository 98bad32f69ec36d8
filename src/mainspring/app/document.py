"""Standard output under `--json`: it holds one document, whatever else the user's code or a library prints."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def alone(asked: bool = True) -> Iterator[None]:
    """What is printed meanwhile, by C code or child processes too, goes to standard error (nothing changes unless
    *asked*)."""
    if not asked:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C code has printed but kept
        os.dup2(kept, 1)
        os.close(kept)
