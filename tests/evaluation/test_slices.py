"""How rows are cut into slices."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import DeclarationError
from mainspring.evaluation.slices import LEVELS_SHOWN, MISSING, OTHER, check, cut


def test_numbers_are_cut_into_quartiles_in_their_order() -> None:
    groups = list(cut(pl.DataFrame({"age": np.arange(100)}), "age"))

    assert [value for value, _ in groups] == ["up to 25", "25 to 50", "50 to 74", "above 74"]
    assert all(24 <= len(places) <= 26 for _, places in groups)
    assert groups[0][1].tolist() == list(range(26))


def test_few_numbers_are_levels_and_missing_values_stand_apart() -> None:
    groups = dict(cut(pl.DataFrame({"stars": [5, 1, None, 5, float("nan")]}, strict=False), "stars"))

    assert groups["5.0"].tolist() == [0, 3]
    assert groups[MISSING].tolist() == [2]


def test_times_are_cut_into_quarters_with_readable_bounds() -> None:
    days = [datetime(2013, 1, 1) + timedelta(days=day) for day in range(80)]

    names = [value for value, _ in cut(pl.DataFrame({"day": days}), "day")]

    assert names[0].startswith("up to 2013-01-2") and names[-1].startswith("above 2013-03-0")


def test_rare_levels_are_united_so_that_a_card_stays_readable() -> None:
    levels = [f"level {place}" for place in range(100) for _ in range(100 - place)]

    groups = list(cut(pl.DataFrame({"city": levels}), "city"))

    assert len(groups) == LEVELS_SHOWN + 1
    assert groups[0][0] == "level 0" and groups[-1][0] == OTHER


@given(
    st.lists(st.none() | st.floats(allow_nan=True, allow_infinity=False, width=32), min_size=1, max_size=60)
    | st.lists(st.none() | st.text(max_size=3), min_size=1, max_size=60)
    | st.lists(st.none() | st.booleans(), min_size=1, max_size=20)
)
def test_every_row_is_in_exactly_one_slice(values: list[object]) -> None:
    groups = list(cut(pl.DataFrame({"column": pl.Series(values, strict=False)}), "column"))

    assert sorted(place for _, places in groups for place in places.tolist()) == list(range(len(values)))
    assert len({value for value, _ in groups}) == len(groups)


def test_an_unknown_slice_names_the_nearest_column() -> None:
    with pytest.raises(DeclarationError, match=r"no column 'carier'; did you mean 'carrier'\?"):
        check(["carier"], ["carrier", "origin"])
