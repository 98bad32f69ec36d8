"""Real data sets, split and fitted, as the stages before evaluation would hand them over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from mainspring.core.declarations import Roles
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.values import Bundle, Evaluation, Frame, Split
from mainspring.statistics.intervals import interval
from mainspring.statistics.metrics import Predictions, metric

LOADERS = {"cancer": load_breast_cancer, "wine": load_wine, "diabetes": load_diabetes}
TASKS = {"cancer": "binary", "wine": "multiclass", "diabetes": "regression"}


@dataclass(frozen=True)
class Fitted:
    """A fitted scikit-learn estimator as `core.protocols.Model`; it remembers which columns it was given."""

    estimator: Any
    inputs: tuple[str, ...]
    seen: list[str]

    def predict(self, rows: pl.DataFrame) -> Predictions:
        self.seen[:] = rows.columns
        matrix = rows.select(self.inputs).cast(pl.Float64).to_numpy()
        if not hasattr(self.estimator, "classes_"):
            return Predictions(values=self.estimator.predict(matrix))
        shares = self.estimator.predict_proba(matrix) if hasattr(self.estimator, "predict_proba") else None
        return Predictions(self.estimator.predict(matrix), shares, classes=tuple(self.estimator.classes_.tolist()))


@dataclass
class Workbench:
    """Data sets and models of one test; `load` gives the models back by their digests."""

    models: dict[str, Any]

    def split(self, name: str, *, test: float = 0.4, roles: Roles | None = None, **extra: Any) -> Split:
        """The data set called *name*, seeded; *extra* columns are inputs too."""
        bunch = LOADERS[name]()
        inputs = [str(each).replace(" ", "_") for each in bunch.feature_names]
        data = pl.DataFrame(bunch.data, schema=inputs).with_columns(**extra, target=pl.Series(bunch.target))
        if name != "diabetes":
            data = data.with_columns(target=pl.Series(bunch.target_names[bunch.target].tolist(), dtype=pl.String))
        roles = roles or Roles("target")
        order = np.random.default_rng(0).permutation(data.height)
        cut = int(data.height * (1 - test))
        schema = Schema(tuple(Column(each, Type.FLOAT) for each in data.columns if each not in roles.hidden))
        classes = () if name == "diabetes" else tuple(sorted(data["target"].unique().to_list()))
        parts = [
            Frame(data[np.sort(side)], roles, TASKS[name], classes, schema, 3) for side in (order[:cut], order[cut:])
        ]
        return Split(parts[0], parts[1], "a seeded shuffle", "holdout-of-the-test")

    def bundle(self, estimator: Any, split: Split, digest: str, metric: str = "") -> Bundle:
        """*estimator* fitted on the training rows, known to `load` by *digest*."""
        frame = split.train
        inputs = tuple(name for name in frame.inputs.names if frame.data[name].dtype.is_numeric())
        known = Fitted(estimator, inputs, [])
        estimator.fit(frame.data.select(inputs).cast(pl.Float64).to_numpy(), frame.data["target"].to_numpy())
        self.models[digest] = known
        name = type(estimator).__name__
        return Bundle(digest, "clinic", name, "scikit-learn", frame.task, frame.classes, metric, 1_500_000)

    def load(self, digest: str) -> Any:
        return self.models[digest]


@pytest.fixture
def bench() -> Workbench:
    return Workbench({})


def judged(y: np.ndarray, candidate: Predictions, champion: Predictions | None = None, **changed: Any) -> Evaluation:
    """An evaluation of given predictions, as `evaluate` would make it, for what only the gate looks at."""
    task = "regression" if candidate.values is not None else "binary"
    name = changed.pop("metric", "rmse" if task == "regression" else "accuracy")
    of = metric(name, task)

    def scores(said: Predictions) -> dict[str, tuple[float, float, float]]:
        found = interval(of, y, said)
        return {name: (found.value, found.low, found.high)}

    fields: dict[str, Any] = {
        "bundle": Bundle("new", "sim", "Simulated", "onnx", task, candidate.classes, name, 2_000_000),
        "champion_digest": None if champion is None else "old",
        "metric": name,
        "metrics": scores(candidate),
        "champion_metrics": {} if champion is None else scores(champion),
        "baseline": 0.5,
        "slices": (),
        "calibration": None,
        "importance": (),
        "latency_ms": {"p50": 0.5, "p95": 1.0, "p99": 2.0},
        "rows": len(y),
        "holdout_id": "h1",
        "target": y,
        "weight": None,
        "clusters": None,
        "candidate": candidate,
        "champion": champion,
    }
    return Evaluation(**{**fields, **changed})


@pytest.fixture(scope="session")
def judge() -> Any:
    return judged
