"""The same folds for every candidate: rows encoded once per fold, estimators fitted and scored on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from mainspring.core.errors import TrainingError
from mainspring.core.quiet import heard
from mainspring.statistics.metrics import Metric, Predictions
from mainspring.store.encoding import Encoding, Kind
from mainspring.training.algorithms import Contender, last_step
from mainspring.training.rows import Array, Indices, TrainingRows

Fold = tuple[Indices, Indices]

_SMALL_CELLS = 500_000
"""Below, native threads gain nothing, and on a busy machine their waiting for each other costs a hundredfold."""
_CACHE_BYTES = 512 * 2**20
_FORESTS = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)


class Folds:
    """Training rows divided into folds, with the score of any estimator on each; greater is better."""

    def __init__(self, rows: TrainingRows, parts: Sequence[Fold], metric: Metric) -> None:
        self.rows, self.metric = rows, metric
        self.sign = 1.0 if metric.greater_is_better else -1.0
        scored = [(part, self._baseline(part)) for part in parts]
        usable = [(part, score) for part, score in scored if np.isfinite(score)]
        if not usable:
            raise TrainingError(
                f"none of {len(parts)} folds has the classes that metric {metric.name!r} needs on both sides; "
                "give more rows, fewer folds, or no search"
            )
        self.parts = [part for part, _ in usable]
        self.baseline = float(np.mean([score for _, score in usable]))
        left_out = len(parts) - len(usable)
        self.notes = [f"{left_out} of {len(parts)} folds lack a class and are left out"] if left_out else []
        self._encoded: dict[tuple[Kind, int], tuple[Any, Any]] = {}

    def __len__(self) -> int:
        return len(self.parts)

    def score(self, contender: Contender, parameters: Mapping[str, Any], fold: int) -> float:
        """The score of the contender with these parameters: fitted on the fold's training rows, tried on its others."""
        score = self.scored(fold, self.predicted(contender, parameters, fold))
        if not np.isfinite(score):
            raise TrainingError(f"metric {self.metric.name!r} is undefined for the predictions on fold {fold + 1}")
        return score

    def predicted(self, contender: Contender, parameters: Mapping[str, Any], fold: int) -> Predictions:
        """What the contender, fitted on the fold's training rows, says of its others."""
        inputs, others = self._matrices(contender.kind, fold)
        estimator = contender.build(parameters)
        with all_cores(estimator), native_threads(inputs), heard():  # of a trial nobody needs to know
            fit(estimator, inputs, *self.rows.at(self.parts[fold][0]))
            return predictions(estimator, others, self.rows, self.metric)

    def scored(self, fold: int, said: Predictions) -> float:
        """The score of what was said of the fold's test rows."""
        return self._scored(self.parts[fold][1], said)

    def _scored(self, test: Indices, said: Predictions) -> float:
        target, weight = self.rows.at(test)
        return self.sign * self.metric.function(target, said, weight)

    def _baseline(self, part: Fold) -> float:
        """The score of a model that always says the training rows' shares of classes, or their mean."""
        train, test = part
        if self.rows.classes and len(np.unique(self.rows.target[train])) < 2:
            return float("nan")
        return self._scored(test, prior(self.rows, train, len(test)))

    def _matrices(self, kind: Kind, fold: int) -> tuple[Any, Any]:
        """The fold's two sides, encoded by its training rows; kept for the next candidate while memory allows."""
        found = self._encoded.get((kind, fold))
        if found is None:
            train, test = (self.rows.features[rows] for rows in self.parts[fold])
            encoding = Encoding.fit(train, kind, self.rows.clean)
            found = self._encoded[kind, fold] = (encoding.transform(train), encoding.transform(test))
            while len(self._encoded) > 1 and sum(map(_bytes, self._encoded.values())) > _CACHE_BYTES:
                del self._encoded[next(iter(self._encoded))]
        return found


def _bytes(matrices: tuple[Any, Any]) -> int:
    return sum(int(np.prod(matrix.shape)) * 8 for matrix in matrices)


def prior(rows: TrainingRows, train: Indices, count: int) -> Predictions:
    """What a model that ignores its inputs predicts for *count* rows."""
    target, weight = rows.at(train)
    if not rows.classes:
        return Predictions(values=np.full(count, np.average(target, weights=weight)))
    shares = np.bincount(target, weight, minlength=rows.classes)
    probabilities = np.tile(shares / shares.sum(), (count, 1))
    return Predictions(probabilities=probabilities, classes=tuple(range(rows.classes)))


def fit(estimator: Any, inputs: Any, target: npt.NDArray[Any], weight: Array | None) -> None:
    """Fit *estimator*; weights go where they are accepted."""
    key = None if weight is None else weight_key(estimator)
    estimator.fit(inputs, target, **({} if key is None else {key: weight}))


def native_threads(inputs: Any) -> AbstractContextManager[Any]:
    """OpenMP's and BLAS's threads held back while an estimator works on few cells."""
    if np.prod(inputs.shape) >= _SMALL_CELLS:
        return nullcontext()
    limited: AbstractContextManager[Any] = _native_libraries().limit(limits=1)
    return limited


@cache
def _native_libraries() -> Any:
    return ThreadpoolController()  # looks through the loaded libraries: 5 ms that needn't be paid at each fit


def weight_key(estimator: Any) -> str | None:
    """The name under which `fit` takes weights; None where it takes none."""
    if isinstance(estimator, Pipeline):
        step, last = estimator.steps[-1]
        return f"{step}__sample_weight" if has_fit_parameter(last, "sample_weight") else None
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None


def predictions(estimator: Any, inputs: Any, rows: TrainingRows, metric: Metric) -> Predictions:
    """What a fitted *estimator* says, as far as *metric* needs it; classes are their indices."""
    if not rows.classes:
        return Predictions(values=np.asarray(estimator.predict(inputs), dtype=np.float64).reshape(-1))
    classes = tuple(range(rows.classes))
    if metric.needs != "probabilities":
        return Predictions(labels=np.asarray(estimator.predict(inputs)).reshape(-1), classes=classes)
    given = np.asarray(estimator.predict_proba(inputs), dtype=np.float64)
    probabilities = np.zeros((len(given), rows.classes))
    probabilities[:, np.asarray(getattr(estimator, "classes_", classes), dtype=np.intp)] = given
    return Predictions(probabilities=probabilities, classes=classes)


@contextmanager
def all_cores(estimator: Any) -> Iterator[None]:
    """For a while a forest, where the user left n_jobs open, uses every core; boosting does so by itself.

    Afterwards it doesn't: one row is predicted faster without threads. Only what works in threads: processes would
    copy the rows.
    """
    part = last_step(estimator)
    if not isinstance(part, _FORESTS) or part.n_jobs is not None:
        yield
        return
    part.n_jobs = joblib.cpu_count()
    try:
        yield
    finally:
        part.n_jobs = None
