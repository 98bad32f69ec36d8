"""Simulated traffic of a model whose probabilities were true in training."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from mainspring.core.schema import Column, Schema, Type
from mainspring.monitoring.report import Watched
from mainspring.monitoring.served import Served
from mainspring.store.profile import Profile
from mainspring.store.records import FeedbackRecord, PredictionRecord

START = datetime(2024, 3, 1, tzinfo=UTC)
SCHEMA = Schema((Column("temp", Type.FLOAT), Column("delay", Type.FLOAT), Column("city", Type.TEXT)))


@dataclass
class Traffic:
    """Predictions and labels of some days, from a seed. `day` adds one; `served` is what monitoring reads."""

    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    predictions: list[PredictionRecord] = field(default_factory=list)
    feedback: list[FeedbackRecord] = field(default_factory=list)

    def rows(self, many: int) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "temp": self.random.normal(15, 5, many),
                "delay": self.random.exponential(10, many),
                "city": self.random.choice(["Bern", "Oslo", "Rome", "Wien"], many, p=[0.4, 0.3, 0.2, 0.1]),
            }
        )

    def chance(self, rows: pl.DataFrame, effect: float = 1.0) -> np.ndarray:
        temp = (rows["temp"].fill_null(15.0).to_numpy() - 15) / 5
        return 1 / (1 + np.exp(-effect * (1.5 * temp + 0.5 * (rows["city"] == "Oslo").fill_null(False).to_numpy())))

    def day(
        self,
        number: int,
        many: int = 500,
        *,
        change: Any = None,
        effect: float = 1.0,
        version: int = 1,
        label_after: timedelta | None = timedelta(hours=2),
        failing: float = 0.0,
    ) -> Traffic:
        """*change*: moves the inputs; *effect*: what the truth became, as a part of what was learnt."""
        rows = self.rows(many)
        rows = rows if change is None else rows.with_columns(change)
        p = self.chance(rows)
        truth = self.random.random(many) < self.chance(rows, effect)
        failed = self.random.random(many) < failing
        first = len(self.predictions)
        for index, row in enumerate(rows.iter_rows(named=True)):
            at = START + timedelta(days=number, seconds=86_000 * (index + 1) / many)
            name = f"p{first + index}"
            answer = {} if failed[index] else {"label": bool(p[index] > 0.5), "probabilities": [1 - p[index], p[index]]}
            error = "features failed" if failed[index] else None
            latency = float(self.random.lognormal(1, 0.5))
            self.predictions.append(
                PredictionRecord(id=name, at=at, version=version, row=row, latency_ms=latency, error=error, **answer)
            )
            if label_after is not None and not failed[index]:
                self.feedback.append(FeedbackRecord(id=name, label=bool(truth[index]), at=at + label_after))
        return self

    def watched(self, version: int = 1, many: int = 20_000) -> Watched:
        profile = Profile.of(np_seeded(self, many), SCHEMA)
        reference = (0.8155, 0.8055, 0.8255)
        return Watched(
            "late", version, START, profile, "binary", (False, True), "roc_auc", reference, ("temp", "delay", "city")
        )

    def served(self, watched: Watched) -> Served:
        return Served.of(
            self.predictions,
            self.feedback,
            profile=watched.profile,
            task=watched.task,
            classes=watched.classes,
            known=watched.columns,
        )


def np_seeded(traffic: Traffic, many: int) -> pl.DataFrame:
    return Traffic(np.random.default_rng(99)).rows(many)


def end_of(day: int) -> datetime:
    return START + timedelta(days=day + 1)


@pytest.fixture
def traffic() -> Traffic:
    return Traffic()


@pytest.fixture
def end() -> Any:
    return end_of
