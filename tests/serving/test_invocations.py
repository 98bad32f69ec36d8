"""MLflow's scoring protocol in all its forms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from answering import World
from stand_in import ROW

SPLIT = {"columns": list(ROW), "data": [list(ROW.values())]}
TWICE = b"delay,delay,distance,carrier,scheduled,freight\n90,1,,AA,2013-04-01T05:15:00,true\n"


@pytest.mark.parametrize("path", ["/invocations", "/loops/flights/invocations"])
@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": SPLIT},
        {"dataframe_split": {**SPLIT, "index": [7]}},
        {"dataframe_records": [ROW]},
        {"instances": [ROW]},
        {"instances": [[ROW[name] for name in ("delay", "distance", "carrier", "scheduled", "freight")]]},
        {"inputs": {name: [value] for name, value in ROW.items()}},
        {"inputs": ROW},
        {"inputs": [ROW], "params": {}},
    ],
)
def test_mlflows_forms_are_understood(world: World, path: str, body: dict[str, Any]) -> None:
    answer = world.post(path, body)

    assert answer.status_code == 200, answer.text
    assert answer.json() == {"predictions": ["no"]} and len(world.predictions()) == 1


def test_csv_is_understood(world: World) -> None:
    text = "delay,distance,carrier,scheduled,freight\n90,,AA,2013-04-01T05:15:00,true\n,1,,,\n"
    answer = world.post("/invocations", content=text, headers={"content-type": "text/csv; charset=utf-8"})

    assert answer.json() == {"predictions": ["yes", "no"]}
    assert world.predictions()[0].row == {
        **ROW, "delay": 90.0, "distance": None, "carrier": "AA", "freight": True, "id": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", 400),
        (b'{"instances": [], "inputs": []}', 400),
        (b'{"instances": []}', 422),
        (b'{"instances": [[1]]}', 422),
        (b'{"instances": [1]}', 400),
        (b'{"dataframe_split": []}', 400),
        (b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}', 400),
        (b'{"dataframe_split": {"columns": [["a"]], "data": [[1]]}}', 400),
        (json.dumps({"dataframe_split": {"index": [1, 2], **SPLIT}}).encode(), 422),
        (b'{"inputs": {"delay": [1, 2], "carrier": ["AA"]}}', 422),
    ],
)
def test_malformed_forms_are_refused(world: World, body: bytes, status: int) -> None:
    assert world.post("/invocations", content=body).status_code == status


@pytest.mark.parametrize(
    "text", [b"", b"delay,carrier\n1\n", b"delay\nabc\n", b'delay\n"1', b"\xff\xfe", b"delay\nnan\n", TWICE]
)
def test_malformed_csv_is_refused(world: World, text: bytes) -> None:
    answer = world.post("/invocations", content=text, headers={"content-type": "text/csv"})

    assert answer.status_code in (400, 422), answer.text


def test_with_several_loops_the_path_must_name_one(world: World) -> None:
    world.endpoint.loops = {"flights": world.served, "trains": world.served}
    answer = world.post("/invocations", {"instances": [ROW]})

    assert answer.status_code == 409 and "/loops/flights/invocations, /loops/trains/invocations" in answer.text
