"""A report as lines of text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from mainspring.core.wording import count, duration, evidence, listed, number, percent
from mainspring.monitoring.drift import FeatureDrift
from mainspring.monitoring.performance import Labels, Measured, Performance
from mainspring.monitoring.report import Report

FEATURES = 12


def render(report: Report) -> str:
    """*report* for a person at a terminal; the most important lines first."""
    parts = [_head(report), _alarms(report), _service(report), _performance(report), _labels(report.labels)]
    parts += [_features(report), [f"note: {note}" for note in report.notes]]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _head(report: Report) -> list[str]:
    window = f"{report.start:%Y-%m-%d %H:%M} to {report.at:%Y-%m-%d %H:%M}"
    return [f"{report.loop}@{report.version}   {window}   {count(report.service.predictions, 'prediction')}"]


def _alarms(report: Report) -> list[str]:
    lines = [f"FAULT    {fault.reason}" for fault in report.faults]
    drift, outside = report.drift, report.outside
    shown = f"evidence {evidence(drift.evidence)} of {number(drift.arl)} after {count(drift.windows, 'window')}"
    about = f"ALARM: {listed(drift.drifted)}; " if drift.alarm else "no alarm, "
    lines.append(f"drift    {about}{shown}")
    if not report.service.predictions:
        return lines
    where = listed([f"{name} {percent(share)}" for name, share in outside.columns.items()], most=4)
    shown = f"{percent(outside.share)} of the rows outside the training support" + (f" ({where})" if where else "")
    lines.append(f"support  {'BEYOND: ' if outside.beyond else ''}{shown}")
    return lines


def _service(report: Report) -> list[str]:
    service = report.service
    if not service.predictions:
        return ["service  nothing was predicted in this window"]
    traffic = listed([f"version {version}: {rows:,}" for version, rows in service.traffic.items()])
    latency = " / ".join(number(each) for each in (service.p50, service.p95, service.p99))
    failed = f"{count(service.failed, 'failure')} ({percent(service.failed_share)})"
    return [f"service  {failed}; latency p50 / p95 / p99 {latency} ms; traffic {traffic or 'none'}"]


def _performance(report: Report) -> list[str]:
    found = report.performance
    lines = [_measured(found, each) for each in found.measured]
    if found.loss is not None:
        loss = found.loss
        bound = f"at least {number(loss.low)}, {loss.scope}, look {loss.looks}"
        lines.append(f"{'loss':<14} {number(loss.estimate)} against {number(found.reference)} at the gate ({bound})")
    if found.calibration is not None:
        lines.append(
            f"{'calibration':<14} predicted and observed rates differ by {number(found.calibration.ece)} on average"
        )
    if found.estimate is not None:
        lines.append(f"{'estimate':<14} {number(found.estimate)} without labels (blind to a change of meaning)")
    return lines


def _measured(performance: Performance, measured: Measured) -> str:
    interval = f"[{number(measured.low)}, {number(measured.high)}]"
    where = f"version {measured.version}, {measured.scope}, {count(measured.rows, 'matured label')}"
    return f"{performance.metric:<14} {number(measured.value)} {interval}   {where}"


def _labels(labels: Labels) -> list[str]:
    delay = "" if labels.delay_p50 is None else f"; half come within {duration(labels.delay_p50)}"
    return [
        f"labels   {labels.matured:,} matured, {labels.pending:,} pending, {labels.unlabelled:,} without label{delay}"
    ]


def _features(report: Report) -> list[str]:
    features = report.drift.features[:FEATURES]
    if not features:
        return []
    tests = sorted({name for feature in features for name in feature.tests})
    headers = ["feature", "evidence", "psi", "by chance", "js", "shift", "missing", "before", *tests, "new levels"]
    lines = _aligned([headers, *(_cells(feature, tests) for feature in features)])
    hidden = len(report.drift.features) - len(features)
    return [*lines, *([f"and {count(hidden, 'feature')} that moved less"] if hidden else [])]


def _cells(feature: FeatureDrift, tests: Sequence[str]) -> list[str]:
    return [
        feature.feature + (" *" if feature.drifted else ""),
        evidence(feature.evidence),
        number(feature.psi, 2),
        number(feature.psi_by_chance, 2),
        number(feature.jensen_shannon, 2),
        "–" if feature.shift is None else f"{feature.shift:+.2f} sd",
        percent(feature.missing),
        percent(feature.missing_in_training),
        *(number(feature.tests.get(name)) for name in tests),
        listed([f"{level} {percent(share)}" for level, share in feature.new_levels], most=2),
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, the first to the left, the others to the right, the last as it is."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        inner = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *inner, row[-1]]).rstrip())
    return lines
