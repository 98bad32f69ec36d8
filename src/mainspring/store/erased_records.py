"""Records of an erased subject: overwritten where they stand, so that no reader's position moves and every id counts.

What was predicted stays, with the id, the version and the time; key, unit and row go, and so does the label that came.
Segments are overwritten in their bytes; of what was compacted the tables are written anew, and the index forgets. What
a shadow was shown goes with the prediction.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import polars as pl

from mainspring.core.errors import StoreError
from mainspring.store.compacted import Compacted
from mainspring.store.forgetting import forget_older, forget_unnamed
from mainspring.store.history import History
from mainspring.store.home import Home
from mainspring.store.parts import Staging
from mainspring.store.protection import canonical
from mainspring.store.records import FeedbackRecord, Kind, PredictionRecord
from mainspring.store.segments import HEADER, MAGIC, Frame, Segments, seed_of
from mainspring.store.shadows import ShadowBatch, ShadowRecord
from mainspring.store.tables import Table

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_PREDICTION = {name: place for place, name in enumerate(PredictionRecord.__struct_fields__)}
_FEEDBACK = {name: place for place, name in enumerate(FeedbackRecord.__struct_fields__)}
_SHADOW = {name: place for place, name in enumerate(ShadowRecord.__struct_fields__)}
_PLACES: dict[str, dict[str, int]] = {"predictions": _PREDICTION, "feedback": _FEEDBACK, "shadows": _SHADOW}
_GONE: dict[str, dict[str, Any]] = {
    "predictions": {"key": None, "time": None, "unit": "", "row": {}},
    "feedback": {"id": "", "label": None},
    "shadows": {"unit": "", "error": None, "row": {}},
}
"""What stands in the fields of an erased record."""
_PADDED = {"predictions": ("unit", "time"), "feedback": ("id", "label"), "shadows": ("unit", "error")}
"""The fields of an erased record that take spaces, so that it is as long as it was."""
_SHADOWED = ShadowBatch.__struct_fields__.index("records")
_Fields = list[Any]
_Row = dict[str, Any]


@dataclass(slots=True)
class ErasedRecords:
    """How many predictions, labels and rows of shadows were overwritten. ids: of all predictions without a row by
    now."""

    predictions: int = 0
    labels: int = 0
    shadows: int = 0
    ids: set[str] = field(default_factory=set)


def rows_of(home: Home, loop: str, chosen: Callable[[_Fields], bool]) -> tuple[list[_Row], list[_Row]]:
    """The rows of the predictions that are *chosen*, and of the others."""
    both: tuple[list[_Row], list[_Row]] = ([], [])
    for frame in History(home, loop).frames("predictions"):
        for fields in _decode(frame.payload):
            both[0 if chosen(fields) else 1].append(fields[_PREDICTION["row"]])
    return both


def erase_records(
    home: Home, loop: str, chosen: Callable[[_Fields], bool], units: Collection[str] = ()
) -> ErasedRecords:
    """Overwrite the predictions of *loop* that are *chosen* by their fields, and labels and shadows of all that have no
    row by now: an erasure that was interrupted may have left some.

    units: also go from other records: the rows of a request share the unit of its first one.
    """
    found, folder = ErasedRecords(), home.folder("records") / loop

    def prediction(fields: _Fields) -> bool:
        if not fields[_PREDICTION["row"]] and not fields[_PREDICTION["unit"]].strip():
            found.ids.add(fields[_PREDICTION["id"]])
            return False
        if not chosen(fields):
            return False
        found.ids.add(fields[_PREDICTION["id"]])
        return True

    def label(fields: _Fields) -> bool:
        return fields[_FEEDBACK["id"]] in found.ids

    def shadow(fields: _Fields) -> bool:
        if not fields[_SHADOW["row"]] and not fields[_SHADOW["unit"]].strip():
            return False
        return fields[_SHADOW["id"]] in found.ids or chosen(_as_prediction(fields))

    if not folder.is_dir():
        return found
    with _alone(folder / "compacting"):
        found.predictions = _tabled(home, loop, "predictions", prediction, units)
        found.predictions += _overwritten(folder, "predictions", prediction, units)
        found.labels = _tabled(home, loop, "feedback", label)
        found.labels += _overwritten(folder, "feedback", label, units)
        found.shadows = _overwritten(folder, "shadows", shadow, units)
        Compacted(home, loop).forget(found.ids)
    return found


def erase_damage(home: Home, loop: str, oldest: float | None = None) -> None:
    """Remove what of the records of *loop* nobody can read, and so nobody can tell whose it is: files that were put
    aside as damaged (those from before *oldest*, where that is told), and else also the damaged and torn places of
    segments."""
    folder = home.folder("records") / loop
    for path in sorted(folder.glob("*.damaged")):
        if oldest is None or path.stat().st_mtime < oldest:
            path.unlink()
    if oldest is None and folder.is_dir():
        with _alone(folder / "compacting"):
            for kind in _PLACES:
                for path in Segments(folder, kind).files():
                    _clear_damage(path, Segments(folder, kind))


def of_subject(column: str, forms: Collection[str], *, key: bool, unit: bool) -> Callable[[_Fields], bool]:
    """Chooses predictions whose *column* has one of the *forms*; key, unit: the record's own field is that column, and
    tells it where the row doesn't."""

    def chosen(fields: _Fields) -> bool:
        values = [fields[_PREDICTION["row"]].get(column)]
        if values == [None]:
            values += [fields[_PREDICTION["key"]]] if key else []
            values += [fields[_PREDICTION["unit"]]] if unit else []
        return any(value is not None and canonical(value) in forms for value in values)

    return chosen


