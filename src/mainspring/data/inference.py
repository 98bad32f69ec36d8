"""The contract that rows suggest: what each column holds, from first values; and what more rows add to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import SchemaMismatch
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.wording import count
from mainspring.data.casting import cast, first_values, inexact, instants, integers, kind_of, numbers

_OTHER_MARKS = r"^\s*[-+]?(\d+,\d{1,2}|\d{1,3}([,' ]\d{3})+(\.\d+)?)\s*$"
"""A number with a decimal comma or marks of thousands: among plain numbers a slip, not a code."""
_ZONED = r"\d{2}:\d{2}.*(Z|[+-]\d{2}:?\d{2})\s*$"
LEVELS = 100
"""Text with at most so many distinct values has levels in its contract."""


def infer(frame: pl.DataFrame, roles: Roles, tolerated: float = 0.05) -> tuple[Schema, tuple[str, ...]]:
    """The contract that the plain *frame* suggests, and notes.

    Text becomes a date or an instant where at most the share *tolerated* isn't ISO 8601, and a number where at most
    that share isn't one and doesn't look like a code: those cells are mistakes, and their rows go to quarantine.
    """
    columns, notes = [], []
    for values in frame.iter_columns():
        kind, note = _kind(values, values.name == roles.time, tolerated)
        columns.append(observed(cast(values, kind), kind, required=values.name in (roles.key, roles.time)))
        notes += [note] if note else []
    return Schema(tuple(columns)), tuple(notes)


def observed(values: pl.Series, kind: Type, *, required: bool = False) -> Column:
    """What *values*, cast to *kind*, tell of their column."""
    nullable = not required and values.null_count() > 0
    if values.null_count() == len(values):
        return Column(values.name, kind, nullable, undecided=not required)
    if kind in (Type.INTEGER, Type.FLOAT):
        return Column(values.name, kind, nullable, *map(float, (values.min(), values.max())))  # type: ignore[arg-type]
    if kind is Type.TEXT and (levels := values.drop_nulls().unique()).len() <= LEVELS:
        return Column(values.name, kind, nullable, levels=tuple(sorted(levels.to_list())))
    return Column(values.name, kind, nullable)


def widened(column: Column, more: Column) -> Column:
    """*column* with what *more* rows of it have shown; its type and its rules stay.

    >>> widened(Column("x", Type.FLOAT, False, 1.0, 2.0), Column("x", Type.FLOAT, True, 1.5, 9.0)).high
    9.0
    """
    if more.undecided:
        return replace(column, nullable=column.nullable or more.nullable)
    if column.undecided:
        return replace(column, nullable=True, low=more.low, high=more.high, levels=more.levels, undecided=False)
    if column.personal:  # of whom a value tells; the contract keeps none
        return replace(column, nullable=column.nullable or more.nullable, low=None, high=None, levels=None)
    both = None if column.levels is None or more.levels is None else sorted({*column.levels, *more.levels})
    return replace(
        column,
        nullable=column.nullable or more.nullable,
        low=_outermost(min, column.low, more.low),
        high=_outermost(max, column.high, more.high),
        levels=None if both is None or len(both) > LEVELS else tuple(both),
    )


def _outermost(choose: Callable[..., float], *ends: float | None) -> float | None:
    return choose((end for end in ends if end is not None), default=None)


def _kind(values: pl.Series, is_time: bool, tolerated: float) -> tuple[Type, str]:
    found = kind_of(values)
    if found is None:
        return Type.FLOAT, f"column {values.name!r} has no value yet"
    if is_time:
        return _time_kind(values, found), _of_zones(values) if found is Type.TEXT else ""
    return text_kind(values, tolerated) if found is Type.TEXT else (found, "")


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


def text_kind(values: pl.Series, tolerated: float) -> tuple[Type, str]:
    text = values.drop_nulls()
    if (dates := _date_kind(text, tolerated)) is not None:
        return dates
    strange = numbers(text).is_null()
    wrong = int(strange.sum())
    long = inexact(text)
    if long.any() and text.str.contains(r"\d\.\d").any():
        return _with_long(text, long, wrong + int(long.sum()) <= tolerated * len(text))
    padded = not wrong and text.str.contains(r"^\s|\s$").any()  # by who writes columns of one width
    if not (padded or 0 < wrong <= tolerated * len(text)) or text.str.contains(r"^\s*0\d").any():
        return Type.TEXT, _kept_as_text(text, strange)
    if padded:
        return (Type.FLOAT if integers(text).null_count() else Type.INTEGER), ""
    odd = text.filter(strange)
    codes = (odd.str.contains(r"\d") & ~odd.str.contains(_OTHER_MARKS)).sum()
    if codes > wrong / 2:
        return Type.TEXT, _kept_as_text(text, strange)
    kind = Type.INTEGER if integers(text).null_count() == wrong else Type.FLOAT
    examples = first_values(text, strange)
    return kind, f"column {values.name!r} is read as {kind}; {count(wrong, 'value')} such as {examples} can't be"


def _with_long(text: pl.Series, long: pl.Series, few: bool) -> tuple[Type, str]:
    """Of fractions and numbers that no float holds: where these are few, they are marks or mistakes, as is a word."""
    if not few:
        return Type.TEXT, (
            f"column {text.name!r} is taken as text: it has fractions, and whole numbers that no float holds"
        )
    shown = first_values(text, long)
    return (
        Type.FLOAT,
        f"column {text.name!r} is read as float; {count(int(long.sum()), 'value')} such as {shown} can't be",
    )


def _date_kind(text: pl.Series, tolerated: float) -> tuple[Type, str] | None:
    head = text.head(100)
    if instants(head).null_count() > tolerated * len(head):
        return None
    moments = instants(text)
    strange = moments.is_null()
    if (wrong := int(strange.sum())) > tolerated * len(text):
        return None
    days = text.filter(~strange).str.strip_chars().str.len_chars().max() == 10
    whole_days = days and bool((moments.dt.truncate("1d") == moments).all())
    kind = Type.DATE if whole_days else Type.DATETIME
    if not wrong:
        return kind, _of_zones(text)
    shown = first_values(text, strange)
    return kind, f"column {text.name!r} is read as {kind}; {count(wrong, 'value')} such as {shown} can't be"


def _of_zones(text: pl.Series) -> str:
    """What to say where some of the times tell their zone and others don't."""
    told = text.str.contains(_ZONED).fill_null(False)
    without = ~told & text.is_not_null()
    if not told.any() or not without.any():
        return ""
    return (
        f"column {text.name!r} has times with a zone and {int(without.sum()):,} without, such as "
        f"{first_values(text, without, 1)}: these are taken as UTC"
    )


