"""Standard output under `--json`: it holds one document, whatever else the user's code or a library prints."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

import msgspec


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


def several(schema: str, answers: Sequence[tuple[str, dict[str, Any]]]) -> int:
    """Print one object: of a FILE with one declaration its fields, of one with several a list of them."""
    if len(answers) == 1:
        return one(schema, answers[0][0], **answers[0][1])
    worst = next((status for status, _ in answers if status != "done"), "done")
    return one(schema, worst, pipelines=[{"status": status, **fields} for status, fields in answers])


def one(schema: str, status: str, **fields: Any) -> int:
    """Print one object."""
    told = {"schema": f"mainspring/{schema}@1", "status": status, **fields}
    print(msgspec.json.encode(told, enc_hook=_known_to_json).decode())  # nan becomes null
    return 0


def action(reason: str, as_json: bool) -> int:
    """Print what was done: a line, or one object."""
    if as_json:
        return one("action", "done", reason=reason)
    print(reason)
    return 0


def _known_to_json(value: Any) -> Any:
    """What msgspec doesn't know: other mappings, iterables and numpy's numbers; all else by its text."""
    if isinstance(value, Mapping):
        return dict(value)
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, str):
        return list(value)
    return str(value)
