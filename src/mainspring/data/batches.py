"""What a source gives, in batches of an even size: so much is in memory at once, whatever the source makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl

from mainspring.core.errors import SourceError
from mainspring.data.casting import inexact

Part = tuple[pl.DataFrame, Any]
BATCH_ROWS = 1 << 17
BATCH_BYTES = 16 << 20
"""A batch has at least so many rows, or so many bytes, and at most twice as much."""


def batches(parts: Iterable[Part], name: str) -> Iterator[Part]:
    """The rows of *parts* with the cursor behind them; only the last batch may be small.

    Raises SourceError where a column is plain values in one part and lists or records in another.
    """
    held: list[pl.DataFrame] = []
    rows, size = 0, 0
    nested: dict[str, bool] = {}
    cursor: Any = None
    for part, cursor in parts:
        _refuse_other_shape(part, nested, name)
        for piece in _pieces(part):
            held.append(piece)
            rows, size = rows + piece.height, size + int(piece.estimated_size())
            if rows >= BATCH_ROWS or size >= BATCH_BYTES:
                yield _united(held, name), cursor
                held, rows, size = [], 0, 0
    if held:
        yield _united(held, name), cursor


def ahead(parts: Iterator[Part]) -> Iterator[Part]:
    """*parts*, of which another thread makes the next while the caller works on one. One thread makes them all."""
    with ThreadPoolExecutor(1, thread_name_prefix="mainspring-reading") as thread:
        coming = thread.submit(next, parts, None)
        try:
            while (part := coming.result()) is not None:
                coming = thread.submit(next, parts, None)
                yield part
        finally:
            if callable(close := getattr(parts, "close", None)):
                thread.submit(close).result()


def _pieces(part: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """*part*, or even slices of it where it is more than two batches."""
    wanted = max(-(-part.height // (2 * BATCH_ROWS)), int(part.estimated_size()) // (2 * BATCH_BYTES))
    if wanted <= 1:
        yield part
    else:
        yield from part.iter_slices(-(-part.height // wanted))


def _united(parts: list[pl.DataFrame], name: str) -> pl.DataFrame:
    if len(parts) == 1:
        return parts[0]
    parts = _with_all_digits(parts)
    try:
        return pl.concat(parts, how="diagonal_relaxed", rechunk=True)
    except pl.exceptions.PolarsError as error:
        raise _unfit(name, str(error).partition("\n")[0]) from error


def _with_all_digits(parts: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """*parts* with a column as text that is of floats in some, and in others of whole numbers that no float holds."""
    floats = {name for part in parts for name, kind in part.schema.items() if kind.is_float()}
    whole = [part[name] for part in parts for name, kind in part.schema.items() if name in floats and kind.is_integer()]
    lossy = {column.name for column in whole if inexact(column.cast(pl.String)).any()}
    if not lossy:
        return parts
    return [part.with_columns(pl.col(name).cast(pl.String) for name in lossy & set(part.columns)) for part in parts]


def _refuse_other_shape(part: pl.DataFrame, nested: dict[str, bool], name: str) -> None:
    for column, kind in part.schema.items():
        if kind == pl.Null:
            continue
        if nested.setdefault(column, kind.is_nested()) != kind.is_nested():
            raise _unfit(name, f"column {column!r} is {kind} in some of them and not in others")


def _unfit(name: str, reason: str) -> SourceError:
    return SourceError(f"the parts of {name} don't fit: {reason}; give each column one type")