def _kept_as_text(text: pl.Series, strange: pl.Series) -> str:
    """What to say of a column that stays text although a person may see numbers or dates in it."""
    shown, name = first_values(text, strange, 2), text.name
    if text.str.contains(r"^\s*0\d+\s*$").any():
        code = first_values(text, text.str.contains(r"^\s*0\d+\s*$"), 1)
        return f"column {name!r} is taken as text: {code} begins with 0, as a code does"
    if 0 < strange.sum() <= len(text) / 2:
        return f"column {name!r} is taken as text: {count(int(strange.sum()), 'value')} such as {shown} are no numbers"
    for pattern, (what, mend) in _WRITTEN_OTHERWISE.items():
        if text.str.contains(pattern).sum() > len(text) / 2:
            return f"column {name!r} is taken as text: {what}, such as {shown}; {mend} in ms.csv, or convert them"
    return ""


_WRITTEN_OTHERWISE = {
    r"^\s*[-+]?\d+,\d+\s*$|^\s*[-+]?\d{1,3}([ ,.']\d{3})+([.,]\d+)?\s*$": (
        "its numbers aren't written as 1234.5",
        "say decimal= and thousands=",
    ),
    r"^\s*\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([^\d./-]|$)": ("its dates aren't written as 2013-01-31", "say dates="),
}
