"""Two sources as one: the rows of the left, each with what the right told of it by then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import polars as pl

from mainspring.core.errors import SchemaMismatch, SourceEmpty, SourceError
from mainspring.core.joins import Join
from mainspring.core.schema import Type
from mainspring.core.sources import SqlSource
from mainspring.core.wording import count
from mainspring.data.casting import cast, first_values, instants, plain
from mainspring.data.sources import Reader, beyond, reader
from mainspring.store.home import Home
from mainspring.store.lookups import Kept, Lookups, given, looked_up
from mainspring.store.protection import NONE, Protection
from mainspring.store.tables import DTYPES

_INSTANT, _THERE = pl.Datetime("us"), "_there"


class Joined:
    """A join as a source. Its right side is kept in the home, where the endpoint looks up too, and is read on only for
    what is new. What it tells late is joined to the rows that a version has by `late`."""

    def __init__(self, how: Join, home: Home, loop: str, text_columns: Sequence[str], protection: Protection) -> None:
        self._how, self._lookups, self._protection = how, Lookups(home, loop), protection
        self.left = source_of(how.left, home, loop, text_columns, protection)
        self._right = reader(how.right, text_columns)
        self._notes: list[str] = []
        self._found = Kept(how, pl.DataFrame(), -1, None)
        self._compared = isinstance(how.right, SqlSource) and how.right.changes == "compare"

    @property
    def name(self) -> str:
        return f"{self.left.name} joined with {self._right.name}"

    @property
    def identity(self) -> Any:
        how = self._how
        return ["Join", self.left.identity, self._right.identity, list(how.on), how.as_of, how.right_time, how.within,
                how.delay, how.prefix]  # fmt: skip

    @property
    def incremental(self) -> bool:
        return self.left.incremental

    @property
    def overlap(self) -> Any:
        return getattr(self.left, "overlap", None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was met in the sides that were read."""
        return (*getattr(self.left, "notes", ()), *self._notes)

    @property
    def asks(self) -> tuple[str, ...]:
        """The columns of the left side by which is looked."""
        inner = self.left.asks if isinstance(self.left, Joined) else ()
        own = (*self._how.on, *([self._how.as_of] if self._how.as_of else []))
        return (*inner, *(name for name in own if not isinstance(self.left, Joined) or name not in self.left.gives))

    @property
    def gives(self) -> tuple[str, ...]:
        """The columns of the right sides, as they were read."""
        inner = self.left.gives if isinstance(self.left, Joined) else ()
        return (*inner, *given(self._found.rows, self._how).values())

    @property
    def looked(self) -> list[int]:
        """In which of the kept versions of the right sides was looked."""
        return [*(self.left.looked if isinstance(self.left, Joined) else ()), self._found.version]

    def position(self) -> Any:
        both = [self.left.position(), self._right.position()]
        return None if None in both else both

    def resumes(self, since: Any) -> bool:
        return beyond(self.left, since) is not None

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        self._found, _ = self._refreshed()
        for part, cursor in self.left.read(since):
            yield self._joined(self._protection.frame(part), self._found.rows, whole=since is None), cursor

    def rejoined(self, rows: pl.DataFrame) -> pl.DataFrame:
        """*rows* that were joined once, with what is found for them by now; where that is nothing, as they are, unless
        what they had was withdrawn."""
        left = self.left.rejoined(rows) if isinstance(self.left, Joined) else rows
        names = list(given(self._found.rows, self._how).values())
        known = [name for name in names if name in left.columns]
        there = self._found.rows.with_columns(pl.lit(True).alias(_THERE))
        now = self._joined(left.drop(known), there)
        found = now[f"{self._how.prefix}{_THERE}"].fill_null(False) | self._withdrawn(left)
        return now.select(left.columns).with_columns(_taken(left[name], now[name], found) for name in known)

    def _withdrawn(self, rows: pl.DataFrame) -> pl.Series:
        """For which *rows* finding nothing means that the right side has taken back what it told, not that it only
        forgets what is old: it is read as a whole, and still has rows older than all that counts for them. One
        without any rows takes nothing back: more likely it is being written."""
        how, known = self._how, self._found.rows
        if self._compared or (how.time is None and known.height and not self._right.incremental):
            return pl.Series([True]).new_from_index(0, rows.height)
        if how.as_of is None or how.time is None or how.within is None or self._right.incremental:
            return pl.Series([False]).new_from_index(0, rows.height)
        oldest = known[how.time].cast(_INSTANT).min()
        return (_read(rows[how.as_of]) - timedelta(seconds=how.within) >= oldest).fill_null(False)

    def refresh(self) -> bool:
        """Keep what the right sides tell by now, for the endpoint, which looks up between two ingests too; whether
        there was anything new."""
        left = isinstance(self.left, Joined) and self.left.refresh()
        _, new = self._refreshed()
        return left or new

    def _joined(self, part: pl.DataFrame, right: pl.DataFrame, *, whole: bool = False) -> pl.DataFrame:
        """*part* with what is found. whole: it begins a reading of all rows, which must have times; later rows whose
        times can't be read find nothing, and the contract tells."""
        time = self._how.as_of
        if time is None or time not in part.columns:
            return looked_up(part, right, self._how)
        moments = _moments(part[time], self.left.name) if whole else _read(part[time])
        joined = looked_up(part.with_columns(moments), right, self._how)
        return joined.with_columns(part[time])

    def _refreshed(self) -> tuple[Kept, bool]:
        """The rows of the right side, with what is new by now, and whether anything is."""
        kept = self._lookups.kept(self._how)
        known = kept.state if kept is not None and kept.state["identity"] == self._identity() else None
        stands = _json(self._right.position())
        if kept is not None and known and stands is not None and known["position"] == stands:
            return kept, False
        since = beyond(self._right, known["cursor"]) if known else None
        parts, cursor = ([kept.rows] if kept is not None and since is not None else []), since
        for part, cursor in self._right.read(since):  # noqa: B007 - the last one is used
            parts.append(self._typed(self._protection.frame(part, self._names(part)), whole=since is None))
        try:
            rows = pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()
        except pl.exceptions.PolarsError as error:
            reason = str(error).partition("\n")[0]
            raise SourceError(
                f"the parts of {self._right.name} don't fit: {reason}; give each column one type"
            ) from error
        if not rows.width:
            raise SourceEmpty(f"{self._right.name} has no rows to be joined; give it some and run again")
        if kept is not None and since is not None:  # a cursor's last rows came again
            rows = rows.unique(
                [*self._how.on, *([self._how.time] if self._how.time else [])], keep="last", maintain_order=True
            )
        if kept is None or not rows.equals(kept.rows):
            state = {"identity": self._identity(), "cursor": _json(cursor), "position": stands}
            return Kept(self._how, rows, self._lookups.keep(self._how, rows, state), state), True
        return kept, False

    def _identity(self) -> Any:
        """Of the right side, under the rules of privacy that it was kept by."""
        return _json([self._right.identity, self._protection.rules] if self._protection else self._right.identity)

    def _names(self, part: pl.DataFrame) -> dict[str, str]:
        """What the join calls the columns of the right side."""
        return {name: name for name in part.columns if name in self._how.on} | given(part, self._how)

    def _typed(self, part: pl.DataFrame, *, whole: bool) -> pl.DataFrame:
        """*part* in the types that rows are kept in, its time as instants."""
        time = self._how.time
        rows, _ = plain(part)
        if time is not None and time in rows.columns:
            moments = _moments(rows[time], self._right.name) if whole else _read(rows[time])
            if (unread := moments.is_null() & rows[time].is_not_null()).any():
                self._notes.append(
                    f"{count(int(unread.sum()), 'row')} of {self._right.name} can't be joined: time column {time!r} "
                    f"holds {first_values(rows[time], unread)}"
                )
            rows = rows.with_columns(moments)
        return rows


