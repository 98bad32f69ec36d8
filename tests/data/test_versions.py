"""Versions: listed, compared, pinned; old ones go where nothing needs them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from mainspring.app.cli import cli
from mainspring.app.project import Loop
from mainspring.core import declarations as ms
from mainspring.core.declarations import Roles
from mainspring.core.errors import NotInStore
from mainspring.data.changes import changes
from mainspring.data.ingest import ingest
from mainspring.data.versions import Versions
from mainspring.loop import turn
from mainspring.store import gc, vacuum
from mainspring.store.home import Home
from mainspring.store.tables import Table

ROLES = Roles("late", key="id")
ROWS = pl.DataFrame({"id": range(100)}).with_columns(
    delay=pl.col("id") / 10, carrier=pl.lit("AA"), late=pl.col("id") % 3 == 0
)


def test_every_version_is_listed_with_what_made_it(home: Home, ingested: Any) -> None:
    ingested(ms.frame(ROWS.head(60)), ROLES, run="first")
    ingested(ms.frame(ROWS), ROLES, run="second")
    newest, oldest = Versions(home, "loop").all()

    assert (newest.version, newest.rows, newest.new, newest.run, newest.source) == (1, 100, 40, "second", "the frame")
    assert (oldest.version, oldest.rows, oldest.kept, oldest.run) == (0, 60, True, "first")
    assert datetime.now(UTC) - newest.at < timedelta(minutes=5)


def test_a_version_can_be_asked_for_whatever_the_source_has(home: Home, ingested: Any) -> None:
    first = ingested(ms.frame(ROWS.head(60)), ROLES)
    ingested(ms.frame(ROWS), ROLES)

    assert ingested(ms.csv("no such file.csv"), ROLES, version=0) == first
    with pytest.raises(NotInStore, match="loop has no data version 7; `mainspring data loop` lists them"):
        ingested(ms.frame(ROWS), ROLES, version=7)


def test_a_comparison_counts_rows_by_key_and_names_columns_and_shifts(home: Home, ingested: Any) -> None:
    ingested(ms.frame(ROWS.head(90)), ROLES)
    changed = ROWS.slice(10).with_columns(
        delay=pl.when(pl.col("id") < 30).then(100.0).otherwise("delay"), carrier=pl.lit("UA")
    )
    ingested(ms.frame(changed.with_columns(carrier=pl.when(pl.col("id") < 50).then(pl.lit("AA")).otherwise("carrier"))),
             ROLES)  # fmt: skip
    found = changes(home, "loop", 0, 1)

    assert (found.rows_before, found.rows, found.by) == (90, 90, ("id",))
    assert (found.added, found.removed, found.changed) == (10, 10, 60)
    assert found.shifts[0].column == "carrier" and found.shifts[0].psi > 0.5


def test_values_that_come_round_with_the_rows_looked_at_are_no_shift(
    home: Home, ingested: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainspring.data.changes.SAMPLE", 400)
    rows = pl.DataFrame({"id": range(1_600)}).with_columns(side=pl.col("id") % 2, late=pl.col("id") % 3 == 0)
    ingested(ms.frame(rows.head(600)), ROLES)
    ingested(ms.frame(rows), ROLES)

    assert not [shift for shift in changes(home, "loop", 0, 1).shifts if shift.psi > 0.1]


@pytest.mark.parametrize("key", ["id", None])
def test_a_reading_of_the_whole_counts_what_it_added_removed_and_changed(
    home: Home, ingested: Any, key: str | None
) -> None:
    roles = Roles("late", key=key)
    ingested(ms.frame(ROWS.head(90)), roles)
    ingested(
        ms.frame(ROWS.slice(10).with_columns(delay=pl.when(pl.col("id") < 30).then(9.5).otherwise("delay"))), roles
    )
    newest, oldest = Versions(home, "loop").all()

    assert (oldest.new, oldest.changed, oldest.removed) == (90, 0, 0)
    assert (newest.new, newest.changed, newest.removed) == ((10, 20, 10) if key else (30, 0, 30))


def test_a_comparison_without_a_key_counts_equal_rows(home: Home, ingested: Any) -> None:
    ingested(ms.frame(pl.concat([ROWS, ROWS.head(5)])), Roles("late"))
    ingested(ms.frame(pl.concat([ROWS.slice(2), ROWS.head(1)])), Roles("late"))
    found = changes(home, "loop", 0, 1)

    assert (found.added, found.removed, found.changed) == (0, 6, 0)


def test_many_small_versions_are_kept_in_few_files(home: Home, ingested: Any) -> None:
    for rows in range(1, 61):
        ingested(ms.frame(ROWS.head(rows)), ROLES)
    table = Table(home, "loop", "rows")

    assert table.version() == 59 and len(table.parts()) <= 25
    assert table.read().drop("_prediction").equals(ROWS.head(60))
    assert Versions(home, "loop").rows(Versions(home, "loop").pinned(30)).height == 31


def test_old_versions_go_but_not_what_is_needed(home: Home, ingested: Any) -> None:
    for number in range(4):
        ingested(ms.frame(ROWS.with_columns(delay=pl.lit(number / 2))), ROLES)
    orphan = Table(home, "loop", "rows").path / "part-of-a-killed-writer.parquet"
    orphan.write_bytes(b"half")
    later, now = datetime.now(UTC) + timedelta(days=1), datetime.now(UTC).timestamp() + 10

    assert not list(vacuum.unneeded(home, set(), datetime.now(UTC) - timedelta(days=1), 0.0))
    for path in vacuum.unneeded(home, {("loop", 1)}, later, now):
        path.unlink()

    assert not orphan.exists()
    assert [each.version for each in Versions(home, "loop").all() if each.kept] == [3, 1]
    assert Versions(home, "loop").rows(Versions(home, "loop").pinned(1)).height == 100
    with pytest.raises(NotInStore, match="rows of data version 0 of loop are gone; gc removes what is old"):
        Versions(home, "loop").pinned(0)


def test_gc_frees_old_data_and_keeps_the_datasets_of_kept_outputs(home: Home, ingested: Any) -> None:
    for number in range(3):
        ingested(ms.frame(ROWS.with_columns(delay=pl.lit(number / 2))), ROLES)
    document = json.dumps({"class": "mainspring.core.values:Dataset", "fields": {"loop": "loop", "version": 1}})

    assert vacuum.needed([document, "values:Frame"]) == {("loop", 1)}
    freed = gc.collect(home, keep_days=0, now=datetime.now(UTC) + timedelta(seconds=1))
    assert freed.data.count == 2 and freed.bytes >= freed.data.bytes > 0
    assert [each.kept for each in Versions(home, "loop").all()] == [True, False, False]


def test_a_pinned_loop_says_so_in_its_fingerprint_and_does_not_watch_the_source(home: Home) -> None:
    loop = Loop("flights", ms.csv("no such file.csv"), "late")
    ingest_of = {version: turn.steps(each.declaration)[0] for version, each in ((None, loop), (12, loop.at(12)))}

    assert ingest_of[12].parameters["version"] == 12 and "version" not in ingest_of[None].parameters
    bound = [turn.bind((ingest_of[version],), each.declaration, home)[0]
             for version, each in ((None, loop), (12, loop.at(12)))]  # fmt: skip
    assert bound[0] != ingest_of[None] and bound[1] == ingest_of[12]


@pytest.mark.parametrize("setting", ["data@=", "data@=x", "data@=-1"])
def test_a_version_that_is_no_number_is_refused(tmp_path: Path, setting: str) -> None:
    file = tmp_path / "loop.py"
    file.write_text("import mainspring as ms\nloop = ms.Loop('flights', ms.csv('rows.csv'), 'late')\n")
    done = CliRunner().invoke(cli, ["--home", str(tmp_path / ".mainspring"), "plan", str(file), "--set", setting])

    assert "must be a version's number: see mainspring data flights" in str(done.exception)


def test_the_command_lists_and_compares(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")
    for rows in (60, 100):
        ingest(source=ms.frame(ROWS.head(rows)), roles=ROLES, home=home, loop="flights")

    def run(*words: str) -> Any:
        return CliRunner().invoke(cli, ["--home", str(home.path), "data", *words])

    listed = json.loads(run("flights", "--json").output)
    assert listed["schema"] == "mainspring/data@1" and [each["version"] for each in listed["versions"]] == [1, 0]
    assert "the frame" in run("flights").output
    assert "by id: 40 added, 0 removed, 0 changed" in run("flights", "--diff", "0", "1").output
    compared = json.loads(run("flights", "--diff", "1", "0", "--json").output)
    assert (compared["status"], compared["removed"]) == ("done", 40)
    assert "loop 'flight' has no data" in str(run("flight").exception)