def before(moment: Any) -> Callable[[_Fields], bool]:
    """Chooses predictions that are older than *moment*."""
    return lambda fields: bool(fields[_PREDICTION["at"]] < moment)


def _as_prediction(shadow: _Fields) -> _Fields:
    """What a shadow was shown, as far as it can be chosen by."""
    fields: _Fields = [None] * len(_PREDICTION)
    for name in ("id", "at", "unit", "row"):
        fields[_PREDICTION[name]] = shadow[_SHADOW[name]]
    return fields


def _overwritten(folder: Path, kind: str, chosen: Callable[[_Fields], bool], units: Collection[str]) -> int:
    """The records of segments."""
    total, places = 0, _PLACES[kind]
    first, second = (places[name] for name in _PADDED[kind])
    for frame in Segments(folder, kind).frames():
        batch: list[Any] = _decode(frame.payload)
        records: list[_Fields] = batch[_SHADOWED] if kind == "shadows" else batch
        picked = [fields for fields in records if chosen(fields)]
        shared = [fields for fields in records if "unit" in places and fields[places["unit"]] in units]
        for fields in shared:
            fields[places["unit"]] = " " * len(fields[places["unit"]].encode())
        for fields in picked:
            for name, value in _GONE[kind].items():
                fields[places[name]] = value
        if picked:
            _write(folder / frame.file, frame, _padded(batch, picked[-1], (first, second), len(frame.payload)))
            total += len(picked)
        elif shared:
            _write(folder / frame.file, frame, _encode(batch))
    return total


def _padded(batch: list[Any], record: _Fields, places: tuple[int, int], length: int) -> bytes:
    """*batch* in just as many bytes as before, by spaces in a *record* of it; one text alone can't have every length,
    for the head of a longer one is longer."""
    for second in (record[places[1]], " ", "  "):
        record[places[0]], record[places[1]] = "", second
        missing = length - len(_encode(batch))
        for size in range(missing, max(-1, missing - 5), -1):
            record[places[0]] = " " * size
            if len(content := _encode(batch)) == length:
                return content
    raise StoreError("a record can't be overwritten in its place; this is a fault of mainspring: please report it")


def _write(path: Path, frame: Frame, payload: bytes) -> None:
    _put(path, HEADER.pack(MAGIC, len(payload), crc32(payload, seed_of(path))) + payload, frame.start)


def _put(path: Path, content: bytes, start: int) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        if os.pwrite(descriptor, content, start) != len(content):
            raise StoreError(f"{path} can't be written; make room, then erase again")
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _clear_damage(path: Path, segments: Segments) -> None:
    """Zeros between the frames of a segment; behind the last one too, where no living process writes there."""
    end = 0
    for frame in segments.frames_of(path, 0):
        if frame.start > end:
            _put(path, b"\0" * (frame.start - end), end)
        end = frame.end
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, end)
        os.fdatasync(descriptor)
    except BlockingIOError:  # its writer cut off what was torn when it took the file up
        pass
    finally:
        os.close(descriptor)


def _tabled(home: Home, loop: str, kind: Kind, chosen: Callable[[_Fields], bool], units: Collection[str] = ()) -> int:
    """The records that were compacted: a version of the table without them, and no older one."""
    table = Table(home, loop, kind)
    if (base := table.version()) is None:
        return 0
    total, kept, changed = 0, [], False
    names = list(_PREDICTION if kind == "predictions" else _FEEDBACK)
    with Staging(home) as staging:
        for part in table.parts(base):
            rows = part.read()
            mask = pl.Series([chosen(_fields(row, names)) for row in rows.iter_rows(named=True)], dtype=pl.Boolean)
            total += int(mask.sum())
            shared = rows["unit"].is_in(list(units)) if units else pl.Series([False]).new_from_index(0, rows.height)
            if mask.any() or shared.any():
                changed = True
                rows = _blank(rows, mask, kind)
                if shared.any():
                    rows = rows.with_columns(unit=pl.when(shared).then(pl.lit("")).otherwise(pl.col("unit")))
                part = staging.put(rows)
            kept.append(part)
        if changed:
            table.commit(staging.settled(kept), table.columns(base), base=base, metadata=table.metadata(base))
    forget_older(table)
    forget_unnamed(table, lambda path: True)
    return total


def _fields(row: _Row, names: list[str]) -> _Fields:
    """A row of a compacted table as the fields of its record."""
    plain = {name: _read(name, row.get(name)) for name in names}
    return [plain[name] for name in names]


def _read(name: str, value: Any) -> Any:
    if value is None:
        return {} if name == "row" else None
    if hasattr(value, "tzinfo"):
        return value.replace(tzinfo=UTC)
    return msgspec.json.decode(value) if name in ("key", "time", "label", "row") else value


def _blank(rows: pl.DataFrame, mask: pl.Series, kind: Kind) -> pl.DataFrame:
    gone = {name: "{}" if name == "row" else value for name, value in _GONE[kind].items()}
    return rows.with_columns(
        pl.when(mask).then(pl.lit(value, pl.String)).otherwise(pl.col(name)).alias(name) for name, value in gone.items()
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While nobody compacts."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