def source_of(
    source: Any, home: Home, loop: str, text_columns: Sequence[str] = (), protection: Protection = NONE
) -> Reader:
    """The reader of *source*, of a join too, both sides of which are protected before anything is kept."""
    if isinstance(source, Join):
        return Joined(source, home, loop, text_columns, protection)
    return reader(source, text_columns)


def _read(column: pl.Series) -> pl.Series:
    return column.cast(_INSTANT) if column.dtype == pl.Datetime else instants(column)


def _moments(column: pl.Series, name: str) -> pl.Series:
    moments = _read(column)
    if moments.null_count() == len(moments) and column.null_count() < len(column):
        raise SchemaMismatch(
            f"time column {column.name!r} of {name} holds no times, such as {column.drop_nulls()[0]!r}; "
            "write them as 2013-01-31T15:00:00, or convert them in the source"
        )
    return moments


def _taken(known: pl.Series, values: pl.Series, found: pl.Series) -> pl.Series:
    """The *values* that were *found*, in the type of the *known* ones, which a version has; these stay where one isn't
    of that type."""
    kind = next(kind for kind, dtype in DTYPES.items() if dtype == known.dtype)
    made = cast(values.cast(pl.String) if kind is Type.TEXT else values, kind)
    return made.zip_with(found & (made.is_not_null() | values.is_null()), known)


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value))
