"""What was predicted and what came out: append-only records of a loop, written before the answer goes out.

Reading them as polars frames is `store/labelled.py`; which prediction a feedback belongs to is `store/labels.py`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Literal, get_args

import msgspec

from mainspring.store.home import Home
from mainspring.store.segments import Frame, Position, Segments, advanced
from mainspring.store.turns import Turn

ROTATE_BYTES = 16 << 20
"""Who starts reads this much back, in a tenth of a second, for what is older has been compacted."""
Arm = Literal["champion", "canary"]
Kind = Literal["predictions", "feedback"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class PredictionRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """One answered row. *unit* is what the release stuck to, *revision* the route's; *row* holds the raw columns.

    label: the predicted class, or number. error: why there is none; then label and probabilities are None. propensity:
    the chance with which the unit met its arm; 1 when there was no other, or the request chose.
    """

    id: str
    at: datetime
    key: Any = None
    time: Any = None
    unit: str = ""
    arm: Arm = "champion"
    version: int = 0
    revision: int = 0
    label: Any = None
    probabilities: list[float] | None = None
    latency_ms: float = 0.0
    error: str | None = None
    loop: str = ""
    row: Mapping[str, Any] = {}
    propensity: float | None = None


class FeedbackRecord(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """What prediction *id* should have said, or, by `event_label`, what happened after it; since when that is known,
    and when it arrived here.

    A later record on the same prediction *corrects* it: both are kept, and the one that arrived last counts.
    propensity: the chance with which the label of this prediction was to become known, where labels are selected.
    """

    id: str
    label: Any
    at: datetime
    arrived: datetime | None = None
    corrects: bool = False
    propensity: float | None = None

    @property
    def event(self) -> str | None:
        """The business event that it tells; None for a label."""
        return event_of(self.label)

    @property
    def about(self) -> About:
        return about(self.id, self.label)

    @property
    def came(self) -> datetime:
        """When it was written; the time that a label tells may be any."""
        return self.arrived or self.at


About = str | tuple[str, str]
"""What a feedback settles: the label of a prediction, by its id, or one of its events, by id and name."""


def event_label(name: str) -> dict[str, str]:
    """What stands for the label where a feedback tells the business event *name*; no label is a mapping."""
    return {"event": name}


def event_of(label: Any) -> str | None:
    """The name of the business event that *label* stands for; None for a label."""
    return label.get("event") if isinstance(label, dict) else None


def about(identity: str, label: Any) -> About:
    """What a feedback of *label* on prediction *identity* settles."""
    name = event_of(label)
    return identity if name is None else (identity, name)


def latest(feedback: Iterable[FeedbackRecord], event: str | None = None) -> dict[str, FeedbackRecord]:
    """The label that counts of each prediction that has one: the last that arrived; or its business *event*.

    It is known since the first was: a correction changes what a label says, not when its prediction was judged.
    """
    labels: dict[str, FeedbackRecord] = {}
    for record in feedback:
        if event_of(record.label) != event:
            continue
        known = labels.get(record.id)
        if known is None:
            labels[record.id] = record
        elif record.arrived is None or known.arrived is None or record.arrived >= known.arrived:
            labels[record.id] = msgspec.structs.replace(record, at=known.at)
    return labels


_encode = msgspec.msgpack.Encoder().encode
_predictions = msgspec.msgpack.Decoder(list[PredictionRecord]).decode
_feedback = msgspec.msgpack.Decoder(list[FeedbackRecord]).decode


def decoded(kind: Kind, payload: bytes) -> Sequence[PredictionRecord | FeedbackRecord]:
    """The records of one frame."""
    return _predictions(payload) if kind == "predictions" else _feedback(payload)


def encoded(batch: Sequence[PredictionRecord | FeedbackRecord]) -> bytes:
    """*batch* as the payload of a frame."""
    return _encode(batch)


class Records:
    """The prediction and feedback records of one loop, in `records/<loop>/` of the home; those of `store/history.py`
    go back further, to what has been compacted."""

    def __init__(self, home: Home, loop: str, *, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.loop = loop
        folder = home.folder("records") / loop
        self._predictions = Segments(folder, "predictions", rotate_bytes=rotate_bytes)
        self._feedback = Segments(folder, "feedback", rotate_bytes=rotate_bytes, shared=True)

    # -------------------------------------------------------------------------------------------------- writing

    def append(self, batch: Sequence[PredictionRecord]) -> Frame:
        """Write *batch* whole: safe from a kill on return, from a power cut within 50 ms. Raises StoreError."""
        frame = self._predictions.append(_encode(batch))
        self._predictions.sync_soon()
        return frame

    def append_feedback(self, batch: Sequence[FeedbackRecord]) -> None:
        """Write *batch* whole and durable; callers in several threads share an fsync. Raises StoreError."""
        turn = self.feedback_turn(wait=True)
        assert turn is not None
        try:
            self.write_feedback(batch)
        finally:
            turn.end()
        self.sync_feedback()

    def write_feedback(self, batch: Sequence[FeedbackRecord]) -> Frame:
        """Write *batch* whole, in a turn of `feedback_turn`; durable after `sync_feedback`. Raises StoreError."""
        return self._feedback.append(_encode(batch))

    def feedback_turn(self, *, wait: bool = False) -> Turn | None:
        """The right to decide what a label is to its prediction and to write it: what every process has written before
        can be read by then, and nobody writes until its end. None while another has it and nobody waits. Raises
        StoreError."""
        turn = self._feedback.turn(wait=wait)
        if turn is not None:
            try:
                self._feedback.join()
            except BaseException:
                turn.end()
                raise
        return turn

    def sync_feedback(self) -> None:
        """All feedback known by now, whoever wrote it, is on the disk; callers at one time share an fsync."""
        self._feedback.sync()

    def step_aside(self, writers: int) -> None:
        """Of several *writers*: leave files that keep newer ones from being compacted."""
        self._predictions.step_aside(2 * writers)
        self._feedback.step_aside(1)

    def take_up(self) -> tuple[str, int]:
        """Cut torn tails off, make safe what a killed writer left, and return the place where the next prediction
        goes."""
        self._feedback.place()
        return self._predictions.place()

    def lag_seconds(self) -> float:
        """The age of the oldest prediction that a loss of power would take."""
        return self._predictions.lag_seconds()

    def sync(self) -> None:
        """Everything written so far is on the disk."""
        self._predictions.sync()
        self._feedback.sync()

    def close(self) -> None:
        """Sync, and leave the files to the next writer."""
        self._predictions.close()
        self._feedback.close()

    # -------------------------------------------------------------------------------------------------- reading

    def predictions(self, after: Position | None = None) -> tuple[list[PredictionRecord], dict[str, int]]:
        """The predictions beyond position *after*, and the position behind them."""
        records: list[PredictionRecord] = []
        for frame, batch in self.prediction_batches(after):
            records += batch
            after = advanced(after, frame)
        return records, dict(after or {})

    def prediction_batches(
        self, after: Position | None = None, since: datetime | None = None
    ) -> Iterator[tuple[Frame, list[PredictionRecord]]]:
        """The same one batch at a time, for who wants to stop between two, or to keep little in memory."""
        return ((frame, _predictions(frame.payload)) for frame in self.frames("predictions", after, since))

    def feedback(
        self, after: Position | None = None, since: datetime | None = None
    ) -> tuple[list[FeedbackRecord], dict[str, int]]:
        """The feedback beyond position *after*, and the position behind it."""
        records: list[FeedbackRecord] = []
        for frame in self.frames("feedback", after, since):
            records += _feedback(frame.payload)
            after = advanced(after, frame)
        return records, dict(after or {})

    def end(self) -> dict[str, dict[str, int]]:
        """The positions behind everything written by now, of "predictions" and of "feedback"."""
        return {"predictions": self._predictions.end(), "feedback": self._feedback.end()}

    def frames(self, kind: Kind, after: Position | None = None, since: datetime | None = None) -> Iterator[Frame]:
        """The batches as bytes, for a reader that needs only a part of each record.

        since: what was predicted or arrived before may be left out; here it isn't, for nothing tells it beforehand.
        """
        return self.segments(kind).frames(after)

    def segments(self, kind: Kind) -> Segments:
        """The files that haven't been compacted."""
        return self._predictions if kind == "predictions" else self._feedback

    @property
    def damage(self) -> list[str]:
        """What readers of this value found damaged, a sentence for each place."""
        return sorted(self._predictions.damage | self._feedback.damage)


def identifiers(loop: str, seed: int | None = None, place: tuple[str, int] = ("", 0)) -> Callable[[int], list[str]]:
    """A source of unique prediction ids: the loop's name and 128 bits, random, or repeatable from *seed*.

    place: where the next record goes; it keeps a restarted process with the same seed from repeating itself.

    >>> identifiers("late-flights", seed=1)(2) == identifiers("late-flights", seed=1)(2)
    True
    """
    prefix = f"{loop[:16]}-"
    if seed is None:
        return partial(_drawn, prefix, [])
    source = random.Random(f"{seed}:{loop}:{place[0].rpartition('-')[0]}:{place[1]}")
    return lambda many: _named(prefix, source.randbytes(16 * many))


def _drawn(prefix: str, pool: list[str], many: int) -> list[str]:
    """*many* random ids; a call to the system draws for several requests."""
    if len(pool) < many:
        pool += _named(prefix, os.urandom(16 * max(many, 256)))
    drawn = pool[-many:]
    del pool[-many:]
    return drawn


def _named(prefix: str, drawn: bytes) -> list[str]:
    """An id for each 16 bytes that are *drawn*."""
    return (prefix + drawn.hex("\n", 16).replace("\n", f"\n{prefix}")).split("\n") if drawn else []
