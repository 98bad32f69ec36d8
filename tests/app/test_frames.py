"""A table in memory, pandas or polars, and any kind of target: `loop.run()`, then `loop.predict(frame)`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

import mainspring as ms
from mainspring.store.home import Home

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
