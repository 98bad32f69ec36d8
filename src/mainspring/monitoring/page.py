"""Reports as one standalone HTML page: how a loop has been doing, window by window, with plots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mainspring.core.wording import count, evidence, listed, number, percent
from mainspring.monitoring import plots
from mainspring.monitoring.drift import FeatureDrift
from mainspring.monitoring.performance import Performance
from mainspring.monitoring.report import Report
from mainspring.store import pages
from mainspring.store.pages import Html

FEATURES = 15
HISTOGRAMS = 4
Decided = tuple[datetime, str, str]
"""When something was decided, what, and why."""


def page(reports: Sequence[Report], decisions: Sequence[Decided] = ()) -> str:
    """The page on the last of *reports*, with those before as its history; *decisions* on retraining below."""
    report = reports[-1]
    window = f"{report.start:%Y-%m-%d %H:%M} to {report.at:%Y-%m-%d %H:%M}"
    parts = [
        _tiles(report),
        *_warnings(report),
        pages.heading("Performance"),
        *_performance(reports),
        pages.heading("Input drift"),
        *_drift(reports),
        pages.heading("Service"),
        *_service(reports),
        *_decisions(decisions),
    ]
    return pages.page(f"Monitoring {report.loop}@{report.version}", parts, subtitle=window)


def _tiles(report: Report) -> Html:
    found, drift, service, labels = report.performance, report.drift, report.service, report.labels
    ever = found.of("since release", report.version)
    interval = "no matured labels" if ever is None else f"{number(ever.low)} to {number(ever.high)} since release"
    alarm = f"ALARM: {listed(drift.drifted, most=3)}" if drift.alarm else f"alarm at {number(drift.arl)}"
    return pages.facts(
        [
            ("predictions", service.predictions, f"{count(service.failed, 'failure')}"),
            (found.metric, None if ever is None else ever.value, f"{interval}; {number(found.reference)} at the gate"),
            ("drift evidence", evidence(drift.evidence), alarm),
            (
                "outside training support",
                percent(report.outside.share),
                f"{percent(report.outside.tolerated)} tolerated",
            ),
            ("matured labels", labels.matured, f"{labels.pending:,} pending, {labels.unlabelled:,} without"),
            ("latency p95", f"{number(service.p95)} ms", f"p50 {number(service.p50)}, p99 {number(service.p99)}"),
        ]
    )


def _warnings(report: Report) -> list[Html]:
    lines = [f"Fault: {fault.reason}." for fault in report.faults] + [f"Note: {note}." for note in report.notes]
    return [pages.bullets(lines)] if lines else []


def _performance(reports: Sequence[Report]) -> list[Html]:
    report, found = reports[-1], reports[-1].performance
    parts = []
    if any(each.performance.measured for each in reports):
        alt = f"{found.metric} per window with 95 % intervals; the last is {_last(report)}"
        caption = (
            "Matured labels only, with 95 % intervals. The dotted line is an estimate without labels: it can't see a "
            "change of what the inputs mean, and nothing acts on it."
        )
        parts.append(pages.figure(lambda axes: plots.performance(axes, reports), alt=alt, caption=caption))
    else:
        parts.append(pages.text("No label has matured yet, so nothing is measured."))
    if found.loss is not None:
        parts.append(pages.text(_loss(report)))
    return [*parts, *_quality(found)]


def _quality(found: Performance) -> list[Html]:
    """The calibration curve, and the metric's figures below it."""
    parts, curve = [], found.calibration
    if curve is not None:
        alt = f"Observed against predicted rate in {len(curve.rows)} bins, mean distance {number(curve.ece)}"
        caption = f"Predicted and observed rates differ by {number(curve.ece)} on average."
        draw: Any = lambda axes: plots.calibration(axes, curve)  # noqa: E731
        parts.append(pages.figure(draw, alt=alt, width=4.6, height=3.6, caption=caption))
    if found.measured:
        rows = [(e.version, e.scope, e.rows, e.value, f"{number(e.low)}–{number(e.high)}") for e in found.measured]
        parts.append(pages.table(["version", "when", "labels", found.metric, "95 % interval"], rows))
    return parts


def _last(report: Report) -> str:
    measured = report.performance.of("window", report.version)
    return "not measured" if measured is None else number(measured.value)


