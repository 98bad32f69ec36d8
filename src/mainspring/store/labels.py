"""Which predictions of a loop are known, which have their label, and their events: finds what a feedback is about."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from heapq import merge
from operator import itemgetter
from typing import Any

import msgspec

from mainspring.core.errors import NotServed, StoreError
from mainspring.store.compacted import UNLABELLED, Compacted, hashable, moment
from mainspring.store.records import About, PredictionRecord, Records, about
from mainspring.store.segments import Frame, advanced

__all__ = ["UNLABELLED", "Labels"]


class _Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first fields of a PredictionRecord; the rest is skipped without being read."""

    id: str
    at: datetime
    key: Any = None
    time: Any = None


class _Label(msgspec.Struct, frozen=True, array_like=True, gc=False):
    id: str
    label: Any


_FEW = 64
_heads = msgspec.msgpack.Decoder(list[_Head]).decode
_labels = msgspec.msgpack.Decoder(list[_Label]).decode


@dataclass(slots=True)
class _File:
    """The predictions of one segment file, in their order."""

    ids: list[str] = field(default_factory=list)
    of_key: dict[Any, list[tuple[datetime, str]]] = field(default_factory=dict)
    of_row: dict[tuple[Any, Any], list[tuple[datetime, str]]] = field(default_factory=dict)


