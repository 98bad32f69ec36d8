"""All records of a loop, old and new, as one: sealed segments are compacted into Delta tables, and read back from them.

A segment is sealed when a newer one is there and no process writes it. It goes into the table, then into the index, and
is removed; a kill in between leaves it to the next compaction, which takes up where that one was. The index says from
which moment on the table stands for the segment, so readers see each record once.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from mainspring.core.errors import HomeDamaged
from mainspring.store import durable
from mainspring.store.compacted import Compacted, Segment
from mainspring.store.home import Home
from mainspring.store.parts import ORDER, Part
from mainspring.store.records import KINDS, FeedbackRecord, Kind, PredictionRecord, Records, decoded, encoded
from mainspring.store.segments import Frame, Position, Segments
from mainspring.store.tables import Table

_log = logging.getLogger(__name__)
_THROUGH, _END = "through", "_end"
_ROWS_AT_ONCE = 5_000
_MOST_TORN = 2  # what Delta Lake may have written since the last time that we synced
_INSTANT = pl.Datetime("us")
_COLUMNS: Mapping[Kind, Mapping[str, pl.DataType]] = {
    "predictions": {
        "id": pl.String(), "at": _INSTANT, "key": pl.String(), "time": pl.String(), "unit": pl.String(),
        "arm": pl.String(), "version": pl.Int64(), "revision": pl.Int64(), "label": pl.String(),
        "probabilities": pl.List(pl.Float64()), "latency_ms": pl.Float64(), "error": pl.String(), "loop": pl.String(),
        "row": pl.String(), "propensity": pl.Float64(),
    },
    "feedback": {
        "id": pl.String(), "label": pl.String(), "at": _INSTANT, "arrived": _INSTANT, "corrects": pl.Boolean(),
        "propensity": pl.Float64(),
    },
}  # fmt: skip
"""The tables' columns; what may be of any type (keys, times, labels, rows) is JSON in a text."""
_JSON = ("key", "time", "label", "row")
_TYPES: Mapping[Kind, Any] = {"predictions": PredictionRecord, "feedback": FeedbackRecord}


class History(Records):
    """The records of one loop with those that were compacted; read like `Records`, in the same order."""

    def __init__(self, home: Home, loop: str) -> None:
        super().__init__(home, loop)
        self._home = home
        self._compacted = Compacted(home, loop)
        self._parts: dict[Kind, tuple[Part, ...]] = {}

    def frames(self, kind: Kind, after: Position | None = None, since: datetime | None = None) -> Iterator[Frame]:
        """The batches beyond position *after*; since: compacted segments that are older may be left out."""
        told = self._compacted.segments(kind)
        for segment in told:
            yield from self._old(kind, segment, after, since)
        through, segments = told[-1].name if told else "", self.segments(kind)
        for path in segments.files():
            if path.name <= through:
                continue  # its compaction was killed before it could be removed
            try:
                yield from segments.frames_of(path, (after or {}).get(path.name, 0))
            except FileNotFoundError:  # compacted since the files were listed
                found = {segment.name: segment for segment in self._compacted.segments(kind)}
                yield from self._old(kind, found[path.name], after, since)

    def _old(self, kind: Kind, segment: Segment, after: Position | None, since: datetime | None) -> Iterator[Frame]:
        begun = _passed(segment, after or {})
        if begun >= segment.bytes or (since is not None and segment.until is not None and segment.until < since):
            return
        for rows in self._rows(kind, segment):
            rows = rows.filter(pl.col(_END) > begun)
            for batch in _batches(rows):
                end = int(batch[_END][-1])
                yield Frame(segment.name, begun, end, encoded(_records(kind, batch)))
                begun = end
        if begun < segment.bytes:
            yield Frame(segment.name, begun, segment.bytes, encoded([]))

    def compacted_before(self, kind: Kind, name: str, first: int, last: int) -> tuple[Segment, list[Any]]:
        """The segment *name*, whose rows in the table have the numbers *first* to *last*, and its records."""
        parts = list(self._rows(kind, Segment(name, 0, first, last)))
        records = [record for rows in parts for record in _records(kind, rows)]
        end = max((int(rows[_END].max() or 0) for rows in parts if rows.height), default=0)  # type: ignore[arg-type]
        return _segment(name, end, first, last, records), records

    def _rows(self, kind: Kind, segment: Segment) -> Iterator[pl.DataFrame]:
        parts = self._parts.get(kind, ())
        if not parts or parts[-1].last < segment.last:
            parts = self._parts[kind] = Table(self._home, self.loop, kind).parts()
        for part in parts:
            if part.last >= segment.first and part.first <= segment.last:
                yield part.read().filter(pl.col(ORDER).is_between(segment.first, segment.last)).sort(ORDER)


