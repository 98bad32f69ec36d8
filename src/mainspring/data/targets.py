"""What kind of task a target sets, its classes in their order, and which of two is the positive one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from mainspring.core.errors import DeclarationError, TargetUnusable
from mainspring.core.values import Task
from mainspring.core.wording import count, listed

FEW = 20
"""Whole numbers with at most so many distinct values are classes, more are quantities."""
MAX_CLASSES = 200
_POSITIVE = frozenset({"true", "t", "yes", "y", "1", "1.0", "positive", "pos"})


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """The target's values, cast to what the task needs; *classes* is empty for regression."""

    values: pl.Series
    task: Task
    classes: tuple[Any, ...]
    notes: tuple[str, ...]


def target(
    values: pl.Series, task: Literal["auto", "binary", "multiclass", "regression"], positive: Any = None
) -> Target:
    """The task that the labelled *values* set, or that the user names; raises TargetUnusable where they can't.

    >>> target(pl.Series("late", ["no", "yes", "no"]), "auto").classes
    ('no', 'yes')
    """
    if values.dtype.is_temporal():
        raise TargetUnusable(f"target {values.name!r} holds times; name a number, a category or a yes and no as target")
    if task == "regression" or (task == "auto" and _quantity(values)):
        return _regression(values, guessed=task == "auto")
    values = values.cast(pl.Int64) if _whole(values) else values
    classes = sorted(values.unique().to_list())
    if task == "binary" and len(classes) != 2:
        raise TargetUnusable(f"task='binary' but target {values.name!r} has {len(classes)} classes: {_shown(classes)}")
    if len(classes) > MAX_CLASSES or len(classes) > max(2, len(values) / 2):
        raise TargetUnusable(
            f"target {values.name!r} has {len(classes):,} classes in {count(len(values), 'row')}, such as "
            f"{_shown(classes)}; name a coarser target, or task='regression' for a quantity"
        )
    if len(classes) == 2:
        return _binary(values, classes, positive)
    if positive is not None:
        raise DeclarationError(f"positive={positive!r} needs two classes; target {values.name!r} has {len(classes)}")
    guessed = task == "auto" and values.dtype.is_numeric()
    note = f"target {values.name!r} has {len(classes)} whole numbers: they are classes (task='regression' otherwise)"
    return Target(values, "multiclass", tuple(classes), (note,) if guessed else ())


def _quantity(values: pl.Series) -> bool:
    if not values.dtype.is_numeric():
        return False
    distinct = values.n_unique()
    return distinct > 2 and (not _whole(values) or distinct > min(FEW, len(values) / 5))


def _whole(values: pl.Series) -> bool:
    if not values.dtype.is_float():
        return values.dtype.is_integer()
    return bool((values == values.round()).all()) and bool((values.abs() < 2**53).all())


def _regression(values: pl.Series, *, guessed: bool) -> Target:
    if not values.dtype.is_numeric():
        raise TargetUnusable(f"task='regression' but target {values.name!r} is no number, such as {values[0]!r}")
    note = f"target {values.name!r} has {values.n_unique():,} distinct numbers: the task is regression"
    return Target(values.cast(pl.Float64), "regression", (), (note,) if guessed else ())


def _binary(values: pl.Series, classes: list[Any], positive: Any) -> Target:
    if positive is None:
        chosen = next((one for one in classes if str(one).lower() in _POSITIVE), classes[-1])
        notes: tuple[str, ...] = (f"{chosen!r} is the positive class of {values.name!r} (name another by positive=)",)
    else:
        found = [one for one in classes if str(one) == str(positive)]
        if not found:
            has = _shown(classes)
            raise DeclarationError(f"positive={positive!r} is no class of target {values.name!r}; it has {has}")
        chosen, notes = found[0], ()
    other = next(one for one in classes if one != chosen)
    return Target(values, "binary", (other, chosen), notes)


def _shown(classes: list[Any]) -> str:
    return listed([repr(one) for one in classes])
