"""Columns that may not be known yet when a prediction is asked for, and columns that only name rows. Told, not stopped:

what rows without a label lack may come with the label, or be lost together with it; a time after the row's own may be a
plan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.wording import count, percent

LEAST = 30
"""So many rows of each kind are needed to say anything."""
_SURE, _FEW_WRONG, _HARDLY_WRONG, _MOST_CLASSES, _KNOWN = 0.99, 0.1, 0.002, 20, 0.5
_ID = re.compile(r"(?:^|[_\s-])(?i:id|uuid|guid|key)$|[a-z]I[dD]$")


def came_with_the_label(rows: pl.DataFrame, roles: Roles) -> Iterator[str]:
    """What to say of columns that rows with a label have and rows without one lack."""
    unknown = rows[roles.target].is_null()
    without, labelled = rows.filter(unknown), rows.filter(~unknown)
    if min(without.height, labelled.height) < LEAST:
        return
    for name in rows.columns:
        if name in roles.special:
            continue
        lacking, there = without[name].null_count(), labelled.height - labelled[name].null_count()
        if lacking >= _SURE * without.height and there >= _SURE * labelled.height:
            yield (
                f"column {name!r} is empty in {lacking:,} of {count(without.height, 'row')} without a label and filled "
                f"in {there:,} of {labelled.height:,} with one: if it comes with the label, write ignore=[{name!r}]"
            )


def later_times(rows: pl.DataFrame, roles: Roles) -> Iterator[str]:
    """What to say of times that lie after the row's own."""
    if not roles.time or rows.height < LEAST or not rows[roles.time].dtype.is_temporal():
        return
    own = rows[roles.time].cast(pl.Datetime("us"))
    for column in rows.drop(roles.special).iter_columns():
        if not (column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime)):
            continue
        both = int((column.is_not_null() & own.is_not_null()).sum())
        later = int((column.cast(pl.Datetime("us")) > own).sum())
        if both >= LEAST and later >= _SURE * both:
            yield (
                f"column {column.name!r} is later than {roles.time!r} in {percent(later / both)} of the rows: unless "
                f"it is a plan, it isn't known when predicting: write ignore=[{column.name!r}]"
            )


def nearly_the_target(rows: pl.DataFrame, roles: Roles) -> Iterator[str]:
    """What to say of columns with as few levels as the target has, which tell it in nearly every row, and of numbers
    that tell two classes apart at one edge."""
    classes = rows[roles.target].n_unique()
    usual = rows.height - int(rows[roles.target].unique_counts().max() or 0)  # type: ignore[arg-type]
    if rows.height < LEAST or classes > _MOST_CLASSES or usual < LEAST:
        return
    for column in rows.drop(roles.special, strict=False).iter_columns():
        if column.dtype.is_float() or not 2 <= column.drop_nulls().n_unique() <= classes:
            if classes == 2 and column.dtype.is_numeric() and _parted(column, rows[roles.target]):
                yield (
                    f"column {column.name!r} alone tells {roles.target!r} in nearly all rows with a value, by one "
                    f"threshold: unless it is known when predicting, write ignore=[{column.name!r}]"
                )
            continue
        counts = rows.group_by(column.name, roles.target).len()
        right = int(counts.group_by(column.name).agg(pl.col("len").max())["len"].sum())
        if 0 < rows.height - right <= _FEW_WRONG * usual:
            yield (
                f"column {column.name!r} alone tells {roles.target!r} in {right:,} of {count(rows.height, 'row')}: "
                f"unless it is known when predicting, write ignore=[{column.name!r}]"
            )


def _parted(column: pl.Series, target: pl.Series) -> bool:
    """Whether nearly all rows below some threshold are of one class and those above of the other; of those with a
    value, if at least half have one."""
    known = column.is_not_null() & column.is_not_nan() if column.dtype.is_float() else column.is_not_null()
    least = _KNOWN * len(column)
    column, target = column.filter(known), target.filter(known)
    usual = len(target) - int(target.unique_counts().max() or 0)  # type: ignore[arg-type]
    if len(column) < least or usual < LEAST:
        return False
    order = column.arg_sort()
    ordered, signs = column.gather(order), (target == target.max()).gather(order).cast(pl.Int64) * 2 - 1
    below = signs.cum_sum()
    edges = below.filter(ordered.ne_missing(ordered.shift(-1)))  # equal values aren't parted
    apart: Any = (edges * 2 - signs.sum()).abs().max()  # all rows, where each is on its side
    return apart is not None and len(signs) - apart <= 2 * _HARDLY_WRONG * usual


def names_rows(values: pl.Series) -> bool:
    """Whether a column only names rows: it is called an id, and each value is there once."""
    if not _ID.search(values.name) or not (values.dtype.is_integer() or values.dtype == pl.String):
        return False
    return len(values) >= LEAST and values.null_count() == 0 and values.n_unique() == len(values)
