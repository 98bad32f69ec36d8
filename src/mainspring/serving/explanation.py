"""Contributions of the feature columns to an answer, for models that give them exactly and cheaply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import NotExplained
from mainspring.store.encoding import Encoding
from mainspring.store.lightgbm_text import LightgbmText

Array = npt.NDArray[np.float64]
Contribute = Callable[[Any], Array]
"""A matrix -> contributions, rows x outputs x (columns + 1): the last is the base, to which they add up the margin."""

_CLOSE = 1e-6


@dataclass(frozen=True, slots=True)
class Explainer:
    """Takes answers apart: base and contributions add up to the margin (log-odds, for most classifiers) or the number.

    classes: the labels, in the order of the model's own outputs; none for a number. Of two classes the second's margin
    is told, of more the predicted one's.
    """

    encoding: Encoding
    contribute: Contribute
    classes: Sequence[Any]

    def explain(self, matrix: Any) -> list[dict[str, Any]]:
        """For each row {"base": ..., "contributions": {column: ...}}, with the label that they speak for."""
        parts = self.contribute(matrix)
        margins = parts.sum(axis=2)
        told = np.argmax(margins, axis=1) if parts.shape[1] > 1 else np.zeros(len(parts), dtype=int)
        return [self._row(parts[row, place], place, parts.shape[1]) for row, place in enumerate(told.tolist())]

    def _row(self, parts: Array, place: int, outputs: int) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if self.classes:
            said["label"] = self.classes[place if outputs > 1 else -1]
        contributions: dict[str, float] = {}
        at = 0
        for column in self.encoding.columns:
            after = at + len(column.outputs)
            contributions[column.name] = float(parts[at:after].sum())
            at = after
        return {**said, "base": float(parts[-1]), "contributions": contributions}


def explainer(model: Any, encoding: Encoding, classes: Sequence[Any]) -> Explainer:
    """The explainer of a fitted *model*; raises NotExplained for one that has none."""
    name = type(model).__name__
    if encoding.kind == "named":
        raise NotExplained(f"{name} takes its columns by name; only linear models and boosters can be explained here")
    if type(model).__module__.startswith("xgboost."):
        return Explainer(encoding, lambda matrix: _xgboost(model, matrix), classes)
    if isinstance(model, LightgbmText) or type(model).__module__.startswith("lightgbm."):
        return Explainer(encoding, lambda matrix: _lightgbm(model, matrix), classes)
    if hasattr(model, "coef_") and hasattr(model, "intercept_"):
        return Explainer(encoding, lambda matrix: _linear(model, matrix), classes)
    raise NotExplained(
        f"explain=true is not available for {name}, which is neither linear nor of LightGBM or XGBoost; leave it out"
    )


def _linear(model: Any, matrix: Any) -> Array:
    """Coefficient times value; checked, for a model may do more than add up."""
    weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
    base = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64).reshape(-1), len(weights))
    parts = np.empty((len(matrix), len(weights), weights.shape[1] + 1))
    parts[:, :, :-1] = matrix[:, None, :] * weights
    parts[:, :, -1] = base
    said = np.asarray(getattr(model, "decision_function", model.predict)(matrix)).reshape(len(matrix), -1)
    sums = parts.sum(axis=2)
    if said.shape != sums.shape or not np.allclose(said, sums, rtol=_CLOSE, atol=_CLOSE):
        raise NotExplained(f"{type(model).__name__} has coefficients, but its answer is not their sum")
    return parts


def _xgboost(model: Any, matrix: Any) -> Array:
    import xgboost

    booster = model.get_booster()
    best = getattr(model, "best_iteration", None) if booster.attr("best_iteration") is not None else None
    trees = (0, 0) if best is None else (0, best + 1)
    rows = xgboost.DMatrix(matrix)  # a model fitted on a frame knows names, which our matrix doesn't carry
    parts = np.asarray(booster.predict(rows, pred_contribs=True, iteration_range=trees, validate_features=False))
    return parts.astype(np.float64).reshape(len(matrix), -1, matrix.shape[1] + 1)


def _lightgbm(model: Any, matrix: Any) -> Array:
    text = isinstance(model, LightgbmText)
    told = model.contributions(matrix) if text else model.booster_.predict(matrix, pred_contrib=True)
    return np.asarray(told, dtype=np.float64).reshape(len(matrix), -1, matrix.shape[1] + 1)
