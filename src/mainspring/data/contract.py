"""The contract of a loop's rows: inferred once from the first rows, frozen in the home, checked on all that follow."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import HomeDamaged, SchemaMismatch
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.wording import count, listed
from mainspring.data.casting import cast, first_values, instants, integers, kind_of, numbers
from mainspring.store.home import Home, write_atomic
from mainspring.store.tables import DTYPES

LEVELS = 100
"""Text with at most so many distinct values has levels in its contract."""
REASON, POSITION = "_reason", "_position"
"""Columns of the rows that break the contract: why, and which row of those read they are, from 0 on."""


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Rows that keep the contract, in its types; those that don't, as they came; the contract, maybe wider."""

    good: pl.DataFrame
    bad: pl.DataFrame
    schema: Schema
    notes: tuple[str, ...] = ()


def infer(frame: pl.DataFrame, roles: Roles, tolerated: float = 0.05) -> tuple[Schema, tuple[str, ...]]:
    """The contract that the plain *frame* suggests, and notes.

    Text becomes a date or an instant where all of it is ISO 8601, and a number where at most the share *tolerated*
    isn't one and doesn't look like a code: those cells are mistakes, and their rows go to quarantine.
    """
    columns, notes = [], []
    for values in frame.iter_columns():
        kind, note = _kind(values, values.name == roles.time, tolerated)
        columns.append(_column(cast(values, kind), kind, values.name in (roles.key, roles.time)))
        notes += [note] if note else []
    return Schema(tuple(columns)), tuple(notes)


def check(frame: pl.DataFrame, schema: Schema, roles: Roles, file: Path = Path("schema.json")) -> Checked:
    """Divide the plain *frame* into rows that keep *schema* and rows that don't, with reasons.

    A value outside the range or levels seen before is no fault (that is drift), nor is a column that the contract
    doesn't know: it is noted and left out. Raises SchemaMismatch where a column is gone or of another type altogether;
    the message names the *file* that keeps the contract.
    """
    _refuse_missing(frame, schema, file)
    notes = [f"column {name!r} is new: the contract doesn't know it and it is left out" for name in frame.columns
             if name not in schema]  # fmt: skip
    made, faults, wider = [], [], []
    for column in schema:
        column, note = _widened(frame[column.name], column)
        values, fault = _checked(frame[column.name], column, column.name in (roles.key, roles.time), file)
        made.append(values)
        wider.append(column)
        faults += [] if fault is None else [fault]
        notes += [note] if note else []
    good, bad = _divided(frame, pl.DataFrame(made), faults)
    return Checked(good, bad, Schema(tuple(wider)), tuple(notes))


def path(home: Home, loop: str) -> Path:
    """Where the loop's contract is kept."""
    return home.folder("tables") / loop / "schema.json"


