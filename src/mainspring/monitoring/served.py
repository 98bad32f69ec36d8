"""What was served and what came of it: prediction records and late labels as columns that can be counted quickly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core.values import Task
from mainspring.statistics.metrics import Predictions
from mainspring.store.profile import Levels, Profile
from mainspring.store.records import latest

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """Predictions in the order of their records, with their labels where these have come.

    Times are seconds since 1970. *said* and *truth* are the class's position in *classes*, or the number in a
    regression; NaN where there is none. *rows* has the raw input columns of the profile; *extra* names columns that the
    contract doesn't know. *weight* is 1 / propensity of the label, where labels tell how likely they were to come.
    *times*: the rows' own, of the time column's type, where rows have one.
    """

    task: Task
    classes: tuple[Any, ...]
    at: Array
    version: npt.NDArray[np.int64]
    failed: Mask
    latency_ms: Array
    said: Array
    probabilities: Array | None
    truth: Array
    truth_at: Array
    rows: pl.DataFrame
    extra: tuple[str, ...] = ()
    weight: Array | None = None
    times: pl.Series | None = None

    @classmethod
    def of(
        cls,
        predictions: Sequence[Any],
        feedback: Iterable[Any],
        *,
        profile: Profile,
        task: Task,
        classes: Sequence[Any] = (),
        known: Iterable[str] = (),
        times: pl.Series | None = None,
    ) -> Served:
        """From `store.records`: PredictionRecords, and FeedbackRecords; of two labels for a prediction the last counts,
        from when the first was known: what was counted already isn't counted again.

        known: the columns of the contract; none given, none is reported as extra.
        """
        place = {label: float(index) for index, label in enumerate(classes)}
        labels = {each.id: (each.label, each.at.timestamp(), each.propensity) for each in latest(feedback).values()}
        told = [labels.get(each.id, (None, np.nan, None)) for each in predictions]
        weight = _floats(1 / (chance or 1.0) for _, _, chance in told)
        rows = [each.row for each in predictions]
        names = set(known)
        return cls(
            task=task,
            classes=tuple(classes),
            at=_floats(each.at.timestamp() for each in predictions),
            version=np.array([each.version for each in predictions], dtype=np.int64),
            failed=np.array([each.error is not None for each in predictions], dtype=bool),
            latency_ms=_floats(each.latency_ms for each in predictions),
            said=_floats(_coded(each.label, task, place) for each in predictions),
            probabilities=_matrix([each.probabilities for each in predictions], len(classes)),
            truth=_floats(_coded(label, task, place) for label, _, _ in told),
            truth_at=_floats(at for _, at, _ in told),
            rows=_raw(rows, profile),
            extra=tuple(sorted(set().union(*rows) - names)) if names and rows else (),
            weight=weight if (weight != 1).any() else None,
            times=times,
        )

    def __len__(self) -> int:
        return len(self.at)

    def where(self, mask: Mask) -> Served:
        """The predictions where *mask* is true."""
        return Served(
            self.task, self.classes, self.at[mask], self.version[mask], self.failed[mask], self.latency_ms[mask],
            self.said[mask], None if self.probabilities is None else self.probabilities[mask],
            self.truth[mask], self.truth_at[mask], self.rows.filter(pl.Series(mask)), self.extra,
            None if self.weight is None else self.weight[mask],
            None if self.times is None else self.times.filter(pl.Series(mask)),
        )  # fmt: skip

    def matured_at(self, label_delay: float) -> Array:
        """When each label may first be counted: the delay over and the label there; NaN where there is no label.

        A label that comes early doesn't count early: labels of one kind may come sooner than those of the other.
        """
        counted: Array = np.where(np.isnan(self.truth), np.nan, np.maximum(self.at + label_delay, self.truth_at))
        return counted

    @property
    def predictions(self) -> Predictions:
        """What the model said, for `statistics.metrics`: classes are their positions; all probabilities, or none."""
        if self.task == "regression":
            return Predictions(values=self.said)
        whole = self.probabilities is not None and not np.isnan(self.probabilities).any()
        classes = tuple(range(len(self.classes)))
        return Predictions(self.said, self.probabilities if whole else None, classes=classes)


def _floats(values: Iterable[Any]) -> Array:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _coded(label: Any, task: Task, place: Mapping[Any, float]) -> float | None:
    if label is None:
        return None
    return float(label) if task == "regression" else place.get(label, float(len(place)))


def _matrix(rows: Sequence[Sequence[float] | None], classes: int) -> Array | None:
    if not any(row is not None for row in rows):
        return None
    nothing = [np.nan] * classes
    return np.array([nothing if row is None else row for row in rows], dtype=float).reshape(len(rows), -1)


def _raw(rows: Sequence[Mapping[str, Any]], profile: Profile) -> pl.DataFrame:
    """The profile's columns; a value of another type than in training becomes missing."""
    columns = [
        pl.Series(
            each.name,
            [row.get(each.name) for row in rows],
            dtype=pl.String if isinstance(each, Levels) else pl.Float64,
            strict=False,
        )
        for each in profile
    ]
    return pl.DataFrame(columns)
