"""Since when predictions are worse, in the rows' own time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from mainspring.monitoring.onset import onset

FIRST = datetime(2020, 1, 1)


def lived(traffic: Any, effects: list[float]) -> Any:
    """A row an hour: of 300 rows each the truth follows what was learnt to the extent of an effect."""
    for day, effect in enumerate(effects):
        traffic.day(day, 300, effect=effect)
    served = traffic.served(traffic.watched())
    times = pl.Series("at", [FIRST + timedelta(hours=i) for i in range(len(served))], dtype=pl.Datetime("us"))
    return replace(served, times=times)


@pytest.mark.parametrize("probabilities", [True, False])
def test_an_abrupt_change_is_found_near_its_row(traffic: Any, probabilities: bool) -> None:
    served = lived(traffic, [1, 1, -1])
    found = onset(served if probabilities else replace(served, probabilities=None))

    assert found is not None and found.rows == pytest.approx(300, abs=30)
    assert datetime.fromisoformat(found.at) == FIRST + timedelta(hours=900 - found.rows)
    assert pl.Series([found.since]).cast(pl.Datetime("us"))[0] == datetime.fromisoformat(found.at)


def test_without_a_change_among_them_it_is_the_first_row(traffic: Any) -> None:
    found = onset(lived(traffic, [-1, -1]))

    assert found is not None and (found.rows, found.at) == (600, "2020-01-01 00:00")


def test_rows_without_a_time_have_no_onset(traffic: Any) -> None:
    served = lived(traffic, [1, -1])
    timeless = replace(served, times=pl.Series("at", [None] * len(served), dtype=pl.Datetime("us")))

    assert onset(replace(served, times=None)) is None and onset(timeless) is None
