"""After a decay: which training rows are learnt from is tried, not taken for granted."""

from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from mainspring.core.declarations import Roles, Split
from mainspring.core.values import Candidate, Onset
from mainspring.training.train import train

START, ROWS, RECENT = datetime(2020, 1, 1), 600, 120
AT = pl.datetime_range(START, START + timedelta(hours=ROWS - 1), "1h", time_unit="us", eager=True)
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(ROWS, 8))
SINCE = Onset(int(AT.to_physical()[ROWS - RECENT]), "then", RECENT)
NEW = np.arange(ROWS) >= ROWS - RECENT


def candidate(to_split: Any, target: Any, task: str, model: Any) -> Candidate:
    columns = {f"x{i}": X[:, i] for i in range(X.shape[1])}
    made = to_split(pl.DataFrame({"at": AT, **columns, "y": target}), Roles("y", time="at"), task)
    object.__setattr__(made, "onset", SINCE)
    return train(made, features=(), models=model, search=None, metric=None, rule=Split(), seed=0)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_what_has_turned_over_is_learnt_from_the_rows_since_then(to_split: Any, task: str) -> None:
    score = X.sum(axis=1) * np.where(NEW, -1, 1) + RANDOM.normal(size=ROWS)
    model = Ridge() if task == "regression" else LogisticRegression()

    found = candidate(to_split, score if task == "regression" else score > 0, task, model)

    assert found.train_rows == RECENT and found.profile.rows == RECENT
    assert any(f"of 600 training rows only the {RECENT} since then are learnt from" in note for note in found.notes)


def test_where_the_older_rows_help_all_are_learnt_from(to_split: Any) -> None:
    target = X.sum(axis=1) + RANDOM.normal(size=ROWS) * np.where(NEW, 6, 1) > 0  # more noise, the same relation

    found = candidate(to_split, target, "binary", LogisticRegression())

    assert found.train_rows == ROWS and any("of 600 training rows all are learnt from" in note for note in found.notes)


def test_a_class_that_has_not_come_since_keeps_all_rows(to_split: Any) -> None:
    target = np.where(NEW, RANDOM.choice(["a", "b"], ROWS), RANDOM.choice(["a", "b", "c"], ROWS))

    assert candidate(to_split, target, "multiclass", LogisticRegression()).train_rows == ROWS
