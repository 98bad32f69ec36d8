"""Decides from a report whether to retrain, and says why, also when it doesn't. Pure: no clock, no store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from mainspring.core.declarations import Retrain, seconds
from mainspring.core.wording import count, duration, evidence, listed, number, percent
from mainspring.monitoring.report import DAY, Report


class Action(StrEnum):
    """What a policy can ask for."""

    WAIT = "wait"
    RETRAIN = "retrain"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do and why. cause: one word that can be counted, such as "decay" or "cooldown"; reason: a sentence."""

    action: Action
    cause: str
    reason: str

    @classmethod
    def wait(cls, cause: str, reason: str) -> Decision:
        return cls(Action.WAIT, cause, reason)

    @classmethod
    def retrain(cls, cause: str, reason: str) -> Decision:
        return cls(Action.RETRAIN, cause, reason)


@dataclass(frozen=True, slots=True)
class Policy:
    """When to retrain. Promotion and rollback belong to `release/`. *rule* None: only a person starts a training."""

    rule: Retrain | None

    def decide(self, report: Report) -> Decision:
        """The next action for *report*, with its reason; the same report always gives the same decision."""
        if self.rule is None:
            return Decision.wait("by hand", "the loop declares retrain=None: only a person starts a training")
        for blocking in _blocking(report):
            return blocking
        waiting = []
        for wanted in _wanted(self.rule, report):
            if wanted.action is Action.RETRAIN:
                return wanted
            waiting.append(wanted)
        if waiting:
            return Decision.wait(waiting[0].cause, "; ".join(each.reason for each in waiting))
        return Decision.wait("healthy", _healthy(self.rule, report))


def _blocking(report: Report) -> Iterator[Decision]:
    """Why nothing may be retrained now, whatever else the report shows; the gravest first."""
    if report.faults:
        reasons = "; ".join(fault.reason for fault in report.faults)
        yield Decision.wait("fault", f"a fault before the model, which training would learn instead of mend: {reasons}")
    if report.release_running:
        yield Decision.wait("release", "a release is running: its evidence decides first")
    if report.in_cooldown:
        left = duration(DAY * report.cooldown_days_left)
        yield Decision.wait("cooldown", f"the last training was {_ago(report)}; the cooldown ends in {left}")
    if not report.new_rows and not report.new_labels:
        yield Decision.wait("nothing new", f"nothing new to learn from since the last training {_ago(report)}")


def _wanted(rule: Retrain, report: Report) -> Iterator[Decision]:
    """What each declared trigger asks for, a retraining or to wait for something; none if it finds nothing."""
    if "decay" in rule.on:
        yield from _decay(rule, report)
    if "drift" in rule.on:
        yield from _drift(rule, report)
    if rule.every is not None:
        yield from _schedule(rule, report)
    if report.labels.matured < rule.min_labels:
        yield Decision.wait("few labels", _few_labels(rule, report))
    if report.drift.alarm:
        yield Decision.wait("drift reported", _drift_alone(report))


def _decay(rule: Retrain, report: Report) -> Iterator[Decision]:
    loss, performance = report.performance.loss, report.performance
    if loss is None or loss.low <= rule.tolerance:
        return
    shown = (
        f"{performance.metric} has lost at least {number(loss.low)} (estimate {number(loss.estimate)}, "
        f"{count(loss.rows, 'matured label')} {_where(loss.scope)}) against {number(performance.reference)} at the "
        f"gate; {rule.tolerance:g} is tolerated{_since(report)}"
    )
    yield from _with_enough(rule, report, "decay", shown)


def _since(report: Report) -> str:
    """From where on in the rows' own time, which the turn's split and training go by."""
    if report.onset is None:
        return "; the rows tell no time (time=), so old and new ones are learnt from alike"
    return f"; worse since rows of about {report.onset.at} ({report.onset.rows:,} labelled)"


def _drift(rule: Retrain, report: Report) -> Iterator[Decision]:
    outside = report.outside
    if not outside.beyond:
        return
    where = listed([f"{name} {percent(share)}" for name, share in outside.columns.items()], most=4)
    shown = (
        f"{percent(outside.share)} of {count(outside.rows, 'row')} lie outside the training support ({where}), "
        f"at least {percent(outside.low)} surely; {percent(outside.tolerated)} is tolerated"
    )
    yield from _with_enough(rule, report, "drift", shown)


def _schedule(rule: Retrain, report: Report) -> Iterator[Decision]:
    due = seconds(rule.every or 0) / DAY
    if report.days_since_training is None or report.days_since_training >= due:
        new = f"{count(report.new_rows, 'new row')} and {count(report.new_labels, 'new label')} since"
        yield Decision.retrain(
            "schedule", f"due every {duration(DAY * due)}, the last training was {_ago(report)}; {new}"
        )


def _with_enough(rule: Retrain, report: Report, cause: str, shown: str) -> Iterator[Decision]:
    """Retrain for *shown*, if the version has been there for a whole window and there is enough to learn from."""
    new = report.new_rows + report.new_labels
    if not report.settled:
        yield Decision.wait("new version", f"{shown}; but {_version(report)} hasn't served a whole window yet")
    elif new < rule.min_labels:
        needed = f"only {count(new, 'new labelled row')} since the last training, {rule.min_labels:,} are needed"
        yield Decision.wait("few labels", f"{shown}; but there are {needed}")
    else:
        yield Decision.retrain(cause, shown)


def _few_labels(rule: Retrain, report: Report) -> str:
    labels = report.labels
    return (
        f"{count(labels.matured, 'matured label')} for {_version(report)}, {rule.min_labels:,} are needed to judge it "
        f"({labels.pending:,} not yet mature, {labels.unlabelled:,} without label)"
    )


def _drift_alone(report: Report) -> str:
    drift = report.drift
    return (
        f"inputs have drifted ({listed(drift.drifted, most=4)}; evidence {evidence(drift.evidence)}, alarm at "
        f"{number(drift.arl)}), but {percent(report.outside.share)} of the rows lie outside the training support and "
        f"{_quality(report)}: drift alone is reported and doesn't retrain"
    )


def _healthy(rule: Retrain, report: Report) -> str:
    tolerated = "" if report.performance.loss is None else f" ({rule.tolerance:g} is tolerated)"
    return f"{_quality(report)}{tolerated}; the inputs show no drift"


def _quality(report: Report) -> str:
    loss, metric = report.performance.loss, report.performance.metric
    if loss is None:
        return f"no loss of {metric} has been measured"
    rows, gate = count(loss.rows, "matured label"), f"the gate's {number(report.performance.reference)}"
    if loss.low <= 0:
        return f"{rows} don't show {metric} to be worse than {gate}"
    return f"{rows} show {metric} to be worse than {gate} by at least {number(loss.low)}"


def _where(scope: str) -> str:
    return "since release" if scope == "since release" else "since the look before"


def _version(report: Report) -> str:
    return f"{report.loop}@{report.version}"


def _ago(report: Report) -> str:
    return "never" if report.days_since_training is None else f"{duration(DAY * report.days_since_training)} ago"
