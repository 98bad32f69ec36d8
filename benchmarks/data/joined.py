"""A point-in-time join of 5 million rows with 1 million, against polars' `join_asof` of the same rows; both sort."""

from __future__ import annotations

import sys
from statistics import median

from benchmarks.data.load import measured
from benchmarks.timing import row

ROWS, TOLD, RUNS = 5_000_000, 1_000_000, 3
_SIDES = """
from datetime import datetime, timedelta
import numpy as np
import polars as pl
from mainspring.core.joins import Join
from mainspring.store.lookups import looked_up
random = np.random.default_rng(0)
def side(rows, time, value):
    at = random.integers(0, 30_000_000, rows).astype("timedelta64[s]") + np.datetime64("2013-01-01", "us")
    return pl.DataFrame(dict(key=random.integers(0, 2_000, rows), **{{time: at, value: np.arange(rows)}}))
left, right = side({rows}, "at", "id"), side({told}, "told", "temp")
"""
_POLARS = """
found = left.sort("at").join_asof(right.sort("told"), left_on="at", right_on="told", by="key",
                                  tolerance=timedelta(hours=2), check_sortedness=False)
assert found.height == {rows}
"""
_OURS = """
found = looked_up(left, right, Join(None, None, ("key",), "at", "told", within=7200.0))
assert found.height == {rows}
"""


def main(count: int = ROWS) -> None:
    told = {"rows": count, "told": count * TOLD // ROWS}
    taken: dict[str, list[float]] = {"polars": [], "ours": []}
    for _ in range(RUNS):
        for name, work in (("polars", _POLARS), ("ours", _OURS)):
            taken[name].append(measured(_SIDES.format(**told), work.format(**told))[0])
    floor, ours = (median(found) for found in taken.values())
    row(f"join: polars' join_asof of {count:,} x {told['told']:,} rows", floor, "s")
    row("join: as of a time, rows kept in their order", ours, "s")
    row("join: of polars' time", ours / floor, "x", at_most=2)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