def _loss(report: Report) -> str:
    found, loss = report.performance, report.performance.loss
    if loss is None:
        return ""
    shown = f"at least {number(loss.low)}" if loss.low > 0 else "not shown to be above 0"
    return (
        f"Loss against the {number(found.reference)} at the gate: {number(loss.estimate)}, {shown} "
        f"({count(loss.rows, 'matured label')}, {loss.scope}, look {loss.looks}; valid however often it is looked at)."
    )


def _drift(reports: Sequence[Report]) -> list[Html]:
    report, drift = reports[-1], reports[-1].drift
    about = f"about {listed(drift.drifted)}" if drift.alarm else "no alarm"
    parts = [
        pages.figure(
            lambda axes: plots.evidence(axes, reports),
            alt=f"Evidence of drift over time: now {evidence(drift.evidence)}, alarm at {number(drift.arl)}, {about}",
            height=2.6,
            caption=f"Without drift an alarm comes once in {number(drift.arl)} windows at most, on average.",
        )
    ]
    if not drift.features:
        return [*parts, pages.text("No row was served in this window.")]
    if len(reports) > 1:
        names = [feature.feature for feature in drift.features[:FEATURES]]
        height = 0.9 + 0.26 * len(names)
        alt = f"Drift per feature and window for {listed(names)}"
        caption = "Jensen-Shannon distance to the training rows: 0 is the same, 1 has nothing in common."
        draw: Any = lambda axes: plots.heat(axes, reports, names)  # noqa: E731
        parts.append(pages.figure(draw, alt=alt, height=height, caption=caption))
    parts.append(_feature_table(report))
    parts.append(pages.side_by_side([_histogram(feature) for feature in drift.features[:HISTOGRAMS]]))
    return parts


def _feature_table(report: Report) -> Html:
    features = report.drift.features[:FEATURES]
    tests = sorted({name for feature in features for name in feature.tests})
    headers = ["feature", "evidence", "PSI", "by chance", "shift (sd)", "missing", "in training", *tests, "new levels"]
    rows = [_feature_row(feature, tests) for feature in features]
    caption = (
        "The window against the training rows; “by chance” is the mean PSI of a window of this size without drift."
    )
    return pages.table(headers, rows, caption=caption)


def _feature_row(feature: FeatureDrift, tests: Sequence[str]) -> list[Any]:
    return [
        feature.feature + (" (drifted)" if feature.drifted else ""),
        evidence(feature.evidence),
        number(feature.psi, 2),
        number(feature.psi_by_chance, 2),
        "–" if feature.shift is None else f"{feature.shift:+.2f}",
        percent(feature.missing),
        percent(feature.missing_in_training),
        *(number(feature.tests.get(name)) for name in tests),
        listed([f"{level} ({percent(share)})" for level, share in feature.new_levels], most=3),
    ]


def _histogram(feature: FeatureDrift) -> Html:
    return pages.figure(
        lambda axes: plots.histogram(axes, feature),
        alt=f"{feature.feature}: shares per bin in training and in this window, PSI {number(feature.psi)}",
        width=4.4,
        height=2.7,
    )


def _service(reports: Sequence[Report]) -> list[Html]:
    service = reports[-1].service
    parts = []
    if any(each.service.p50 is not None for each in reports):
        latency = f"p50 {number(service.p50)}, p95 {number(service.p95)}, p99 {number(service.p99)} ms"
        draw = plots.latency
        parts.append(
            pages.figure(lambda axes: draw(axes, reports), alt=f"Latency; now {latency}", width=4.6, height=2.7)
        )
    traffic = listed([f"version {version}: {rows:,}" for version, rows in service.traffic.items()]) or "none"
    parts.append(
        pages.figure(
            lambda axes: plots.traffic(axes, reports), alt=f"Predictions; now {traffic}", width=4.6, height=2.7
        )
    )
    return [pages.side_by_side(parts)]


def _decisions(decisions: Sequence[Decided]) -> list[Html]:
    if not decisions:
        return []
    rows = [(f"{at:%Y-%m-%d %H:%M}", decision, reason) for at, decision, reason in reversed(decisions)]
    return [pages.heading("Decisions on retraining"), pages.table(["when", "decision", "reason"], rows)]
