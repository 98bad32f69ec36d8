"""`mainspring erase` by hand: what it prints, its one object, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from mainspring.app.cli import cli
from mainspring.core.declarations import FrameSource, Roles
from mainspring.core.errors import NotInStore
from mainspring.core.privacy import Privacy
from mainspring.data.ingest import ingest
from mainspring.store.deployments import DECLARED, Deployments
from mainspring.store.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with the rows of five people."""
    opened, roles = Home.open(tmp_path / ".mainspring"), Roles("late", key="trip", subject="who")
    rows = pl.DataFrame(
        {"trip": range(50), "who": [f"person-{place % 5}" for place in range(50)], "late": [True, False] * 25}
    )
    ingest(source=FrameSource(rows), roles=roles, home=opened, loop="trips", privacy=Privacy(subject="who"))
    Deployments(opened).save_state("trips", DECLARED, {"roles": {"target": "late", "key": "trip", "subject": "who"}})
    return opened.path


def test_it_says_what_went_and_never_whom(home: Path) -> None:
    done = CliRunner().invoke(cli, ["--home", str(home), "erase", "person-3"], catch_exceptions=False)

    assert done.exit_code == 0 and "trips: rows: 10 of the data; 0 predictions" in done.output
    assert "person" not in done.output


def test_rows_of_others_that_name_the_subject_are_to_be_mended_and_never_removed(tmp_path: Path) -> None:
    home, roles = Home.open(tmp_path / ".mainspring"), Roles("late", key="trip", subject="who")
    rows = pl.DataFrame({"trip": [0, 1], "who": ["person-3", "other"], "by": ["x", "person-3"], "late": [True, False]})
    ingest(source=FrameSource(rows), roles=roles, home=home, loop="trips", privacy=Privacy(subject="who"))
    Deployments(home).save_state("trips", DECLARED, {"roles": {"target": "late", "key": "trip", "subject": "who"}})

    done = CliRunner().invoke(cli, ["--home", str(home.path), "erase", "person-3"], catch_exceptions=False)

    assert done.exit_code == 1 and "in rows that are about others: mend those in the source" in done.output
    assert "remove it" not in done.output


def test_what_another_loop_has_of_the_subject_goes_with_that_loops_rows(home: Path) -> None:
    opened, roles = Home.open(home), Roles("late", key="trip", subject="who")
    rows = pl.DataFrame({"trip": range(50), "who": [f"person-{place % 5}" for place in range(50)],
                         "fare": ["dear", *map(str, range(49))], "late": [True, False] * 25})  # fmt: skip
    ingest(source=FrameSource(rows), roles=roles, home=opened, loop="walks", privacy=Privacy(subject="who"))
    Deployments(opened).save_state("walks", DECLARED, {"roles": {"target": "late", "key": "trip", "subject": "who"}})

    done = CliRunner().invoke(cli, ["--home", str(home), "erase", "person-0"], catch_exceptions=False)

    assert done.exit_code == 0 and "still in" not in done.output
    assert "trips: rows: 10 of the data" in done.output
    assert "walks: rows: 9 of the data, 1 of table quarantine" in done.output


def test_as_json_it_is_one_object(home: Path) -> None:
    done = CliRunner().invoke(cli, ["--home", str(home), "erase", "person-3", "--loop", "trips", "--json"])

    told = json.loads(done.output)
    assert (told["schema"], told["status"]) == ("mainspring/erase@1", "done")
    assert told["loops"][0]["tables"] == {"rows": 10} and told["loops"][0]["left"] == []


def test_nobody_of_that_name_is_no_fault_and_an_unknown_loop_is(home: Path) -> None:
    nobody = CliRunner().invoke(cli, ["--home", str(home), "erase", "person-9"])
    unknown = CliRunner().invoke(cli, ["--home", str(home), "erase", "person-3", "--loop", "other"])

    assert nobody.exit_code == 0 and "rows: none" in nobody.output
    assert isinstance(unknown.exception, NotInStore) and "there are: trips" in str(unknown.exception)


def test_loops_that_dont_say_whom_a_row_is_about_are_named(home: Path) -> None:
    Deployments(Home.open(home)).save_state("visits", DECLARED, {"roles": {"target": "late", "subject": None}})

    done = CliRunner().invoke(cli, ["--home", str(home), "erase", "person-3"], catch_exceptions=False)

    assert done.exit_code == 0 and "not looked through" in done.output and done.output.endswith(": visits\n")
