"""What lies on both sides of the split: rows that repeat, and groups that share their target. Told, with the evidence.

Neither is proven to be a fault: rows of few discrete columns repeat honestly. So they are told only where it surprises.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from mainspring.core.values import Frame
from mainspring.core.wording import count, percent

ROWS = 50_000
"""So many rows of a side are looked at."""
REPEATED = 0.01
DISTINCT = 0.9
CONTINUOUS = 1 / 3
"""A column with so many different values hardly ever repeats honestly, and less so all columns at once."""
SHARED = 0.9
_LEAST_GROUPS = 20
_SIDE = "_side"


def astride(train: Frame, holdout: Frame) -> tuple[str, ...]:
    """What to say of training rows and holdout."""
    return (*_repeated(train, holdout), *_groups(train, holdout))


def _repeated(train: Frame, holdout: Frame) -> Iterator[str]:
    """Rows of the holdout that are training rows too, where training rows seldom repeat one another, or can't
    honestly."""
    names = [name for name in train.inputs.names if name not in train.roles.special]
    if not names or not holdout.data.height:
        return
    known = train.data.select(names)
    seen = known.unique()
    varied = any(column.n_unique() >= CONTINUOUS * known.height for column in known.iter_columns())
    if seen.height < DISTINCT * known.height and not varied:
        return
    twice = holdout.data.select(names).join(seen, on=names, how="semi", nulls_equal=True).height
    if twice >= max(2, REPEATED * holdout.data.height):
        yield (
            f"{count(twice, 'holdout row')} ({percent(twice / holdout.data.height)}) are training rows too, in every "
            "feature: they are known by heart; write clean=ms.Clean(duplicates='drop'), or group= for what repeats them"
        )


def _groups(train: Frame, holdout: Frame) -> Iterator[str]:
    """Columns whose levels lie on both sides and mostly have one target: what is learnt is who it is."""
    if train.roles.group:
        return
    target = train.roles.target
    sides = [
        side.data.head(ROWS).with_columns(pl.lit(place).alias(_SIDE)) for place, side in enumerate((train, holdout))
    ]
    rows = pl.concat(sides)
    spread = rows[target].cast(pl.Float64).var() if not train.classes else None
    chance = 0.0 if not train.classes else float((rows[target].value_counts()["count"] / rows.height).pow(2).sum())
    for column in rows.drop(target, _SIDE, *_named(train)).iter_columns():
        if column.dtype not in (pl.String, pl.Int64) or not _LEAST_GROUPS <= column.n_unique() <= rows.height / 2:
            continue
        yield from _told(rows, column.name, target, chance, spread)


def _told(rows: pl.DataFrame, name: str, target: str, chance: float, spread: object) -> Iterator[str]:
    shared = pl.col(target).n_unique() == 1 if spread is None else pl.col(target).var() < 0.01 * pl.lit(spread)
    levels = rows.drop_nulls(name).group_by(name).agg(
        pl.len().alias("rows"), (pl.col(_SIDE).n_unique() == 2).alias("both"), shared.alias("one")
    ).filter(pl.col("rows") >= 2)  # fmt: skip
    both = int(levels["both"].sum())
    if both < _LEAST_GROUPS:
        return
    share = float(np.mean(levels["one"].to_numpy()))
    by_chance = float(np.mean(chance ** (levels["rows"].to_numpy() - 1.0)))
    if share >= max(SHARED, by_chance + 0.2):
        yield (
            f"{count(both, 'value')} of {name!r} have rows on both sides, and {percent(share)} of its values have one "
            f"{target!r} (by chance {percent(by_chance)}): the holdout is known from training; write group={name!r}"
        )


def _named(frame: Frame) -> list[str]:
    roles = frame.roles
    return [
        name for name in dict.fromkeys((roles.key, roles.time, roles.weight)) if name and name in frame.data.columns
    ]
