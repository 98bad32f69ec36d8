"""The report: one value that a policy and a person can use, and that survives being kept."""

import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import polars as pl
import pytest

from mainspring.core.declarations import Monitor, Retrain
from mainspring.monitoring.page import page
from mainspring.monitoring.report import Report, Standing, build
from mainspring.monitoring.terminal import render

MONITOR = Monitor(label_delay="3h")


@pytest.fixture
def lived(traffic: Any, end: Any) -> tuple[list[Report], Any, Any]:
    """Six days: a shift from the fourth on, another version from the third on."""
    for day in range(6):
        traffic.day(day, 300, version=1 if day < 3 else 2, change=pl.col("temp") + (4 if day > 3 else 0), failing=0.01)
    watched, reports, state = traffic.watched(), [], None
    for day in range(6):
        watched = replace(watched, version=1 if day < 3 else 2)
        standing = Standing(end(-1), new_rows=10 * day, new_labels=300 * day)
        report, state = build(
            watched, traffic.served(watched), standing, at=end(day), monitor=MONITOR, retrain=Retrain(), state=state
        )
        state = json.loads(json.dumps(state, allow_nan=False))
        reports.append(report)
    return reports, state, watched


def test_a_report_survives_json(lived: Any) -> None:
    for report in lived[0]:
        assert Report.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report


def test_the_evidence_starts_anew_with_a_version_and_only_then(lived: Any) -> None:
    assert [report.drift.windows for report in lived[0]] == [1, 2, 3, 1, 2, 3]
    assert [report.drift.alarm for report in lived[0]] == [False, False, False, False, True, True]
    assert lived[0][-1].drift.drifted == ["temp"]


def test_a_version_that_comes_back_goes_on_with_its_evidence(traffic: Any, end: Any) -> None:
    watched, state, reports = traffic.watched(), None, []
    for day, version in enumerate([1, 1, 1, 2, 1]):
        traffic.day(day, 300, version=version, change=pl.col("temp") + (4 if version == 1 else 0))
        report, state = build(
            replace(watched, version=version), traffic.served(watched), Standing(None), at=end(day), monitor=MONITOR,
            retrain=Retrain(min_labels=200), state=json.loads(json.dumps(state)),
        )  # fmt: skip
        reports.append(report)

    assert [report.drift.windows for report in reports] == [1, 2, 3, 1, 4]
    assert [report.drift.alarm for report in reports][2:] == [True, False, True]
    looks = [None if each.performance.loss is None else each.performance.loss.looks for each in reports]
    assert looks[0] == 1 and looks[4] == looks[2] + 1  # what was spent on looks at it stays spent
    assert all(after.start == before.at for before, after in pairwise(reports))


def test_windows_follow_each_other_without_gap(lived: Any) -> None:
    reports = lived[0]

    assert all(after.start == before.at for before, after in pairwise(reports))
    assert sum(report.service.predictions for report in reports) == 1_800
    assert sum(report.service.failed for report in reports) > 5


def test_the_same_window_again_gives_the_same_report(lived: Any, traffic: Any, end: Any) -> None:
    reports, state, watched = lived
    standing = Standing(end(-1), new_rows=50, new_labels=1_500)
    again, kept = build(
        watched, traffic.served(watched), standing, at=end(5), monitor=MONITOR, retrain=Retrain(), state=state
    )

    assert again == reports[-1] and json.loads(json.dumps(kept)) == state


def test_what_comes_after_the_window_is_not_seen(lived: Any, traffic: Any, end: Any) -> None:
    assert lived[0][0].labels.matured + lived[0][0].labels.pending <= 300
    assert lived[0][0].performance.of("window", 1).rows < 300


def test_cooldown_and_standing_are_told(traffic: Any, end: Any) -> None:
    traffic.day(0, 50)
    watched = replace(traffic.watched(), released_at=end(-1) + timedelta(hours=1))
    rule = Retrain(cooldown="3d")
    report, _ = build(
        watched,
        traffic.served(watched),
        Standing(end(-1), release_running=True),
        at=end(0),
        monitor=MONITOR,
        retrain=rule,
    )

    assert report.in_cooldown and report.cooldown_days_left == pytest.approx(2) and report.release_running
    assert report.days_since_training == pytest.approx(1) and not report.settled


def test_labels_later_than_the_declared_delay_and_extra_columns_are_noted(traffic: Any, end: Any) -> None:
    traffic.day(0, 100, label_after=timedelta(hours=8))
    watched = replace(traffic.watched(), columns=("temp", "city"))
    report, _ = build(watched, traffic.served(watched), Standing(None), at=end(1), monitor=MONITOR)

    assert "Monitor(label_delay='8h')" in report.notes[1] and "1 column not in the contract: delay" in report.notes[0]
    assert report.days_since_training is None


def test_labels_that_come_within_seconds_are_not_told_to_be_late(traffic: Any, end: Any) -> None:
    traffic.day(0, 100, label_after=timedelta(seconds=5))
    watched = traffic.watched()
    report, _ = build(watched, traffic.served(watched), Standing(None), at=end(1), monitor=Monitor())

    assert not any("label_delay" in note for note in report.notes)


def test_labels_for_few_predictions_are_noted_as_a_selection(traffic: Any, end: Any) -> None:
    traffic.day(0, 100).day(0, 400, label_after=None)
    watched = traffic.watched()
    report, _ = build(watched, traffic.served(watched), Standing(None), at=end(1), monitor=MONITOR)

    assert any("only 20 % of the predictions" in note for note in report.notes)


def test_a_loop_without_traffic_has_a_report(traffic: Any, end: Any) -> None:
    watched = traffic.watched()
    report, _ = build(watched, traffic.served(watched), Standing(None), at=end(0), monitor=MONITOR)

    assert report.service.predictions == 0 and report.performance.measured == ()
    assert "nothing was predicted in this window" in render(report) and "0 %" not in render(report)
    assert "0 predictions" in render(report) and "<!doctype html>" in page([report])


def test_the_terminal_shows_what_matters(lived: Any) -> None:
    shown = render(lived[0][-1])

    assert "late@2" in shown and "ALARM: temp" in shown and "temp *" in shown
    assert all(len(line) < 140 for line in shown.splitlines())
    for word in ("roc_auc", "loss", "calibration", "estimate", "labels", "support", "service"):
        assert word in shown


def test_the_page_stands_alone_and_has_every_plot(lived: Any, end: Any) -> None:
    html = page(lived[0], [(end(5), "wait", "drift alone is <reported>")])

    assert html.count("<svg") >= 9 and "http://" not in html and "https://" not in html
    assert "drift alone is &lt;reported&gt;" in html and "Monitoring late@2" in html
    assert page(lived[0], [(end(5), "wait", "drift alone is <reported>")]) == html
