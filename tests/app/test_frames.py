"""A table in memory, pandas or polars, and any kind of target: `loop.run()`, then `loop.predict(frame)`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.ensemble import IsolationForest, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import mainspring as ms
from mainspring.core.errors import MainspringError
from mainspring.store.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


TARGETS: dict[str, list[Any]] = {
    "binary": [False, True],
    "multiclass": ["high", "low", "middle"],
    "regression": [],
}


def table(task: str) -> dict[str, list[Any]]:
    """400 houses; what is to be predicted follows from the rooms, up to some noise."""
    random = np.random.default_rng(5)
    rooms, district = random.integers(1, 9, 400), random.choice(["east", "west"], 400)
    value = rooms + 2.0 * (district == "west") + random.normal(0, 0.3, 400)
    targets = {
        "binary": (value > 5.5).tolist(),
        "multiclass": np.select([value < 4, value < 7], ["low", "middle"], "high").tolist(),
        "regression": value.tolist(),
    }
    return {"rooms": rooms.tolist(), "district": district.tolist(), "worth": targets[task]}


@pytest.mark.parametrize("task", TARGETS)
@pytest.mark.parametrize("made", [pd.DataFrame, pl.DataFrame])
def test_a_frame_is_learnt_from_and_predicted(home: Home, made: Any, task: str) -> None:
    frame = made(table(task))
    model = Ridge() if task == "regression" else LogisticRegression()
    loop = ms.Loop("houses", data=frame, target="worth", model=model)

    done = loop.run(home=home)
    said = loop.predict(frame[["rooms", "district"]], home=home)

    assert done.status == "done" and done.model == "houses@1" and done.verdict.bundle.task == task
    assert list(done.verdict.bundle.classes) == TARGETS[task] and len(said) == 400
    known = np.array(table(task)["worth"])
    assert np.abs(said - known).mean() < 0.6 if task == "regression" else (said == known).mean() > 0.85
    assert task == "regression" or set(said.tolist()) == set(TARGETS[task])


# ------------------------------------------------------------------------------------------------------ odd columns

ODD: dict[str, Callable[[int], Any]] = {
    "zoned": lambda row: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=row),
    "decimal": lambda row: Decimal(row) / 4,
    "above_2_to_53": lambda row: 2**60 + row,
    "list": lambda row: [row, 1],
    "struct": lambda row: {"a": row},
    "duration": lambda row: timedelta(minutes=row),
    "clock": lambda row: time(row % 24, 30),
    "nothing": lambda row: None,
    "bytes": lambda row: b"x",
    "infinite": lambda row: float("inf") if row % 7 == 0 else float(row % 5),
    "größe in m²": lambda row: row % 11,
}


def odd(base: pl.DataFrame) -> pl.DataFrame:
    """Everything that a foreign table may hold beside numbers and text."""
    many = [pl.Series(name, [value(row) for row in range(base.height)]) for name, value in ODD.items()]
    return base.with_columns(
        *many,
        pl.Series("unsigned", [2**63 + row for row in range(base.height)], dtype=pl.UInt64),
        pl.col("district").cast(pl.Categorical).alias("category"),
        pl.col("district").cast(pl.Enum(["east", "west"])).alias("enum"),
        pl.col("rooms").cast(pl.Float32).alias("single"),
    )


def test_columns_of_any_type_are_learnt_from_or_left_out_alike_when_predicting(home: Home) -> None:
    frame = odd(pl.DataFrame(table("binary")))
    loop = ms.Loop("odd", data=frame, target="worth", model=LogisticRegression(max_iter=500))
    run = loop.run(home=home)
    said = loop.predict(frame.drop("worth"), home=home)

    left_out = {"list", "struct", "bytes"}
    assert run.model == "odd@1" and (said == frame["worth"].to_numpy()).mean() > 0.85
    assert {name for note in run.outputs["ingest"].notes for name in left_out if repr(name) in note} == left_out


TARGET_FAULTS: dict[str, tuple[Callable[[int], Any], str]] = {
    "lists": (lambda row: [row], "holds List"),
    "dates": (lambda row: date(2024, 1, 1) + timedelta(days=row), "holds times"),
    "names": (lambda row: f"person {row}", "has 400 classes in 400 rows"),
    "nothing": (lambda row: None, "target 'worth'"),
    "one value": (lambda row: 1, "target 'worth'"),
}


@pytest.mark.parametrize("fault", TARGET_FAULTS)
def test_a_target_that_can_not_be_learnt_is_named(home: Home, fault: str) -> None:
    value, said = TARGET_FAULTS[fault]
    frame = pl.DataFrame(table("binary")).with_columns(pl.Series("worth", [value(row) for row in range(400)]))

    with pytest.raises(MainspringError, match=said) as told:
        ms.Loop("odd", data=frame, target="worth", model=LogisticRegression()).run(home=home)
    assert "\n" not in str(told.value)


def test_rows_without_their_target_are_left_out(home: Home) -> None:
    frame = pl.DataFrame(table("binary")).with_columns(
        worth=pl.when(pl.int_range(pl.len()) % 8 == 0).then(None).otherwise("worth")
    )
    run = ms.Loop("gaps", data=frame, target="worth", model=LogisticRegression()).run(home=home)

    assert run.model == "gaps@1" and run.outputs["train"].classes == (False, True)
    assert run.outputs["train"].train_rows + run.outputs["evaluate"].rows == 350


# --------------------------------------------------------------------------------------------------- odd estimators


class Halves(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A person's own estimator: above or below the mean of the first column."""

    def fit(self, X: Any, y: Any) -> Halves:
        self.classes_, self.mean_ = np.unique(y), np.asarray(X)[:, 0].mean()
        return self

    def predict(self, X: Any) -> Any:
        return self.classes_[(np.asarray(X)[:, 0] > self.mean_).astype(int)]


@pytest.mark.parametrize(
    ("model", "metric"),
    [
        (GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}), None),
        (make_pipeline(StandardScaler(), KNeighborsClassifier()), None),
        (VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"), None),
        (StackingClassifier([("a", GaussianNB())]), None),
        (RidgeClassifier(), "accuracy"),
        (SVC(), "accuracy"),
        (Halves(), "accuracy"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_any_classifier_is_trained_and_served(home: Home, model: Any, metric: str | None) -> None:
    frame = pl.DataFrame(table("binary"))
    loop = ms.Loop("houses", data=frame, target="worth", model=model, gate=ms.Gate(metric))
    loop.run(home=home)

    assert (loop.predict(frame.drop("worth"), home=home) == frame["worth"].to_numpy()).mean() > 0.7


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (SVC(), "SVC gives no probabilities, which metric 'roc_auc' needs; wrap it, CalibratedClassifierCV"),
        (VotingClassifier([("a", GaussianNB())]), r"VotingClassifier\(..., voting='soft'\), or choose"),
        (KMeans(2), "KMeans is a clusterer, but the target makes this a binary task"),
        (IsolationForest(), "IsolationForest is an outlier detector"),
        (Ridge(), "Ridge is a regressor, but the target makes this a binary task"),
        (StandardScaler(), "has no fit and predict"),
        (LogisticRegression, "is a class; write an instance, LogisticRegression"),
        ([], "names no estimator"),
    ],
    ids=lambda each: getattr(type(each), "__name__", ""),
)
def test_an_estimator_that_can_not_do_the_task_is_named_with_the_mend(home: Home, model: Any, said: str) -> None:
    frame = pl.DataFrame(table("binary"))

    with pytest.raises(MainspringError, match=said):
        ms.Loop("houses", data=frame, target="worth", model=model).run(home=home)
