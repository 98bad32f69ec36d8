"""Rows become the model's frame, or a sentence that names column, row and value."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_in import INPUTS, ROLES, ROW

from mainspring.core.declarations import Roles
from mainspring.core.errors import InvalidRows
from mainspring.core.schema import Column, Schema, Type
from mainspring.serving.rows import Columns

COLUMNS = Columns(INPUTS, ROLES)


def read(row: dict[str, Any], columns: Columns = COLUMNS) -> dict[str, Any]:
    rows = columns.read([row])
    return columns.frame(rows.typed).row(0, named=True)


def test_values_come_typed_in_the_models_order() -> None:
    assert list(read(ROW).items()) == [
        ("delay", 12.5),
        ("distance", 800),
        ("carrier", "AA"),
        ("scheduled", datetime(2013, 4, 1, 5, 15)),
        ("freight", False),
    ]


def test_null_is_missing_in_every_column() -> None:
    assert set(read(dict.fromkeys(INPUTS.names)).values()) == {None}


def test_the_record_keeps_known_columns_and_roles_as_they_came() -> None:
    rows = COLUMNS.read([{**ROW, "noise": 1, "more": 2}])

    assert rows.raw == [ROW] and rows.extra == 2


@pytest.mark.parametrize(
    ("change", "column", "value"),
    [
        ({"delay": 3}, "delay", 3.0),
        ({"delay": 10**20}, "delay", 1e20),
        ({"distance": 5.0}, "distance", 5),
        ({"distance": -(2**63)}, "distance", -(2**63)),
        ({"scheduled": "2013-04-01T07:15:00+02:00"}, "scheduled", datetime(2013, 4, 1, 5, 15)),
        ({"scheduled": "2013-04-01T05:15:00Z"}, "scheduled", datetime(2013, 4, 1, 5, 15)),
        ({"scheduled": "2013-04-01 07:15:00 +0200"}, "scheduled", datetime(2013, 4, 1, 5, 15)),
        ({"scheduled": "2013-04-01+02:00"}, "scheduled", datetime(2013, 3, 31, 22)),
        ({"scheduled": "2013-04-01"}, "scheduled", datetime(2013, 4, 1)),
        ({"scheduled": " 2013-04-01 05:15:00.5 "}, "scheduled", datetime(2013, 4, 1, 5, 15, 0, 500_000)),
    ],
)
def test_values_that_mean_the_same_are_taken(change: dict[str, Any], column: str, value: Any) -> None:
    assert read({**ROW, **change})[column] == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"delay": "12"}, "column 'delay', row 1: '12' is not a number; a missing value is null"),
        ({"delay": True}, "column 'delay', row 1: True is not a number"),
        ({"delay": [1]}, "column 'delay', row 1: \\[1\\] is not a number"),
        ({"delay": 10**400}, "column 'delay', row 1: 10000.* is beyond a 64-bit float"),
        ({"distance": 1.5}, "column 'distance', row 1: 1.5 is not a whole number"),
        ({"distance": 2**63}, "column 'distance', row 1: 9223372036854775808 is beyond a signed 64-bit integer"),
        ({"distance": False}, "column 'distance', row 1: False is not a whole number"),
        ({"carrier": 7}, "column 'carrier', row 1: 7 is not text"),
        ({"freight": 1}, "column 'freight', row 1: 1 is not true or false"),
        ({"scheduled": "soon"}, "column 'scheduled', row 1: 'soon' is not a time such as '2013-07-01T10:00:00'"),
        ({"scheduled": 1364793300}, "column 'scheduled', row 1: 1364793300 is not a time"),
        ({"scheduled": "0001-01-01T00:00:00+14:00"}, "column 'scheduled', row 1"),
        ({"id": {"a": 1}}, "column 'id', row 1: {'a': 1} is not a single value"),
        ({"id": 2**70}, "column 'id', row 1: 1180591620717411303424 is beyond a signed 64-bit integer"),
        ({"carrier": {"x": "y" * 500}}, "column 'carrier', row 1: .{57}\\.\\.\\. is not text"),
    ],
)
def test_a_wrong_value_is_named_with_its_column_and_row(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRows, match=message):
        COLUMNS.read([ROW, {**ROW, **change}])


def test_missing_columns_are_named() -> None:
    with pytest.raises(InvalidRows, match="row 1 lacks columns 'carrier' and 'delay'; a missing value is written null"):
        COLUMNS.read([ROW, {name: ROW[name] for name in ROW if name not in ("carrier", "delay")}])


def test_strict_refuses_extra_columns() -> None:
    with pytest.raises(InvalidRows, match="columns 'more' and 'noise' unknown to this loop"):
        COLUMNS.read([{**ROW, "noise": 1, "more": 2}], strict=True)
    COLUMNS.read([ROW], strict=True)


def test_a_role_that_the_model_does_not_need_may_be_absent() -> None:
    columns = Columns(INPUTS, ROLES, optional=["scheduled"])
    row = {name: ROW[name] for name in ROW if name not in ("id", "scheduled")}

    assert read(row, columns)["scheduled"] is None
    with pytest.raises(InvalidRows, match="lacks column 'scheduled'"):
        COLUMNS.read([row])


def test_dates_are_dates() -> None:
    columns = Columns(Schema((Column("day", Type.DATE),)), Roles("late"))

    assert read({"day": "2013-04-01"}, columns) == {"day": date(2013, 4, 1)}
    with pytest.raises(InvalidRows, match="column 'day', row 0: '2013-04-31' is not a date such as '2013-07-01'"):
        columns.read([{"day": "2013-04-31"}])


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(), st.integers(), max_size=2),
)  # fmt: skip


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(ROW, values)), min_size=1, max_size=4))
def test_any_json_is_either_framed_or_refused_in_one_line(rows: list[dict[str, Any]]) -> None:
    try:
        frame = COLUMNS.frame(COLUMNS.read(rows).typed)
    except InvalidRows as error:
        assert "\n" not in str(error).replace(str(rows), "")
        assert len(str(error)) < 600
    else:
        assert frame.height == len(rows) and frame.columns == list(INPUTS.names)
        assert frame.schema["delay"] == pl.Float64
