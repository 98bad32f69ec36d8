"""Types from foreign columns; a contract inferred, kept and checked."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.declarations import Roles
from mainspring.core.errors import ContractError, HomeDamaged, SchemaMismatch, UsageError
from mainspring.core.schema import Column, Evolution, Schema, Type
from mainspring.data import contract, contract_file
from mainspring.data.casting import cast, inexact, instants, plain
from mainspring.data.evolution import accepted, changes
from mainspring.data.nested import frame_of
from mainspring.store.contracts import kept_path, own_path
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


@given(st.floats(2.0**53, 1e21))
def test_a_float_in_all_its_digits_is_one_as_json_writes_it(number: float) -> None:
    written = format(Decimal(repr(number)), "f").removesuffix(".0")

    assert not inexact(pl.Series([written, f"{written}.0", "0.5"])).any()
    assert frame_of([{"x": int(written)}, {"x": 0.5}], "API")["x"].to_list() == [number, 0.5]


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
        (1, "1", 1.5, "a", datetime(2020, 7, 1, 10), 90.0, None, None),
        (2, str(2**64 - 1), None, "b", datetime(2020, 7, 1, 10), None, None, None),
    ]
    assert notes == (
        "column 'huge' has integers beyond a signed 64-bit one: they are taken as text, as ids",
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
    assert infer([None, None]) == Column("x", Type.FLOAT, True, undecided=True)


def test_times_beyond_every_calendar_are_missing_and_told() -> None:
    endless = [2**63 - 1, -(2**63) + 1, 0, 253_402_300_799_999_999, None]  # as PostgreSQL's infinity comes
    frame = pl.DataFrame(
        [pl.Series("at", endless, pl.Int64).cast(pl.Datetime("us")), pl.Series("on", [2**31 - 1, 0, 1, 2, 3], pl.Int32)]
    ).with_columns(pl.col("on").cast(pl.Date))

    made, notes = plain(frame)

    assert made.null_count().row(0) == (3, 1) and made["at"].max() == datetime(9999, 12, 31, 23, 59, 59, 999999)
    assert notes == ("column 'at': 2 times beyond the years 1 to 9999 taken as missing",
                     "column 'on': 1 time beyond the years 1 to 9999 taken as missing")  # fmt: skip


def test_a_number_with_a_few_mistakes_is_a_number_but_codes_stay_text() -> None:
    assert infer(["1", "2", " 3", "oops"] + ["4"] * 100).type is Type.INTEGER
    assert infer(["1", "2.5", "?"] + ["4"] * 100).type is Type.FLOAT
    assert [infer(each).type for each in ([" 1", "20"], [" 1.5", "20"])] == [Type.INTEGER, Type.FLOAT]
    assert [infer(each).type for each in (["1", "20"], [" 01", "20"])] == [Type.TEXT, Type.TEXT]
    assert infer(["12,50", "1,250.00", "1 250"] + ["4.5"] * 100).type is Type.FLOAT
    assert infer(["250.83", "V57"] + ["401"] * 100).type is Type.TEXT
    assert infer(["01234", "none"] + ["99999"] * 100).type is Type.TEXT
    assert infer(["1", "oops"] * 50).type is Type.TEXT


def test_addresses_of_machines_are_not_told_as_dates() -> None:
    addresses = pl.DataFrame({"host": ["10.0.0.1", "10.0.12.7/32"] * 3, "on": ["31.12.2024", "1.2.2025 10:00"] * 3})

    (note,) = contract.infer(addresses, Roles("y"))[1]

    assert "'on'" in note and "say dates=" in note


@pytest.mark.parametrize("time", [None, "at"])
def test_times_without_a_zone_beside_others_with_one_are_told(time: str | None) -> None:
    mixed = pl.DataFrame({"at": ["2024-01-01T10:00", "2024-01-01T12:00:00+02:00"] * 3, "y": [1] * 6})

    (note,) = contract.infer(mixed, Roles("y", time=time))[1]

    assert note == ("column 'at' has times with a zone and 3 without, such as '2024-01-01T10:00': these are taken as "
                    "UTC")  # fmt: skip
    assert not contract.infer(mixed.gather_every(2), Roles("y", time=time))[1]


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
        Column("later", Type.FLOAT, True, undecided=True),
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
    assert checked.bad.height == 0 and checked.notes == ("column 'city' has 1 new level: 'Rome'",)
    assert checked.schema["fare"].high == 7.0 and checked.schema["city"].levels == ("Oslo", "Rome")
    assert contract.check(batch(), SCHEMA, ROLES, growing=True).notes == ()


def test_bad_cells_and_missing_names_set_their_rows_aside_with_every_reason() -> None:
    checked = contract.check(batch(id=["1", "two", None], fare=["0.5", "dear", "1"]), SCHEMA, ROLES)

    assert checked.good["id"].to_list() == [1]
    assert checked.bad.select("id", contract.POSITION, contract.REASON).rows() == [
        ("two", 1, "column 'id': 'two' is no integer; column 'fare': 'dear' is no float"),
        (None, 2, "column 'id' is empty but names the row"),
    ]


def test_a_column_that_is_gone_or_of_another_type_stops_with_the_command_that_accepts_it() -> None:
    with pytest.raises(
        SchemaMismatch,
        match=r"column 'fare' of the contract is gone: the source has id, .*: mainspring schema l accept",
    ):
        contract.check(batch().drop("fare"), SCHEMA, ROLES, "l")
    with pytest.raises(SchemaMismatch, match=r"column 'fare' is text, such as 'low', 'high'; the contract says float"):
        contract.check(batch(fare=["low", "high", None]), SCHEMA, ROLES)
    with pytest.raises(SchemaMismatch, match="column 'city' is integer, such as 1, 2, 3; the contract says text"):
        contract.check(batch(city=[1, 2, 3]), SCHEMA, ROLES)
    with pytest.raises(SchemaMismatch, match="column 'city' is date, such as '2013-01-31'; the contract says text"):
        contract.check(batch(city=[date(2013, 1, 31)] * 3), SCHEMA, ROLES)


def test_new_columns_are_noted_and_left_out() -> None:
    checked = contract.check(batch(extra=[1, 2, 3]), SCHEMA, ROLES, "l")

    assert "extra" not in checked.good.columns
    assert checked.notes[0] == "column 'extra' is new and is left out; take it in: mainspring schema l accept"


def test_new_and_vanished_columns_follow_the_rules_of_evolution() -> None:
    taken = replace(SCHEMA, evolution=Evolution(new_column="add", vanished_column="empty"))
    refused = replace(SCHEMA, evolution=Evolution(new_column="refuse"))

    checked = contract.check(batch(extra=[1, 2, 3]).drop("fare", "city"), taken, ROLES)

    assert checked.good["extra"].to_list() == [1, 2, 3] and checked.schema["extra"].nullable
    assert checked.good["fare"].null_count() == 3 and checked.schema["fare"].type is Type.FLOAT
    assert "column 'fare' is gone: its values are missing" in checked.notes
    with pytest.raises(SchemaMismatch, match="column 'extra' is new, and the contract refuses new columns"):
        contract.check(batch(extra=[1, 2, 3]), refused, ROLES)
    with pytest.raises(SchemaMismatch, match="column 'id' of the contract is gone"):
        contract.check(batch().drop("id"), taken, ROLES)


def test_rules_that_a_person_wrote_send_rows_to_quarantine() -> None:
    rules = {
        "fare": {"minimum": 0.0, "maximum": 5.0},
        "city": {"allowed": ("Oslo",), "personal": True},
        "late": {"required": True},
    }
    schema = Schema(tuple(replace(column, **rules.get(column.name, {})) for column in SCHEMA))

    checked = contract.check(batch(fare=[-1.0, 7.0, 1.0]), schema, ROLES)

    assert checked.good.height == 0
    assert checked.bad[contract.REASON].to_list() == [
        "column 'fare': '-1.0' is below 0, the contract's minimum",
        "column 'fare': '7.0' is above 5, the contract's maximum; "
        "column 'city': its value isn't among the contract's allowed values",
        "column 'late' is empty but required",
    ]
    assert checked.schema["fare"].high == 1.0  # what was refused has not been seen


def test_levels_and_fractions_may_be_refused() -> None:
    closed = Evolution(new_level="refuse", wider_type="refuse")
    schema = Schema((Column("count", Type.INTEGER, False, 1, 3), *SCHEMA), closed)

    checked = contract.check(batch(count=[1, 2.5, 3]), schema, ROLES)

    assert checked.bad[contract.REASON].to_list() == [
        "column 'count': '2.5' is no integer; column 'city': 'Rome' is a new level, which is refused"
    ]
    assert checked.schema["count"].type is Type.INTEGER and checked.schema["city"].levels == ("Oslo",)


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True), st.text(max_size=3)), min_size=1), st.integers(1, 5))
def test_what_is_seen_in_parts_is_what_is_seen_at_once(values: list[Any], size: int) -> None:
    frame, _ = plain(pl.DataFrame({"x": pl.Series([None if v is None else str(v) for v in values], dtype=pl.String)}))
    empty = Schema((Column("x", Type.TEXT, False, levels=()),))

    whole = contract.check(frame, empty, Roles("y"), growing=True).schema
    parts = empty
    for part in frame.iter_slices(size):
        parts = contract.check(part, parts, Roles("y"), growing=True).schema

    assert parts == whole


def test_the_contract_widens_where_nothing_is_lost() -> None:
    schema = Schema((Column("count", Type.INTEGER, False, 1, 3), *SCHEMA))

    checked = contract.check(batch(count=[1, 2.5, 3], later=["a", None, "b"]), schema, ROLES)

    assert checked.bad.height == 0
    assert checked.schema["count"].type is Type.FLOAT and checked.schema["later"].type is Type.TEXT
    assert checked.good["count"].to_list() == [1, 2.5, 3] and checked.good["later"].to_list() == ["a", None, "b"]
    assert checked.notes[0] == "column 'count' was integer and has fractions now"

    ids = Schema((Column("count", Type.INTEGER, False, 1, 2**53 + 1), *SCHEMA))
    checked = contract.check(batch(count=[1, 2.5, 3], later=["a", None, "b"]), ids, ROLES)
    assert checked.schema["count"].type is Type.INTEGER and checked.bad["count"].to_list() == [2.5]
    for values in ([2**53, 2**53 + 1], ["1e3", "9007199254740993"], ["1.0", "9007199254740993.50"]):
        checked = contract.check(pl.DataFrame({"x": values}), Schema((Column("x", Type.FLOAT),)), Roles("y"))
        assert checked.good["x"].to_list() == [float(values[0])]
        assert "more than a float holds exactly" in checked.bad["_reason"][0]


def test_a_contract_is_kept_and_a_damaged_one_named(home: Home) -> None:
    assert contract.load(home, "loop") is None
    contract.save(home, "loop", SCHEMA)
    assert contract.load(home, "loop") == SCHEMA

    kept_path(home, "loop").write_text("[]")
    with pytest.raises(HomeDamaged, match=r"is no TOML: .*; or remove it, and the next run infers it anew"):
        contract.load(home, "loop")


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def columns(draw: st.DrawFn, name: str) -> Column:
    kind = draw(st.sampled_from(list(Type)))
    numeric = kind in (Type.INTEGER, Type.FLOAT)
    low, high = sorted((draw(finite), draw(finite)))
    allowed = {Type.TEXT: names, Type.INTEGER: st.integers(-9, 9), Type.FLOAT: finite}.get(kind)
    return Column(
        name, kind, draw(st.booleans()), low if numeric else None, high if numeric else None,
        tuple(draw(st.lists(names))) if kind is Type.TEXT else None,
        required=draw(st.booleans()), minimum=low if numeric else None, maximum=high if numeric else None,
        allowed=tuple(draw(st.lists(allowed, min_size=1))) if allowed is not None and draw(st.booleans()) else None,
        unique=draw(st.booleans()), unit=draw(st.none() | names), personal=draw(st.booleans()),
    )  # fmt: skip


@given(st.data(), st.lists(names, unique=True, min_size=1, max_size=4), st.sampled_from(["ignore", "add", "refuse"]))
def test_any_contract_is_read_back_as_it_was_written(data: st.DataObject, found: list[str], rule: Any) -> None:
    schema = Schema(tuple(data.draw(columns(name)) for name in found), Evolution(new_column=rule))

    assert contract_file.parsed(contract_file.written(schema, "loop", 3), "x") == schema
    assert contract_file.accepted(contract_file.written(schema, "loop", 3)) == 3
    assert contract_file.parsed(contract_file.edited(contract_file.written(schema, "loop"), schema), "x") == schema


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("columns", "is no TOML"),
        ("", "has no columns; write a table for each"),
        ("[column.age]\n", "has 'column', which isn't known; did you mean 'columns'?"),
        ("[columns.age]\ntype = 'intger'", "column 'age': type = \"intger\" must be one of .*; did you mean 'integer'"),
        ("[columns.age]\nmin = 3\n", "column 'age' has 'min', which isn't known; did you mean 'minimum'?"),
        ("[columns.age]\ntype = 'text'\nminimum = 3", 'minimum is for numbers, and the column has type = "text"'),
        ("[columns.age]\nmaximum = 3", "maximum is for numbers, and the column has no type"),
        ("[columns.age]\ntype = 'float'\nminimum = 3\nmaximum = 1", "minimum = 3 is above maximum = 1"),
        ("[columns.age]\ntype = 'integer'\nallowed = [1, 'a']", 'allowed value "a" isn\'t an integer; mend it'),
        ("[columns.age]\ntype = 'date'\nallowed = [1]", "allowed value 1 needs type text, integer"),
        ("[columns.age]\nunique = 'yes'", 'unique = "yes" must be true or false'),
        ("[columns]\nage = 3", r"column 'age': 3 must be a table, such as \[columns.age\]"),
        ("[columns.age]\nseen = { lo = 3 }", "seen has 'lo', which isn't known; did you mean 'low'?"),
        ("[columns.age]\nseen = { low = 'x' }", "column 'age': seen: low = \"x\" must be a number"),
        ("[columns.age]\nseen = { levels = 5 }", "seen: levels = 5 must be a list of values"),
        ("[columns.age]\ntype = 'integer'\nallowed = [9e99, 1]", "allowed value 9e[+]99 isn't an integer"),
        (f"[columns.age]\ntype = 'integer'\nallowed = [{2**63}]", f"allowed value {2**63} is no integer of 64 bits"),
        ("[columns.age]\n[evolution]\nnew_column = 'drop'", "new_column = 'drop' must be ignore or add or refuse"),
        (
            "[columns.age]\n[evolution]\nnewcolumn = 'add'",
            "has 'newcolumn', which isn't known; did you mean 'new_column'",
        ),
    ],
)
def test_a_slip_in_an_edited_contract_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ContractError, match=said) as raised:
        contract_file.parsed(text, "loop.schema.toml")

    assert "loop.schema.toml" in str(raised.value) and "\n" not in str(raised.value)


def test_a_persons_file_has_the_rules_and_the_home_what_was_seen(home: Home) -> None:
    contract.save(home, "loop", SCHEMA)
    assert contract.stamp(home, "loop") is None
    file = contract.hand_over(home, "loop", SCHEMA)
    before = contract.stamp(home, "loop")
    file.write_text("# mine\n" + file.read_text().replace("[columns.fare]", "[columns.fare]\nminimum = -5"))

    contract.save(home, "loop", replace(SCHEMA, columns=(*SCHEMA.columns[:2], Column("fare", Type.FLOAT, True, 0, 99))))

    found = contract.load(home, "loop")
    assert found is not None and found.names == SCHEMA.names
    assert (found["fare"].minimum, found["fare"].high) == (-5.0, 99.0)
    after = contract.stamp(home, "loop")
    assert after != before is not None
    file.write_text("# a comment counts for nothing\n" + file.read_text())
    assert contract.stamp(home, "loop") == after
    with pytest.raises(ContractError, match="is there already"):
        contract.hand_over(home, "loop", SCHEMA)


def test_an_accepted_change_goes_into_a_persons_file_and_leaves_the_rest_as_it_is(home: Home) -> None:
    rules = tuple(replace(c, minimum=0.0, unit="EUR") if c.name == "fare" else c for c in SCHEMA)
    file = contract.hand_over(home, "loop", Schema(rules))
    file.write_text(file.read_text().replace('unit = "EUR"', 'unit = "EUR"  # since 2002'))
    frame = batch(fare=["low", "high", None], extra=[1, 2, 3]).drop("day")
    known = contract.load(home, "loop")
    assert known is not None

    with pytest.raises(SchemaMismatch):
        contract.checked(home, "loop", frame, known, ROLES, growing=False)
    proposal = contract.proposed(home, "loop")
    assert proposal is not None
    found = changes(known, proposal)
    assert [str(change) for change in found] == [
        "- 'day': date",
        "~ 'fare': float, 0 to 1 -> text, 'high' and 'low'",
        "+ 'extra': integer, 1 to 3",
    ]
    contract.accept(home, "loop", accepted(known, found))

    again = contract.load(home, "loop")
    assert again is not None and again.names == (*(n for n in SCHEMA.names if n != "day"), "extra")
    assert again["fare"] == Column("fare", Type.TEXT, True, levels=("high", "low"), unit="EUR")
    assert "# since 2002" in file.read_text()
    assert contract.checked(home, "loop", frame, again, ROLES, growing=False).bad.height == 0
    with pytest.raises(UsageError, match="column 'fare' has no change to accept"):
        accepted(again, (), ["fare"])


@pytest.mark.parametrize("wrong", ["41.13.2024", "2024-02-31", "soon"])
def test_a_few_cells_that_are_no_dates_do_not_make_dates_text(wrong: str) -> None:
    days = [f"2024-01-{day:02}" for day in range(1, 29)]
    schema, notes = contract.infer(pl.DataFrame({"day": [*days, wrong]}), Roles("late"))
    assert schema["day"].type is Type.DATE
    assert notes == (f"column 'day' is read as date; 1 value such as {wrong!r} can't be",)
    assert contract.infer(pl.DataFrame({"day": [*days[:10], wrong]}), Roles("late"))[0]["day"].type is Type.TEXT


def test_a_contract_saved_with_a_byte_order_mark_is_read_and_edited(home: Home) -> None:
    file = own_path(home, "loop")
    file.write_text(contract_file.written(SCHEMA, "loop"), encoding="utf-8-sig")

    assert contract.load(home, "loop") == SCHEMA
    contract.accept(home, "loop", SCHEMA)
    assert contract.load(home, "loop") == SCHEMA


def test_a_contract_that_is_no_text_is_named_before_anything_is_read(home: Home) -> None:
    own_path(home, "loop").write_bytes(b"\xff\xfe")
    with pytest.raises(ContractError, match=r"loop\.schema\.toml can't be read .*; mend it there"):
        contract.stamp(home, "loop")
