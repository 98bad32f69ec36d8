"""Many rows that fit are read at once, and are then what they are when each value is looked at."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from answering import World
from hypothesis import given
from hypothesis import strategies as st
from stand_in import INPUTS, ROLES, ROW

from mainspring.core.declarations import Roles
from mainspring.core.errors import InvalidRows
from mainspring.core.schema import Column, Schema, Type
from mainspring.serving.direct import Direct
from mainspring.serving.rows import Columns
from mainspring.store.encoding import Encoding

COLUMNS = Columns(INPUTS, ROLES)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(allow_nan=False, allow_infinity=False), st.text(),
    st.sampled_from(["2013-04-01T05:15:00Z", "2013-04-01", ":", '":']),
)  # fmt: skip
ROWS = st.lists(
    st.fixed_dictionaries(
        {"delay": st.floats(0, 9) | st.integers(0, 9) | VALUES, "distance": st.integers() | VALUES},
        optional={"more": VALUES, "freight": VALUES},
    ).map(lambda changed: {**ROW, **changed}),
    min_size=1,
    max_size=3,
)


def _body(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps({"rows": rows}).encode()


@given(ROWS)
def test_rows_read_at_once_are_the_rows_read_value_by_value(rows: list[dict[str, Any]]) -> None:
    typed = COLUMNS.typed(_body(rows))
    try:
        read = COLUMNS.read([*rows, ROW])
    except InvalidRows:
        read = None

    if typed is None:
        return
    assert read is not None, "what doesn't fit is left to the closer look"
    at_once = COLUMNS.read(typed)
    assert [repr(dict(row)) for row in at_once.raw] == [repr(row) for row in read.raw[:-1]]
    assert msgspec.msgpack.encode(at_once.raw) == msgspec.msgpack.encode(read.raw[:-1])
    assert COLUMNS.frame(at_once.typed).equals(COLUMNS.frame(read.typed[:-1]))


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        (ROW, True),
        (dict.fromkeys(ROW), True),
        ({**ROW, "carrier": '": :'}, False),
        ({**ROW, "more": 1}, False),
        ({**ROW, "delay": True}, False),
        ({**ROW, "distance": 5.0}, False),
        ({**ROW, "distance": 2**63}, False),
        ({**ROW, "id": [1]}, False),
        ({name: value for name, value in ROW.items() if name != "id"}, False),
    ],
)
def test_only_rows_that_fit_as_they_stand_are_read_at_once(row: dict[str, Any], fits: bool) -> None:
    assert (COLUMNS.typed(_body([ROW, row])) is not None) is fits


def test_a_key_that_stands_twice_is_not_read_at_once() -> None:
    row = json.dumps(ROW).encode()

    assert COLUMNS.typed(b'{"rows": [%b]}' % row.replace(b"{", b'{"delay" : 1, ')) is None


def test_a_read_row_is_a_mapping_whatever_its_columns_are_called() -> None:
    columns = Columns(Schema((Column("get", Type.FLOAT), Column("a b", Type.TEXT))), Roles("y"))
    (row,) = columns.typed(b'{"rows": [{"get": 1.5, "a b": "x"}]}') or []

    assert dict(row) == {**row} == {"get": 1.5, "a b": "x"} and len(row) == 2 and "get" in row
    assert list(row.items()) == [("get", 1.5), ("a b", "x")] and row.get("fields") is None
    assert Columns(Schema((Column('"', Type.FLOAT),)), Roles("y")).typed(b'{"rows": [{"\\"": 1}]}') is None


def test_another_version_reads_the_rows_by_its_own_columns() -> None:
    other = Columns(Schema((Column("distance", Type.FLOAT),)), Roles("late"))
    rows = other.read(COLUMNS.typed(_body([ROW, ROW])) or [])

    assert rows.raw == [{"distance": ROW["distance"]}] * 2 and rows.extra > 0


@given(st.lists(st.tuples(st.floats(-9, 9) | st.none() | st.integers(), st.floats(-9, 9)), min_size=1, max_size=3))
def test_their_matrix_is_that_of_plain_rows(values: list[tuple[Any, float]]) -> None:
    inputs = Schema((Column("a", Type.FLOAT), Column("b", Type.FLOAT), Column("unread", Type.TEXT)))
    columns = Columns(inputs, Roles("y"))
    rows = [{"a": a, "b": b, "unread": None} for a, b in values]
    frame = columns.frame([{"a": 1.0, "b": 2.0, "unread": None}] * 3)
    matrix = Direct(Encoding.fit(frame.drop("unread"), "filled"), inputs).matrix
    typed = columns.typed(_body(rows))

    if typed is not None:
        assert matrix(typed).tobytes() == matrix(rows).tobytes()
        assert matrix([*typed, *rows]).tolist() == [*matrix(typed).tolist(), *matrix(rows).tolist()]


def test_a_large_request_is_answered_and_recorded_like_a_small_one(world: World) -> None:
    rows = [{**ROW, "id": f"r{place}", "delay": place / 7} for place in range(40)]
    together = world.post("/predict/flights", json={"rows": rows}).json()
    alone = [world.post("/predict/flights", json=row).json() for row in rows]

    assert together["predictions"] == [each["predictions"][0] for each in alone]
    kept = world.predictions()
    assert [(each.row, each.key, each.time) for each in kept[:40]] == [
        (each.row, each.key, each.time) for each in kept[40:]
    ]
