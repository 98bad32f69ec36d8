"""The contract of a source."""

from __future__ import annotations

import json
from typing import Any

import polars as pl

from mainspring.core import declarations
from mainspring.data.sources import Reader, overlap, reader


def check_source(source: Any) -> None:
    """A source tells where it stands, as JSON, and gives the same rows again; beyond its end it gives none.

    source: a plug-in with `position()` and `read(since)`, or anything else that `Loop(data=...)` takes; it needs a row.
    Raises AssertionError, or the SourceError that a run would end with.

    >>> check_source(lambda: [{"flight": 1, "late": True}])
    """
    rows_of = reader(declarations.source(source))
    _check_json("position()", rows_of.position())
    first, cursor = _read(rows_of, None)
    if not first.height:
        raise AssertionError(f"{rows_of.name} gave no rows for read(None), which asks for all; give it some to check")
    again, _ = _read(reader(declarations.source(source)), None)
    if not first.equals(again):
        raise AssertionError(f"{rows_of.name} gave {_differing(first, again)}; give the same rows in the same order")
    if rows_of.incremental:
        _check_end(reader(declarations.source(source)), cursor)


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
    _check_json("the cursor", cursor)
    beyond, _ = _read(rows_of, cursor)
    if (column := overlap(rows_of)) is not None and beyond.height:
        beyond = beyond.filter(pl.col(column) > pl.col(column).min())
    if beyond.height:
        raise AssertionError(
            f"{rows_of.name} gave {beyond.height:,} rows for read({cursor!r}), its own position; give only rows beyond "
            "it, or None as position where rows can't be told apart"
        )


def _differing(first: pl.DataFrame, again: pl.DataFrame) -> str:
    if first.shape != again.shape:
        return f"{first.height:,} rows x {first.width} columns, and {again.height:,} x {again.width} when read again"
    return "other values, or an other order, when it was read again"
