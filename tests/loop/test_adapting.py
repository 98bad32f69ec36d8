"""A relation that turns over one day: from the report that sees it to a version that has learnt it."""

from __future__ import annotations

import math
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from living import START, drive
from sklearn.linear_model import LogisticRegression

import mainspring as ms
from mainspring.app.running import Surroundings
from mainspring.core.declarations import Declaration
from mainspring.store.deployments import ONSET, Deployments
from mainspring.store.home import Home
from mainspring.store.records import FeedbackRecord, PredictionRecord, Records

OLD, SAME, TURNED, HOUR = 600, 100, 200, timedelta(hours=1)
FIRST = datetime(2020, 1, 1)


def table() -> pl.DataFrame:
    """Rows of an hour each; of the last ones the label says the contrary."""
    random, rows = np.random.default_rng(0), OLD + SAME + TURNED
    x, noise = random.normal(size=rows), random.normal(0, 0.5, rows)
    turned = np.arange(rows) >= OLD + SAME
    return pl.DataFrame({"at": [FIRST + i * HOUR for i in range(rows)], "x": x, "y": (x + noise > 0) ^ turned})


def loop(**retrain: Any) -> ms.Loop:
    return ms.Loop(
        "late", data=ms.frame(table().head(OLD)), target="y", time="at", model=LogisticRegression(),
        release=ms.Immediate(), retrain=ms.Retrain(min_labels=SAME + TURNED, **retrain),
    )  # fmt: skip


def live(home: Home, rows: pl.DataFrame) -> None:
    """Predictions of *rows* as the champion learnt to make them, with their labels."""
    records, predictions, labels = Records(home, "late"), [], []
    for place, row in enumerate(rows.iter_rows(named=True)):
        name, truth, at = f"p{place}", row.pop("y"), START + timedelta(minutes=place + 1)
        row["at"], chance = row["at"].isoformat(), 1 / (1 + math.exp(-4 * row["x"]))
        predictions.append(
            PredictionRecord(
                id=name, loop="late", version=1, at=at, row=row, label=chance > 0.5,
                probabilities=[1 - chance, chance], latency_ms=1.0,
            )
        )  # fmt: skip
        labels.append(FeedbackRecord(id=name, label=truth, at=at))
    records.append(predictions)
    records.append_feedback(labels)
    records.close()


def turn(home: Home, declared: ms.Loop) -> Any:
    return declared.start(Surroundings(home, clock=lambda: START + timedelta(days=2)), {})


def reported(home: Home, declaration: Declaration) -> str:
    """What is decided a day after the first version began."""
    Deployments(home).set_clock(START)
    works = drive(home, declaration)
    works.controller.tick(START)
    works.controller.tick(START + timedelta(days=1))
    return next(each.reason for each in Deployments(home).decisions("late") if each.kind == "retrain")


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose first champion has met rows of both kinds."""
    folder = tmp_path_factory.mktemp("turned") / ".mainspring"
    home = Home.open(folder)
    loop().start(Surroundings(home, clock=lambda: START), {})
    live(home, table().tail(SAME + TURNED))
    home.database.close()
    return folder


@pytest.fixture
def home(lived: Path, tmp_path: Path) -> Home:
    shutil.copytree(lived, tmp_path / ".mainspring")
    return Home.open(tmp_path / ".mainspring")


def test_after_a_decay_the_turn_learns_what_has_changed_and_the_next_one_is_cached(home: Home) -> None:
    reason = reported(home, loop().declaration)
    run, again = turn(home, loop()), turn(home, loop())

    onset = Deployments(home).load_state("late", ONSET)
    began = datetime.fromisoformat(onset["at"])
    assert abs(began - table()["at"][OLD + SAME]) <= 6 * HOUR and f"worse since rows of about {onset['at']}" in reason
    assert run.model == "late@2" and run.metrics["roc_auc"] > 0.8, run
    split, candidate = run.outputs["split"], run.outputs["train"]
    assert split.onset.at == onset["at"] and split.holdout.data["at"].min() > split.train.data["at"].max()
    assert candidate.train_rows <= TURNED / 2 + 6 and any(
        "only the" in note and "since then" in note for note in candidate.notes
    )
    assert all(step.state == "cached" for step in again.steps)


def test_a_window_of_the_newest_rows_learns_it_without_a_report(home: Home) -> None:
    plain, windowed = turn(home, loop()), turn(home, loop(window=f"{TURNED}h"))

    assert plain.metrics["roc_auc"] < 0.5 and windowed.metrics["roc_auc"] > 0.8
    assert windowed.outputs["train"].train_rows == 0.8 * TURNED
