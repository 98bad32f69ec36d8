"""Keeping a holdout apart that no fit ever sees: by time, group, key, at random, or by the user's own splitter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import DataError, TargetUnusable
from mainspring.core.values import Frame, Onset, Split
from mainspring.core.wording import listed
from mainspring.data.astride import astride
from mainspring.statistics.splitters import Division, Kind, holdout_mask, kind, own_folds, shuffled
from mainspring.store.tables import digest

RECENT = 100
"""Fewer rows since the champion's predictions became worse are no holdout and training rows of their own."""
MOST = 0.5
"""The share of the rows since then that the holdout takes at most."""


def split(prepare: Frame, *, rule: Any, seed: int, loop: str, onset: Onset | None = None) -> Split:
    """Training rows and holdout by *rule*: a declared Split, or a scikit-learn splitter, whose last fold it is.

    The side of a key or a group is its salted hash (of the loop, its seed and the rule's), so it stays when rows come.
    By time the newest rows are the holdout; with *onset* both sides are rows since then only, the holdout as many as
    ever but at most half of them. Where these are too few for that, the rows are divided as without it.
    """
    by = kind(rule, prepare.roles)
    if by == "own" and prepare.roles.time:
        prepare = replace(prepare, data=prepare.data.sort(prepare.roles.time, maintain_order=True))
    since = _since(prepare, rule.test, onset) if by == "time" and onset is not None else None
    parts = since or _divided(prepare, rule, by, f"{loop}/{seed}/{getattr(rule, 'seed', 0)}")
    train, holdout = prepare.data[parts.train], prepare.data[parts.test]
    _refuse_one_sided(train, holdout, prepare, rule)
    notes = (*prepare.notes, *([parts.note] if parts.note else ()), *_unseen(train, holdout, prepare))
    sides = replace(prepare, data=train), replace(prepare, data=holdout)
    notes = (*notes, *astride(*sides))
    return Split(
        train=replace(sides[0], notes=notes),
        holdout=replace(sides[1], notes=notes),
        rule=_told(train, holdout, prepare.roles, rule, by) + ("" if since is None else f"; only {_from(onset)}"),
        holdout_id=digest(holdout),
        onset=onset if since else None,
    )


def _since(frame: Frame, test: float, onset: Onset) -> Division | None:
    """The newest rows since *onset* apart; None where these are all, too few or too alike."""
    times, target = frame.data[str(frame.roles.time)], frame.data[frame.roles.target]
    recent = np.flatnonzero((times.to_physical() >= onset.since).fill_null(False).to_numpy())
    if not RECENT <= len(recent) < len(times) or times[recent].n_unique() < 2:
        return None
    newest = holdout_mask("time", times[recent].to_numpy(), min(test * len(times) / len(recent), MOST))
    if min(target[recent[side]].n_unique() for side in (newest, ~newest)) < 2:
        return None
    return Division(recent[~newest], recent[newest])


def _from(onset: Onset | None) -> str:
    return "" if onset is None else f"rows since {onset.at}, when the champion's predictions became worse"


def _divided(frame: Frame, rule: Any, by: Kind, salt: str) -> Division:
    rows, roles = frame.data, frame.roles
    if by == "own":
        return _own(frame, rule)
    if by == "random":
        target = rows[roles.target].to_numpy() if rule.stratify and frame.task != "regression" else None
        return shuffled(rows.height, rule.test, rule.seed, target)
    column = {"time": roles.time, "group": roles.group, "key": roles.key}[by]
    mask = holdout_mask(by, rows[str(column)].to_numpy(), rule.test, salt=salt)
    return Division(np.flatnonzero(~mask), np.flatnonzero(mask))


def _own(frame: Frame, rule: Any) -> Division:
    rows, group = frame.data, frame.roles.group
    groups = rows[group].to_numpy() if group else None
    train, test = own_folds(rule, rows.height, rows[frame.roles.target].to_numpy(), groups)[-1]
    both = np.intersect1d(train, test)
    if len(both):
        raise DataError(f"split={rule!r} puts {len(both):,} rows on both sides; choose a splitter that divides them")
    if group and groups is not None and (astride := sorted(set(groups[train]) & set(groups[test]), key=str)):
        named = listed([repr(one) for one in astride], 3)
        raise DataError(f"split={rule!r} puts group {named} of {group!r} on both sides; use a group splitter")
    return Division(train, test)


def _refuse_one_sided(train: pl.DataFrame, holdout: pl.DataFrame, frame: Frame, rule: Any) -> None:
    target = frame.roles.target
    for side, name in ((train, "training rows"), (holdout, "holdout")):
        if not side.height:
            raise DataError(f"the {name} would be empty of {frame.data.height:,} rows; change test= in ms.Split")
        if side[target].n_unique() == 1:
            raise TargetUnusable(
                f"target {target!r} is {side[target][0]!r} in all {side.height:,} rows of the {name} ({rule!r}); "
                "take more rows, another test= or ms.Split(by='random')"
            )


def _unseen(train: pl.DataFrame, holdout: pl.DataFrame, frame: Frame) -> list[str]:
    if frame.task == "regression":
        return []
    target = frame.roles.target
    missing = sorted(set(holdout[target].unique()) - set(train[target].unique()), key=str)
    if not missing:
        return []
    return [
        f"class {listed([repr(one) for one in missing])} is in the holdout but in no training row: no model can know it"
    ]


def _told(train: pl.DataFrame, holdout: pl.DataFrame, roles: Roles, rule: Any, by: Kind) -> str:
    sizes = f"{train.height:,} rows train, {holdout.height:,} are the holdout"
    if by == "time":
        start = _shown(holdout[str(roles.time)].min())
        return f"time: {train.height:,} rows before {start} train, {holdout.height:,} from then on are the holdout"
    if by in ("key", "group"):
        return f"{by}: {sizes}, by a salted hash of {getattr(roles, by)!r}"
    if by == "own":
        return f"{rule!r}: {sizes}"
    return f"random: {sizes}, {'stratified, ' if rule.stratify else ''}seed {rule.seed}"


def _shown(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if hasattr(moment, "hour") else str(moment)
