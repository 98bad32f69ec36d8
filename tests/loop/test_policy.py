"""The retraining policy: every rule of when, and above all when not, to retrain."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.declarations import Retrain
from mainspring.loop.policy import Action, Policy
from mainspring.monitoring.drift import FeatureDrift, InputDrift, OutsideSupport
from mainspring.monitoring.faults import Fault
from mainspring.monitoring.performance import Labels, Loss, Performance
from mainspring.monitoring.report import Report
from mainspring.monitoring.service import Service

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def drift(evidence: float) -> InputDrift:
    alarm = evidence >= 1000
    return InputDrift(alarm, evidence, 1000.0, 9, (FeatureDrift("temp", alarm, evidence, 0, 0, 0.3, 0.01, 0.2, 0.5),))


def outside(share: float) -> OutsideSupport:
    return OutsideSupport(500, share, share * 0.8, 0.05, share * 0.8 > 0.05, {"city": share} if share else {})


def performance(low: float | None) -> Performance:
    loss = None if low is None else Loss(low + 0.01, low, 2_000, "latest labels", 3)
    return Performance("roc_auc", True, 0.85, loss=loss)


HEALTHY = Report(
    loop="late",
    at=NOW,
    version=3,
    start=NOW - timedelta(days=1),
    service=Service(500, 0, 1.0, 2.0, 3.0, {"3": 500}),
    drift=drift(0.5),
    outside=outside(0.0),
    performance=performance(-0.01),
    labels=Labels(2_000, 30, 4),
    faults=(),
    release_running=False,
    settled=True,
    days_since_training=20.0,
    cooldown_days_left=0.0,
    new_rows=0,
    new_labels=2_000,
)
FAULT = Fault("missing", "city", "city is missing in 90 % of the rows, 0 % in training; mend its source")
DECAYED: dict[str, Any] = {"performance": performance(0.05)}
ABROAD: dict[str, Any] = {"outside": outside(0.3)}

reports = st.builds(
    replace,
    st.just(HEALTHY),
    drift=st.floats(0, 1e9).map(drift),
    outside=st.floats(0, 1).map(outside),
    performance=(st.none() | st.floats(-0.5, 0.5)).map(performance),
    labels=st.builds(Labels, st.integers(0, 5_000), st.integers(0, 100), st.integers(0, 100)),
    faults=st.sampled_from([(), (FAULT,)]),
    release_running=st.booleans(),
    settled=st.booleans(),
    days_since_training=st.none() | st.floats(0, 400),
    cooldown_days_left=st.sampled_from([0.0, 0.0, 0.5]),
    new_rows=st.integers(0, 5_000),
    new_labels=st.integers(0, 5_000),
)
rules = st.builds(
    Retrain,
    on=st.sampled_from([(), ("decay",), ("drift",), ("decay", "drift")]),
    every=st.none() | st.sampled_from(["1d", "30d"]),
    min_labels=st.integers(1, 2_000),
)


def decide(rule: Retrain | None = None, **changes: Any) -> Any:
    return Policy(rule or Retrain()).decide(replace(HEALTHY, **changes))


@given(st.none() | rules, reports)
def test_every_decision_has_a_reason_and_is_repeatable(rule: Retrain | None, report: Report) -> None:
    decision = Policy(rule).decide(report)

    assert len(decision.reason) > 20 and decision.cause and decision == Policy(rule).decide(report)


@given(rules, reports)
def test_nothing_retrains_while_a_release_is_running(rule: Retrain, report: Report) -> None:
    decision = Policy(rule).decide(replace(report, release_running=True))

    assert decision.action is Action.WAIT and decision.reason


@given(rules, reports)
def test_nothing_retrains_on_a_fault_in_cooldown_or_without_anything_new(rule: Retrain, report: Report) -> None:
    for change in ({"faults": (FAULT,)}, {"cooldown_days_left": 0.2}, {"new_rows": 0, "new_labels": 0}):
        assert Policy(rule).decide(replace(report, **change)).action is Action.WAIT


@given(reports)
def test_drift_inside_the_training_support_never_retrains(report: Report) -> None:
    quiet = replace(report, outside=outside(0.0), performance=performance(None), drift=drift(1e6))

    assert Policy(Retrain()).decide(quiet).action is Action.WAIT


@given(rules, reports)
def test_more_evidence_of_decay_never_turns_a_retraining_into_waiting(rule: Retrain, report: Report) -> None:
    worse = replace(report, performance=performance(0.5))
    if Policy(rule).decide(report).action is Action.RETRAIN:
        assert Policy(rule).decide(worse).action is Action.RETRAIN


def test_a_healthy_loop_waits_and_says_so() -> None:
    decision = decide()

    assert (decision.action, decision.cause) == (Action.WAIT, "healthy")
    assert "2,000 matured labels don't show roc_auc to be worse than the gate's 0.850" in decision.reason


def test_decay_beyond_the_tolerance_retrains_with_its_figures() -> None:
    decision = decide(**DECAYED)

    assert (decision.action, decision.cause) == (Action.RETRAIN, "decay")
    assert "at least 0.0500 (estimate 0.0600, 2,000 matured labels" in decision.reason
    assert decide(performance=performance(0.02)).action is Action.WAIT
    assert decide(Retrain(on=("drift",)), **DECAYED).action is Action.WAIT


def test_leaving_the_training_support_retrains_with_its_figures() -> None:
    decision = decide(**ABROAD)

    assert (decision.action, decision.cause) == (Action.RETRAIN, "drift")
    assert "30 % of 500 rows lie outside the training support (city 30 %)" in decision.reason
    assert decide(Retrain(on=("decay",)), **ABROAD).action is Action.WAIT


def test_too_few_labels_change_nothing() -> None:
    decision = decide(labels=Labels(120, 40, 7), performance=performance(None))
    abroad = decide(new_labels=100, **ABROAD)

    assert decision.cause == abroad.cause == "few labels"
    assert "120 matured labels for late@3, 500 are needed" in decision.reason and "40 not yet mature" in decision.reason
    assert "only 100 new labelled rows since the last training, 500 are needed" in abroad.reason


def test_drift_alone_is_reported_and_does_not_retrain() -> None:
    decision = decide(drift=drift(5_000.0))

    assert (decision.action, decision.cause) == (Action.WAIT, "drift reported")
    assert "temp" in decision.reason and "5,000" in decision.reason and "drift alone is reported" in decision.reason


def test_a_version_that_just_arrived_is_given_one_whole_window() -> None:
    decision = decide(settled=False, **ABROAD)

    assert (decision.action, decision.cause) == (Action.WAIT, "new version")


def test_the_schedule_retrains_when_due_and_something_is_new() -> None:
    rule = Retrain(every="30d")

    assert decide(rule, days_since_training=29.0).cause == "healthy"
    assert decide(rule, days_since_training=30.0).cause == "schedule"
    assert decide(rule, days_since_training=None).cause == "schedule"
    assert decide(rule, days_since_training=40.0, new_rows=0, new_labels=0).cause == "nothing new"


@pytest.mark.parametrize(
    ("changes", "cause", "words"),
    [
        ({"faults": (FAULT,)}, "fault", "city is missing in 90 %"),
        ({"release_running": True}, "release", "a release is running"),
        ({"cooldown_days_left": 0.5}, "cooldown", "ends in 12 hours"),
        ({"new_labels": 0}, "nothing new", "nothing new to learn from since the last training 20 days ago"),
    ],
)
def test_what_blocks_a_retraining_is_written_down(changes: dict[str, Any], cause: str, words: str) -> None:
    decision = decide(**{**DECAYED, **changes})

    assert (decision.action, decision.cause) == (Action.WAIT, cause) and words in decision.reason


def test_without_a_rule_only_a_person_retrains() -> None:
    assert Policy(None).decide(replace(HEALTHY, **DECAYED)).cause == "by hand"
