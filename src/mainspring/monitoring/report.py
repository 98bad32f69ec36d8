"""The report on one window of a loop: all that the retraining policy needs to decide, and a person to understand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from mainspring.core.declarations import Monitor, Retrain, seconds
from mainspring.core.schema import Column
from mainspring.core.values import Onset, Task
from mainspring.core.wording import duration, percent
from mainspring.monitoring import drift, performance
from mainspring.monitoring.drift import InputDrift, OutsideSupport
from mainspring.monitoring.faults import Fault, extra_columns, faults
from mainspring.monitoring.onset import onset
from mainspring.monitoring.performance import Labels, Performance
from mainspring.monitoring.served import Served
from mainspring.monitoring.service import Service, service
from mainspring.statistics.intervals import Interval
from mainspring.store.profile import Profile

DAY = 86_400.0
_PROMPT = 60.0
"""Seconds within which a label is taken to have come at once."""
_OTHERS = 3
"""So many versions that aren't champion any more keep their evidence: a rollback brings one back."""


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """The version that is reported on: the champion, as its manifest and the deployments describe it.

    reference: (value, low, high) of *metric* on the gate's holdout; None where no gate measured it. time: the rows'.
    """

    loop: str
    version: int
    released_at: datetime
    profile: Profile
    task: Task
    classes: tuple[Any, ...]
    metric: str
    reference: tuple[float, float, float] | None
    columns: tuple[str, ...] = ()
    time: Column | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the loop stands apart from its traffic. *trained_at*: the start of the latest training, whatever became of
    its model; *new_rows* and *new_labels*: source rows and labelled records since then, which it hasn't seen."""

    trained_at: datetime | None
    new_rows: int = 0
    new_labels: int = 0
    release_running: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """One window of a loop, after *start* until *at*.

    settled: the watched version was there for the whole window, so that what is seen isn't its own arrival.
    days_since_training and cooldown_days_left are days on the loop's clock. onset: since when the predictions are
    worse, while the loss is more than what `Retrain` tolerates.
    """

    loop: str
    at: datetime
    version: int
    start: datetime
    service: Service
    drift: InputDrift
    outside: OutsideSupport
    performance: Performance
    labels: Labels
    faults: tuple[Fault, ...]
    release_running: bool
    settled: bool
    days_since_training: float | None
    cooldown_days_left: float
    new_rows: int
    new_labels: int
    notes: tuple[str, ...] = ()
    onset: Onset | None = None

    @property
    def in_cooldown(self) -> bool:
        return self.cooldown_days_left > 0

    def to_json(self) -> dict[str, Any]:
        """One plain object; `from_json` restores the same value."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        return msgspec.convert(data, cls)


def build(
    watched: Watched,
    served: Served,
    standing: Standing,
    *,
    at: datetime,
    start: datetime | None = None,
    monitor: Monitor,
    retrain: Retrain | None = None,
    state: Mapping[str, Any] | None = None,
) -> tuple[Report, dict[str, Any]]:
    """The report on the window from *start* until *at*, and the state to keep (JSON).

    served: the predictions of all versions since the watched one's release, or since *start* if that is earlier.
    start: by default the end of the window before. state: what the last call returned; the evidence in it is kept for
    each version, which has its own reference, so one that comes back goes on; the same window again changes nothing.
    """
    start = start or window_start(at, monitor, state)
    kept = _kept(state, watched.version)
    served = served.where(served.at <= at.timestamp())
    window = served.where(served.at > start.timestamp())
    known = window.where(~window.failed)
    again = kept["until"] is not None and at.timestamp() <= kept["until"]
    windows = kept["windows"] + (0 if again or not len(known) else 1)
    input_drift, detector = drift.watch(watched.profile, known.rows, monitor, kept["drift"], seen=again)
    found, looks = _performance(watched, served, start, at, monitor, retrain, kept["looks"])
    report = Report(
        loop=watched.loop,
        at=at,
        version=watched.version,
        start=start,
        service=service(window),
        drift=input_drift,
        outside=drift.outside_support(watched.profile, known.rows, windows),
        performance=found,
        labels=_labels(watched, served, at, monitor),
        faults=faults(watched.profile, known.rows, len(window), int(window.failed.sum())),
        release_running=standing.release_running,
        settled=watched.released_at <= start,
        days_since_training=_days(standing.trained_at, at),
        cooldown_days_left=_cooldown(standing.trained_at, at, retrain),
        new_rows=standing.new_rows,
        new_labels=standing.new_labels,
        onset=_onset(found, served.where(served.version == watched.version), at, monitor, retrain),
    )
    after = {**kept, "windows": windows, "drift": detector, "looks": looks}
    if not again:
        after |= {"start": start.timestamp(), "until": at.timestamp()}
    return replace(report, notes=_notes(report, served, monitor)), after


def window_start(at: datetime, monitor: Monitor, state: Mapping[str, Any] | None) -> datetime:
    """Where the window that ends at *at* begins: where the one before ended; the first one is a period long."""
    if state is None:
        return at - timedelta(seconds=seconds(monitor.every))
    before = state["start"] if at.timestamp() <= state["until"] else state["until"]
    return datetime.fromtimestamp(before, at.tzinfo)


def _kept(state: Mapping[str, Any] | None, version: int) -> dict[str, Any]:
    """The evidence on *version*, with that on the latest others beside it."""
    if state is None:
        return _fresh(version)
    if state["version"] == version:
        return dict(state)
    own = {name: value for name, value in state.items() if name != "others"}
    others = [each for each in state.get("others", []) if each["version"] != own["version"]] + [own]
    found = next((each for each in others if each["version"] == version), _fresh(version))
    return {**found, "others": [each for each in others if each["version"] != version][-_OTHERS:]}


def _fresh(version: int) -> dict[str, Any]:
    return {"version": version, "start": None, "until": None, "windows": 0, "drift": None, "looks": None}


def _performance(
    watched: Watched,
    served: Served,
    start: datetime,
    end: datetime,
    monitor: Monitor,
    retrain: Retrain | None,
    looks: Mapping[str, Any] | None,
) -> tuple[Performance, dict[str, Any]]:
    return performance.performance(
        served,
        version=watched.version,
        metric_name=watched.metric,
        reference=None if watched.reference is None else Interval(*watched.reference),
        start=start.timestamp(),
        end=end.timestamp(),
        label_delay=seconds(monitor.label_delay),
        min_labels=(retrain or Retrain()).min_labels,
        state=looks,
    )


def _onset(found: Performance, own: Served, at: datetime, monitor: Monitor, retrain: Retrain | None) -> Onset | None:
    if retrain is None or "decay" not in retrain.on or found.loss is None or found.loss.low <= retrain.tolerance:
        return None
    answered = own.where(~own.failed & ~np.isnan(own.said))
    return onset(answered.where(answered.matured_at(seconds(monitor.label_delay)) <= at.timestamp()))


def _labels(watched: Watched, served: Served, at: datetime, monitor: Monitor) -> Labels:
    own = served.where(served.version == watched.version)
    return performance.labels(own, at.timestamp(), seconds(monitor.label_delay))


def _days(since: datetime | None, at: datetime) -> float | None:
    return None if since is None else (at - since).total_seconds() / DAY


def _cooldown(trained_at: datetime | None, at: datetime, retrain: Retrain | None) -> float:
    if trained_at is None or retrain is None:
        return 0.0
    return max(0.0, seconds(retrain.cooldown) - (at - trained_at).total_seconds()) / DAY


def _notes(report: Report, served: Served, monitor: Monitor) -> tuple[str, ...]:
    """What a reader should know to read the figures rightly."""
    notes = [extra_columns(served.extra), _early_labels(report.labels, monitor), _selected_labels(report, served)]
    return tuple(note for note in notes if note)


def _early_labels(labels: Labels, monitor: Monitor) -> str | None:
    delay = seconds(monitor.label_delay)
    if labels.delay_p95 is None or labels.delay_p95 <= max(1.1 * delay, _PROMPT):
        return None
    return (
        f"5 % of the labels come more than {duration(labels.delay_p95)} after their prediction, but label_delay is "
        f"{duration(delay)}, and labels of one kind may come first; write "
        f"Monitor(label_delay='{math.ceil(labels.delay_p95 / 3600)}h')"
    )


def _selected_labels(report: Report, served: Served) -> str | None:
    labels = report.labels
    if served.weight is not None:
        return "labels tell the chance with which they came: the measured performance weighs each by its inverse"
    if not labels.matured or labels.unlabelled <= labels.matured:
        return None
    share = labels.matured / (labels.matured + labels.unlabelled)
    return (
        f"only {percent(share)} of the predictions old enough have a label; if it depends on the prediction which ones "
        "get one, the measured performance is that of a selection; label some by chance and give "
        "their feedback its `propensity`"
    )