def compact(home: Home, loop: str, *, checked: bool = False) -> int:
    """Compact the sealed segments of *loop*, the oldest first; how many, 0 where another process does so.

    An index that is gone, or was found damaged, is made anew from the tables first; checked: all of it is looked at.
    """
    if not _is_whole(home, loop, checked=checked):
        _indexed_anew(home, loop)
    try:
        return _compacted(home, loop)
    except HomeDamaged:
        if Compacted(home, loop).is_sound():  # it is the table
            raise
    _indexed_anew(home, loop)
    return _compacted(home, loop)


def _is_whole(home: Home, loop: str, *, checked: bool) -> bool:
    index = Compacted(home, loop)
    if not index.is_there:
        return not any((Table(home, loop, kind).path / "_delta_log").is_dir() for kind in KINDS)
    return index.is_sound() if checked else not index.is_marked


def _indexed_anew(home: Home, loop: str) -> None:
    """Make the index from what was told with each commit of the tables, and from their rows."""
    with _locked(home.folder("records") / loop / "compacting", os.O_RDWR | os.O_CREAT) as alone:
        if not alone or _is_whole(home, loop, checked=True):  # another process was first
            return
        made, history = Compacted(home, loop, anew=True), History(home, loop)
        made.remove()
        for kind in KINDS:
            table, there = Table(home, loop, kind), Records(home, loop).segments(kind).files()[:-1]
            _withdraw_torn(table, partial(_wait_behind, [path.name for path in there]))
            newest = table.version()
            told = [table.metadata(version) for version in range(0 if newest is None else newest + 1)]
            for known in {each[_THROUGH]: each for each in told}.values():
                made.take_in(*history.compacted_before(kind, known[_THROUGH], int(known["first"]), int(known["last"])))
        made.take_place(Compacted(home, loop))
    _log.warning("%s: the index of its compacted records was damaged or gone, and has been made anew", loop)


def _compacted(home: Home, loop: str) -> int:
    records, compacted, done = Records(home, loop), Compacted(home, loop), 0
    for kind in KINDS:
        segments = records.segments(kind)
        sealed = segments.files()[:-1]
        if not sealed:
            continue
        with _locked(segments.folder / "compacting", os.O_RDWR | os.O_CREAT) as alone:
            for path in sealed if alone else []:
                with _locked(path, os.O_RDONLY) as unwritten:
                    if not unwritten:
                        break
                    compacted.make()
                    _one(home, kind, path, segments, compacted)
                    done += 1
    return done


def compact_all(home: Home, *, checked: bool = False) -> int:
    """Compact the sealed segments of all loops of *home*; how many. Raises HomeDamaged, after all, for the first loop
    that can't be compacted. checked: as for `compact`."""
    done, failed = 0, list[HomeDamaged]()
    for folder in sorted(home.folder("records").iterdir()):
        try:
            done += compact(home, folder.name, checked=checked) if folder.is_dir() else 0
        except HomeDamaged as error:
            failed.append(error)
    if failed:
        raise failed[0]
    return done


def _one(home: Home, kind: Kind, path: Path, segments: Segments, compacted: Compacted) -> None:
    """Table, index, removal: each is a step that is done once, whatever was killed before."""
    if path.name > compacted.through(kind):
        before = set(segments.damage)
        found = [
            (frame.end, record) for frame in segments.frames_of(path, 0) for record in decoded(kind, frame.payload)
        ]
        records = [record for _, record in found]
        table = Table(home, path.parent.name, kind)
        _withdraw_torn(table, lambda known, _: known == compacted.through(kind))
        first, last = _tabled(table, kind, path.name, found)
        compacted.take_in(_segment(path.name, path.stat().st_size, first, last, records), records)
        if segments.damage - before:
            os.rename(path, path.with_suffix(".damaged"))  # named in the log; what can be read of it is in the table
    path.unlink(missing_ok=True)
    durable.sync(path.parent)


