"""A loop that lives in a test: its rows, its traffic, and a controller whose turns end as the test says."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

import mainspring as ms
from mainspring.core.declarations import Declaration
from mainspring.loop.controller import Controller, Turned
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.records import FeedbackRecord, PredictionRecord, Records

START = datetime(2024, 3, 1, tzinfo=UTC)
TRAINED_ROWS = 200


def table(rows: int = TRAINED_ROWS) -> pl.DataFrame:
    """Trains, some of them late; the first rows are always the same."""
    random = np.random.default_rng(0)
    delay, load = random.normal(10, 6, 2_000), random.uniform(0, 1, 2_000)
    late = delay + 8 * load + random.normal(0, 3, 2_000) > 14
    city = random.choice(["Bern", "Oslo", "Rome"], 2_000)
    return pl.DataFrame({"train": range(2_000), "delay": delay, "load": load, "city": city, "late": late}).head(rows)


def loop(rows: int = TRAINED_ROWS, **changes: Any) -> ms.Loop:
    """The loop on so many rows of the table."""
    declared: dict[str, Any] = {"key": "train", "model": LogisticRegression(), "release": ms.Immediate(), **changes}
    return ms.Loop("late", data=ms.frame(table(rows)), target="late", **declared)


def serve(home: Home, rows: pl.DataFrame, at: datetime, *, label_after: timedelta | None = None) -> list[str]:
    """Records of champion 1's predictions for *rows*, with their true labels after a while; their ids."""
    records, said = Records(home, "late"), loop().predict(rows, home=home).tolist()
    predictions, labels = [], []
    for place, (row, label) in enumerate(zip(rows.iter_rows(named=True), said, strict=True)):
        name, truth = f"late-{at:%j}-{place}", row.pop("late")
        chances = [float(not label), float(label)]
        predictions.append(
            PredictionRecord(
                id=name, loop="late", version=1, at=at, key=row["train"], row=row, label=label, probabilities=chances,
                latency_ms=1.0,
            )
        )  # fmt: skip
        if label_after is not None:
            labels.append(FeedbackRecord(id=name, label=truth, at=at + label_after))
    records.append(predictions)
    if labels:
        records.append_feedback(labels)
    records.close()
    return [each.id for each in predictions]


DONE = Turned("r2", "done", "late@1", ("as good as before",), "", 0.1)


@dataclass
class Turns:
    """Turns that end as the test says: at once with *result*, by raising it, or never (None)."""

    result: Turned | BaseException | None = DONE
    asked: list[tuple[str, datetime]] = field(default_factory=list)
    running: list[Future[Turned]] = field(default_factory=list)

    def __call__(self, loop: str, now: datetime) -> Future[Turned]:
        self.asked.append((loop, now))
        future: Future[Turned] = Future()
        self.running.append(future)
        if isinstance(self.result, BaseException):
            future.set_exception(self.result)
        elif self.result is not None:
            future.set_result(self.result)
        return future


@dataclass
class Driven:
    """A controller, its turns and what it said."""

    controller: Controller
    turns: Turns
    said: list[str]

    @property
    def decisions(self) -> list[tuple[str, str, str]]:
        """(kind, decision, cause) of each decision since the controller was made."""
        found = Deployments(self.controller.home).decisions("late", after=self.known)
        return [(each.kind, each.decision, (each.data or {}).get("cause", "")) for each in found]

    known: int = 0


def drive(
    home: Home, declaration: Declaration, turns: Turns | None = None, *, changed: bool = False, manual: bool = True
) -> Driven:
    """A controller of *declaration*'s loop in *home*."""
    said: list[str] = []
    turns = turns or Turns()
    works = Controller(
        home, {declaration.name: declaration}, turn=turns, changed=lambda _: changed, manual=manual,
        endpoint="http://127.0.0.1:8700", say=said.append,
    )  # fmt: skip
    found = Deployments(home).decisions(declaration.name)
    return Driven(works, turns, said, found[-1].number if found else 0)