def load(home: Home, loop: str) -> Schema | None:
    """The frozen contract of *loop*; None before the first ingest."""
    file = path(home, loop)
    try:
        return Schema.from_json(json.loads(file.read_text())["columns"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise HomeDamaged(f"{file} isn't a contract ({error}); remove it, and the next run infers it anew") from error


def save(home: Home, loop: str, schema: Schema) -> None:
    """Freeze *schema* as the contract of *loop*."""
    file = path(home, loop)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, json.dumps({"columns": schema.to_json()}, indent=1, ensure_ascii=False).encode())


def _kind(values: pl.Series, is_time: bool, tolerated: float) -> tuple[Type, str]:
    found = kind_of(values)
    if found is None:
        return Type.FLOAT, f"column {values.name!r} has no value yet"
    if is_time:
        return _time_kind(values, found), ""
    return _text_kind(values, tolerated) if found is Type.TEXT else (found, "")


def _time_kind(values: pl.Series, found: Type) -> Type:
    """The time column is instants, whatever holds them; most of its text must be readable."""
    if found is Type.DATE:
        return Type.DATETIME
    if found is not Type.TEXT:
        return found
    unread = instants(values).is_null() & values.is_not_null()
    if unread.sum() > (len(values) - values.null_count()) / 2:
        raise SchemaMismatch(
            f"time column {values.name!r} can't be read as times, first {first_values(values, unread)}; "
            "write them as 2013-01-31 or 2013-01-31T15:00:00, or convert them in the source"
        )
    return Type.DATETIME


def _text_kind(values: pl.Series, tolerated: float) -> tuple[Type, str]:
    text = values.drop_nulls()
    if instants(text.head(100)).null_count() == 0 and (moments := instants(text)).null_count() == 0:
        whole_days = (moments.dt.truncate("1d") == moments).all() and text.str.strip_chars().str.len_chars().max() == 10
        return (Type.DATE if whole_days else Type.DATETIME), ""
    strange = numbers(text).is_null()
    wrong = int(strange.sum())
    if not 0 < wrong <= tolerated * len(text) or text.str.contains(r"^\s*0\d").any():
        return Type.TEXT, _kept_as_text(text, strange)
    codes = text.filter(strange).str.contains(r"\d").sum()
    if codes > wrong / 2:
        return Type.TEXT, _kept_as_text(text, strange)
    kind = Type.INTEGER if integers(text).null_count() == wrong else Type.FLOAT
    examples = first_values(text, strange)
    return kind, f"column {values.name!r} is read as {kind}; {count(wrong, 'value')} such as {examples} can't be"


def _kept_as_text(text: pl.Series, strange: pl.Series) -> str:
    """What to say of a column that stays text although a person may see numbers or dates in it."""
    shown, name = first_values(text, strange, 2), text.name
    if text.str.contains(r"^\s*0\d+\s*$").any():
        code = first_values(text, text.str.contains(r"^\s*0\d+\s*$"), 1)
        return f"column {name!r} is taken as text: {code} begins with 0, as a code does"
    if 0 < strange.sum() <= len(text) / 2:
        return f"column {name!r} is taken as text: {count(int(strange.sum()), 'value')} such as {shown} are no numbers"
    for pattern, what in _WRITTEN_OTHERWISE.items():
        if text.str.contains(pattern).sum() > len(text) / 2:
            return f"column {name!r} is taken as text: {what}, such as {shown}; convert them in the source"
    return ""


_WRITTEN_OTHERWISE = {
    r"^\s*[-+]?\d+,\d+\s*$|^\s*[-+]?\d{1,3}([ ,.']\d{3})+([.,]\d+)?\s*$": "its numbers aren't written as 1234.5",
    r"^\s*\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\b": "its dates aren't written as 2013-01-31",
}


def _column(values: pl.Series, kind: Type, required: bool) -> Column:
    nullable = not required and values.null_count() > 0
    if kind in (Type.INTEGER, Type.FLOAT) and len(values.drop_nulls()):
        return Column(values.name, kind, nullable, *map(float, (values.min(), values.max())))  # type: ignore[arg-type]
    if kind is Type.TEXT and (levels := values.drop_nulls().unique()).len() <= LEVELS:
        return Column(values.name, kind, nullable, levels=tuple(sorted(levels.to_list())))
    return Column(values.name, kind, nullable)


def _refuse_missing(frame: pl.DataFrame, schema: Schema, file: Path) -> None:
    gone = [name for name in schema.names if name not in frame.columns]
    if gone:
        raise SchemaMismatch(
            f"column {listed(list(map(repr, gone)))} of the contract is gone: the source "
            f"has {', '.join(frame.columns)}; put it back, or remove {file} to accept the source as it is now"
        )


def _widened(values: pl.Series, column: Column) -> tuple[Column, str]:
    """A column without any value so far takes the type of its first ones; integers become floats with a fraction."""
    found = kind_of(values)
    if found is None:
        return column, ""
    if column.type is Type.FLOAT and column.low is None:
        kind = _text_kind(values, 0.0)[0] if found is Type.TEXT else found
        return replace(_column(cast(values, kind), kind, False), nullable=True), ""
    if column.type is Type.INTEGER and found in (Type.FLOAT, Type.TEXT):
        floats = numbers(values)
        if (floats != floats.round()).any():
            return replace(column, type=Type.FLOAT), f"column {column.name!r} was integer and has fractions now"
    return column, ""


def _checked(values: pl.Series, column: Column, required: bool, file: Path) -> tuple[pl.Series, pl.Series | None]:
    """*values* in the contract's type, and per row the reason against it, or None where all rows are good."""
    made = cast(values, column.type) if values.dtype != pl.Null else values.cast(DTYPES[column.type])
    wrong = made.is_null() & values.is_not_null()
    if wrong.sum() > (len(values) - values.null_count()) / 2:
        is_now = kind_of(values)
        raise SchemaMismatch(
            f"column {column.name!r} is {is_now}, such as {first_values(values, wrong)}; the contract says "
            f"{column.type}; cast it in the source, or remove {file} to accept it as it is now"
        )
    empty = made.is_null() & ~wrong if required else None
    if not wrong.any() and (empty is None or not empty.any()):
        return made, None
    return made, _reasons(values, column, wrong, empty)


def _reasons(values: pl.Series, column: Column, wrong: pl.Series, empty: pl.Series | None) -> pl.Series:
    name = f"column {column.name!r}"
    said = pl.lit(f"{name}: '") + pl.lit(values.cast(pl.String)) + pl.lit(f"' is no {column.type}")
    lacking = pl.lit(empty) if empty is not None else pl.lit(False)
    reason = pl.when(wrong).then(said).when(lacking).then(pl.lit(f"{name} is empty but names the row"))
    return pl.select(reason.alias(column.name)).to_series()


def _divided(frame: pl.DataFrame, made: pl.DataFrame, faults: list[pl.Series]) -> tuple[pl.DataFrame, pl.DataFrame]:
    reasons = pl.select(pl.concat_str(faults, separator="; ", ignore_nulls=True)).to_series() if faults else None
    if reasons is None:
        return made, frame.head(0).with_columns(pl.lit("").alias(REASON), pl.lit(0, pl.Int64).alias(POSITION))
    bad = reduce(lambda a, b: a | b, [fault.is_not_null() for fault in faults])
    rows = pl.int_range(frame.height, dtype=pl.Int64, eager=True)
    return made.filter(~bad), frame.with_columns(reasons.alias(REASON), rows.alias(POSITION)).filter(bad)
