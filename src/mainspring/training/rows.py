"""The training rows as estimators take them: feature columns, target and weights; and a sample of the raw rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core.cleaning import Clean
from mainspring.core.errors import DeclarationError, TrainingError
from mainspring.core.values import Frame, Task
from mainspring.store.encoding import apply_features
from mainspring.training.made_up import made_up

Indices = npt.NDArray[np.intp]
Array = npt.NDArray[np.float64]

SAMPLE_ROWS = 10_000
"""The rows on which the packed model must answer as the fitted one did."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingRows:
    """target: class indices (of *classes* there are so many), or numbers where classes is 0. clean: how the features
    are cleaned, which is learnt anew wherever an encoding is."""

    features: pl.DataFrame
    target: npt.NDArray[Any]
    weight: Array | None
    task: Task
    classes: int
    clean: tuple[Clean, ...] = ()

    def at(self, rows: Indices) -> tuple[npt.NDArray[Any], Array | None]:
        """Target and weight of these rows."""
        return self.target[rows], None if self.weight is None else self.weight[rows]


def training_rows(frame: Frame, features: Sequence[Any], clean: tuple[Clean, ...] = ()) -> TrainingRows:
    """The rows of *frame* after the functions of *features*; columns with a role of their own are no features."""
    made = apply_features(features, frame.data.drop(frame.roles.hidden, strict=False))
    made = made.drop(frame.roles.special, strict=False)
    if not made.width:
        raise TrainingError("no feature column is left beside target, key, time and group; name more columns in data=")
    return TrainingRows(made, _target(frame), _weight(frame), frame.task, len(frame.classes), clean)


def transformers(features: Sequence[Any]) -> tuple[Any, ...]:
    """The scikit-learn transformers of *features*, which come after its functions; they become part of the model."""
    found: list[Any] = []
    for item in features:
        if isinstance(item, type):
            raise DeclarationError(f"features={item.__name__} is a class; write an instance, {item.__name__}()")
        if hasattr(item, "fit") and hasattr(item, "transform"):
            found.append(item)
        elif not callable(item):
            raise DeclarationError(f"features={item!r} is neither a function nor a scikit-learn transformer")
        elif found:
            name = getattr(item, "__name__", repr(item))
            raise DeclarationError(
                f"features: function {name!r} stands after {type(found[-1]).__name__}; write functions first"
            )
    return tuple(found)


def sample(frame: Frame, target: npt.NDArray[Any], seed: int) -> pl.DataFrame:
    """Some raw input rows in their order, drawn by *seed*; each class is there while there is room.

    Where rows are about people they are nobody's."""
    if frame.roles.subject is not None:
        return made_up(frame, min(SAMPLE_ROWS, frame.data.height), seed)
    drawn = np.random.default_rng(seed).permutation(len(target))
    if frame.classes:
        first = np.unique(target[drawn], return_index=True)[1]
        drawn = np.concatenate([drawn[first], np.delete(drawn, first)])
    raw: pl.DataFrame = frame.data.select(frame.inputs.names)[np.sort(drawn[:SAMPLE_ROWS])]
    return raw


def _target(frame: Frame) -> npt.NDArray[Any]:
    values: pl.Series = frame.data.get_column(frame.roles.target)
    if frame.task != "regression":
        values = values.replace_strict(list(frame.classes), list(range(len(frame.classes))), return_dtype=pl.Int64)
    target: npt.NDArray[Any] = values.cast(pl.Float64 if frame.task == "regression" else pl.Int64).to_numpy()
    if frame.task == "regression":
        return target
    present = np.unique(target)
    if len(present) < 2:
        only = frame.classes[int(present[0])] if len(present) else None
        raise TrainingError(
            f"all training rows have {frame.roles.target} = {only!r}; a classifier needs rows of two classes at least"
        )
    return target


def _weight(frame: Frame) -> Array | None:
    name = frame.roles.weight
    if name is None:
        return None
    weight: Array = frame.data.get_column(name).cast(pl.Float64, strict=False).to_numpy()
    bad = int((~(np.isfinite(weight) & (weight >= 0))).sum())
    if bad or not weight.sum():
        raise TrainingError(
            f"weight column {name!r} has {bad:,} rows that are missing, negative or infinite, or only 0"
        )
    return weight
