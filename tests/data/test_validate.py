"""What must hold of a dataset as a whole."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from mainspring.core import declarations as ms
from mainspring.core.declarations import Roles
from mainspring.core.errors import DataError, DuplicateKeys, MainspringError, SchemaMismatch, TargetUnusable
from mainspring.data.validate import validate
from mainspring.store.home import Home

ROWS = pl.DataFrame({"id": range(50), "x": range(50), "w": [1.0] * 50, "late": [True, False] * 25})


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        ({"late": pl.lit(None)}, TargetUnusable, "target 'late' is empty in all 50 rows; no row has a label yet"),
        (
            {"late": pl.lit(True)},
            TargetUnusable,
            "target 'late' is True in all 50 labelled rows; there is nothing to learn",
        ),
        (
            {"late": pl.when(pl.col("id") < 19).then("late")},
            DataError,
            "only 19 rows of 50 have a value of target 'late'; at least 20 are needed",
        ),
        ({"w": pl.lit(-1.0)}, DataError, "weight column 'w' must hold numbers of 0 or more"),
        ({"w": pl.lit("heavy")}, SchemaMismatch, "weight column 'w' is text; it must hold numbers"),
    ],
)
def test_what_can_not_be_learnt_from_is_named(
    home: Home, ingested: Any, changed: dict[str, pl.Expr], error: type[MainspringError], said: str
) -> None:
    roles = Roles("late", weight="w")
    dataset = ingested(ms.frame(ROWS.with_columns(**changed)), roles)

    with pytest.raises(error, match=said):
        validate(dataset, roles=roles, home=home)


def test_a_time_column_must_hold_times(home: Home, ingested: Any) -> None:
    roles = Roles("late", time="x")

    with pytest.raises(SchemaMismatch, match="time column 'x' is integer, not a time; convert it in the source"):
        validate(ingested(ms.frame(ROWS), roles), roles=roles, home=home)


def test_a_key_declared_later_must_be_unique_in_all_rows(home: Home, ingested: Any) -> None:
    dataset = ingested(ms.frame(ROWS.with_columns(id=pl.col("id") // 2)), Roles("late"))

    with pytest.raises(DuplicateKeys, match="25 keys in 'id' of version 0 of the rows come more than once"):
        validate(dataset, roles=Roles("late", key="id"), home=home)


def test_a_good_dataset_is_handed_on_as_it_is(home: Home, ingested: Any) -> None:
    roles = Roles("late", key="id", weight="w")
    dataset = ingested(ms.frame(ROWS), roles)

    assert validate(dataset, roles=roles, home=home) is dataset
