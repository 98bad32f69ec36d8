"""Small real candidates, trained here, for the tests of packaging and of the runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.values import Bundle, Candidate
from mainspring.packaging.package import package
from mainspring.pipeline.reach import reach
from mainspring.store.encoding import Encoding, Kind, apply_features
from mainspring.store.home import Home
from mainspring.store.keys import Keys
from mainspring.store.profile import Profile

SCHEMA = Schema(
    (
        Column("id", Type.INTEGER, nullable=False),
        Column("delay", Type.FLOAT),
        Column("distance", Type.INTEGER, nullable=False),
        Column("carrier", Type.TEXT),
        Column("holiday", Type.BOOLEAN),
        Column("scheduled", Type.DATETIME),
    )
)
ROLES = Roles("late", key="id", time="scheduled")


def flights(rows: int = 400, seed: int = 0) -> pl.DataFrame:
    """Raw rows with text, gaps, truth values and times."""
    random = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "id": np.arange(rows),
            "delay": random.normal(5, 10, rows).round(1),
            "distance": random.integers(100, 3000, rows),
            "carrier": random.choice(["AA", "UA", "DL"], rows),
            "holiday": random.random(rows) < 0.1,
            "scheduled": np.datetime64("2013-01-01T00:00", "us")
            + random.integers(0, 8760, rows) * np.timedelta64(1, "h"),
        }
    )
    gaps = pl.Series(random.random(rows) < 0.1)
    return frame.with_columns(
        delay=pl.when(gaps).then(None).otherwise("delay"),
        carrier=pl.when(gaps.shuffle(1)).then(None).otherwise("carrier"),
    )


def hours(rows: pl.DataFrame) -> pl.DataFrame:
    """A features function."""
    return rows.with_columns(hour=pl.col("scheduled").dt.hour(), longer=pl.col("distance") * 2.0)


def candidate(
    model: Any,
    *,
    kind: Kind = "filled",
    features: Sequence[Callable[[pl.DataFrame], pl.DataFrame]] = (hours,),
    classes: tuple[Any, ...] = (False, True),
) -> Candidate:
    """*model* fitted to flights, its target classes as positions in *classes* (none: a number)."""
    rows = flights()
    made = apply_features(features, rows).drop(ROLES.special, strict=False)
    encoding = Encoding.fit(made, kind)
    random = np.random.default_rng(1)
    strength = (
        rows["delay"].fill_null(0).to_numpy() / 10
        + (rows["distance"].to_numpy() > 1500)
        + random.normal(0, 0.5, rows.height)
    )
    edges = np.quantile(strength, np.linspace(0, 1, len(classes) + 1)[1:-1]) if classes else []
    target = np.digitize(strength, edges) if classes else strength
    model.fit(encoding.transform(made), target)
    task: Any = {0: "regression", 2: "binary"}.get(len(classes), "multiclass")
    return Candidate(
        model=model,
        encoding=encoding,
        estimator=type(model).__name__,
        parameters={"seed": 0},
        task=task,
        classes=classes,
        inputs=SCHEMA,
        roles=ROLES,
        metric="roc_auc",
        score=0.8,
        baseline=0.5,
        trials=(),
        profile=Profile.of(rows, SCHEMA, ROLES.special),
        sample=rows.head(200),
        train_rows=rows.height,
        dataset_version=3,
        holdout_id="h",
    )


def packed(home: Home, model: Any, *, features: Sequence[Any] = (hours,), **options: Any) -> tuple[Bundle, Candidate]:
    """A bundle of *model*, signed with the home's own keys, and the candidate it was made of."""
    trained = candidate(model, features=[item for item in features if not hasattr(item, "fit")], **options)
    bundle = package(
        trained,
        features=tuple(features),
        unit="id",
        loop="late-flights",
        home=home,
        code=reach((*features, trained.model)),
        lineage={"run": "r1"},
        keys=keys(home),
    )
    return bundle, trained


def keys(home: Home) -> Keys:
    """Signing keys of this test only."""
    return Keys(home.path / "keys")


def opened(path: Path) -> Home:
    return Home.open(path / ".mainspring")
