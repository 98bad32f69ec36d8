"""A home that serves a packaged model over 20 numeric columns."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from mainspring.core.declarations import Roles
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.values import Candidate
from mainspring.packaging.package import package
from mainspring.pipeline.reach import reach
from mainspring.store.deployments import Deployments, Route
from mainspring.store.encoding import Encoding
from mainspring.store.home import Home
from mainspring.store.profile import Profile

COLUMNS = tuple(f"x{place:02}" for place in range(20))
_START = datetime(2024, 1, 1, tzinfo=UTC)


def home(folder: Path, kind: str, versions: int = 1) -> Path:
    """*kind*: "linear", which ONNX answers, or "forest", which has a features function and answers in Python. The first
    of the *versions* is the champion."""
    made = Home.open(folder)
    draw = np.random.default_rng(0)
    rows = pl.DataFrame({name: draw.normal(size=2000) for name in COLUMNS})
    label = (rows["x00"] + rows["x01"] * rows["x02"] > 0).to_numpy().astype(int)
    forest = kind == "forest"
    encoding = Encoding.fit(rows, "filled" if forest else "scaled")
    inputs = Schema(tuple(Column(name, Type.FLOAT) for name in COLUMNS))
    deployments = Deployments(made)
    for number in range(versions):
        estimator = RandomForestClassifier(20, max_depth=6, random_state=number) if forest else _linear(number)
        fitted = estimator.fit(encoding.transform(rows), label)
        candidate = Candidate(
            model=fitted, encoding=encoding, estimator=type(fitted).__name__, parameters={}, task="binary",
            classes=(0, 1), inputs=inputs, roles=Roles("y"), metric="roc_auc", score=0.9, baseline=0.5, trials=(),
            profile=Profile.of(rows, inputs), sample=rows.head(32), train_rows=rows.height, dataset_version=1,
            holdout_id="h",
        )  # fmt: skip
        bundle = package(candidate, features=(), unit=None, loop="bench", home=made, code=reach([]), lineage={})
        deployments.register("bench", bundle, run="r", champion_digest=None, metrics={}, at=_START)
    deployments.change_route(Route("bench", 0, 1, None, None, 0.0, 0, _START, _START, "s", False), expected=0)
    return made.path


def _linear(number: int) -> LogisticRegression:
    return LogisticRegression(C=1.0 + number)