class Labels:
    """An index over the records: in memory over those that aren't compacted yet (about 400 bytes a prediction, 2 µs to
    read one back at start), on the disk over the others.

    Not for several threads at once. A label is taken first and written then; `put_back` what was known before it when
    the writing fails.
    """

    def __init__(self, records: Records, compacted: Compacted | None = None) -> None:
        self._records, self._compacted = records, compacted
        self._labels: dict[About, Any] = {}
        self._files: dict[str, _File] = {}
        self._loose: dict[About, None] = {}
        self._checked: list[About] = []
        self._through = ""
        self._predictions_read: dict[str, int] = {}
        self._feedback_read: dict[str, int] = {}
        self._missed = False

    def refresh(self) -> None:
        """Take in what the records hold beyond what is known: everything at start, other processes' writing later."""
        for frame in self._records.frames("predictions", self._predictions_read):
            self._know(_heads(frame.payload), frame.file)
            self._predictions_read = advanced(self._predictions_read, frame)
        self._missed = self._missed or self._compacted_unread()
        for frame in self._records.frames("feedback", self._feedback_read):
            for known in _labels(frame.payload):
                self._note(about(known.id, known.label), known.label)
            self._feedback_read = advanced(self._feedback_read, frame)

    def add(self, batch: Iterable[PredictionRecord], frame: Frame) -> None:
        """Take in *batch*, which this process has just appended as *frame*; let go of what has been compacted."""
        if frame.file not in self._files:
            self._let_go()
        self._know(batch, frame.file)
        self._let_go_of_labels()
        if self._predictions_read.get(frame.file, 0) == frame.start:
            self._predictions_read[frame.file] = frame.end

    def wrote(self, frame: Frame) -> None:
        """This process has just appended labels that it took as *frame*."""
        if self._feedback_read.get(frame.file, 0) == frame.start:
            self._feedback_read[frame.file] = frame.end

    def find(self, key: Any, time: Any = None, *, unlabelled: bool = True) -> str:
        """The latest *unlabelled* prediction of *key*, or of exactly the row (*key*, *time*); raises NotServed.

        When all of them have their label, or whether they have one is not asked: the latest of them, so that a repeated
        feedback is recognised.
        """
        last: str | None = None
        for identity, labelled in self._of(key, time):
            if not (labelled and unlabelled):
                return identity
            last = last or identity
        if last is None:
            at = "" if time is None else f" at {time!r}"
            raise NotServed(f"no prediction for key {key!r}{at}; give the id that /predict returned")
        return last

    def take(self, identity: str, label: Any) -> Any:
        """Note *label* for a prediction, and return what was known: UNLABELLED, this label, or one that it corrects.

        Of an event that is UNLABELLED, or the event. Raises NotServed for an unknown id.
        """
        settled = about(identity, label)
        known = self._event(settled) if isinstance(settled, tuple) else self._label(identity)
        self._note(settled, label)
        return known

    def _event(self, settled: tuple[str, str]) -> Any:
        if settled[0] not in self._labels:
            self._label(settled[0])
        known = self._labels.get(settled, UNLABELLED)
        return self._compacted.event(settled) if known is UNLABELLED and self._compacted is not None else known

    def _label(self, identity: str) -> Any:
        known = self._labels.get(identity, self)
        if known is self and self._compacted is not None:
            known = self._compacted.label(identity)
            known = self if known is None else known
        elif known is UNLABELLED and self._missed and self._compacted is not None:
            known = self._compacted.label(identity) or known
        if known is self:
            raise NotServed(f"no prediction has the id {identity!r}; give one that /predict returned")
        return known

    def put_back(self, settled: About, known: Any) -> None:
        """The label couldn't be written: the prediction has again what was *known* of it before."""
        self._labels[settled] = known

    def __len__(self) -> int:
        """How many predictions, and events of predictions, are held in memory."""
        return len(self._labels)

    def _of(self, key: Any, time: Any) -> Iterable[tuple[str, bool]]:
        """The predictions of a key or row, the latest first, and whether each has a label."""
        entity = hashable(key)
        row = None if time is None else (entity, moment(time))
        found = ((file.of_key.get(entity) if row is None else file.of_row.get(row)) for file in self._files.values())
        latest = [reversed(each) for each in reversed(list(found)) if each]  # of processes that write at one time
        for _, identity in merge(*latest, key=itemgetter(0), reverse=True):
            yield identity, self._labels[identity] is not UNLABELLED
        for identity, labelled in self._compacted.latest(key, time) if self._compacted else ():
            yield identity, labelled if (known := self._labels.get(identity, self)) is self else known is not UNLABELLED

    def _compacted_unread(self) -> bool:
        """Whether a file of labels was compacted that other processes may have written on since it was read."""
        reading = max(self._feedback_read, default=None)
        if reading is None or self._compacted is None:
            return False
        return all(path.name != reading for path in self._records.segments("feedback").files())

    def _note(self, settled: About, label: Any) -> None:
        if settled not in self._labels:
            self._loose[settled] = None
        self._labels[settled] = label

    def _know(self, batch: Iterable[_Head | PredictionRecord], name: str) -> None:
        labels, file = self._labels, self._files.setdefault(name, _File())
        ids, of_key, of_row = file.ids, file.of_key, file.of_row
        for record in batch:
            if record.id not in labels:
                labels[record.id] = UNLABELLED
                ids.append(record.id)
                if record.key is not None:
                    key = hashable(record.key)
                    of_key.setdefault(key, []).append((record.at, record.id))
                    if record.time is not None:
                        of_row.setdefault((key, moment(record.time)), []).append((record.at, record.id))

    def _let_go(self) -> None:
        """Forget predictions that have been compacted; those of them that have a label wait until that is too."""
        if self._compacted is None:
            return
        try:
            through, labels = self._compacted.through("predictions"), self._compacted.through("feedback")
        except StoreError:  # it can't be asked: all stays in memory, and whoever needs it is told why
            return
        for name in [name for name in self._files if name <= through]:
            for identity in self._files.pop(name).ids:
                if self._labels[identity] is UNLABELLED:
                    del self._labels[identity]
                else:
                    self._loose[identity] = None
        if labels != self._through:
            self._through, self._checked = labels, list(self._loose)

    def _let_go_of_labels(self) -> None:
        """Forget a few labels that the index on the disk knows too; few, for requests wait meanwhile."""
        if self._compacted is None or not self._checked:
            return
        for settled in self._checked[-_FEW:]:
            known = self._labels.get(settled, UNLABELLED)
            with suppress(StoreError):
                if known is UNLABELLED or known == self._compacted.known(settled):
                    self._labels.pop(settled, None)
                    self._loose.pop(settled, None)
        del self._checked[-_FEW:]
