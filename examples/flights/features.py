"""What is known when a flight leaves the gate, said so that a model can use it. Row-wise: one flight is enough."""

from __future__ import annotations

import polars as pl


def minutes(clock: str) -> pl.Expr:
    """Minutes after midnight of a column that writes 17:05 as 1705."""
    return pl.col(clock) // 100 * 60 + pl.col(clock) % 100


def features(flights: pl.DataFrame) -> pl.DataFrame:
    """Departure delay, time of day and week, planned duration, route, weather."""
    planned = (minutes("sched_arr_time") - minutes("sched_dep_time")) % 1440
    return flights.select(
        "dep_delay",
        "distance",
        "carrier",
        "origin",
        "dest",
        "wind_speed",
        "precip",
        "visib",
        hour=pl.col("scheduled").dt.hour(),
        weekday=pl.col("scheduled").dt.weekday(),
        planned=planned,
        speed=pl.col("distance") / planned.clip(1),
    )
