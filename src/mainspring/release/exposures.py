"""New prediction records and feedback as exposures: which unit met which arm, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from mainspring.release.evidence import Evidence, Exposure, GuardrailName
from mainspring.store.records import Arm, FeedbackRecord, Records, latest
from mainspring.store.segments import Frame

_ENOUGH_FOR_A_BIN = 200
_NOTHING: frozenset[GuardrailName] = frozenset()
_FAILED: frozenset[GuardrailName] = frozenset({"errors"})
_SLOW: frozenset[GuardrailName] = frozenset({"latency"})
_WRONG: frozenset[GuardrailName] = frozenset({"wrong"})


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A PredictionRecord; probabilities and row are skipped without being read."""

    id: str
    at: datetime
    key: Any
    time: Any
    unit: str
    arm: Arm
    version: int
    revision: int
    label: Any
    probabilities: msgspec.Raw
    latency_ms: float
    error: str | None
    loop: str
    row: msgspec.Raw
    propensity: float | None = None


read_answers = msgspec.msgpack.Decoder(list[Answer]).decode
read_feedback = msgspec.msgpack.Decoder(list[FeedbackRecord]).decode


def read(records: Records, evidence: Evidence, now: datetime) -> bool:
    """Fold into *evidence* what the records have got since it was read last, and move its positions; whether any.

    The minute that still runs waits for its end, unless it has enough units to be a bin of its own.
    """
    before = {kind: dict(position) for kind, position in evidence.positions.items()}
    predictions = _closed(records.frames("predictions", before.get("predictions")), read_answers, now)
    evidence.fold(_answered(predictions.batches, evidence), ("errors", "latency"))
    evidence.positions["predictions"] = {**before.get("predictions", {}), **predictions.position}
    if "wrong" in evidence.guardrails:
        feedback = _closed(records.frames("feedback", before.get("feedback")), read_feedback, now)
        if feedback.batches:
            evidence.fold(_judged(feedback.batches, records, evidence), ("wrong",))
        evidence.positions["feedback"] = {**before.get("feedback", {}), **feedback.position}
    evidence.folds += 1
    return evidence.positions != before


class _Closed:
    """The batches of closed minutes, and the position behind them."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.position: dict[str, int] = {}

    def take(self, frame: Frame, batch: list[Any]) -> None:
        self.batches.append(batch)
        self.position[frame.file] = frame.end


def _closed(frames: Iterator[Frame], decode: Callable[[bytes], list[Any]], now: datetime) -> _Closed:
    minute = int(now.timestamp() // 60)
    closed, waiting, held = _Closed(), [], set()
    for frame in frames:
        batch = decode(frame.payload)
        if frame.file in held or (batch and int(batch[0].at.timestamp() // 60) >= minute):
            held.add(frame.file)  # what lies behind an open minute in its file waits with it
            waiting.append((frame, batch))
        else:
            closed.take(frame, batch)
    if sum(len(batch) for _, batch in waiting) >= _ENOUGH_FOR_A_BIN:
        for frame, batch in waiting:
            closed.take(frame, batch)
    return closed


def _answered(batches: list[list[Answer]], evidence: Evidence) -> Iterator[Exposure]:
    for batch in batches:
        for answer in batch:
            if answer.arm == "champion" and answer.error is None:
                evidence.sample_latency(answer.latency_ms)
            if _counts(answer, evidence):
                slow = evidence.slow_ms is not None and answer.latency_ms > evidence.slow_ms
                bad = _FAILED if answer.error is not None else _SLOW if slow else _NOTHING
                yield Exposure(answer.at, answer.revision, answer.arm, answer.unit, bad)


def _counts(answer: Answer, evidence: Evidence) -> bool:
    """Records from before this release don't, nor those of a canary that was replaced."""
    return answer.revision >= evidence.revision and (answer.arm == "champion" or answer.version == evidence.version)


def _judged(batches: list[list[FeedbackRecord]], records: Records, evidence: Evidence) -> Iterator[Exposure]:
    """Whose prediction a label contradicts; the bin is that of the label's arrival and the prediction's revision.

    A prediction that was judged in an earlier fold isn't judged again by a correction of its label.
    """
    first = {feedback.id for batch in batches for feedback in batch if not feedback.corrects}
    labels = latest(feedback for batch in batches for feedback in batch if feedback.id in first)
    for frame in records.frames("predictions", evidence.since):
        for answer in read_answers(frame.payload):
            feedback = labels.get(answer.id)
            if feedback is not None and answer.error is None and _counts(answer, evidence):
                bad = _NOTHING if answer.label == feedback.label else _WRONG
                yield Exposure(feedback.at.astimezone(UTC), answer.revision, answer.arm, answer.unit, bad)


def beginning(records: Records, tail_bytes: int = 1 << 20) -> Mapping[str, Mapping[str, int]]:
    """Where a new release's evidence begins to read: a little before the end, for the champion's latencies."""
    end = records.end()
    newest = max(end["predictions"], default=None)
    if newest is not None:
        end["predictions"][newest] = max(0, end["predictions"][newest] - tail_bytes)
    return end
