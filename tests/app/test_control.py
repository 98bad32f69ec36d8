"""The controller's process: turns in processes of their own, what counts as changed, and the clock that goes on."""

from __future__ import annotations

import importlib
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from mainspring.app import config, control, supervisor
from mainspring.app.files import load
from mainspring.app.project import Loop
from mainspring.core.errors import UsageError
from mainspring.loop.controller import Turned
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home

NOW = datetime(2024, 1, 1, tzinfo=UTC)
LOOP = """
import os
from pathlib import Path

from sklearn.tree import DecisionTreeClassifier

import mainspring as ms

FOLDER = Path(__file__).parent

def rows():
    if (FOLDER / "kill").exists():
        os._exit(9)
    return {rows}

visits = ms.Loop("visits", data=rows, target="buys", model=DecisionTreeClassifier(max_depth={depth}))
"""
TABLE = "[{'minutes': n % 17, 'pages': n % 11, 'buys': int(n % 17 + n % 11 > 13)} for n in range(100)]"


def declare(folder: Path, *, rows: str = TABLE, depth: int = 2) -> Path:
    path = folder / "visits_loop.py"
    path.write_text(LOOP.format(rows=rows, depth=depth))
    importlib.invalidate_caches()
    return path


def only(path: Path) -> Loop:
    (found,) = load(str(path))
    assert isinstance(found, Loop)
    return found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


def test_a_turn_tells_how_it_went_and_lives_by_the_loops_clock(home: Home, tmp_path: Path) -> None:
    turned = control.run_turn(str(declare(tmp_path)), "visits", str(home.path), None, NOW)

    assert (turned.status, turned.model, turned.error) == ("done", "visits@1", "") and turned.reasons
    assert Deployments(home).version("visits", 1).at == NOW


def test_a_turn_that_fails_says_why_on_one_line(home: Home, tmp_path: Path) -> None:
    turned = control.run_turn(str(declare(tmp_path, rows="[]")), "visits", str(home.path), None, NOW)

    assert (turned.status, turned.model) == ("failed", None)
    assert "function 'rows' has no rows" in turned.error and "\n" not in turned.error


def test_a_loop_that_left_its_file_is_named(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no Loop 'hits' any more; put it back, or stop `mainspring up`"):
        control.run_turn(str(declare(tmp_path)), "hits", str(home.path), None, NOW)


def test_a_step_process_that_dies_ends_its_turn_and_the_next_has_the_code_of_now(home: Home, tmp_path: Path) -> None:
    path = declare(tmp_path)
    (tmp_path / "kill").touch()
    turns = control.Turns({"visits": str(path)}, home.path, None)

    with pytest.raises(BrokenProcessPool):
        turns("visits", NOW).result(60)
    (tmp_path / "kill").unlink()
    declare(tmp_path, rows="[{'minutes': 1, 'pages': 2}]")
    turned = turns("visits", NOW).result(60)
    turns.stop()

    assert isinstance(turned, Turned) and "target='buys' is no column" in turned.error


def test_only_what_a_person_wrote_counts_as_changed(home: Home, tmp_path: Path) -> None:
    path = declare(tmp_path)
    assert control._changed(only(path), home)
    control.run_turn(str(path), "visits", str(home.path), None, NOW)
    assert not control._changed(only(path), home)

    declare(tmp_path, depth=3)
    assert control._changed(only(path), home)


def test_new_rows_alone_are_the_policys_business(home: Home, tmp_path: Path) -> None:
    pl.DataFrame(eval(TABLE)).write_csv(tmp_path / "visits.csv")
    path = tmp_path / "csv_loop.py"
    path.write_text(
        "import mainspring as ms\nfrom sklearn.tree import DecisionTreeClassifier\n"
        f"visits = ms.Loop('visits', data=ms.csv({str(tmp_path / 'visits.csv')!r}), target='buys',"
        " model=DecisionTreeClassifier(max_depth=2))\n"
    )
    control.run_turn(str(path), "visits", str(home.path), None, NOW)
    pl.DataFrame(eval(TABLE) * 2).write_csv(tmp_path / "visits.csv")

    assert not control._changed(only(path), home)


def test_a_manual_clock_starts_once_and_goes_on_and_the_systems_clock_takes_over(home: Home) -> None:
    deployments = Deployments(home)

    supervisor._set_clock(home, "2024-01-01T00:00:00", manual=True)
    assert deployments.clock() == NOW
    deployments.set_clock(NOW + timedelta(days=3))
    supervisor._set_clock(home, "2024-01-01T00:00:00+00:00", manual=True)
    assert deployments.clock() == NOW + timedelta(days=3)
    supervisor._set_clock(home, None, manual=False)
    assert deployments.clock() is None


def test_a_manual_clock_stands_before_anybody_is_served(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(supervisor, "_supervise", lambda *_: found.append(Deployments(home).clock()) or 0)
    settings = config.read(home=str(home.path), port=0, control_port=0)

    assert supervisor.up(["visits.py"], ["visits"], settings, manual_clock=True, now="2024-01-01") == 0

    assert found == [NOW]
