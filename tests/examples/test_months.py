"""The flights' loop reads PostgreSQL month by month, each flight with the weather as of its departure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from mainspring.store.home import Home
from mainspring.store.tables import Table
from tests.data import servers

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"
MONTHS = [date(2013, month, 1) for month in (1, 2, 3)]
sys.path.insert(0, str(FLIGHTS))
try:
    import airline
finally:
    sys.path.remove(str(FLIGHTS))


def test_each_month_adds_its_flights_with_the_weather_as_of_their_departure(tmp_path: Path) -> None:
    with servers.postgres() as database:
        airline.create(database)
        versions = [read(database, tmp_path, month) for month in pairwise(MONTHS)]
    table = Table(Home.open(tmp_path / ".mainspring"), "late-flights", "rows")
    known = [table.read(version["version"]) for version in versions]

    assert versions[0]["rows"] > 20_000 and versions[1]["rows"] > versions[0]["rows"] + 20_000
    assert known[0].height == versions[0]["rows"] and known[1].head(known[0].height).equals(known[0])
    assert known[1].select("id", "wind_speed", "visib").equals(by_hand(known[1]))
    assert known[1]["wind_speed"].null_count() < 200


def read(database: str, folder: Path, month: tuple[date, date]) -> dict[str, Any]:
    """Add a *month* to the database and have the loop read it; the newest version of its data."""
    airline.add(database, *month)
    command = ["-m", "mainspring.app.cli", "--home", str(folder / ".mainspring")]
    python(database, *command, "run", str(FLIGHTS / "loop.py"), "--until", "validate", "--executor", "here")
    told = json.loads(python(database, *command, "data", "late-flights", "--json"))
    return max(told["versions"], key=lambda version: version["version"])  # type: ignore[no-any-return]


def by_hand(rows: pl.DataFrame) -> pl.DataFrame:
    """What polars joins from the files of the package."""
    joined = rows.select("id", "origin", "scheduled").sort("scheduled").join_asof(
        airline.weather(), left_on="scheduled", right_on="observed", by="origin", tolerance="3h",
        check_sortedness=False,
    )  # fmt: skip
    return joined.sort("id").select("id", "wind_speed", "visib")


def python(database: str, *arguments: str) -> str:
    environment = {**os.environ, "FLIGHTS_DB": database, "PYTHONPATH": os.pathsep.join([str(FLIGHTS), *sys.path])}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
