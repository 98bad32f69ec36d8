"""Types from foreign columns; a contract inferred, kept and checked."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.declarations import Roles
from mainspring.core.errors import HomeDamaged, SchemaMismatch
from mainspring.core.schema import Column, Schema, Type
from mainspring.data import contract
from mainspring.data.casting import cast, instants, plain
from mainspring.store.home import Home
from mainspring.store.tables import DTYPES

ROLES = Roles("late", key="id", time="at")


def infer(column: Any, role: str = "x") -> Column:
    frame, _ = plain(pl.DataFrame({role: pl.Series(column, strict=False)}))
    return contract.infer(frame, Roles("late", time="at"))[0][role]


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2013-01-31", datetime(2013, 1, 31)),
        ("2013-01-31 15:04", datetime(2013, 1, 31, 15, 4)),
        ("2013-01-31T15:04:05.25Z", datetime(2013, 1, 31, 15, 4, 5, 250_000)),
        ("2013-01-31T15:04:05+02:00", datetime(2013, 1, 31, 13, 4, 5)),
        (" 2013-01-31 15:04:05 -0530", datetime(2013, 1, 31, 20, 34, 5)),
        ("2013-02-31", None),
        ("31/01/2013", None),
        ("soon", None),
        (None, None),
    ],
)
def test_iso_texts_become_instants_in_utc_and_others_nothing(text: str | None, utc: datetime | None) -> None:
    assert instants(pl.Series([text, "2020-01-01"])).to_list()[0] == utc


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.integers(-14 * 60, 14 * 60))
def test_any_instant_that_python_writes_is_read_back(moment: datetime, minutes: int) -> None:
    sign, hours = "-" if minutes < 0 else "+", f"{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"

    read = instants(pl.Series([f"{moment.isoformat()}{sign}{hours}"]))

    assert read[0] == moment - timedelta(minutes=minutes)


@pytest.mark.parametrize("kind", list(Type))
@pytest.mark.parametrize(
    "values", [["1", "x"], [1, 0], [1.5, None], [True], [date(2020, 1, 1)], [datetime(2020, 1, 1)]]
)
def test_a_cast_never_fails_and_has_the_type_it_names(kind: Type, values: list[Any]) -> None:
    made = cast(pl.Series("x", values), kind)

    assert made.dtype == DTYPES[kind] and len(made) == len(values)


def test_foreign_types_become_ours_and_what_is_given_up_is_said() -> None:
    frame = pl.DataFrame(
        {
            "small": pl.Series([1, 2], dtype=pl.UInt8),
            "huge": pl.Series([1, 2**64 - 1], dtype=pl.UInt64),
            "price": [Decimal("1.5"), None],
            "level": pl.Series(["a", "b"], dtype=pl.Categorical),
            "zoned": pl.Series([datetime(2020, 7, 1, 12)] * 2).dt.replace_time_zone("Europe/Berlin"),
            "took": [timedelta(seconds=90), None],
            "ratio": [float("inf"), float("nan")],
            "tags": [["a"], ["b"]],
            "empty": [None, None],
        }
    )

    made, notes = plain(frame)

    assert made.rows() == [
        (1, 1.0, 1.5, "a", datetime(2020, 7, 1, 10), 90.0, None, None),
        (2, 2.0**64, None, "b", datetime(2020, 7, 1, 10), None, None, None),
    ]
    assert notes == (
        "column 'huge' has integers beyond 64 bits: they are taken as floats",
        "column 'took' holds durations: they are taken as seconds",
        "column 'ratio': 1 infinite values are taken as missing",
        "column 'tags' holds list values and is left out",
    )


def test_types_ranges_levels_and_gaps_are_inferred() -> None:
    assert infer([3, 1, None]) == Column("x", Type.INTEGER, True, 1.0, 3.0)
    assert infer([0.5, 1]) == Column("x", Type.FLOAT, False, 0.5, 1.0)
    assert infer([True, False]) == Column("x", Type.BOOLEAN, False)
    assert infer(["b", "a", "b"]) == Column("x", Type.TEXT, False, levels=("a", "b"))
    assert infer([f"name {i}" for i in range(101)]) == Column("x", Type.TEXT, False)
    assert infer(["2020-01-01", None]) == Column("x", Type.DATE, True)
    assert infer(["2020-01-01T00:00:00", None]) == Column("x", Type.DATETIME, True)
    assert infer([None, None]) == Column("x", Type.FLOAT, True)


def test_a_number_with_a_few_mistakes_is_a_number_but_codes_stay_text() -> None:
    assert infer(["1", "2", " 3", "oops"] + ["4"] * 100).type is Type.INTEGER
    assert infer(["1", "2.5", "?"] + ["4"] * 100).type is Type.FLOAT
    assert infer(["250.83", "V57"] + ["401"] * 100).type is Type.TEXT
    assert infer(["01234", "none"] + ["99999"] * 100).type is Type.TEXT
    assert infer(["1", "oops"] * 50).type is Type.TEXT


def test_a_time_column_that_can_not_be_read_is_named_with_its_first_values() -> None:
    with pytest.raises(SchemaMismatch, match=r"time column 'at' can't be read as times, first 'soon', 'later'; write"):
        infer(["soon", "later", "soon", "2020-01-01"], "at")

    assert infer(["2020-01-01", "2020-01-02"], "at").type is Type.DATETIME


SCHEMA = Schema(
    (
        Column("id", Type.INTEGER, False, 0, 9),
        Column("at", Type.DATETIME, False),
        Column("fare", Type.FLOAT, True, 0.0, 1.0),
        Column("late", Type.BOOLEAN, True),
        Column("city", Type.TEXT, True, levels=("Oslo",)),
        Column("day", Type.DATE, True),
        Column("later", Type.FLOAT, True),
    )
)


def batch(**changed: Any) -> pl.DataFrame:
    columns = {
        "id": [1, 2, 3],
        "at": ["2020-01-01", "2020-01-02", "2020-01-03"],
        "fare": [0.5, 7.0, None],
        "late": [1, 0, None],
        "city": ["Oslo", "Rome", None],
        "day": ["2020-01-01", None, None],
        "later": [None, None, None],
    }
    return plain(pl.DataFrame({**columns, **changed}, strict=False))[0]


def test_rows_that_keep_the_contract_come_out_in_its_types_and_drift_is_no_fault() -> None:
    checked = contract.check(batch(), SCHEMA, ROLES)

    assert [column.dtype for column in checked.good] == [DTYPES[column.type] for column in SCHEMA]
    assert checked.good["late"].to_list() == [True, False, None]
    assert checked.bad.height == 0 and checked.schema == SCHEMA and not checked.notes


def test_bad_cells_and_missing_names_set_their_rows_aside_with_every_reason() -> None:
    checked = contract.check(batch(id=["1", "two", None], fare=["0.5", "dear", "1"]), SCHEMA, ROLES)

    assert checked.good["id"].to_list() == [1]
    assert checked.bad.select("id", contract.POSITION, contract.REASON).rows() == [
        ("two", 1, "column 'id': 'two' is no integer; column 'fare': 'dear' is no float"),
        (None, 2, "column 'id' is empty but names the row"),
    ]


def test_a_column_that_is_gone_or_of_another_type_stops_with_the_file_to_remove() -> None:
    with pytest.raises(
        SchemaMismatch, match=r"column 'fare' of the contract is gone: the source has id, .*remove c.json"
    ):
        contract.check(batch().drop("fare"), SCHEMA, ROLES, Path("c.json"))
    with pytest.raises(SchemaMismatch, match=r"column 'fare' is text, such as 'low', 'high'; the contract says float"):
        contract.check(batch(fare=["low", "high", None]), SCHEMA, ROLES)
    with pytest.raises(SchemaMismatch, match="column 'city' is integer, such as 1, 2, 3; the contract says text"):
        contract.check(batch(city=[1, 2, 3]), SCHEMA, ROLES)


def test_new_columns_are_noted_and_left_out() -> None:
    checked = contract.check(batch(extra=[1, 2, 3]), SCHEMA, ROLES)

    assert "extra" not in checked.good.columns
    assert checked.notes == ("column 'extra' is new: the contract doesn't know it and it is left out",)


def test_the_contract_widens_where_nothing_is_lost() -> None:
    schema = Schema((Column("count", Type.INTEGER, False, 1, 3), *SCHEMA))

    checked = contract.check(batch(count=[1, 2.5, 3], later=["a", None, "b"]), schema, ROLES)

    assert checked.bad.height == 0
    assert checked.schema["count"].type is Type.FLOAT and checked.schema["later"].type is Type.TEXT
    assert checked.good["count"].to_list() == [1, 2.5, 3] and checked.good["later"].to_list() == ["a", None, "b"]
    assert checked.notes == ("column 'count' was integer and has fractions now",)


def test_a_contract_is_kept_and_a_damaged_one_named(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")
    assert contract.load(home, "loop") is None
    contract.save(home, "loop", SCHEMA)
    assert contract.load(home, "loop") == SCHEMA

    contract.path(home, "loop").write_text("[]")
    with pytest.raises(HomeDamaged, match=r"isn't a contract .*; remove it, and the next run infers it anew"):
        contract.load(home, "loop")
