"""The contract of a source."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl

from mainspring.core import sources
from mainspring.data.sources import Reader, Resuming, beyond, overlap, reader


def check_source(source: Any, grow: Callable[[], object] | None = None) -> None:
    """A source tells where it stands, as JSON, and gives the same rows again; beyond its end it gives none.

    source: a plug-in with `position()` and `read(since)`, or anything else that `Loop(data=...)` takes; it needs a row.
    grow: adds rows to what the source reads; then the position must change, and behind the old cursor come those rows
    and no others. Raises AssertionError, or the SourceError that a run would end with.

    >>> check_source(lambda: [{"flight": 1, "late": True}])
    """
    rows_of = _reader(source)
    stands = rows_of.position()
    _check_json("position()", stands)
    first, cursor = _read(rows_of, None)
    if not first.height:
        raise AssertionError(f"{rows_of.name} gave no rows for read(None), which asks for all; give it some to check")
    again, _ = _read(_reader(source), None)
    if not first.equals(again):
        raise AssertionError(f"{rows_of.name} gave {_differing(first, again)}; give the same rows in the same order")
    if (now := _reader(source).position()) != stands:
        raise AssertionError(f"{rows_of.name} stands at {now!r} after it was read, at {stands!r} before; only new rows "
                             "may change its position")  # fmt: skip
    if _continues(source, cursor):
        _check_end(_reader(source), cursor)
    if grow is not None:
        grow()
        _check_growth(source, stands, cursor, first)


def _reader(source: Any) -> Reader:
    return reader(sources.source(source))


def _continues(source: Any, cursor: Any) -> bool:
    """Whether the next run would read from *cursor* on, and not all rows again."""
    rows_of = _reader(source)
    if not isinstance(rows_of, Resuming) and not rows_of.incremental:
        return False
    _check_json("the cursor", cursor)
    return beyond(rows_of, cursor) is not None


def _check_json(what: str, value: Any) -> None:
    try:
        kept = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(
            f"{what} gave {value!r}, which is not JSON ({error}); give text, numbers or lists"
        ) from error
    if kept != value:
        raise AssertionError(
            f"{what} gave {value!r}, which comes back from JSON as {kept!r}; give a value that doesn't change"
        )


def _read(rows_of: Reader, since: Any) -> tuple[pl.DataFrame, Any]:
    """All rows beyond *since*, and the cursor behind them."""
    parts, cursor = [], since
    for part, cursor in rows_of.read(since):  # noqa: B007 - the last one is used
        parts.append(part)
    names = {tuple(part.columns) for part in parts}
    if len(names) > 1:
        one, other = sorted(names)[:2]
        raise AssertionError(f"{rows_of.name} gave parts with the columns {one} and {other}; give all the same ones")
    return pl.concat(parts, how="vertical_relaxed") if parts else pl.DataFrame(), cursor


def _check_end(rows_of: Reader, cursor: Any) -> None:
    more = _new(rows_of, cursor)
    if more.height:
        raise AssertionError(
            f"{rows_of.name} gave {more.height:,} rows for read({cursor!r}), its own position; give only rows beyond "
            "it, or None as position where rows can't be told apart"
        )


def _check_growth(source: Any, stood: Any, cursor: Any, first: pl.DataFrame) -> None:
    rows_of = _reader(source)
    stands = rows_of.position()
    if stands is not None and stands == stood:
        raise AssertionError(f"{rows_of.name} has new rows but still stands at {stands!r}; no run would read them")
    everything, _ = _read(rows_of, None)
    if everything.height <= first.height:
        raise AssertionError(f"grow= added nothing: {first.height:,} rows before, {everything.height:,} after")
    if not _continues(source, cursor):
        return
    found = _new(_reader(source), cursor)
    if first.height + found.height != everything.height:
        raise AssertionError(
            f"{rows_of.name} had {first.height:,} rows and has {everything.height:,}, but gave {found.height:,} for "
            f"read({cursor!r}); give those beyond that position, all of them and no others"
        )
    united = pl.concat([first, found.select(first.columns)], how="vertical_relaxed")
    names = united.columns
    if not united.sort(names).equals(everything.select(names).cast(united.schema).sort(names)):
        raise AssertionError(f"{rows_of.name} gave other rows for read({cursor!r}) than it has since then")


def _new(rows_of: Reader, cursor: Any) -> pl.DataFrame:
    """The rows beyond *cursor*, without those that a reader gives again because late ones may have its value."""
    found, _ = _read(rows_of, cursor)
    if (column := overlap(rows_of)) is not None and found.height:
        found = found.filter(pl.col(column) > pl.col(column).min())
    return found


def _differing(first: pl.DataFrame, again: pl.DataFrame) -> str:
    if first.shape != again.shape:
        return f"{first.height:,} rows x {first.width} columns, and {again.height:,} x {again.width} when read again"
    return "other values, or an other order, when it was read again"
