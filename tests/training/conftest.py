"""Real tables as the split stage hands them over."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import datasets

from mainspring.core.declarations import Roles
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.values import Frame, Split

TYPES = {
    pl.Float64: Type.FLOAT,
    pl.Int64: Type.INTEGER,
    pl.String: Type.TEXT,
    pl.Boolean: Type.BOOLEAN,
    pl.Datetime("us"): Type.DATETIME,
}
ToSplit = Callable[..., Split]


def as_split(data: pl.DataFrame, roles: Roles, task: Any) -> Split:
    classes = () if task == "regression" else tuple(data[roles.target].unique().sort().to_list())
    columns = [Column(name, TYPES[dtype]) for name, dtype in data.schema.items() if name not in roles.hidden]
    frame = Frame(data, roles, task, classes, Schema(tuple(columns)), dataset_version=1)
    return Split(frame, frame, "random", "holdout")


@pytest.fixture
def to_split() -> ToSplit:
    return as_split


@pytest.fixture(scope="session")
def breast_cancer() -> Split:
    return _toy(datasets.load_breast_cancer(), "binary")


@pytest.fixture(scope="session")
def wine() -> Split:
    return _toy(datasets.load_wine(), "multiclass")


@pytest.fixture(scope="session")
def diabetes() -> Split:
    return _toy(datasets.load_diabetes(), "regression")


@pytest.fixture(scope="session")
def flights() -> pl.DataFrame:
    """Text, missing values, time stamps and a name that says nothing; late depends on delay, carrier and hour."""
    draw, rows = np.random.default_rng(7), 800
    hour = draw.integers(0, 24, rows)
    delay = draw.exponential(10, rows)
    carrier = draw.choice(["UA", "AA", "DL", "WN"], rows, p=[0.4, 0.3, 0.2, 0.1])
    late = delay + 8 * (carrier == "WN") + hour / 3 + draw.normal(0, 3, rows) > 16
    start = np.datetime64("2024-01-01", "us")
    return pl.DataFrame(
        {
            "id": [f"flight {number}" for number in range(rows)],
            "scheduled": start + draw.integers(0, 400, rows) * np.timedelta64(1, "D") + hour * np.timedelta64(1, "h"),
            "delay": [None if draw.random() < 0.1 else float(value) for value in delay],
            "carrier": [None if draw.random() < 0.05 else str(value) for value in carrier],
            "passenger": [f"person {number}" for number in range(rows)],
            "weight": draw.uniform(0.5, 2.0, rows),
            "late": np.where(late, "yes", "no"),
        }
    )


def _toy(bunch: Any, task: str) -> Split:
    names = [f"x{number}" for number in range(bunch.data.shape[1])]
    data = pl.DataFrame(bunch.data.astype(float), schema=names).with_columns(target=pl.Series(bunch.target))
    return as_split(data, Roles("target"), task)
