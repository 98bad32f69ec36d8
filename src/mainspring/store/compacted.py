"""Which records of a loop have been compacted, and what their predictions' labels are: an index that is asked by id or
key, so that nobody needs to keep old records in memory. The records themselves are read by `store/history.py`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.errors import HomeDamaged
from mainspring.core.instants import instant
from mainspring.store import durable
from mainspring.store.home import Database, Home
from mainspring.store.records import KINDS, About, FeedbackRecord, Kind, PredictionRecord, event_label, latest

UNLABELLED: Any = object()
"""What is known of the label of a prediction that has none."""
_MOST_LOOKED_AT = 1000
_TABLES = (
    """create table if not exists segments (
        name text primary key, kind text not null, bytes integer not null, first integer not null,
        last integer not null, since text, until text)""",
    """create table if not exists predictions (
        id text primary key, key integer, row integer, place integer not null) without rowid""",
    "create index if not exists predictions_by_key on predictions (key, place) where key is not null",
    "create index if not exists predictions_by_row on predictions (row, place) where row is not null",
    """create table if not exists labels (
        id text primary key, label text not null, arrived text) without rowid""",
    "create table if not exists events (id text, name text, primary key (id, name)) without rowid",
)


@dataclass(frozen=True, slots=True)
class Segment:
    """A compacted segment file: its *bytes*, the numbers of its rows in the table, the times that they span."""

    name: str
    bytes: int
    first: int
    last: int
    since: datetime | None = None
    until: datetime | None = None


class Compacted:
    """The index of one loop, in `records/<loop>/` of the home; no file of it is there before the first compaction.

    It holds no value of a row: ids, hashes of keys, labels, and names of events. One that was found damaged is marked,
    for `store/history.py` to make it anew from the tables, under the name *anew* until it is whole.
    """

    def __init__(self, home: Home, loop: str, *, anew: bool = False) -> None:
        self._path = home.folder("records") / loop / ("compacted.new" if anew else "compacted.db")
        self._tables = [] if anew else [home.folder("tables") / loop / kind / "_delta_log" for kind in KINDS]
        self._opened: tuple[int, Database] | None = None

    def segments(self, kind: Kind) -> list[Segment]:
        """What has been compacted, the oldest first."""
        found = self._asked("select * from segments where kind = ? order by name", (kind,))
        return [
            Segment(row["name"], row["bytes"], row["first"], row["last"], _time(row["since"]), _time(row["until"]))
            for row in found
        ]

    def through(self, kind: Kind) -> str:
        """The name of the last segment that has been compacted; all before it have been too."""
        found = self._asked("select max(name) from segments where kind = ?", (kind,))
        return (found[0][0] if found else None) or ""

    def label(self, identity: str) -> Any:
        """The label of prediction *identity*, or UNLABELLED; None when no such prediction has been compacted."""
        found = self._asked(
            "select p.id, l.label from predictions p left join labels l on l.id = p.id where p.id = ?", (identity,)
        )
        if not found:
            return None
        return UNLABELLED if found[0]["label"] is None else msgspec.json.decode(found[0]["label"])

    def event(self, about: tuple[str, str]) -> Any:
        """The label that stands for an event of a prediction; UNLABELLED where it hasn't been compacted."""
        found = self._asked("select 1 from events where id = ? and name = ?", about)
        return event_label(about[1]) if found else UNLABELLED

    def known(self, about: About) -> Any:
        """What is known of the label or the event *about*; UNLABELLED where that is nothing."""
        if isinstance(about, tuple):
            return self.event(about)
        label = self.label(about)
        return UNLABELLED if label is None else label

    def latest(self, key: Any, time: Any = None) -> list[tuple[str, bool]]:
        """The predictions of *key*, or of the row (*key*, *time*), the latest first, and whether each has a label."""
        column, wanted = ("key", _hash(hashable(key))) if time is None else ("row", _hash(hashable(key), moment(time)))
        found = self._asked(
            f"select p.id, l.id is not null as labelled from predictions p left join labels l on l.id = p.id "
            f"where p.{column} = ? order by p.place desc limit {_MOST_LOOKED_AT}",
            (wanted,),
        )
        return [(row["id"], bool(row["labelled"])) for row in found]

    def take_in(self, segment: Segment, records: Sequence[PredictionRecord | FeedbackRecord]) -> None:
        """From now on *segment* counts as compacted; in one durable transaction, once."""
        with self._noted(), self._made().transaction() as connection:
            if connection.execute("select 1 from segments where name = ?", (segment.name,)).fetchone():
                return
            kind = segment.name.partition("-")[0]
            span = [None if at is None else at.isoformat() for at in (segment.since, segment.until)]
            connection.execute(
                "insert into segments values (?, ?, ?, ?, ?, ?, ?)",
                (segment.name, kind, segment.bytes, segment.first, segment.last, *span),
            )
            predictions = [each for each in records if isinstance(each, PredictionRecord)]
            connection.executemany(
                "insert or ignore into predictions values (?, ?, ?, ?)", _places(predictions, segment.first)
            )
            feedback = [each for each in records if isinstance(each, FeedbackRecord)]
            connection.executemany(_PUT_LABEL, _labels(feedback))
            events = [(each.id, each.event) for each in feedback if each.event is not None]
            connection.executemany("insert or ignore into events values (?, ?)", events)

    def forget(self, ids: Iterable[str]) -> None:
        """The predictions *ids* are found by their id alone from now on, and have no label and no event."""
        with self._noted():
            database = self._database()
        if database is None:
            return
        with self._noted(), database.transaction() as connection:
            told = [(identity,) for identity in ids]
            connection.executemany("update predictions set key = null, row = null where id = ?", told)
            connection.executemany("delete from labels where id = ?", told)
            connection.executemany("delete from events where id = ?", told)

    def is_sound(self) -> bool:
        """Whether it can be read and nobody has found it damaged."""
        if self._mark.exists():
            return False
        try:
            return all(row[0] == "ok" for row in self._asked("pragma quick_check(1)"))
        except HomeDamaged:
            return False

    @property
    def is_there(self) -> bool:
        return self._path.exists()

    @property
    def is_marked(self) -> bool:
        return self._mark.exists()

    def take_place(self, of: Compacted) -> None:
        """Be, from now on, what *of* was, of which the file stays beside as "compacted.damaged"."""
        database = self._made()
        database.query("pragma wal_checkpoint(truncate)")
        database.close()
        kept = of._path.with_suffix(".damaged")
        kept.unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            os.link(of._path, kept)
        for path in (of._path, self._path):
            for log in ("-wal", "-shm"):
                path.with_name(path.name + log).unlink(missing_ok=True)
        os.replace(self._path, of._path)
        of._mark.unlink(missing_ok=True)
        durable.sync(of._path.parent)

    def remove(self) -> None:
        for ending in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)

    @property
    def _mark(self) -> Path:
        return self._path.with_suffix(".unsound")

    def _asked(self, sql: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        with self._noted():
            database = self._database()
            return [] if database is None else database.query(sql, parameters)

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except HomeDamaged as error:
            with suppress(OSError):
                self._mark.touch()
            raise HomeDamaged(
                f"{self._path} is damaged; `mainspring gc` makes it anew, as `up` and `serve` do"
            ) from error

    def _database(self) -> Database | None:
        """As it is there now, for another process may have made it anew; None where there is none."""
        try:
            there = os.stat(self._path).st_ino
        except FileNotFoundError:
            if any(table.is_dir() for table in self._tables):
                raise HomeDamaged(f"{self._path} is gone") from None
            return None
        if self._opened is None or self._opened[0] != there:
            database = Database(self._path)
            database.create(_TABLES)
            self._opened = there, database
        return self._opened[1]

    def make(self) -> None:
        """Be there, as the tables may only be when this is."""
        self._made()

    def _made(self) -> Database:
        if (known := self._database()) is not None:
            return known
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = Database(self._path)
        database.create(_TABLES)
        durable.sync(self._path.parent)
        self._opened = os.stat(self._path).st_ino, database
        return database


_PUT_LABEL = """insert into labels values (?, ?, ?) on conflict (id) do update
    set label = excluded.label, arrived = excluded.arrived
    where arrived is null or excluded.arrived is null or excluded.arrived >= arrived"""


def _places(predictions: Iterable[PredictionRecord], first: int) -> Iterable[tuple[str, int | None, int | None, int]]:
    for place, record in enumerate(predictions, first):
        key = None if record.key is None else hashable(record.key)
        whole = None if key is None or record.time is None else _hash(key, moment(record.time))
        yield record.id, None if key is None else _hash(key), whole, place


def _labels(feedback: Iterable[FeedbackRecord]) -> Iterable[tuple[str, str, str | None]]:
    for record in latest(each for each in feedback if each.id).values():  # an erased one has no id
        arrived = None if record.arrived is None else record.arrived.astimezone(UTC).isoformat()
        yield record.id, msgspec.json.encode(record.label).decode(), arrived


def hashable(key: Any) -> Any:
    """A key as what equal keys share: 1, 1.0 and true are one, as they are everywhere in Python."""
    return key if isinstance(key, str | int | float | bool) else str(key)


def moment(time: Any) -> Any:
    """A time as the moment it means: "2013-07-01T10:00:00" and "2013-07-01T12:00:00+02:00" are the same row's."""
    if not isinstance(time, str):
        return hashable(time)
    try:
        return instant(time).replace(tzinfo=UTC)
    except ValueError:
        return time


def _hash(*values: Any) -> int:
    """64 bits of values that may be personal: enough to find them, too little to read them."""
    told = "\0".join(f"s{value}" if isinstance(value, str) else f"v{_number(value)!r}" for value in values)
    return int.from_bytes(blake2b(told.encode(errors="surrogatepass"), digest_size=8).digest(), "big", signed=True)


def _number(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    whole = isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole else value


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
