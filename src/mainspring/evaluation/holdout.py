"""The holdout's labels as arrays, with what measuring needs beside them: weights, clusters, subsets, the dummy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.values import Frame
from mainspring.statistics.metrics import Column, Metric, Predictions
from mainspring.statistics.weighted import Array, Codes


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The true labels of some rows; *weight* and *clusters* are None where every row counts once and stands alone."""

    target: Column
    weight: Array | None = None
    clusters: Codes | None = None

    def __len__(self) -> int:
        return len(self.target)

    def only(self, places: Codes) -> Labels:
        """The labels of the rows at *places*."""
        weight = None if self.weight is None else self.weight[places]
        return Labels(self.target[places], weight, None if self.clusters is None else self.clusters[places])

    def weighing(self, metric: Metric) -> Metric:
        """*metric* with these rows' weights inside it."""
        return metric if self.weight is None else metric.weighing(self.weight)


def labels(frame: Frame) -> Labels:
    """The labels of *frame*. Rows form clusters by the group, or by the key where rows repeat one."""
    roles = frame.roles
    weight = None if roles.weight is None else frame.data[roles.weight].cast(pl.Float64).fill_null(0.0).to_numpy()
    entity = roles.group or roles.key
    clusters = None
    if entity is not None and frame.data[entity].n_unique() < frame.data.height:
        clusters = np.unique(column(frame.data[entity]), return_inverse=True)[1].reshape(-1).astype(np.int64)
    return Labels(column(frame.data[roles.target]), weight, clusters)


def column(series: pl.Series) -> Column:
    """The values of *series* as numbers, booleans or text: never as Python objects, which can't be stored safely."""
    values = series.to_numpy()
    if values.dtype == object and series.dtype in (pl.String, pl.Categorical, pl.Enum):
        return np.array(series.to_list(), dtype=np.str_)
    return values.astype(np.float64) if values.dtype == object else values


def taken(predictions: Predictions, places: Codes) -> Predictions:
    """What was said about the rows at *places*."""
    return replace(
        predictions,
        labels=None if predictions.labels is None else predictions.labels[places],
        probabilities=None if predictions.probabilities is None else predictions.probabilities[places],
        values=None if predictions.values is None else predictions.values[places],
    )


def dummy(train: Frame, rows: int) -> Predictions:
    """What a model says about *rows* rows that knows only the training target: its classes' shares, or its mean."""
    known = labels(train)
    if train.task == "regression":
        mean = np.average(known.target.astype(np.float64), weights=known.weight)
        return Predictions(values=np.full(rows, mean))
    codes = Predictions(classes=train.classes).codes(known.target)
    shares = np.bincount(codes, known.weight, minlength=len(train.classes))[: len(train.classes)]
    return Predictions(probabilities=np.tile(shares / shares.sum(), (rows, 1)), classes=train.classes)


def as_stored(predictions: Predictions, classes: tuple[Any, ...]) -> Predictions:
    """The same predictions without Python objects, probabilities in the order of *classes* if both know the same."""
    said, known = predictions.labels, predictions.classes
    if said is not None and said.dtype == object:
        predictions = replace(predictions, labels=np.array(said.tolist()))
    if known == classes or set(known) != set(classes):
        return predictions
    order, shares = [known.index(name) for name in classes], predictions.probabilities
    return replace(predictions, classes=classes, probabilities=None if shares is None else shares[:, order])
