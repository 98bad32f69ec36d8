"""What joins look up: the rows of their right sides, kept by loop, and the one function by which training and serving
look: as of a time, never beyond it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl
from blake3 import blake3

from mainspring.core.errors import SchemaMismatch
from mainspring.core.instants import moment
from mainspring.core.joins import Join
from mainspring.core.wording import listed
from mainspring.store.home import Home
from mainspring.store.lookup_index import LookupIndex
from mainspring.store.lookup_keys import as_key, keys_like

FRESH_SECONDS = 1.0
"""For so long who serves doesn't look whether there are newer rows."""
PREFIX = "lookup-"
_FEW = 1000
_BY_INDEX = 32
"""A request of so many rows looks each of them up; one of more is joined."""
_ROW, _TIME = "_left_row", "_known_at"
_INSTANT = pl.Datetime("us")


def looked_up(left: pl.DataFrame, right: pl.DataFrame, how: Join) -> pl.DataFrame:
    """*left*, in its order, with the columns of the rows of *right* that were known at its times; null where none was.

    Of several rows of *right* with the same key and time the last one counts. A row of *left* without key or time finds
    nothing. The columns of *right* come behind those of *left*, its keys and its time left out. Times are instants or
    dates. Raises SchemaMismatch where a column is missing or there twice.
    """
    _refuse(left, right, how)
    names = given(right, how)
    asking = _asking(how)
    rows, known = _alike(left.select(asking).with_row_index(_ROW), right, how)
    known = known.drop_nulls([*how.on, *([how.time] if how.time else [])])
    if any(rows[name].null_count() for name in asking):
        rows = rows.drop_nulls()
    if rows.height < _FEW:
        known = known.join(rows.select(how.on).unique(), on=how.on, how="semi", maintain_order="left")
    found = _last(rows, known, how) if how.time is None else _last_by_then(rows, known, how)
    told = found.select(pl.col(name).alias(new) for name, new in names.items())
    places = pl.Series([None], dtype=pl.UInt32).new_from_index(0, left.height)
    places = places.scatter(found[_ROW], pl.int_range(found.height, dtype=pl.UInt32, eager=True))
    return left.hstack([column.gather(places) for column in told.iter_columns()])


def given(right: pl.DataFrame, how: Join) -> dict[str, str]:
    """The columns of *right* that a join gives, and what it calls them."""
    return {name: f"{how.prefix}{name}" for name in right.columns if name not in (*how.on, how.time)}


def _alike(rows: pl.DataFrame, known: pl.DataFrame, how: Join) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The keys of *rows* in the types of those of *known*; what can't be one finds nothing."""
    known = known.with_columns(pl.col(name).cast(pl.Int64()) for name in how.on if known[name].dtype.is_integer())
    return rows.with_columns(as_key(rows[name], known[name].dtype) for name in how.on), known


def _last(rows: pl.DataFrame, known: pl.DataFrame, how: Join) -> pl.DataFrame:
    return rows.join(known.unique(how.on, keep="last"), on=how.on, how="left")


def _last_by_then(rows: pl.DataFrame, known: pl.DataFrame, how: Join) -> pl.DataFrame:
    by_then = (pl.col(how.time or "").cast(_INSTANT) + timedelta(seconds=how.delay)).alias(_TIME)
    known = known.with_columns(by_then).drop(how.time or "").sort(_TIME, maintain_order=True)
    rows = rows.with_columns(pl.col(how.as_of or "").cast(_INSTANT).alias(_TIME)).sort(_TIME)
    return rows.join_asof(
        known,
        on=_TIME,
        by=list(how.on),
        strategy="backward",
        tolerance=None if how.within is None else timedelta(seconds=how.within - how.delay),
        check_sortedness=False,  # both were sorted just now
    )


