"""What a shadowing candidate has shown: how often it disagrees and where, whether it fails, and who is right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mainspring.core.declarations import Shadow, seconds
from mainspring.core.wording import count, duration, evidence, listed, number, percent
from mainspring.release.desk import EVIDENCE
from mainspring.release.evidence import HARD_STOP_RATE
from mainspring.release.outcome import Units
from mainspring.release.ramp import ENOUGH, Action, Decided
from mainspring.release.rewards import labels_of
from mainspring.statistics.arm_bet import RateBet
from mainspring.statistics.mean_sequence import MeanSequence
from mainspring.store.deployments import Deployments, Route
from mainspring.store.records import Records
from mainspring.store.shadows import ShadowBatch, ShadowRecord, Shadows

_MOST_VALUES = 50
_HARD_STOP_UNITS = 20
_OTHER = "(other)"


@dataclass(slots=True)
class ShadowEvidence:
    """All evidence on one shadowing candidate.

    regression: whether disagreement is a distance, or else 0 or 1. rows, disagreed: their number and the sum.
    slices: column -> value -> [rows, sum]. read, judged: how far the batches are folded, at once and once labels could
    come; minute: of the last time. paired: the candidate's score less the champion's, of each unit's first judged row.
    """

    version: int
    revision: int
    regression: bool
    read: dict[str, int]
    judged: dict[str, int]
    labels: dict[str, int]
    paired: MeanSequence
    crashed: RateBet
    healthy: RateBet
    met: Units = field(default_factory=Units)
    scored: Units = field(default_factory=Units)
    failed: Units = field(default_factory=Units)
    units: int = 0
    failures: int = 0
    rows: int = 0
    errors: int = 0
    dropped: int = 0
    disagreed: float = 0.0
    champion_score: float = 0.0
    latency_ms: float = 0.0
    slices: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    minute: int = 0
    folds: int = 0

    @classmethod
    def begin(
        cls, version: int, revision: int, declaration: Shadow, regression: bool, end: Mapping[str, Mapping[str, int]]
    ) -> ShadowEvidence:
        """No evidence yet; *end*: the positions of "shadows" and "feedback" from which on there may be some."""
        read, labels = dict(end.get("shadows", {})), dict(end.get("feedback", {}))
        paired = MeanSequence.start(tuned=10.0 * declaration.min_units)
        crashed, healthy = RateBet.above(HARD_STOP_RATE), RateBet.below(declaration.objective)
        return cls(version, revision, regression, read, dict(read), labels, paired, crashed, healthy)

    def fold(self, batch: ShadowBatch, slices: Sequence[str]) -> None:
        """Take in what the candidate would have said."""
        self.dropped += batch.dropped
        for record in batch.records:
            self.rows += 1
            self.latency_ms += (record.latency_ms / len(batch.records) - self.latency_ms) / self.rows
            self._try(record)
            if record.error is not None:
                self.errors += 1
                continue
            differs = self._difference(record)
            self.disagreed += differs
            for column in slices:
                self._slice(column, record.row.get(column), differs)

    def _try(self, record: ShadowRecord) -> None:
        """Each unit once, and once more when it first meets a failure."""
        new = self.met.new(record.unit)
        failed = record.error is not None and self.met.counts(record.unit) and self.failed.new(record.unit)
        self.units += new
        self.failures += failed
        if new or failed:
            self.crashed = self.crashed.update(float(failed), 1.0)
            self.healthy = self.healthy.update(float(failed), 1.0)

    def _difference(self, record: ShadowRecord) -> float:
        return abs(float(record.said) - float(record.label)) if self.regression else float(record.said != record.label)

    def _slice(self, column: str, value: Any, differs: float) -> None:
        values = self.slices.setdefault(column, {})
        name = str(value)[:80]
        if name not in values and len(values) >= _MOST_VALUES:
            name = _OTHER
        known = values.setdefault(name, [0, 0.0])
        known[0] += 1
        known[1] += differs

    def judge(self, records: Sequence[ShadowRecord], labels: Mapping[str, Any]) -> None:
        """Take in whose prediction the labels bear out, the first row of each unit."""
        scores = []
        for record in records:
            if record.id in labels and record.label is not None and self.scored.new(record.unit):
                champion, candidate = self._score(record.label, labels[record.id]), 0.0
                if record.error is None:
                    candidate = self._score(record.said, labels[record.id])
                elif self.regression:
                    continue
                scores.append(candidate - champion)
                self.champion_score += champion
        if scores:
            self.paired = self.paired.update(scores)

    def _score(self, said: Any, label: Any) -> float:
        return -abs(float(said) - float(label)) if self.regression else float(said == label)

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__slots__}
        units = {name: getattr(self, name).to_json() for name in ("met", "scored", "failed")}
        bets = {name: getattr(self, name).to_list() for name in ("paired", "crashed", "healthy")}
        return {**plain, **units, **bets}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> ShadowEvidence:
        units = {name: Units.from_json(state[name]) for name in ("met", "scored", "failed")}
        bets = {name: RateBet.from_list(state[name]) for name in ("crashed", "healthy")}
        return cls(**{**state, **units, **bets, "paired": MeanSequence.from_list(state["paired"])})


def read(shadows: Shadows, records: Records, found: ShadowEvidence, declaration: Shadow, now: datetime) -> bool:
    """Fold what was mirrored since the last time, and judge what labels can be known of; whether there was any."""
    before = (dict(found.read), dict(found.judged))
    for frame, batch in shadows.batches(found.read):
        if _about(batch, found):
            found.fold(batch, declaration.slices or ())
        found.read[frame.file] = frame.end
    window = timedelta(seconds=seconds(declaration.window))
    minute = int((now - window).timestamp() // 60)
    if minute > found.minute:  # what is open is read once a minute, not at each tick
        found.minute = minute
        closed, found.judged, oldest = _closed(shadows, found, now - window)
        if closed:
            wanted = {record.id: record.at for record in closed}
            labels, found.labels = labels_of(records, found.labels, wanted, window, oldest)
            found.judge(closed, labels)
    found.folds += 1
    return (found.read, found.judged) != before


def _closed(
    shadows: Shadows, found: ShadowEvidence, until: datetime
) -> tuple[list[ShadowRecord], dict[str, int], datetime | None]:
    closed: list[ShadowRecord] = []
    position, held = dict(found.judged), set()
    oldest: datetime | None = None
    for frame, batch in shadows.batches(found.judged):
        if frame.file in held or (batch.records and batch.records[-1].at > until):
            held.add(frame.file)
            oldest = min([each.at for each in batch.records[:1]] + ([] if oldest is None else [oldest]), default=None)
            continue
        position[frame.file] = frame.end
        if _about(batch, found):
            closed += batch.records
    return closed, position, oldest


def forget(deployments: Deployments, loop: str) -> None:
    """Remove the files of shadows that the running one has folded and judged; of those that are over, all."""
    shadows = Shadows(deployments.home, loop)
    files = shadows.older()  # before the route is asked: what a shadow that begins now is shown goes into newer ones
    if not files:
        return
    route, state = deployments.route(loop), deployments.load_state(loop, EVIDENCE) or {}
    running = None if route is None or route.strategy != "shadow" else route.canary
    if running is not None and state.get("version") != running:
        return
    for path in files:
        size = path.stat().st_size
        if running is None or min(state[of].get(path.name, 0) for of in ("read", "judged")) >= size:
            shadows.remove(path)


def _about(batch: ShadowBatch, found: ShadowEvidence) -> bool:
    return batch.version == found.version and batch.revision >= found.revision


def decide(found: ShadowEvidence, declaration: Shadow, route: Route, now: datetime) -> Action:
    """The next action for a shadowing candidate; by hand it only ever asks."""
    kind, reason = _decide(found, declaration, route, now)
    return Action(kind, reason, report(found, declaration))


def _decide(found: ShadowEvidence, declaration: Shadow, route: Route, now: datetime) -> Decided:
    told = _told(found)
    if found.units >= _HARD_STOP_UNITS and found.crashed.e_value >= 1 / declaration.alpha:
        failed = f"{found.failures:,} of {count(found.units, 'unit')} failed"
        return "rollback", (
            f"the shadow fails: {failed}; e-value {evidence(found.crashed.e_value)} that more than "
            f"{percent(HARD_STOP_RATE)} of the units do"
        )
    if route.holding:
        return "wait", f"held; {told}; promote or reject by hand"
    waited, least = (now - route.started).total_seconds(), seconds(declaration.min_time)
    few = found.units < declaration.min_units
    missing = [f"{found.units} of {count(declaration.min_units, 'unit')}"] if few else []
    missing += [f"{duration(waited)} of at least {duration(least)}"] if waited < least else []
    if not missing and declaration.promote == "by hand":
        return "hold", f"{told}; promote or reject by hand"
    if declaration.promote == "health":
        told = (
            f"{told}, e-value {evidence(found.healthy.e_value)} that fewer than {percent(declaration.objective)} fail"
        )
        if not missing and found.healthy.e_value >= ENOUGH:
            return "canary", f"healthy: {told}"
    else:
        told = f"{told}, {_judged(found, declaration)}"
        judged = _by_labels(found, declaration, told) if not missing else None
        if judged is not None:
            return judged
    if waited > seconds(declaration.deadline):
        return "hold", f"undecided after {duration(waited)}: {told}; promote or reject by hand"
    return "wait", f"{listed(missing)}; {told}" if missing else told


def _by_labels(found: ShadowEvidence, declaration: Shadow, told: str) -> Decided | None:
    """What the labels say, once enough of them do."""
    if found.paired.count < declaration.min_units:
        return None
    low, high = _interval(found, declaration)
    margin = _margin(found, declaration)
    if low > -margin:
        return "promote" if declaration.then is None else "canary", f"not worse than by {number(margin)}: {told}"
    return ("rollback", f"worse by more than {number(margin)}: {told}") if high < -margin else None


def report(found: ShadowEvidence, declaration: Shadow) -> dict[str, Any]:
    """The figures, with the disagreement of each slice."""
    low, high = _interval(found, declaration)
    judged = found.paired.count >= 2
    return {
        "rows": found.rows,
        "units": found.units,
        "errors": found.errors,
        "dropped": found.dropped,
        "latency_ms": found.latency_ms,
        "hard_stop": found.crashed.e_value,
        "healthy": found.healthy.e_value,
        "thresholds": {
            "hard_stop": 1 / declaration.alpha,
            "margin": _margin(found, declaration),
            **({"healthy": ENOUGH} if declaration.promote == "health" else {}),
        },
        "disagreement": _disagreement(found),
        "slices": {
            column: {value: {"rows": rows, "disagreement": total / rows} for value, (rows, total) in values.items()}
            for column, values in found.slices.items()
        },
        "judged": found.paired.count,
        "better_by": found.paired.estimate if judged else None,
        "low": low if judged else None,
        "high": high if judged else None,
    }


def _disagreement(found: ShadowEvidence) -> float | None:
    said = found.rows - found.errors
    return found.disagreed / said if said else None


def _margin(found: ShadowEvidence, declaration: Shadow) -> float:
    return declaration.margin * _scale(found)


def _scale(found: ShadowEvidence) -> float:
    """What a margin is a part of: all predictions, or in a regression the champion's mean absolute error."""
    return abs(found.champion_score) / max(found.paired.count, 1) if found.regression else 1.0


