"""A home with a packaged model over columns of every type: what the doors are compared on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from stand_in import Process

from mainspring.core.declarations import Roles
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.values import Candidate
from mainspring.packaging.package import package
from mainspring.pipeline.reach import reach
from mainspring.store.deployments import Deployments, Route
from mainspring.store.encoding import Encoding
from mainspring.store.home import Home
from mainspring.store.profile import Profile

START = datetime(2013, 4, 1)
INPUTS = Schema(
    (
        Column("delay", Type.FLOAT),
        Column("distance", Type.INTEGER),
        Column("carrier", Type.TEXT, levels=("AA", "UA", "Ü'<&")),
        Column("freight", Type.BOOLEAN),
        Column("scheduled", Type.DATETIME),
        Column("built", Type.DATE),
    )
)
ROWS: list[dict[str, Any]] = [
    {
        "delay": 12.25, "distance": 800, "carrier": "AA", "freight": False, "scheduled": "2013-04-01T05:15:00",
        "built": "1999-02-28",
    },
    {
        "delay": -3.0, "distance": 2475, "carrier": "Ü'<&", "freight": True, "scheduled": "2013-10-31T23:59:59.5",
        "built": "2010-12-31",
    },
    {"delay": None, "distance": None, "carrier": None, "freight": None, "scheduled": None, "built": None},
]  # fmt: skip


def bundled(folder: Path, model: Any = None, kind: Any = "scaled") -> Home:
    """A home in *folder* that serves *model* (a logistic regression), fitted, as flights@1."""
    made = Home.open(folder / "home")
    rows = table()
    late = (rows["delay"].fill_null(0) + rows["distance"].fill_null(900) / 100 > 25).to_numpy().astype(int)
    encoding = Encoding.fit(rows, kind)
    fitted = (model or LogisticRegression(max_iter=500)).fit(encoding.transform(rows), late)
    candidate = Candidate(
        model=fitted, encoding=encoding, estimator=type(fitted).__name__, parameters={}, task="binary",
        classes=("no", "yes"), inputs=INPUTS, roles=Roles("late", key="id"), metric="roc_auc", score=0.9, baseline=0.5,
        trials=(), profile=Profile.of(rows, INPUTS), sample=rows.head(20), train_rows=rows.height, dataset_version=1,
        holdout_id="h",
    )  # fmt: skip
    bundle = package(candidate, features=(), unit=None, loop="flights", home=made, code=reach([]), lineage={})
    deployments = Deployments(made)
    deployments.register("flights", bundle, run="r", champion_digest=None, metrics={}, at=_utc())
    deployments.change_route(Route("flights", 0, 1, None, None, 0.0, 0, _utc(), _utc(), "s", False), expected=0)
    return made


def table(rows: int = 600) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    some = draw.random(rows)
    frame = pl.DataFrame(
        {
            "delay": draw.normal(10, 20, rows).round(2),
            "distance": draw.integers(100, 3000, rows),
            "carrier": draw.choice(["AA", "UA", "Ü'<&"], rows),
            "freight": draw.choice([True, False], rows),
            "scheduled": [START + timedelta(hours=int(hours)) for hours in draw.integers(0, 8000, rows)],
            "built": [date(1990, 1, 1) + timedelta(days=int(days)) for days in draw.integers(0, 9000, rows)],
        }
    )
    gaps = pl.Series(some < 0.05)
    return frame.with_columns(pl.when(~gaps).then(pl.col(name)).alias(name) for name in frame.columns)


def _utc() -> datetime:
    return START.replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A real serving process over the logistic regression."""
    folder = tmp_path_factory.mktemp("doors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        process = Process(bundled(folder), bundles=True, max_body_bytes=1 << 20, max_rows=2000).ready()
        yield process
        said = process.stop()
    assert "Traceback" not in said, said
