"""Retention runs by itself: at each ingest what is too old goes, files and all."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import living
import polars as pl
import pytest

from mainspring.core.declarations import FrameSource, Roles
from mainspring.core.privacy import Privacy
from mainspring.data.ingest import ingest, position
from mainspring.data.retention import enforce
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.records import FeedbackRecord, PredictionRecord, Records
from mainspring.store.shadows import ShadowBatch, ShadowRecord, Shadows
from mainspring.store.tables import Table

START = datetime(2014, 1, 1, tzinfo=UTC)
ROLES = Roles("late", key="trip", time="at")
KEPT = Privacy(retention="30d", detect="off")


def trips(days: range, broken: tuple[int, ...] = ()) -> FrameSource:
    return FrameSource(pl.DataFrame({
        "trip": list(days), "at": [(START + timedelta(days=day)).replace(tzinfo=None).isoformat() for day in days],
        "fare": ["dear" if day in broken else str(day + 0.5) for day in days], "late": [day % 2 == 0 for day in days],
    }))  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


def on_day(home: Home, day: int, source: Any, privacy: Privacy | None = KEPT) -> Any:
    Deployments(home).set_clock(START + timedelta(days=day))
    return ingest(source=source, roles=ROLES, home=home, loop="trips", privacy=privacy, max_bad=0.2)


def test_rows_that_are_too_old_are_never_written(home: Home) -> None:
    made = on_day(home, 50, trips(range(40)))

    assert Table(home, "trips", "rows").read()["trip"].to_list() == list(range(20, 40))
    assert "20 rows older than retention='30d' removed" in made.notes


@pytest.mark.parametrize("anew", [False, True])
def test_rows_that_have_become_too_old_go_from_every_file(home: Home, anew: bool) -> None:
    on_day(home, 20, trips(range(20), broken=(3,)))
    table = Table(home, "trips", "rows")
    files = {path.name for path in table.path.glob("*.parquet")}

    other_rules = Privacy(retention="30d", detect="off", generalize={"trip": 1})
    made = on_day(home, 40, trips(range(20), broken=(3,)), other_rules if anew else KEPT)

    assert table.read()["trip"].to_list() == list(range(10, 20)) and made.rows == 10
    assert not files & {path.name for path in table.path.glob("*.parquet")}
    held = pl.concat([pl.read_parquet(path) for path in table.path.glob("*.parquet")])
    assert held["trip"].min() == 10
    assert Table(home, "trips", "quarantine").read().height == 0


def test_records_that_are_too_old_lose_their_rows_and_labels(home: Home) -> None:
    records, shadows = Records(home, "trips"), Shadows(home, "trips")
    for day in (5, 25):
        at = START + timedelta(days=day)
        records.append([PredictionRecord(id=f"p{day}", at=at, key=day, unit=str(day), label=True, row={"trip": day})])
        records.append_feedback([FeedbackRecord(id=f"p{day}", label=True, at=at)])
        shown = ShadowRecord(id=f"p{day}", at=at, unit=str(day), label=True, row={"trip": day})
        shadows.append(ShadowBatch(version=2, revision=1, dropped=0, records=[shown]))
    records.close()
    shadows.close()

    on_day(home, 40, trips(range(20, 40)))

    old, young = Records(home, "trips").predictions()[0]
    assert (old.id, old.row, old.key, old.unit.strip()) == ("p5", {}, None, "") and young.row == {"trip": 25}
    assert [each.id.strip() for each in Records(home, "trips").feedback()[0]] == ["", "p25"]
    assert [batch.records[0].row for _, batch in Shadows(home, "trips").batches()] == [{}, {"trip": 25}]


def test_nothing_goes_while_all_is_young_and_each_day_is_looked_at_once(home: Home) -> None:
    first = on_day(home, 20, trips(range(20)))
    morning = position(trips(range(20)), home, "trips", KEPT)
    again = on_day(home, 20, trips(range(20)))
    Deployments(home).set_clock(START + timedelta(days=21))

    assert again == first and position(trips(range(20)), home, "trips", KEPT) != morning


def test_without_an_ingest_the_same_goes_once_it_is_asked_for(home: Home) -> None:
    on_day(home, 20, trips(range(20)))
    Deployments(home).set_clock(START + timedelta(days=40))

    said = enforce(home, "trips", KEPT, "at")

    assert said == "older than retention='30d': 10 rows and 0 predictions removed"
    assert Table(home, "trips", "rows").read()["trip"].to_list() == list(range(10, 20))
    assert enforce(home, "trips", KEPT, "at") == ""
    assert on_day(home, 40, trips(range(20))).rows == 10


def test_the_works_see_to_it_once_a_day_and_write_it_down(tmp_path: Path, trained: Path) -> None:
    shutil.copytree(trained, tmp_path / ".mainspring")
    home, began = Home.open(tmp_path / ".mainspring"), living.START
    Deployments(home).set_clock(began)
    living.serve(home, living.table(210).tail(10), began)
    declared = living.loop().declaration
    roles = replace(declared.roles, time="day")
    driven = living.drive(home, replace(declared, privacy=Privacy(retention="10d"), roles=roles))

    driven.controller.advance(began + timedelta(days=9))
    assert driven.decisions == [] or all(kind != "erase" for kind, _, _ in driven.decisions)
    driven.controller.advance(began + timedelta(days=11))

    assert [each for each in driven.decisions if each[0] == "erase"] == [("erase", "retention", "")]
    assert all(record.row == {} for record in Records(home, "late").predictions()[0])
