"""Rows and records older than the loop's Privacy lets them be: left out of each new version, and then removed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from mainspring.core.errors import SchemaMismatch
from mainspring.core.privacy import Privacy
from mainspring.core.quantities import seconds
from mainspring.core.wording import count
from mainspring.data.casting import instants
from mainspring.data.erasing import erase_older
from mainspring.store import traces
from mainspring.store.deployments import Deployments
from mainspring.store.erased_records import before, erase_damage, erase_records
from mainspring.store.forgetting import forget_older
from mainspring.store.home import Home
from mainspring.store.parts import Part, Staging
from mainspring.store.tables import Table

_INSTANT = pl.Datetime("us")


class Retention:
    """How long one loop keeps rows, by its *time* column, and records."""

    def __init__(self, home: Home, loop: str, privacy: Privacy, time: str | None) -> None:
        self._home, self._loop, self._privacy, self._time = home, loop, privacy, time
        self.oldest: datetime | None = None
        if privacy.retention is not None:
            self.oldest = Deployments(home).now().astimezone(UTC) - timedelta(seconds=seconds(privacy.retention))

    @property
    def day(self) -> str | None:
        """What changes when rows may have become too old: at most once a day."""
        return None if self.oldest is None else date.isoformat(self.oldest.date())

    def over(self, parts: Sequence[Part]) -> bool:
        """Whether *parts* have rows that are too old."""
        return any(bool(self._old(part.read([str(self._time)])).any()) for part in parts) if self.oldest else False

    def kept(self, parts: Sequence[Part], staging: Staging) -> tuple[Part, ...]:
        """*parts* without the rows that are too old."""
        if self.oldest is None:
            return tuple(parts)
        found: list[Part] = []
        for part in parts:
            if not self._old(part.read([str(self._time)])).any():
                found.append(part)
            elif (left := self.rows(part.read())).height:
                found.append(staging.put(left))
        return staging.settled(found)

    def rows(self, rows: pl.DataFrame) -> pl.DataFrame:
        """*rows* but those that are too old."""
        return rows if self.oldest is None else rows.filter(~self._old(rows))

    def note(self, rows: int) -> tuple[str, ...]:
        """What to say of so many *rows* that went."""
        return (f"{count(rows, 'row')} older than retention={self._privacy.retention!r} removed",) if rows else ()

    def bury(self, run: str, *, rows: bool) -> int:
        """Remove what is too old from records and quarantine; *rows*: from older versions and what runs made of them,
        but this *run*, too. How many predictions."""
        if self.oldest is None:
            return 0
        records = erase_records(self._home, self._loop, before(self.oldest))
        erase_damage(self._home, self._loop, self.oldest.timestamp())
        self._bury_quarantine()
        if rows:
            forget_older(Table(self._home, self._loop, "rows"))
            traces.drop_artifacts(self._home, self._loop, but=run)
        return records.predictions

    def _bury_quarantine(self) -> None:
        table = Table(self._home, self._loop, "quarantine")
        if table.version() is None:
            return
        kept = table.read()
        times = pl.Series(self._time, [_said(text, self._time) for text in kept["row"].to_list()], dtype=pl.String)
        old = self._old(pl.DataFrame([instants(times)])) if kept.height else pl.Series([], dtype=pl.Boolean)
        if old.any():
            table.replace(kept.filter(~old), metadata={**table.metadata(), "only": False})
            forget_older(table)

    def _old(self, rows: pl.DataFrame) -> pl.Series:
        assert self.oldest is not None and self._time is not None
        kind = rows[self._time].dtype
        if not (kind == pl.Date or isinstance(kind, pl.Datetime)):  # a number, taken for a time, would be of 1970
            raise SchemaMismatch(
                f"time column {self._time!r} is {str(kind).lower()}, not a time: how old a row is can't be told for "
                "retention=; convert it in the source to text such as 2013-01-31T15:00:00"
            )
        return (rows[self._time].cast(_INSTANT) < self.oldest.replace(tzinfo=None)).fill_null(False)


def enforce(home: Home, loop: str, privacy: Privacy, time: str | None) -> str:
    """Take out what is too old by now, without an ingest; what was done, "" where nothing was too old."""
    retention = Retention(home, loop, privacy, time)
    if retention.oldest is None or time is None:
        return ""
    gone = erase_older(home, loop, time, retention.oldest.replace(tzinfo=None))
    records = retention.bury("", rows=gone > 0)
    if not gone and not records:
        return ""
    return (
        f"older than retention={privacy.retention!r}: {count(gone, 'row')} and {count(records, 'prediction')} removed"
    )


def _said(row: str, time: str | None) -> Any:
    value = json.loads(row).get(time)
    return None if value is None else str(value)
