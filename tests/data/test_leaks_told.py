"""Leaks that can't be proven are told with their evidence: after the fact, across the split, by group, by name."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

import mainspring as ms
from mainspring.core.declarations import Roles
from mainspring.core.values import Frame
from mainspring.data.afterwards import came_with_the_label, later_times, names_rows, nearly_the_target
from mainspring.data.split import split

RNG = np.random.default_rng(0)
N = 600


def frame(**columns: Any) -> Frame:
    data = pl.DataFrame({"x": RNG.normal(size=N), "y": RNG.integers(0, 2, N), **columns})
    data = data.select(*[name for name in data.columns if name != "y"], "y")
    schema = pl.DataFrame(data).columns
    from mainspring.core.schema import Column, Schema, Type

    inputs = Schema(tuple(Column(name, Type.FLOAT) for name in schema if name != "y"))
    return Frame(data, Roles("y"), "binary", (0, 1), inputs, 0)


def said(prepared: Frame) -> str:
    return " | ".join(split(prepared, rule=ms.Split(), seed=0, loop="loop").train.notes)


def test_what_rows_without_a_label_lack_may_come_with_it() -> None:
    rows = pl.DataFrame({"y": [1, 0] * 50 + [None] * 50, "air_time": [3.0] * 100 + [None] * 50, "x": [1.0] * 150})

    (told,) = came_with_the_label(rows, Roles("y"))

    assert told == (
        "column 'air_time' is empty in 50 of 50 rows without a label and filled in 100 of 100 with one: if it comes "
        "with the label, write ignore=['air_time']"
    )
    assert not list(came_with_the_label(rows, Roles("y", ignore=("air_time",))))
    assert not list(came_with_the_label(rows.head(110), Roles("y")))  # ten rows are no evidence


def test_a_time_after_the_rows_own_is_told() -> None:
    start = [datetime(2020, 1, 1) + timedelta(hours=n) for n in range(100)]
    rows = pl.DataFrame({"at": start, "landed": [t + timedelta(hours=2) for t in start], "booked": [
        t - timedelta(days=2) for t in start], "y": [0, 1] * 50})  # fmt: skip

    (told,) = later_times(rows, Roles("y", time="at"))

    assert told.startswith("column 'landed' is later than 'at' in 100 % of the rows: unless it is a plan")
    assert not list(later_times(rows, Roles("y")))


def test_a_column_that_is_nearly_the_target_is_told() -> None:
    target = RNG.integers(0, 2, N)
    near = ["late" if (value if place % 50 else 1 - value) else "ok" for place, value in enumerate(target)]
    far = np.where(RNG.random(N) < 0.2, 1 - target, target)
    rows = pl.DataFrame({"y": target, "status": near, "far": far, "score": target + RNG.normal(scale=0.2, size=N)})
    after = rows.with_columns(paid=target * 9 + RNG.normal(size=N))

    (told,) = nearly_the_target(rows, Roles("y"))

    assert any("column 'paid' alone tells 'y' in nearly all" in said for said in nearly_the_target(after, Roles("y")))
    assert told.startswith("column 'status' alone tells 'y' in 588 of 600 rows: unless it is known when predicting")
    assert not list(nearly_the_target(rows, Roles("y", ignore=("status",))))


@pytest.mark.parametrize("gap", [None, float("nan")])
def test_a_number_that_parts_the_classes_is_told_where_it_has_gaps(gap: float | None) -> None:
    target = RNG.integers(0, 2, N)
    score = [gap if RNG.random() < 0.12 else float(value) for value in target + RNG.random(N)]
    rare = [None if RNG.random() < 0.6 else value for value in score]
    rows = pl.DataFrame({"y": target, "score": score, "rare": rare}, strict=False)

    (told,) = nearly_the_target(rows, Roles("y"))

    assert told.startswith("column 'score' alone tells 'y' in nearly all rows with a value, by one threshold")


@pytest.mark.parametrize(
    ("name", "values", "names"),
    [
        ("order_id", RNG.permutation(100), True),
        ("orderId", [f"o{n}" for n in range(100)], True),
        ("paid", RNG.permutation(100), False),
        ("humid", RNG.permutation(100), False),
        ("order_id", [1, *range(99)], False),
    ],
)
def test_a_column_that_is_called_an_id_and_never_repeats_names_rows(name: str, values: Any, names: bool) -> None:
    assert names_rows(pl.Series(name, values)) is names


def test_an_id_is_no_feature(prepared: Any) -> None:
    source = pl.DataFrame({"order_id": RNG.permutation(N), "x": RNG.normal(size=N), "y": RNG.integers(0, 2, N)})

    made = prepared(ms.frame(source), Roles("y"))

    assert made.inputs.names == ("x",)
    assert "column 'order_id' only names the rows: it is ignored" in made.notes


def test_rows_on_both_sides_of_the_split_are_told_where_they_surprise() -> None:
    once = frame()
    twice = replace(once, data=pl.concat([once.data, once.data.head(30)]))
    coarse = replace(once, data=once.data.with_columns(x=pl.Series(RNG.integers(0, 5, N)).cast(pl.Float64)))

    assert "holdout rows" in said(twice) and "are training rows too, in every feature" in said(twice)
    often = replace(once, data=pl.concat([once.data, once.data.head(N // 2)]))
    assert "are training rows too" in said(often)
    assert "training rows too" not in said(once) and "training rows too" not in said(coarse)


def test_a_group_that_shares_its_target_across_the_split_is_told() -> None:
    patient = np.arange(N) // 4
    sick = RNG.integers(0, 2, N // 4)[patient]
    grouped = frame(patient=[f"p{n}" for n in patient])
    grouped = replace(grouped, data=grouped.data.with_columns(y=pl.Series(sick)))
    amount = replace(grouped, task="regression", classes=(), data=grouped.data.with_columns(y=pl.Series(patient * 1.0)))

    assert "values of 'patient' have rows on both sides" in said(grouped) and "write group='patient'" in said(grouped)
    assert "write group='patient'" in said(amount)
    assert "group=" not in said(frame(city=[f"c{n % 50}" for n in range(N)]))
    by_group = replace(grouped, roles=Roles("y", group="patient"))
    assert "both sides" not in said(by_group)