def _interval(found: ShadowEvidence, declaration: Shadow) -> tuple[float, float]:
    """Of the paired score. Who is worse by the margin differs now and then: agreement so far isn't certainty."""
    margin = min(declaration.margin, 0.5)
    return found.paired.interval(declaration.alpha, _scale(found) * math.sqrt(margin * (1 - margin)))


def _told(found: ShadowEvidence) -> str:
    disagreement = _disagreement(found)
    if disagreement is None:
        told = "nothing mirrored yet"
    elif found.regression:
        told = f"the shadow is off the champion by {number(disagreement)} in the mean of {count(found.rows, 'row')}"
    else:
        told = f"the shadow disagrees on {percent(disagreement)} of {count(found.rows, 'row')}"
    worst = max(
        ((total / rows, column, value) for column, values in found.slices.items()
         for value, (rows, total) in values.items() if rows >= 20),
        default=None,
    )  # fmt: skip
    if worst is not None and worst[0] > 0:
        share = number(worst[0]) if found.regression else percent(worst[0])
        told += f", most where {worst[1]} = {worst[2]} ({share})"
    more = [f"{number(found.latency_ms)} ms a row"]
    more += [f"{count(found.errors, 'row')} failed"] if found.errors else []
    more += [f"{count(found.dropped, 'row')} not mirrored for want of time"] if found.dropped else []
    return listed([told, *more])


def _judged(found: ShadowEvidence, declaration: Shadow) -> str:
    if found.paired.count < 2:
        return f"no unit judged yet: labels count {duration(seconds(declaration.window))} after their prediction"
    low, high = _interval(found, declaration)
    what = "less absolute error" if found.regression else "more right predictions"
    return (
        f"{number(found.paired.estimate)} {what} in {count(int(found.paired.count), 'judged unit')}, interval "
        f"{number(low)} to {number(high)} at {percent(1 - declaration.alpha)}"
    )
