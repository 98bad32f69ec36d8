"""Cleaning as declared: learnt from training rows, the same for a row alone, kept as JSON."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import yeojohnson
from sklearn.preprocessing import PowerTransformer

from mainspring.core.cleaning import Clean
from mainspring.core.errors import DeclarationError
from mainspring.store.cleaning import Cleaning
from mainspring.store.encoding import Encoding

ROWS = pl.DataFrame(
    {
        "fare": [1.0, 2.0, None, 3.0, 500.0, 2.0, 1.5, 2.5] * 5,
        "city": [" Oslo", "oslo ", "ＯＳＬＯ", "Rome", None, "Bern", "  ", "Oslo"] * 5,
        "at": [datetime(2020, 1, 31, 15), None, datetime(2021, 12, 1)] * 13 + [None],
        "paid": [True, None, False, True] * 10,
    }
)


def fitted(*rules: Clean) -> pl.DataFrame:
    return Cleaning.fit(ROWS, rules).apply(ROWS)


def test_gaps_are_filled_and_marked() -> None:
    made = fitted(Clean(missing="median"))
    assert made["fare"][2] == 2.0 and made["fare is missing"].to_list()[:4] == [False, False, True, False]
    assert made["city"].null_count() == 5 and "at is missing" not in made.columns  # a text has no median

    assert fitted(Clean(missing="most frequent", indicator=False))["paid"].to_list()[:2] == [True, True]
    assert fitted(Clean(missing="unknown", columns=["city"]))["city"][4] == "unknown"
    assert fitted(Clean(missing=-1))["fare"][2] == -1.0
    assert fitted(Clean(missing="mean"))["fare"][2] == pytest.approx(ROWS["fare"].mean())


def test_outliers_are_clipped_or_flagged_by_bounds_from_training_rows() -> None:
    clipped, flagged = fitted(Clean(outliers="clip")), fitted(Clean(outliers="flag"))

    low, high = ROWS["fare"].drop_nulls().to_numpy(), 0.0
    first, third = np.quantile(low, [0.25, 0.75])
    high = third + 3 * (third - first)
    assert clipped["fare"].max() == pytest.approx(high) and clipped["fare"].null_count() == 5
    assert flagged["fare"].equals(ROWS["fare"]) and flagged["fare is an outlier"].sum() == 5


def test_text_is_made_alike_and_rare_levels_are_pooled() -> None:
    made = fitted(Clean(text=True, rare=0.2))

    assert made["city"].to_list()[:8] == ["oslo", "oslo", "oslo", "other", None, "other", None, "oslo"]


def test_dates_become_their_parts() -> None:
    made = fitted(Clean(dates=["year", "month", "weekday", "hour"]))

    assert made.columns == ["fare", "city", "at year", "at month", "at weekday", "at hour", "paid"]
    assert made.row(0)[2:6] == (2020.0, 1.0, 5.0, 15.0) and made["at year"][1] is None


def test_a_skewed_number_is_bent_as_scikit_learn_does() -> None:
    values = np.random.default_rng(0).lognormal(size=2_000)
    rows = pl.DataFrame({"x": values, "even": np.linspace(-1, 1, 2_000)})

    made = Cleaning.fit(rows, [Clean(skew=True)])

    (bent,) = made.operations
    exact = PowerTransformer(standardize=False).fit(values[:, None]).lambdas_[0]
    assert abs(bent.power - exact) < 0.03 and bent.column == "x"  # type: ignore[union-attr]
    assert np.allclose(made.apply(rows)["x"], yeojohnson(values, bent.power))  # type: ignore[union-attr]


everything = st.lists(
    st.sampled_from(
        [Clean(missing="median"), Clean(missing="most frequent"), Clean(outliers="clip", skew=True), Clean(text=True),
         Clean(outliers="flag", beyond=0.5), Clean(rare=0.2, missing="none"), Clean(dates=["month", "days"])]
    ),
    max_size=4,
)  # fmt: skip


@given(everything, st.integers(0, ROWS.height - 1))
def test_a_row_alone_and_read_back_from_json_is_cleaned_as_among_all(rules: list[Clean], place: int) -> None:
    cleaning = Cleaning.fit(ROWS, rules)
    again = Cleaning.from_json(json.loads(json.dumps(cleaning.to_json())))

    whole, alone = cleaning.apply(ROWS), again.apply(ROWS[place])

    assert again.operations == cleaning.operations and alone.equals(whole[place])
    assert set(again.origins().values()) <= set(ROWS.columns)


@given(everything, st.sampled_from(["ordered", "filled", "scaled"]), st.integers(0, ROWS.height - 1))
def test_an_encoding_carries_its_cleaning(rules: list[Clean], kind: Any, place: int) -> None:
    encoding = Encoding.fit(ROWS, kind, rules)
    again = Encoding.from_json(json.loads(json.dumps(encoding.to_json())))

    assert again == encoding and set(encoding.inputs) <= set(ROWS.columns)
    assert np.array_equal(encoding.transform(ROWS)[place], again.transform(ROWS[place])[0], equal_nan=True)


def test_a_column_of_nothing_but_nulls_is_filled_as_it_was_in_training() -> None:
    cleaning = Cleaning.fit(ROWS, [Clean(missing="median", outliers="clip", skew=True, text=True)])

    row = pl.DataFrame({"fare": [None], "city": [None], "at": [None], "paid": [None]})

    typed = row.cast({"fare": pl.Float64, "city": pl.String})  # type: ignore[arg-type]
    assert cleaning.apply(row)["fare"][0] == cleaning.apply(typed)["fare"][0] is not None


def test_what_the_validation_rows_hold_changes_nothing() -> None:
    train, other = ROWS.head(20), ROWS.slice(20).with_columns(fare=pl.lit(1e9))

    made = Cleaning.fit(train, [Clean(missing="median", outliers="clip")])

    assert made.apply(other)["fare"].max() < 100  # type: ignore[operator]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"outliers": "drop"}, "outliers='drop'"),
        ({"dates": ["fortnight"]}, "the parts are year, quarter"),
        ({"rare": 2}, "Clean rare"),
        ({"columns": "fare"}, "must be a list"),
        ({"missing": float("nan")}, "Clean missing"),
        ({"duplicates": "remove"}, "must be 'keep' or 'drop'"),
        ({"missing": "most_frequent"}, "would fill gaps with that word; write 'most frequent'"),
        ({"missing": "Median"}, "write 'median'"),
        ({"missing": "zero"}, "write 0"),
        ({"columns": ["fare"]}, "cleans nothing; say what"),
    ],
)
def test_a_slip_in_the_declaration_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        Clean(**wrong)


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(
        DeclarationError, match=r"Clean\(columns=\['fair'\]\) is no feature column; they are fare, city"
    ):
        fitted(Clean(skew=True, columns=["fair"]))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Clean(skew=True, columns=["fare", "city"]), "Clean(skew=True) is for a number, but column 'city' is text; "
         "convert it in features=, or leave it out of Clean(columns=[...])"),
        (Clean(dates=["month"], columns=["city"]), "Clean(dates=['month']) is for a date or time, but column 'city' is "
         "text; say how its dates are written, such as ms.csv(..., dates={'city': '%d.%m.%Y'}), convert it in "
         "features=, or leave it out of Clean(columns=[...])"),
        (Clean(rare=0.1, columns=["paid"]), "Clean(rare=0.1) is for text, but column 'paid' is yes or no; leave it"),
        (Clean(missing="median", columns=["at"]), "Clean(missing='median') is for a number, but column 'at' is a date"),
        (Clean(missing="?", columns=["fare"]), "Clean(missing='?') is for text, but column 'fare' is a number; leave"),
    ],
)  # fmt: skip
def test_a_rule_on_a_column_that_it_is_not_for_is_refused(rule: Clean, said: str) -> None:
    with pytest.raises(DeclarationError, match=re.escape(said)):
        fitted(rule)


def test_a_rule_that_no_column_fits_is_refused() -> None:
    texts = ROWS.select("paid", "city", when=pl.lit("31.01.2020"))

    with pytest.raises(
        DeclarationError, match=r"no feature column is one: 'city', for one, is text; say how its dates"
    ):
        Cleaning.fit(texts, [Clean(text=True), Clean(dates=["month"])])
    with pytest.raises(DeclarationError, match=r"Clean\(skew=True\) is for a number, .* leave skew= out"):
        Cleaning.fit(texts, [Clean(skew=True)])
    assert not Cleaning.fit(texts.select(fare=pl.lit(None)), [Clean(skew=True)]).operations  # it may be anything yet
