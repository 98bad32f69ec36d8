"""New records as rewards: each unit's first prediction whose window for a label is closed, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from mainspring.core.declarations import ABTest, Bandit, seconds
from mainspring.core.strategies import business_event
from mainspring.release.exposures import Answer, read_answers, read_feedback
from mainspring.release.outcome import OutcomeEvidence, Reward, counted_event
from mainspring.store.records import FeedbackRecord, Records, latest


def read(
    records: Records,
    found: OutcomeEvidence,
    declaration: ABTest | Bandit,
    *,
    version: int,
    revision: int,
    positive: Any,
    now: datetime,
) -> bool:
    """Fold into *found* what has become known since it was read last, and move its positions; whether any.

    version: the candidate's; revision: the route's when the trial began. positive: the class that is an event.
    """
    window = timedelta(seconds=seconds(declaration.window))
    minute = int((now - window).timestamp() // 60)
    if minute <= found.minute:
        return False  # what is open is read once a minute, not at each tick
    found.minute = minute
    batches, position, oldest_open = _closed(records, found.read, minute)
    if not batches:
        return False
    answers = [
        answer for batch in batches for answer in batch
        if answer.revision >= revision and answer.propensity is not None and answer.propensity < 1.0
        and (answer.arm == "champion" or answer.version == version)
    ]  # fmt: skip
    firsts = [answer for answer in answers if found.met.new(answer.unit)]
    labels, found.labels = labels_of(records, found.labels, {answer.id: answer.at for answer in firsts}, window,
                                     oldest_open, business_event(declaration.outcome))  # fmt: skip
    for by, rewards in _bins(firsts, labels, declaration, positive):
        found.fold(rewards, event=counted_event(declaration), revision=by)
    found.read = position
    return True


def _closed(
    records: Records, after: Mapping[str, int], minute: int
) -> tuple[list[list[Answer]], dict[str, int], datetime | None]:
    """The batches of minutes before *minute*, the position behind them, and the time of the oldest left."""
    batches: list[list[Answer]] = []
    position, held = dict(after), set()
    oldest: datetime | None = None
    for frame in records.frames("predictions", after):
        if frame.file in held:
            continue
        batch = read_answers(frame.payload)
        if batch and int(batch[-1].at.timestamp() // 60) >= minute:
            held.add(frame.file)
            oldest = min([each.at for each in batch[:1]] + ([] if oldest is None else [oldest]), default=None)
        else:
            batches.append(batch)
            position[frame.file] = frame.end
    return batches, position, oldest


def labels_of(
    records: Records,
    after: Mapping[str, int],
    wanted: Mapping[str, datetime],
    window: timedelta,
    oldest_open: datetime | None,
    event: str | None = None,
) -> tuple[dict[str, Any], dict[str, int]]:
    """The label, or the *event*, of each *wanted* prediction (id -> its time), the last that came within *window*.

    With it, how far feedback needn't be read again: nothing there came after the oldest prediction still open.
    """
    came: list[FeedbackRecord] = []
    position, kept = dict(after), set()
    for frame in records.frames("feedback", after):
        batch = read_feedback(frame.payload)
        for each in batch:
            asked = wanted.get(each.id)
            if asked is not None and each.came <= asked + window:
                came.append(each)
        if oldest_open is None or frame.file in kept or any(each.came >= oldest_open for each in batch):
            kept.add(frame.file)
        else:
            position[frame.file] = frame.end
    return {identity: each.label for identity, each in latest(came, event).items()}, position


def _bins(
    answers: Iterable[Answer], labels: Mapping[str, Any], declaration: ABTest | Bandit, positive: Any
) -> Iterator[tuple[int, list[Reward]]]:
    """The rewards of each minute, with the route's revision."""
    bins: dict[tuple[int, int], list[Reward]] = {}
    for answer in answers:
        value = _value(answer, labels, declaration.outcome, positive)
        if value is not None:
            place = (int(answer.at.timestamp() // 60), answer.revision)
            bins.setdefault(place, []).append(Reward(int(answer.arm == "canary"), value, answer.propensity or 1.0))
    return ((by, rewards) for (_, by), rewards in bins.items())


def _value(answer: Answer, labels: Mapping[str, Any], outcome: str, positive: Any) -> float | None:
    """What the prediction brought; None when that isn't known."""
    if business_event(outcome) is not None:
        return float(answer.id in labels)
    if outcome == "event":
        return float(answer.id in labels and labels[answer.id] == positive)
    if answer.id not in labels:
        return None
    label = labels[answer.id]
    if outcome == "right":  # a failed answer was of no use to anybody
        return float(answer.error is None and answer.label == label)
    if not isinstance(label, int | float) or (outcome == "error" and answer.error is not None):
        return None
    return float(label) if outcome == "value" else abs(float(answer.label) - float(label))
