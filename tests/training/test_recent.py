"""After a decay: which training rows are learnt from is tried, not taken for granted."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from mainspring.core.declarations import Roles
from mainspring.core.values import Onset, Split
from mainspring.training.recent import recent_alone

START, ROWS, RECENT = datetime(2020, 1, 1), 600, 120
AT = pl.datetime_range(START, START + timedelta(hours=ROWS - 1), "1h", time_unit="us", eager=True)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(ROWS, 8))
SINCE = Onset(int(AT.to_physical()[ROWS - RECENT]), "then", RECENT)
NEW = np.arange(ROWS) >= ROWS - RECENT


def tried(to_split: Any, target: Any, task: str, model: Any) -> tuple[bool, str | None]:
    """Of the rows since the onset the newest half are the holdout."""
    columns = {f"x{i}": X[:, i] for i in range(X.shape[1])}
    rows = pl.DataFrame({"at": AT, **columns, "y": target})
    frame = to_split(rows, Roles("y", time="at"), task).train
    recent, holdout = rows[ROWS - RECENT : ROWS - RECENT // 2], rows[ROWS - RECENT // 2 :]
    made = Split(replace(frame, data=recent), replace(frame, data=holdout), "", "", SINCE)
    return recent_alone(frame, made, features=(), models=model, metric=None, seed=0)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_what_has_turned_over_is_learnt_from_the_rows_since_then(to_split: Any, task: str) -> None:
    score = X.sum(axis=1) * np.where(NEW, -1, 1) + RANDOM.normal(size=ROWS)
    model = Ridge() if task == "regression" else LogisticRegression()

    better, note = tried(to_split, score if task == "regression" else score > 0, task, model)

    assert better and note is not None and "of 540 training rows only the 60 since then are learnt from" in note


def test_where_the_older_rows_help_all_are_learnt_from(to_split: Any) -> None:
    target = X.sum(axis=1) + RANDOM.normal(size=ROWS) * np.where(NEW, 6, 1) > 0  # more noise, the same relation

    better, note = tried(to_split, target, "binary", LogisticRegression())

    assert not better and note is not None and "of 540 training rows all are learnt from" in note


def test_a_class_that_has_not_come_since_keeps_all_rows(to_split: Any) -> None:
    target = np.where(NEW, RANDOM.choice(["a", "b"], ROWS), RANDOM.choice(["a", "b", "c"], ROWS))

    assert tried(to_split, target, "multiclass", LogisticRegression()) == (False, None)
