"""New prediction records and feedback as exposures: which unit met which arm, and what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from mainspring.core.strategies import business_event
from mainspring.release.evidence import Evidence, Exposure, GuardrailName, arms, short
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


def read(records: Records, evidence: Evidence, now: datetime, window: float = 0.0) -> bool:
    """Fold into *evidence* what the records have got since it was read last, and move its positions; whether any.

    The minute that still runs waits for its end, unless it has enough units to be a bin of its own. window: so many
    seconds after its prediction a unit without a business event counts as spared.
    """
    before = {kind: dict(position) for kind, position in evidence.positions.items()}
    predictions = _closed(records.frames("predictions", before.get("predictions")), read_answers, now)
    evidence.fold(_answered(predictions.batches, evidence), ("errors", "latency"))
    evidence.positions["predictions"] = {**before.get("predictions", {}), **predictions.position}
    events = {event: name for name in evidence.guardrails if (event := business_event(name))}
    if "wrong" in evidence.guardrails or events:
        feedback = _closed(records.frames("feedback", before.get("feedback")), read_feedback, now)
        if feedback.batches and "wrong" in evidence.guardrails:
            evidence.fold(_judged(feedback.batches, records, evidence), ("wrong",))
        _happened(feedback.batches, events, records, evidence)
        evidence.positions["feedback"] = {**before.get("feedback", {}), **feedback.position}
    if events:
        begun = before.get("spared", evidence.since)
        over = _closed(records.frames("predictions", begun), read_answers, now - timedelta(seconds=window), early=False)
        _spared(over.batches, events, evidence)
        evidence.positions["spared"] = {**begun, **over.position}
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


def _closed(
    frames: Iterator[Frame], decode: Callable[[bytes], list[Any]], now: datetime, *, early: bool = True
) -> _Closed:
    """What lies before the minute of *now*; *early*: also of that minute, where it is enough for a bin."""
    minute = int(now.timestamp() // 60)
    closed, waiting, held = _Closed(), [], set()
    for frame in frames:
        if frame.file in held and not early:
            continue
        batch = decode(frame.payload)
        if frame.file in held or (batch and int(_came(batch[0]).timestamp() // 60) >= minute):
            held.add(frame.file)  # what lies behind an open minute in its file waits with it
            waiting.append((frame, batch))
        else:
            closed.take(frame, batch)
    if early and sum(len(batch) for _, batch in waiting) >= _ENOUGH_FOR_A_BIN:
        for frame, batch in waiting:
            closed.take(frame, batch)
    return closed


def _came(record: Answer | FeedbackRecord) -> datetime:
    return record.came if isinstance(record, FeedbackRecord) else record.at


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
    for answer in _answers(labels, records, evidence):
        if answer.error is None:
            feedback = labels[answer.id]
            bad = _NOTHING if answer.label == feedback.label else _WRONG
            yield Exposure(feedback.came.astimezone(UTC), answer.revision, answer.arm, answer.unit, bad)


def _answers(ids: Collection[str], records: Records, evidence: Evidence) -> Iterator[Answer]:
    """The predictions *ids* that count."""
    for frame in records.frames("predictions", evidence.since) if ids else ():
        for answer in read_answers(frame.payload):
            if answer.id in ids and _counts(answer, evidence):
                yield answer


def _happened(
    batches: list[list[FeedbackRecord]], events: Mapping[str, GuardrailName], records: Records, evidence: Evidence
) -> None:
    """Fold the *events* (name -> guardrail) that have arrived; where a request chose the arm, it doesn't count."""
    came = [(each.id, each.event) for batch in batches for each in batch if each.event in events]
    answers = {answer.id: answer for answer in _answers({identity for identity, _ in came}, records, evidence)}
    hits: dict[tuple[str, float], dict[Arm, set[int]]] = {}
    for identity, event in came:
        answer = answers.get(identity)
        if answer is not None and event is not None and answer.propensity is not None and answer.propensity < 1.0:
            share = answer.propensity if answer.arm == "canary" else 1.0 - answer.propensity
            hits.setdefault((event, round(share, 9)), arms())[answer.arm].add(short(answer.unit))
    for (event, share), hit in hits.items():
        evidence.guardrails[events[event]].happen(hit, share)


def _spared(batches: list[list[Answer]], events: Mapping[str, GuardrailName], evidence: Evidence) -> None:
    """The canary's units of this step whose window is over; those that have had the event aren't counted anew."""
    met = {
        short(answer.unit) for batch in batches for answer in batch
        if answer.arm == "canary" and answer.revision >= evidence.step_revision and _counts(answer, evidence)
    }  # fmt: skip
    for name in events.values():
        evidence.guardrails[name].spare(met)


def beginning(records: Records, tail_bytes: int = 1 << 20) -> Mapping[str, Mapping[str, int]]:
    """Where a new release's evidence begins to read: a little before the end, for the champion's latencies."""
    end = records.end()
    newest = max(end["predictions"], default=None)
    if newest is not None:
        end["predictions"][newest] = max(0, end["predictions"][newest] - tail_bytes)
    return end
