"""The contract of a features function."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from mainspring.data.features import checked_features
from mainspring.store.encoding import apply_features


def check_features(function: Callable[[pl.DataFrame], pl.DataFrame], rows: pl.DataFrame) -> None:
    """A features function gives a row for a row, whatever the rows beside it, and bears missing values.

    rows: some input rows as a request carries them, without the target. Raises AssertionError, or the FeaturesError
    that a run would end with.

    >>> check_features(lambda rows: rows.with_columns(late=pl.col("minutes") > 15), pl.DataFrame({"minutes": [3, 20]}))
    """
    if rows.height < 2:
        raise AssertionError(f"{rows.height} rows show nothing about rows beside a row; give at least 2")
    made = checked_features([function], rows, frozenset())
    nothing = apply_features([function], rows.clear(2))
    if nothing.columns != made.columns:
        raise AssertionError(f"rows of missing values give the columns {nothing.columns}, others {made.columns}")
