"""What a version's rows are like, and how far they moved since the one before."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mainspring.core.declarations import Roles
from mainspring.core.schema import Schema
from mainspring.core.values import Dataset
from mainspring.data.contract import infer
from mainspring.data.quality import quality
from mainspring.evaluation import data_plots
from mainspring.store.home import Home


def rows(count: int = 1_000, shift: float = 0.0, city: str = "Oslo") -> pl.DataFrame:
    rng = np.random.default_rng(count)
    x = rng.normal(shift, 1, count)
    return pl.DataFrame(
        {
            "id": np.arange(count),
            "x": [None if n % 4 == 0 else float(value) for n, value in enumerate(x)],
            "double": 2 * x,
            "against": -x,
            "city": [[city, "Rome"][n % 2] for n in range(count)],
            "at": [datetime(2020, 1, 1) + timedelta(hours=n) for n in range(count)],
            "email": [f"a{n % 9}@x.org" for n in range(count)],
            "empty": pl.Series([None] * count, dtype=pl.Float64),
        }
    )


def described(home: Home, frame: pl.DataFrame, version: int) -> dict:  # type: ignore[type-arg]
    schema, _ = infer(frame, Roles("y"))
    personal = Schema(tuple(column if column.name != "email" else _personal(column) for column in schema))
    return quality(frame, Dataset("loop", version, frame.height, "d", personal), home, ("id", None))


def _personal(column):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    return replace(column, personal=True)


def test_gaps_distributions_and_correlations_are_told_and_nothing_personal(home: Home) -> None:
    found = described(home, rows(), 0)

    columns = {column["name"]: column for column in found["columns"]}
    assert columns["x"]["missing"] == 0.25 and sum(columns["x"]["counts"]) == 750
    assert columns["city"]["levels"] == ["Oslo", "Rome"] and columns["city"]["counts"] == [500, 500, 0]
    assert columns["at"]["kind"] == "moment" and columns["empty"]["kind"] == "hidden"
    assert "x.org" not in json.dumps(found)
    names, matrix = found["correlations"]["names"], found["correlations"]["matrix"]
    assert names == ["x", "double", "against"] and matrix[1][2] == pytest.approx(-1) and matrix[0][1] > 0.99
    assert found["since"] is None


def test_of_many_rows_values_that_come_round_are_all_seen(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mainspring.data.quality.ROWS", 500)
    columns = {column["name"]: column for column in described(home, rows(), 0)["columns"]}

    assert set(columns["city"]["levels"]) == {"Oslo", "Rome"} and sum(columns["city"]["counts"]) == 500


def test_the_version_before_tells_how_far_each_column_moved(home: Home) -> None:
    described(home, rows(), 3)

    same, other = described(home, rows(), 4), described(home, rows(2_000, shift=3.0, city="Bern"), 5)

    assert same["since"]["version"] == 3 and set(same["since"]["moved"].values()) == {0.0}
    moved = other["since"]["moved"]
    assert other["since"]["version"] == 4 and "id" not in moved and "email" not in moved
    assert moved["double"] > 0.8 and moved["city"] == pytest.approx(0.5) and moved["x"] < moved["double"]
    assert described(home, rows(), 4)["since"]["version"] == 3  # the same version again, not itself


def test_the_report_draws_what_there_is(home: Home) -> None:
    described(home, rows(), 0)
    found = described(home, rows(shift=1.0, city="<b>"), 1)

    table, plot = data_plots.columns(found), data_plots.correlations(found)

    assert table.count("<svg") == 6 and "&lt;b&gt;" in table and "<b>" not in table and "not shown" in table
    assert "moved since 0" in table and "double" in plot and "x.org" not in table
