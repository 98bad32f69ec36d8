"""The report of a loop from its records, the rules it was declared with, and what counts as news since a training."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from living import START, TRAINED_ROWS, loop, serve, table

import mainspring as ms
from mainspring.core.errors import NotInStore
from mainspring.loop import turn, watch
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.records import FeedbackRecord, Records

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LIVED = table(600).tail(400)


def test_the_report_is_made_of_the_windows_records_and_matured_labels(home: Home) -> None:
    serve(home, LIVED.head(100), START - 2 * DAY, label_after=HOUR)  # before the window
    serve(home, LIVED.head(300), START + 2 * HOUR, label_after=HOUR)
    serve(home, LIVED.tail(50), START + 30 * HOUR)  # after it

    report, evidence = watch.Watch.of(home, loop(monitor=ms.Monitor(label_delay="2h")).declaration).report(START + DAY)

    assert report.service.predictions == 300 and report.service.failed == 0
    assert report.labels.matured == 300 and report.version == 1 and not report.faults
    measured = report.performance.of("window", 1)
    assert measured is not None and measured.rows == 300 and measured.value is not None and measured.value > 0.8
    assert evidence["until"] == (START + DAY).timestamp()
    assert watch.headline(report).startswith("300 predictions, 0 errors; roc_auc 0.")


def test_labels_that_have_not_matured_are_pending(home: Home) -> None:
    serve(home, LIVED.head(100), START + 20 * HOUR, label_after=HOUR)

    report, _ = watch.Watch.of(home, loop(monitor=ms.Monitor(label_delay="6h")).declaration).report(START + DAY)

    assert (report.labels.matured, report.labels.pending) == (0, 100)


def test_a_window_begins_where_the_one_before_ended(home: Home) -> None:
    serve(home, LIVED.head(60), START + HOUR)
    watching = watch.Watch.of(home, loop().declaration)
    first, evidence = watching.report(START + DAY)
    Deployments(home).save_state("late", watch.EVIDENCE, evidence)
    serve(home, LIVED.tail(40), START + DAY + HOUR)

    second, _ = watching.report(START + DAY + 6 * HOUR)

    assert (first.service.predictions, second.service.predictions) == (60, 40)
    assert second.start == first.at


def test_a_missing_column_is_a_fault_and_alarms_in_the_headline(home: Home) -> None:
    serve(home, LIVED.head(300).with_columns(delay=pl.lit(None, pl.Float64)), START + HOUR)

    report, _ = watch.Watch.of(home, loop().declaration).report(START + DAY)

    assert report.faults and "delay" in report.faults[0].reason and report.faults[0].reason in watch.headline(report)


def test_who_knows_only_the_name_watches_by_the_rules_declared_last(home: Home) -> None:
    declared = loop(
        monitor=ms.Monitor(every="2h", label_delay="1h", tolerance=0.2),
        retrain=ms.Retrain(on=("decay",), every="7d", min_labels=50),
    ).declaration
    turn.declare(home, declared)

    watching = watch.Watch.last(home, "late")

    assert watching.monitor == declared.monitor
    assert watching.retrain == ms.Retrain(on=["decay"], every="7d", min_labels=50)
    turn.declare(home, loop(retrain=None).declaration)
    assert watch.Watch.last(home, "late").retrain is None


def test_without_a_champion_there_is_no_report(empty: Home) -> None:
    with pytest.raises(NotInStore, match="late has no champion yet, so nothing is served"):
        watch.Watch.of(empty, loop().declaration).report(START)


def test_rows_and_labels_since_the_last_training_are_news(home: Home) -> None:
    declared = loop(TRAINED_ROWS + 30).declaration
    ids = serve(home, LIVED.head(20), START + HOUR, label_after=HOUR)
    Records(home, "late").append_feedback([FeedbackRecord(id=ids[0], label=True, at=START + 3 * HOUR)])

    before, _ = watch.Watch.of(home, declared).report(START + DAY)
    watch.mark_trained(home, "late", START + DAY)
    after, _ = watch.Watch.of(home, declared).report(START + 2 * DAY)

    assert (before.new_rows, before.new_labels, before.days_since_training) == (30, 20, 1.0)
    assert (after.new_rows, after.new_labels, after.days_since_training) == (30, 0, 1.0)
    assert watch.Watch.last(home, "late").report(START + DAY)[0].new_rows == 0  # only the declaration knows the source


def test_labels_that_come_during_a_training_are_news_after_it(home: Home) -> None:
    assert watch.mark_trained(home, "late", START + DAY) == 0
    serve(home, LIVED.head(20), START + DAY, label_after=HOUR)
    watch.mark_trained(home, "late", START + DAY)  # the release of the same turn

    report, _ = watch.Watch.of(home, loop().declaration).report(START + 2 * DAY)

    assert report.new_labels == 20


def test_a_training_that_failed_has_learnt_nothing_but_its_time_counts(home: Home) -> None:
    serve(home, LIVED.head(20), START + HOUR, label_after=HOUR)
    before = watch.mark_trained(home, "late", START + DAY)
    watch.unmark_trained(home, "late", before)

    report, _ = watch.Watch.of(home, loop().declaration).report(START + DAY + HOUR)

    assert report.new_labels == 20 and report.in_cooldown


def test_the_page_stands_alone_and_shows_the_reports_before(home: Home) -> None:
    serve(home, LIVED.head(60), START + HOUR, label_after=HOUR)
    watching = watch.Watch.of(home, loop().declaration)
    first, _ = watching.report(START + DAY)
    Deployments(home).decide(
        "late", at=first.at, kind="monitor", decision="report", version=1, reason="x", data=first.to_json()
    )
    Deployments(home).decide("late", at=first.at, kind="retrain", decision="wait", version=1, reason="all is well")

    page = watching.page(watching.report(START + 2 * DAY)[0])

    assert page.startswith("<!doctype html>") and "all is well" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "src=" not in page
