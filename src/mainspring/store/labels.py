"""Which predictions of a loop are known and which have their label: finds the prediction that a feedback is about."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from mainspring.core.errors import NotServed
from mainspring.store.records import PredictionRecord, Records
from mainspring.store.segments import Frame, advanced


class _Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first fields of a PredictionRecord; the rest is skipped without being read."""

    id: str
    at: datetime
    key: Any = None
    time: Any = None


class _Label(msgspec.Struct, frozen=True, array_like=True, gc=False):
    id: str
    label: Any


_heads = msgspec.msgpack.Decoder(list[_Head]).decode
_labels = msgspec.msgpack.Decoder(list[_Label]).decode
UNLABELLED: Any = object()
"""What is known of the label of a prediction that has none."""


class Labels:
    """An index in memory over the records: about 400 bytes a prediction, 2 µs to read one back at start.

    Not for several threads at once. A label is taken first and written then; `put_back` what was known before it when
    the writing fails.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._labels: dict[str, Any] = {}
        self._of_key: dict[Any, list[str]] = {}
        self._of_row: dict[tuple[Any, Any], list[str]] = {}
        self._predictions_read: dict[str, int] = {}
        self._feedback_read: dict[str, int] = {}

    def refresh(self) -> None:
        """Take in what the records hold beyond what is known: everything at start, other processes' writing later."""
        for frame in self._records.frames("predictions", self._predictions_read):
            self._know(_heads(frame.payload))
            self._predictions_read = advanced(self._predictions_read, frame)
        for frame in self._records.frames("feedback", self._feedback_read):
            for known in _labels(frame.payload):
                self._labels[known.id] = known.label
            self._feedback_read = advanced(self._feedback_read, frame)

    def add(self, batch: Iterable[PredictionRecord], frame: Frame) -> None:
        """Take in *batch*, which this process has just appended as *frame*."""
        self._know(batch)
        if self._predictions_read.get(frame.file, 0) == frame.start:
            self._predictions_read[frame.file] = frame.end

    def find(self, key: Any, time: Any = None) -> str:
        """The latest unlabelled prediction of *key*, or of exactly the row (*key*, *time*); raises NotServed.

        When all of them have their label: the latest of them, so that a repeated feedback is recognised.
        """
        entity = _hashable(key)
        ids = self._of_key.get(entity) if time is None else self._of_row.get((entity, _moment(time)))
        if not ids:
            at = "" if time is None else f" at {time!r}"
            raise NotServed(f"no prediction for key {key!r}{at}; give the id that /predict returned")
        return next((known for known in reversed(ids) if self._labels[known] is UNLABELLED), ids[-1])

    def take(self, identity: str, label: Any) -> Any:
        """Note *label* for a prediction, and return what was known: UNLABELLED, this label, or one that it corrects.

        Raises NotServed for an unknown id.
        """
        known = self._labels.get(identity, self)
        if known is self:
            raise NotServed(f"no prediction has the id {identity!r}; give one that /predict returned")
        self._labels[identity] = label
        return known

    def put_back(self, identity: str, known: Any) -> None:
        """The label couldn't be written: the prediction has again what was *known* of it before."""
        self._labels[identity] = known

    def __len__(self) -> int:
        return len(self._labels)

    def _know(self, batch: Iterable[_Head | PredictionRecord]) -> None:
        labels, of_key, of_row = self._labels, self._of_key, self._of_row
        for record in batch:
            if record.id not in labels:
                labels[record.id] = UNLABELLED
                if record.key is not None:
                    key = _hashable(record.key)
                    of_key.setdefault(key, []).append(record.id)
                    if record.time is not None:
                        of_row.setdefault((key, _moment(record.time)), []).append(record.id)


def _hashable(key: Any) -> Any:
    return key if isinstance(key, str | int | float | bool) else str(key)


def _moment(time: Any) -> Any:
    """A time as the moment it means: "2013-07-01T10:00:00" and "2013-07-01T12:00:00+02:00" are the same row's."""
    if not isinstance(time, str):
        return _hashable(time)
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        return time
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
