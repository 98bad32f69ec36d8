"""A loop declared as a user would, checked by `mypy --strict`; an ignore marks what the checker must refuse."""

from typing import Any, assert_type

import polars as pl
from sklearn.ensemble import RandomForestClassifier

import mainspring as ms
from mainspring.core.declarations import CsvSource, FrameSource, Log, ParquetSource, SqlSource
from mainspring.core.values import Verdict
from mainspring.execution.planning import PlannedStep


def features(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(hour=pl.col("scheduled").dt.hour())


loop = ms.Loop(
    "late-flights",
    data=ms.sql("env:FLIGHTS_DB", "select * from flights", cursor="id"),
    target="late",
    key="id",
    time="scheduled",
    positive=True,
    ignore=["tail"],
    split=ms.Split(test=0.2, by="time", seed=1),
    features=features,
    model=[RandomForestClassifier(), "auto"],
    search=ms.Search({"max_depth": (3, 12), "C": ms.log(0.01, 10), "max_features": ["sqrt", 0.5]}, trials=8, folds=3),
    gate=ms.Gate("roc_auc", margin=0.01, slices=["carrier"], max_latency="5ms", on_inconclusive="hold"),
    release=ms.Canary(steps=(10, 50, 100), min_units=100, min_time="1d", guardrails=("errors", "wrong")),
    monitor=ms.Monitor(every="7d", label_delay="1d"),
    retrain=ms.Retrain(on=("decay",), every="60d", window="180d", cooldown="14d"),
    seed=13,
)
assert_type(loop, ms.Loop)
assert_type(loop.name, str)
assert_type(loop.pipeline, ms.Pipeline)
assert_type(ms.csv("rows.csv", separator=";"), CsvSource)
assert_type(ms.parquet("rows/*.parquet"), ParquetSource)
assert_type(ms.sql("flights.db", "flights"), SqlSource)
assert_type(ms.frame(pl.DataFrame({"y": [0, 1]})), FrameSource)
assert_type(ms.log(0.01, 0.3), Log)
assert_type(ms.__version__, str)


def turns() -> None:
    run = loop.run(pl.DataFrame({"late": [True, False]}), home="state")
    assert_type(run.id, str)
    assert_type(run.model, str | None)
    assert_type(run.verdict, Verdict | None)
    assert_type(run.reasons, tuple[str, ...])
    assert_type(run.metrics["roc_auc"], float)
    assert_type(loop.plan(), list[PlannedStep])
    assert_type(loop.predict(pl.DataFrame({"carrier": ["AA"]})), Any)
    assert_type(loop.on(ms.csv("more.csv")), ms.Loop)


def releases() -> None:
    ms.Loop("churn", data="rows.csv", target="y", release=ms.Immediate(), retrain=None)
    ms.Loop("churn", data=lambda: [{"y": 1}], target="y", release=ms.Manual())


def refused() -> None:
    ms.Loop("churn", data="rows.csv")  # type: ignore[call-arg]
    ms.Loop("churn", data="rows.csv", target="y", gate=0.9)  # type: ignore[arg-type]
    ms.Loop("churn", data="rows.csv", target="y", task="ranking")  # type: ignore[arg-type]
    ms.Split(test="0.2")  # type: ignore[arg-type]
    ms.Split(by="date")  # type: ignore[arg-type]
    ms.Gate(metric=3)  # type: ignore[arg-type]
    ms.Canary(guardrails=(5,))  # type: ignore[arg-type]
    ms.Retrain(on=("mood",))  # type: ignore[arg-type]
    ms.Monitor(tests=["wasserstein"])  # type: ignore[list-item]
    print(ms.unknown)  # type: ignore[attr-defined]