def _refuse(left: pl.DataFrame, right: pl.DataFrame, how: Join) -> None:
    for side, frame, names in (("left", left, [*how.on, how.as_of]), ("right", right, [*how.on, how.time])):
        gone = [name for name in names if name is not None and name not in frame.columns]
        if gone:
            raise SchemaMismatch(
                f"the {side} side of the join has no column {gone[0]!r}; it has {', '.join(frame.columns)}"
            )
    twice = [name for name in given(right, how).values() if name in left.columns]
    if twice:
        raise SchemaMismatch(
            f"both sides of the join have column {listed(list(map(repr, twice)))}; "
            "name the right one's otherwise: prefix='NAME_'"
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """The rows of the right side of a join, as they are kept. state: what was known of the source when they were."""

    how: Join
    rows: pl.DataFrame
    version: int
    state: Any


class Lookups:
    """The right sides of one loop's joins."""

    def __init__(self, home: Home, loop: str) -> None:
        self._home, self._loop = home, loop
        self._folder = home.folder("tables") / loop
        self._known: dict[str, Kept] = {}
        self._indexes: dict[str, tuple[int, LookupIndex]] = {}
        self._looked = 0.0

    def kept(self, how: Join) -> Kept | None:
        """What is kept for *how*; None before the first time."""
        return self._read(_name(how))

    def keep(self, how: Join, rows: pl.DataFrame, state: Any) -> int:
        """Put *rows* in the place of what was kept for *how*, with the *state* of their source (JSON): the version."""
        told = {name: value for name, value in asdict(_bare(how)).items() if value is not None}
        metadata = {"join": told, "gives": list(given(rows, how).values()), "state": state}
        from mainspring.store.tables import Table  # who serves loops without joins needn't load Delta Lake

        return Table(self._home, self._loop, _name(how)).replace(rows, metadata=metadata)

    @property
    def any(self) -> bool:
        return bool(self._newest())

    def complete(self, rows: Sequence[Mapping[str, Any]], wanted: Collection[str]) -> Sequence[Mapping[str, Any]]:
        """*rows* of a request with those of the columns *wanted* that they lack and that joins give: looked up by the
        key, and by the time, that each row carries."""
        waiting, carried = dict(self._newest()), {name for row in rows for name in row}
        keys = {key for each in waiting.values() for key in _asking(each.how)}
        while ready := [name for name, each in waiting.items() if _carry(rows, _asking(each.how))]:
            for name in ready:  # what one finds may be the key by which another looks
                rows = self._with_found(name, waiting.pop(name), rows, {*wanted, *keys})
        extra = keys - carried - {*wanted}
        return [{name: value for name, value in row.items() if name not in extra} for row in rows] if extra else rows

    def _with_found(
        self, name: str, each: Kept, rows: Sequence[Mapping[str, Any]], wanted: Collection[str]
    ) -> Sequence[Mapping[str, Any]]:
        told = {
            column: new
            for column, new in given(each.rows, each.how).items()
            if new in wanted and not _carry(rows, [new])
        }
        if not told:
            return rows
        by_index = len(rows) <= _BY_INDEX
        found = self._places(name, each, rows, told) if by_index else _joined(each, rows, told, _asking(each.how))
        return [{**_json(known), **row} for known, row in zip(found, rows, strict=True)]

    def _places(
        self, name: str, each: Kept, rows: Sequence[Mapping[str, Any]], told: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        """What *rows* find, each by its key and time."""
        version, index = self._indexes.get(name, (-1, None))
        if index is None or version != each.version:
            index = LookupIndex(each.rows, each.how)
            self._indexes[name] = each.version, index
        columns = {new: each.rows[name] for name, new in told.items()}
        places = [index.place(row) for row in rows]
        return [{new: None if at is None else column[at] for new, column in columns.items()} for at in places]

    def refresh(self, *, now: bool = False) -> None:
        """Take up rows that were kept since; unless *now*, not more than once in FRESH_SECONDS."""
        if now or time.monotonic() - self._looked > FRESH_SECONDS:
            self._looked = time.monotonic()
            for path in sorted(self._folder.glob(f"{PREFIX}*")):
                found = self._read(path.name)
                if found is not None:
                    self._known[path.name] = found

    def _newest(self) -> Mapping[str, Kept]:
        self.refresh()
        return self._known

    def _read(self, name: str) -> Kept | None:
        from mainspring.store.tables import Table

        table = Table(self._home, self._loop, name)
        version = table.version()
        if version is None:
            return None
        known = self._known.get(name)
        if known is not None and known.version == version:
            return known
        told = table.metadata(version)
        how = Join(None, None, **{**told["join"], "on": tuple(told["join"]["on"])})  # JSON has no tuples
        return Kept(how, table.read(version), version, told["state"])


def _asking(how: Join) -> list[str]:
    return [*how.on, *([how.as_of] if how.as_of else [])]


def _carry(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bool:
    return all(name in row for row in rows for name in names)


def _joined(
    each: Kept, rows: Sequence[Mapping[str, Any]], told: Mapping[str, str], asking: Sequence[str]
) -> list[dict[str, Any]]:
    """What *rows* find, joined as training joins."""
    kept = each.rows.select(*each.how.on, *([each.how.time] if each.how.time else []), *told)
    return looked_up(_asked(rows, kept, each.how), kept, each.how).drop(asking).to_dicts()


def _asked(rows: Sequence[Mapping[str, Any]], kept: pl.DataFrame, how: Join) -> pl.DataFrame:
    """Keys and times of a request's rows; one that can't be read finds nothing."""
    asked = pl.DataFrame([keys_like([row[name] for row in rows], name, kept[name].dtype) for name in how.on])
    if how.as_of is None:
        return asked
    moments = [moment(row[how.as_of]) for row in rows]
    return asked.with_columns(pl.Series(how.as_of, moments, dtype=_INSTANT))


def _json(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in row.items()}


def _bare(how: Join) -> Join:
    """*how* without its sources."""
    return Join(None, None, how.on, how.as_of, how.right_time, how.within, how.delay, how.prefix)


def _name(how: Join) -> str:
    """Joins that give the same columns in the same way share what is kept."""
    return f"{PREFIX}{blake3(repr(_bare(how)).encode()).hexdigest(length=6)}"
