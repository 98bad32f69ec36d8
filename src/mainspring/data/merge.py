"""New rows among known ones, file by file: a row whose key is known takes its place, and files without such stay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import polars as pl

from mainspring.store.parts import ORDER, Part, Staging

_PART, _PLACE, _NTH = "_part", "_place", "_nth"


@dataclass(frozen=True, slots=True)
class Merged:
    """The files after a merge, and how many rows were new, took another's place, or went, where that was counted."""

    parts: tuple[Part, ...]
    added: int = 0
    changed: int = 0
    removed: int = 0


def merged(
    known: Sequence[Part], new: Sequence[Part], names: Sequence[str], staging: Staging, *, remove: bool = False,
    found: Collection[str] = (),
) -> Merged:  # fmt: skip
    """*known* with the *new* rows: by the columns *names* in the place of the row that they replace, else behind.

    remove: known rows that aren't among the new ones go. A row that is equal to the one it replaces changes nothing,
    nor does one that only lacks what a join *found* for that in these columns, and its right side has forgotten.
    """
    if not names or not known:
        return Merged((*known, *new), sum(part.rows for part in new))
    keys = _keys(new, names)
    fetch = lru_cache(maxsize=4)(lambda place: new[place].read())
    parts, taken, changed, removed = [], [], 0, 0
    for part in known:
        numbers = part.read([*names, ORDER])
        hits = numbers.join(keys, on=list(names), how="inner") if keys.height else numbers.head(0)
        gone = numbers.join(keys, on=list(names), how="anti").select(ORDER) if remove else numbers.head(0).select(ORDER)
        if hits.height:
            taken.append(hits.select(_PART, _PLACE))
        if not hits.height and not gone.height:
            parts.append(part)
            continue
        old = part.read()
        rows = _replacing(hits, fetch, old.columns)
        differing = _differing(old, rows, found)
        changed, removed = changed + differing.height, removed + gone.height
        if not differing.height and not gone.height:
            parts.append(part)
            continue
        kept = old.join(differing.select(ORDER), on=ORDER, how="anti").join(gone, on=ORDER, how="anti")
        whole = pl.concat([kept, differing.select(kept.columns)]).sort(ORDER)
        parts += [staging.put(whole)] if whole.height else []
    behind = _without(new, pl.concat(taken), staging) if taken else list(new)
    return Merged(staging.settled([*parts, *behind]), sum(part.rows for part in behind), changed, removed)


def unrepeated(
    new: Sequence[Part], known: Sequence[Part], column: str, value: object, staging: Staging,
    besides: Collection[str] = (),
) -> tuple[Part, ...]:  # fmt: skip
    """*new* without the rows that are known and come again: of those whose *column* is *value*, each as often as it is
    among the *known* rows. besides: columns that may differ all the same."""
    there = [part.read([column, ORDER]).filter(pl.col(column) == value) for part in known]
    if not any(rows.height for rows in there):
        return tuple(new)
    old = pl.concat(
        part.read().filter(pl.col(column) == value) for part, rows in zip(known, there, strict=True) if rows.height
    )
    columns = [name for name in old.columns if name != ORDER and name not in besides]
    old = _counted(old, columns)
    parts = []
    for part in new:
        rows = part.read()
        again = _counted(rows.filter(pl.col(column) == value), columns)
        known_ones = again.join(old, on=[*columns, _NTH], how="semi", nulls_equal=True)
        old = _counted(old.join(known_ones, on=[*columns, _NTH], how="anti", nulls_equal=True).drop(_NTH), columns)
        kept = rows.join(known_ones.select(ORDER), on=ORDER, how="anti", maintain_order="left")
        parts += [part] if kept.height == rows.height else [staging.put(kept)] if kept.height else []
    return staging.settled(parts)


def beyond(parts: Sequence[Part], rows: int, staging: Staging) -> tuple[Part, ...]:
    """*parts* without their first so many *rows*."""
    found = []
    for part in parts:
        if rows <= 0:
            found.append(part)
        elif rows < part.rows:
            found.append(staging.put(part.read().slice(rows)))
        rows -= part.rows
    return staging.settled(found)


def compacted(parts: Sequence[Part], rows: int, staging: Staging, most: int = 24) -> tuple[Part, ...]:
    """*parts*, with small neighbours as one of at most so many *rows*; only where there are more than *most*."""
    if len(parts) <= most:
        return tuple(parts)
    groups: list[list[Part]] = [[]]
    for part in parts:
        if groups[-1] and sum(each.rows for each in groups[-1]) + part.rows > rows:
            groups.append([])
        groups[-1].append(part)
    return staging.settled([
        group[0] if len(group) == 1 else staging.put(pl.concat([part.read() for part in group], how="diagonal"))
        for group in groups if group
    ])  # fmt: skip


def _keys(parts: Sequence[Part], names: Sequence[str]) -> pl.DataFrame:
    """The key of each row, and where it is: in which part, at which place."""
    frames = [
        part.read(list(names)).with_columns(pl.lit(number, pl.UInt32).alias(_PART)).with_row_index(_PLACE)
        for number, part in enumerate(parts)
    ]
    return pl.concat(frames) if frames else pl.DataFrame()


def _replacing(hits: pl.DataFrame, fetch: object, columns: list[str]) -> pl.DataFrame:
    """The new rows that hit known ones, with the numbers of those."""
    found = []
    for (number,), group in hits.group_by(_PART):
        rows = fetch(int(number))[group[_PLACE]]  # type: ignore[operator]
        found.append(rows.with_columns(group[ORDER]).select(columns))
    return pl.concat(found) if found else pl.DataFrame()


def _differing(old: pl.DataFrame, rows: pl.DataFrame, found: Collection[str]) -> pl.DataFrame:
    """Those of *rows* that aren't equal to the row of *old* with the same number."""
    if not rows.height:
        return old.head(0)
    differing = rows.join(old, on=old.columns, how="anti", nulls_equal=True)
    lacking = differing.filter(pl.all_horizontal(pl.col(found).is_null())) if found else differing.head(0)
    besides = [name for name in old.columns if name not in found]
    same = lacking.join(old, on=besides, how="semi", nulls_equal=True).select(ORDER)
    return differing.join(same, on=ORDER, how="anti") if same.height else differing


def _without(parts: Sequence[Part], taken: pl.DataFrame, staging: Staging) -> list[Part]:
    """*parts* without the rows that took a known one's place."""
    found = []
    for number, part in enumerate(parts):
        gone = taken.filter(pl.col(_PART) == number).select(_PLACE)
        if not gone.height:
            found.append(part)
        elif gone.height < part.rows:
            rows = part.read().with_row_index(_PLACE).join(gone, on=_PLACE, how="anti", maintain_order="left")
            found.append(staging.put(rows.drop(_PLACE)))
    return found


def _counted(rows: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """*rows* with a number that tells equal ones apart."""
    return rows.with_columns(pl.int_range(pl.len()).over(columns).alias(_NTH))
