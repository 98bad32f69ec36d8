"""A source, a metric, a drift test and a features function of the user's own, and the suites that check them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

import mainspring as ms
from mainspring.core.protocols import Source
from mainspring.monitoring.drift import Drift, DriftTest
from mainspring.statistics.metrics import Column, Metric, Predictions, register
from mainspring.statistics.weighted import Weighted, mean
from mainspring.testing import check_drift_test, check_features, check_metric, check_source


class Meter:
    """A source needs no base class."""

    def position(self) -> int:
        return 2

    def read(self, since: Any) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"at": [1, 2], "value": [0.5, 0.7]})


def close(target: Column, said: Predictions) -> Weighted:
    return mean((said.errors(target) <= 15).astype(float))


def spread(reference: npt.NDArray[np.float64], current: npt.NDArray[np.float64]) -> Drift:
    return Drift(float(current.std() / (reference.std() or 1.0)))


def doubled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(double=pl.col("value") * 2)


source: Source = Meter()
test: DriftTest = spread
within = register(Metric("within_15", frozenset({"regression"}), True, "values", close))
loop = ms.Loop("meter", data=source, target="value", gate=ms.Gate(within), monitor=ms.Monitor(tests=[spread]))


def checks() -> None:
    check_source(source)
    check_metric(within)
    check_drift_test(spread)
    check_features(doubled, pl.DataFrame({"value": [0.5, 0.7]}))


def refused() -> None:
    check_drift_test(doubled)  # type: ignore[arg-type]
    check_metric("rmse")  # type: ignore[arg-type]
    Metric("within_15", frozenset({"regression"}), True, "value", close)  # type: ignore[arg-type]
