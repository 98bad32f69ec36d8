"""The contract suite of features functions names what is wrong with one."""

from __future__ import annotations

from datetime import datetime

import polars as pl
import pytest

from mainspring.core.errors import FeaturesError
from mainspring.testing import check_features

ROWS = pl.DataFrame(
    {
        "scheduled": [datetime(2013, 1, day, day) for day in range(1, 9)],
        "minutes": [3.0, 20.0, None, 4.0, 1.0, 60.0, 7.0, 8.0],
        "carrier": ["AA", "UA", "DL", None, "AA", "B6", "UA", "AA"],
    }
)


def hour_of_day(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        hour=pl.col("scheduled").dt.hour(), long=pl.col("minutes") > 15, name=pl.col("carrier").str.to_lowercase()
    )


def test_a_row_wise_function_passes() -> None:
    check_features(hour_of_day, ROWS)


def centred(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(minutes=pl.col("minutes") - pl.col("minutes").mean())


def fewer(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop_nulls()


@pytest.mark.parametrize(("function", "message"), [(centred, "isn't row-wise"), (fewer, "made 6 rows of 8")])
def test_what_would_end_a_run_ends_the_check(function: object, message: str) -> None:
    with pytest.raises(FeaturesError, match=message):
        check_features(function, ROWS)  # type: ignore[arg-type]


def brittle(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(first=pl.Series([(name or "?")[0] for name in rows["carrier"]]), hour=pl.Series(
        [moment.hour for moment in rows["scheduled"]]))  # fmt: skip


def test_a_function_that_fails_on_missing_values_is_found_before_a_request_carries_one() -> None:
    with pytest.raises(FeaturesError, match="'brittle' raised AttributeError"):
        check_features(brittle, ROWS)


def in_place(rows: pl.DataFrame) -> pl.DataFrame:
    if "long" not in rows.columns:
        rows.insert_column(0, (rows["minutes"] > 15).alias("long"))
    return rows


def test_a_function_may_change_the_frame_it_was_given() -> None:
    check_features(in_place, ROWS)
    assert "long" not in ROWS.columns


def test_one_row_shows_nothing() -> None:
    with pytest.raises(AssertionError, match="give at least 2"):
        check_features(hour_of_day, ROWS.head(1))
