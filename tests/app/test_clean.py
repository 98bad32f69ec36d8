"""Cleaning, features functions and transformers together, from training to one served row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import PolynomialFeatures

import mainspring as ms
from mainspring.core.errors import DeclarationError


def doubled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(double=pl.col("fare") * 2)


def trips(count: int = 400) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    fare = rng.lognormal(2, 1, count)
    noisy = fare + rng.normal(0, 5, count) > 8
    return pl.DataFrame(
        {
            "fare": [None if n % 9 == 0 else float(value) for n, value in enumerate(fare)],
            "city": [[" Oslo", "oslo", "Rome", "Bern ", "Paris"][n % 5] for n in range(count)],
            "late": noisy,
        }
    )


def test_one_served_row_gets_the_answer_it_got_in_training(tmp_path: Path) -> None:
    clean = [ms.Clean(missing="median", outliers="clip", skew=True), ms.Clean(text=True, rare=0.25)]
    loop = ms.Loop(
        "trips", trips(), "late", LogisticRegression(), release=ms.Immediate(), clean=clean,
        features=[doubled, PolynomialFeatures(2, include_bias=False)],
    )  # fmt: skip

    done = loop.run(home=tmp_path)

    encoding = done.outputs["train"].encoding
    assert {type(step).__name__ for step in encoding.cleaning.operations} == {
        "Filled",
        "Bounded",
        "Bent",
        "Alike",
        "Pooled",
    }
    assert "fare is missing" in encoding.names and set(encoding.inputs) == {"fare", "city", "double"}
    rows = done.outputs["split"].train.data
    known = done.outputs["train"].model.predict(encoding.transform(doubled(rows)))
    raw = rows.select("fare", "city").head(60)
    whole = list(loop.predict(raw, home=tmp_path))
    alone = [loop.predict(raw[place], home=tmp_path)[0] for place in range(0, 60, 6)]
    assert whole == [bool(label) for label in known[:60]] and alone == whole[::6]


def test_rows_that_repeat_another_are_left_out_where_asked(tmp_path: Path) -> None:
    once = trips(100).with_columns(pl.col("fare").fill_null(pl.int_range(pl.len()) / 7))
    twice = pl.concat([once, once.head(40)])
    loop = ms.Loop("trips", twice, "late", LogisticRegression(), clean=ms.Clean(duplicates="drop"))

    done = loop.run(home=tmp_path)

    assert done.outputs["prepare"].data.height == 100
    assert "40 rows that repeat another in every column are left out" in done.outputs["prepare"].notes


def test_a_loop_takes_only_cleans() -> None:
    with pytest.raises(DeclarationError, match=r"clean='median' must be ms.Clean\(...\), or a list of them"):
        ms.Loop("trips", trips(), "late", clean="median")  # type: ignore[arg-type]
