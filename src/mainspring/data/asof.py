"""Point-in-time joins: what was known of a key at a time. Training and serving look up by this one function."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from mainspring.core.errors import SchemaMismatch
from mainspring.core.joins import Join
from mainspring.core.wording import listed
from mainspring.data.casting import instants

_ROW, _TIME = "_left_row", "_known_at"
_INSTANT = pl.Datetime("us")


def looked_up(left: pl.DataFrame, right: pl.DataFrame, how: Join) -> pl.DataFrame:
    """*left*, in its order, with the columns of the rows of *right* that were known at its times; null where none was.

    Of several rows of *right* with the same key and time the last one counts. A row of *left* without key or time finds
    nothing. The columns of *right* come behind those of *left*, its keys and its time left out. Raises SchemaMismatch
    where a column is missing or there twice, and where a time isn't one.
    """
    _refuse(left, right, how)
    left, right, whole = *_comparable(left, right, how), left
    names = {name: f"{how.prefix}{name}" for name in right.columns if name not in (*how.on, how.time)}
    asking = [*how.on, *([how.as_of] if how.as_of else [])]
    known = right.drop_nulls([*how.on, *([how.time] if how.time else [])])
    rows = left.select(asking).with_row_index(_ROW)
    if any(rows[name].null_count() for name in asking):
        rows = rows.drop_nulls()
    found = _last(rows, known, how) if how.time is None else _last_by_then(rows, known, how)
    told = found.select(pl.col(name).alias(new) for name, new in names.items())
    places = pl.Series([None], dtype=pl.UInt32).new_from_index(0, left.height)
    places = places.scatter(found[_ROW], pl.int_range(found.height, dtype=pl.UInt32, eager=True))
    return whole.hstack([column.gather(places) for column in told.iter_columns()])


def _comparable(left: pl.DataFrame, right: pl.DataFrame, how: Join) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both sides with keys of one type, and times that are times: files may hold them as text."""
    sides = [left, right]
    for name in how.on:
        kinds = [side[name].dtype for side in sides]
        if kinds[0] != kinds[1]:
            both = pl.Int64() if all(kind.is_integer() for kind in kinds) else pl.String()
            sides = [side.with_columns(pl.col(name).cast(both)) for side in sides]
    for place, time in enumerate((how.as_of, how.time)):
        if time is not None:
            column = sides[place][time]
            moments = column.cast(_INSTANT) if column.dtype == pl.Datetime else instants(column)
            if moments.null_count() == len(moments) and sides[place][time].null_count() < len(moments):
                side = ("left", "right")[place]
                raise SchemaMismatch(
                    f"column {time!r} of the join's {side} side holds no times, such as {sides[place][time][0]!r}; "
                    "write them as 2013-01-31T15:00:00, or convert them in the source"
                )
            sides[place] = sides[place].with_columns(moments)
    return sides[0], sides[1]


def _last(rows: pl.DataFrame, known: pl.DataFrame, how: Join) -> pl.DataFrame:
    return rows.join(known.unique(how.on, keep="last"), on=how.on, how="left")


def _last_by_then(rows: pl.DataFrame, known: pl.DataFrame, how: Join) -> pl.DataFrame:
    by_then = (pl.col(how.time or "") + timedelta(seconds=how.delay)).alias(_TIME)
    known = known.with_columns(by_then).drop(how.time or "").sort(_TIME, maintain_order=True)
    rows = rows.with_columns(pl.col(how.as_of or "").alias(_TIME)).sort(_TIME)
    return rows.join_asof(
        known,
        on=_TIME,
        by=list(how.on),
        strategy="backward",
        tolerance=None if how.within is None else timedelta(seconds=max(0.0, how.within - how.delay)),
        check_sortedness=False,  # both were sorted just now
    )


def _refuse(left: pl.DataFrame, right: pl.DataFrame, how: Join) -> None:
    for side, frame, names in (("left", left, [*how.on, how.as_of]), ("right", right, [*how.on, how.time])):
        gone = [name for name in names if name is not None and name not in frame.columns]
        if gone:
            raise SchemaMismatch(
                f"the {side} side of the join has no column {gone[0]!r}; it has {', '.join(frame.columns)}"
            )
    twice = [
        name for name in right.columns if name not in (*how.on, how.time) and f"{how.prefix}{name}" in left.columns
    ]
    if twice:
        raise SchemaMismatch(
            f"both sides of the join have column {listed(list(map(repr, twice)))}; "
            "name the right one's otherwise: prefix='NAME_'"
        )
