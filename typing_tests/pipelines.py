"""A free-form pipeline as a user would write it: a step stays the function that it was, with its own types."""

from collections.abc import Mapping
from typing import assert_type

import polars as pl

import mainspring as ms


def rows() -> pl.DataFrame:
    return pl.DataFrame({"x": [1, 2, 3], "y": [0, 1, 1]})


@ms.step
def clean(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop_nulls()


@ms.step(retries=3, backoff="1s")
def accuracy(clean: pl.DataFrame, least: float = 0.5) -> float:
    return clean.height * least


@ms.step(when=ms.at_least("accuracy", 0.8), effects=True)
def published(accuracy: float) -> str:
    return f"published at {accuracy}"


def months() -> list[str]:
    return ["2013-01", "2013-02"]


@ms.step(each={"month": "months"})
def monthly(month: str) -> int:
    return len(month)


assert_type(clean(rows()), pl.DataFrame)
assert_type(accuracy(rows(), least=1.0), float)
assert_type(monthly("2013-01"), int)

pipeline = ms.Pipeline("seed", [rows, clean, accuracy, published, months, monthly])


def runs() -> None:
    run = pipeline.run(least=0.9, home="state")
    assert_type(run.metrics, Mapping[str, float])
    assert_type(pipeline.name, str)


def refused() -> None:
    accuracy("rows")  # type: ignore[arg-type]
    ms.Pipeline("seed")  # type: ignore[call-arg]
    ms.at_least("accuracy", "high")  # type: ignore[arg-type]