def _segment(name: str, size: int, first: int, last: int, records: Sequence[Any]) -> Segment:
    times = [getattr(record, "arrived", None) or record.at for record in records]
    return Segment(name, size, first, last, min(times, default=None), max(times, default=None))


def _withdraw_torn(table: Table, is_so: Callable[[str, int], bool]) -> None:
    """A commit that a loss of power tore is withdrawn: its segment is there still, and goes into the table again.

    is_so: whether that may be, told up to which segment the table is whole and how many commits behind that are torn.
    Raises HomeDamaged for damage of any other kind.
    """
    torn: list[Path] = []
    while True:
        try:
            newest = table.version()
            known = "" if newest is None else str(table.metadata(newest).get(_THROUGH))
        except HomeDamaged:
            logs = sorted((table.path / "_delta_log").glob("*.json"))
            if not logs or len(torn) == _MOST_TORN:
                _give_back(torn)
                raise
            torn.append(logs[-1].rename(logs[-1].with_suffix(".torn")))
            continue
        if torn and not is_so(known, len(torn)):
            _give_back(torn)
            raise HomeDamaged(f"table {table.path} lacks what was compacted into it after {known!r}; restore it")
        return


def _wait_behind(names: Sequence[str], known: str, torn: int) -> bool:
    """Whether the segments of *torn* commits, all behind *known*, are there."""
    return sum(name > known for name in names) >= torn


def _give_back(torn: Sequence[Path]) -> None:
    for path in torn:
        path.rename(path.with_suffix(".json"))


def _tabled(table: Table, kind: Kind, name: str, found: Sequence[tuple[int, Any]]) -> tuple[int, int]:
    """The numbers of the first and the last row of segment *name* in *table*, to which they are added unless there."""
    newest = table.version()
    known = {} if newest is None else table.metadata(newest)
    if known.get(_THROUGH) == name:
        return int(known["first"]), int(known["last"])
    parts = () if newest is None else table.parts(newest)
    first = max((part.last for part in parts), default=-1) + 1
    told = {_THROUGH: name, "first": first, "last": first + len(found) - 1}
    table.append(_frame(kind, found), metadata=told)
    return first, first + len(found) - 1


def _frame(kind: Kind, found: Sequence[tuple[int, Any]]) -> pl.DataFrame:
    columns = {
        name: pl.Series(name, [_plain(name, getattr(record, name)) for _, record in found], dtype=dtype)
        for name, dtype in _COLUMNS[kind].items()
    }
    return pl.DataFrame([*columns.values(), pl.Series(_END, [end for end, _ in found], dtype=pl.Int64)])


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None)
    return value if value is None or name not in _JSON else msgspec.json.encode(value).decode()


def _records(kind: Kind, rows: pl.DataFrame) -> list[Any]:
    make = _TYPES[kind]
    names = list(_COLUMNS[kind])
    return [
        make(**{name: _back(name, value) for name, value in zip(names, values, strict=True)})
        for values in rows.select(names).iter_rows()
    ]


def _back(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    return value if value is None or name not in _JSON else msgspec.json.decode(value)


def _batches(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """*rows* in slices that end where a batch did."""
    ends = rows[_END].to_list()
    start = 0
    for place in range(1, len(ends) + 1):
        last = place == len(ends)
        if last or (place - start >= _ROWS_AT_ONCE and ends[place] != ends[place - 1]):
            yield rows.slice(start, place - start)
            start = place


def _passed(segment: Segment, after: Position) -> int:
    """How far position *after* has come in *segment*. One that it doesn't name, of files before those that it names,
    was compacted when it was taken."""
    if segment.name in after:
        return after[segment.name]
    return segment.bytes if after and segment.name < max(after) else 0


@contextmanager
def _locked(path: Path, flags: int) -> Iterator[bool]:
    """Whether the file could be locked: no other process writes it, or compacts."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
