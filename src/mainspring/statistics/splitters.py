"""How rows are divided: a holdout by time, group, key or at random, and folds for cross-validation by the same rule."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, train_test_split

from mainspring.core.declarations import Roles, Split
from mainspring.core.errors import DataError, DeclarationError
from mainspring.core.quiet import heard

Kind = Literal["own", "time", "group", "key", "random"]
Indices = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """Row numbers of the two sides, in the order in which a model should see them; *note* says what was given up."""

    train: Indices
    test: Indices
    note: str = ""


def kind(rule: Any, roles: Roles) -> Kind:
    """How *rule* divides rows with these *roles*: "own" is a scikit-learn splitter, "key" a salted hash of the key.

    >>> kind(Split(), Roles("late", key="id", time="scheduled")), kind(Split(), Roles("late", key="id"))
    ('time', 'key')
    """
    if not isinstance(rule, Split):
        return _own(rule)
    if rule.by in ("time", "group") and getattr(roles, rule.by) is None:
        raise DeclarationError(f"Split(by={rule.by!r}) needs a column for it; write {rule.by}='COLUMN' in the Loop")
    if rule.by != "auto":
        return rule.by
    if roles.time:
        return "time"
    return "group" if roles.group else "key" if roles.key else "random"


def holdout_mask(by: Kind, values: Values, test: float, *, salt: str = "") -> Mask:
    """Which rows are the holdout, about the share *test* of them.

    *values* are the rows' times (the newest rows are held out; equal times never straddle), groups or keys (a salted
    hash decides, so that a row's side never changes when rows are added and an entity is never on both sides).

    >>> holdout_mask("time", np.array([3, 1, 4, 1, 5]), 0.4).tolist()
    [False, False, True, False, True]
    """
    return _newest(values, test) if by == "time" else _hashed(values, test, salt)


def shuffled(rows: int, test: float, seed: int, target: Values | None = None) -> Division:
    """The rows of scikit-learn's `train_test_split` with the same seed, in its order.

    Classes keep their shares where *target* is given and each class has rows enough for both sides.
    """
    classes, note = None, ""
    if target is not None:
        levels, counts = np.unique(target, return_counts=True)
        held = int(np.ceil(test * rows))
        if counts.min() >= 2 and min(held, rows - held) >= len(levels):
            classes = target
        else:
            rarest = f"class {levels[counts.argmin()]} has {counts.min():,} of {rows:,} rows"
            note = f"not stratified: {rarest}, too few for both sides"
    try:
        train, test_rows = train_test_split(np.arange(rows), test_size=test, random_state=seed, stratify=classes)
    except ValueError as error:
        raise DataError(
            f"{rows:,} rows can't be divided with test={test:g}: {error} Take more rows or another"
        ) from error
    return Division(train, test_rows, note)


def folds(
    rule: Any,
    roles: Roles,
    column: Callable[[str], Values],
    rows: int,
    *,
    count: int,
    seed: int,
    target: Values | None = None,
) -> list[tuple[Indices, Indices]]:
    """Training and test rows of each fold, by the rule that keeps the holdout apart.

    By time each fold is tested on what comes after its training rows; a group is never on both sides; else rows are
    shuffled with *seed*, and classes keep their shares where *target* (None for regression) allows it.
    column: gives the values of a column by its name.
    """
    by = kind(rule, roles)
    if by == "own":
        return own_folds(rule, rows, target, column(roles.group) if roles.group else None)
    if by == "time" and roles.time:
        return _expanding(column(roles.time), count)
    if by == "group" and roles.group:
        return _by_group(column(roles.group), count)
    stratified = target is not None and rule.stratify and np.unique(target, return_counts=True)[1].min() >= count
    splitter = (StratifiedKFold if stratified else KFold)(_enough(rows, count, "rows"), shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(rows), target))


def own_folds(splitter: Any, rows: int, target: Values | None, group: Values | None) -> list[tuple[Indices, Indices]]:
    """The folds that the user's scikit-learn *splitter* gives; one that fails is named with its reason."""
    try:
        with heard():  # that it needs no groups
            found = [(np.asarray(a), np.asarray(b)) for a, b in splitter.split(np.zeros((rows, 1)), target, group)]
    except (ValueError, TypeError) as error:
        raise DataError(
            f"split={splitter!r} can't divide {rows} rows: {error}; choose other settings for it"
        ) from error
    if not found:
        raise DataError(f"split={splitter!r} gives no fold of {rows} rows; choose other settings for it")
    return found


def _own(rule: Any) -> Literal["own"]:
    if not callable(getattr(rule, "split", None)):
        raise DeclarationError(f"split={rule!r} can't divide rows; give ms.Split(...) or a scikit-learn splitter")
    return "own"


def _newest(times: Values, test: float) -> Mask:
    missing = np.isnat(times) if times.dtype.kind in "mM" else np.zeros(len(times), dtype=bool)
    distinct, counts = np.unique(times[~missing], return_counts=True)
    if len(distinct) < 2:
        raise DataError("all rows have the same time, so none is newer than the others; write Split(by='random')")
    newer = np.cumsum(counts[::-1])[::-1]  # rows at or after each time
    start = distinct[1:][np.abs(newer[1:] - test * len(times)).argmin()]
    held: Mask = (times >= start) & ~missing
    return held


def _hashed(values: Values, test: float, salt: str) -> Mask:
    distinct, place = np.unique(values.astype(str), return_inverse=True)
    limit = int(test * 2**64)
    held: Mask = np.fromiter((number < limit for number in _hashes(distinct, salt)), dtype=bool, count=len(distinct))
    if held.all() or not held.any():
        raise DataError(
            f"{len(distinct)} different values are too few to keep {test:.0%} of them apart; write Split(by='random')"
        )
    return held[place]


def _hashes(values: Iterable[str], salt: str) -> Iterable[int]:
    salted = hashlib.blake2b(salt.encode() + b"\0", digest_size=8)
    for value in values:
        one = salted.copy()
        one.update(value.encode())
        yield int.from_bytes(one.digest(), "big")


def _expanding(times: Values, count: int) -> list[tuple[Indices, Indices]]:
    """Blocks of about equal size in the order of time; each but the first is tested on after those before it."""
    distinct, place, rows = np.unique(times, return_inverse=True, return_counts=True)
    middle = np.cumsum(rows) - rows / 2
    block_of_time = np.minimum((middle * (count + 1) / len(times)).astype(int), count)
    block = np.unique(block_of_time, return_inverse=True)[1][place]  # a time with very many rows may swallow a block
    blocks = int(block.max()) + 1
    _enough(len(distinct), 2, "different times")
    return [(np.flatnonzero(block < number), np.flatnonzero(block == number)) for number in range(1, blocks)]


def _by_group(groups: Values, count: int) -> list[tuple[Indices, Indices]]:
    text = groups.astype(str)
    splitter = GroupKFold(_enough(len(np.unique(text)), count, "groups"))
    return list(splitter.split(np.zeros(len(text)), groups=text))


def _enough(available: int, wanted: int, what: str) -> int:
    """As many folds as wanted, or as there are rows or groups for; raises DataError where two aren't possible."""
    if available < 2:
        raise DataError(f"{available} {what} can't be divided into folds; more data are needed, or no search")
    return min(available, wanted)
