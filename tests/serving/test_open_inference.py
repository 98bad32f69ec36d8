"""Tensors in every form, and in every malformed one."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from answering import World, serving
from hypothesis import given
from hypothesis import strategies as st
from stand_in import ROW, Logistic

from mainspring.core.errors import RequestError
from mainspring.core.schema import Column, Schema, Type
from mainspring.serving import tensors
from mainspring.serving.asked import Body
from mainspring.serving.open_inference import ask, rows_of
from mainspring.serving.tensors import Tensor

INFER = "/v2/models/flights/infer"
NUMBERS = Schema((Column("a", Type.FLOAT), Column("b", Type.INTEGER), Column("c", Type.BOOLEAN)))


def tensor(name: str, datatype: str, shape: list[int], data: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data, **more}


def good(**changes: dict[str, Any]) -> dict[str, Any]:
    made = {
        "delay": tensor("delay", "FP32", [1], [90.0]),
        "distance": tensor("distance", "INT32", [1], [800]),
        "carrier": tensor("carrier", "BYTES", [1], ["AA"]),
        "scheduled": tensor("scheduled", "BYTES", [1], ["2013-04-01T05:15:00"]),
        "freight": tensor("freight", "BOOL", [1], [False]),
    }
    return {"inputs": list({**made, **changes}.values())}


def test_one_tensor_of_two_axes_holds_the_columns_in_their_order() -> None:
    for data in ([1.5, 2.0, 1.0, None, 4.0, 0.0], [[1.5, 2.0, 1.0], [None, 4.0, 0.0]]):
        whole = tensors.from_json("input-0", "FP64", (2, 3), data)
        assert rows_of([whole], NUMBERS) == [{"a": 1.5, "b": 2.0, "c": True}, {"a": None, "b": 4.0, "c": False}]


def test_a_loop_of_one_column_takes_a_tensor_of_any_name() -> None:
    one = Schema((Column("a", Type.FLOAT),))
    assert rows_of([Tensor("a", "FP64", (2, 1), [1.0, 2.0])], one) == [{"a": 1.0}, {"a": 2.0}]
    assert rows_of([Tensor("x", "FP64", (2, 1), [1.0, 2.0])], one) == [{"a": 1.0}, {"a": 2.0}]


VALUES = st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.integers(0, 2) | st.floats(0, 9) | st.text()
TENSORS = st.builds(
    tensor,
    st.sampled_from(["a", "b", "c", "more"]),
    st.sampled_from(["FP64", "FP32", "INT64", "INT32", "BOOL", "BYTES", "FP16"]),
    st.sampled_from([[1], [2], [2, 1], [1, 2]]),
    st.lists(VALUES, min_size=1, max_size=2) | st.just([1, 0]),
)


@given(st.lists(TENSORS, max_size=4))
def test_plain_tensors_are_read_as_all_others_are(inputs: list[dict[str, Any]]) -> None:
    loaded: Any = SimpleNamespace(
        manifest=SimpleNamespace(inputs=NUMBERS), regression=True, classes=(), probabilistic=False
    )

    def asked(**more: Any) -> Any:
        try:
            return ask(Body(json.dumps({"inputs": inputs, "id": "7", **more}).encode(), []), loaded).rows
        except RequestError as error:
            return str(error)

    assert repr(asked()) == repr(asked(parameters={}))


def test_a_plain_tensor_s_key_that_stands_twice_is_refused(world: World) -> None:
    content = json.dumps(good()).replace('"shape"', '"name" : "other", "shape"', 1)

    assert "stands twice" in world.post(INFER, content=content.encode()).text
    assert world.post(INFER, json={**good(), "id": "mine"}).json()["id"] == "mine"


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"delay": tensor("delay", "FP32", [2], [90.0])}, 400, "has 1 values, shape [2] needs 2"),
        ({"delay": tensor("delay", "FP32", [1, 1], [[90.0, 1.0]])}, 400, "not nested as shape [1, 1] says"),
        ({"delay": tensor("delay", "FP32", [1, 1], [[90.0], 1.0])}, 400, "not nested as shape"),
        ({"delay": tensor("delay", "FP32", [1], ["x"])}, 400, "'x' is not of datatype FP32"),
        ({"delay": tensor("delay", "FP32", [1], [[1.0]])}, 400, "is not of datatype FP32"),
        ({"delay": tensor("delay", "FP32", [1], True)}, 400, "data must be a list"),
        ({"delay": tensor("delay", "FLOAT", [1], [1.0])}, 400, "datatype 'FLOAT' is none of"),
        ({"delay": tensor("delay", "FP32", [], [1.0])}, 400, "0 axes"),
        ({"delay": tensor("delay", "FP32", [-1], [1.0])}, 400, "whole numbers"),
        ({"delay": tensor("delay", "FP32", [1, 1, 1], [1.0])}, 400, "3 axes"),
        ({"delay": tensor("delay", "FP32", [2], [1.0, 2.0])}, 422, "differ in length"),
        ({"delay": tensor("delay", "FP32", [1, 2], [1.0, 2.0])}, 422, "a column's is [1]"),
        ({"distance": tensor("distance", "INT8", [1], [800])}, 400, "800 is beyond INT8"),
        ({"distance": tensor("distance", "UINT64", [1], [2**64 - 1])}, 422, "beyond a signed 64-bit integer"),
        ({"carrier": tensor("carrier", "FP64", [1], [1.0])}, 422, "column 'carrier', row 0: 1.0 is not text"),
        ({"freight": tensor("freight", "INT8", [1], [2])}, 422, "column 'freight', row 0: 2 is not true or false"),
        ({"again": tensor("delay", "FP32", [1], [1.0])}, 400, "stands twice"),
        ({"delay": {"datatype": "FP32"}}, 400, "needs name"),
        ({"delay": tensor("delay", "FP32", [1], [1.0], parameters=[])}, 400, "parameters of input 'delay'"),
        ({"delay": tensor("delay", "FP32", [1], [1.0], parameters={"binary_data_size": 4})}, 400, "doesn't fit"),
        (
            {"delay": tensor("delay", "FP32", [1], [1.0], parameters={"shared_memory_region": "x"})},
            400,
            "shared memory",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name(
    world: World, change: dict[str, Any], status: int, said: str
) -> None:
    answer = world.post(INFER, good(**change))

    assert answer.status_code == status and said in answer.json()["error"], answer.text
    assert isinstance(answer.json()["code"], str) and not world.predictions()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "the body must be"),
        ({"inputs": []}, "inputs is empty"),
        ({**good(), "outputs": [{"name": "p"}]}, "output 'p' is unknown; there are predictions, probabilities, ids"),
        ({**good(), "outputs": {}}, "outputs must be a list"),
        (
            {**good(), "outputs": [{"name": "predictions", "parameters": {"classification": 2}}]},
            "ask for probabilities",
        ),
        ({**good(), "id": 7}, "id '7' is not text"),
        ({**good(), "parameters": 1}, "parameters of the request"),
    ],
)
def test_a_request_that_does_not_fit_is_refused(world: World, body: dict[str, Any], said: str) -> None:
    answer = world.post(INFER, body)

    assert answer.status_code == 400 and said in answer.json()["error"], answer.text


def test_every_datatype_of_numbers_is_read_the_same_in_json_and_binary() -> None:
    for datatype, dtype in {**tensors._WHOLE, **tensors._FLOATS, "BOOL": "?"}.items():
        array = np.array([0, 1, 1], dtype=dtype)
        values = array.tolist()
        assert tensors.to_binary(datatype, values) == array.tobytes()
        assert tensors.from_binary("x", datatype, (3,), memoryview(array.tobytes())).values == values
        assert tensors.from_json("x", datatype, (3,), values).values == values
    half = np.array([0.5, np.nan], dtype="<f4").view("<u4") >> 16
    assert tensors.from_binary("x", "BF16", (2,), memoryview(half.astype("<u2").tobytes())).values == [0.5, None]


@given(st.lists(st.text()))
def test_texts_come_back_from_binary_as_they_were(texts: list[str]) -> None:
    packed = tensors.to_binary("BYTES", texts)

    assert tensors.from_binary("x", "BYTES", (len(texts),), memoryview(packed)).values == texts


@given(st.sampled_from(tensors.DATATYPES), st.integers(0, 5), st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(datatype: str, rows: int, data: bytes) -> None:
    try:
        assert len(tensors.from_binary("x", datatype, (rows,), memoryview(data)).values) == rows
    except RequestError as error:
        assert "input 'x'" in str(error)


def binary(length: str | None, said: dict[str, Any], data: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(said).encode()
    return text + data, {"inference-header-content-length": length or str(len(text))}


@pytest.mark.parametrize(
    ("length", "size", "data", "said"),
    [
        ("99999", 4, b"\x00" * 4, "Inference-Header-Content-Length is '99999'"),
        ("x", 4, b"\x00" * 4, "Inference-Header-Content-Length is 'x'"),
        (None, 4, b"\x00" * 3, "doesn't fit the bytes"),
        (None, 4, b"\x00" * 5, "1 bytes of binary data belong to no input"),
        (None, 3, b"\x00" * 3, "has 3 bytes of binary data, shape [1] of FP32 needs 4"),
        (None, -1, b"", "doesn't fit the bytes"),
        (None, True, b"\x00", "doesn't fit the bytes"),
        (None, 4, struct.pack("<f", float("inf")), "holds inf"),
    ],
)
def test_binary_data_that_does_not_fit_is_refused(
    world: World, length: str | None, size: Any, data: bytes, said: str
) -> None:
    delay = {"name": "delay", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": size}}
    body, headers = binary(length, good(delay=delay), data)
    answer = world.post(INFER, content=body, headers=headers)

    assert answer.status_code in (400, 422) and said in answer.json()["error"], answer.text


def test_a_chosen_version_answers_and_counts_for_no_release(tmp_path: Any) -> None:
    made = serving(tmp_path, Logistic(), Logistic(slope=-0.1), share=0.0)
    said = [made.post(f"/v2/models/flights/versions/{number}/infer", good()).json() for number in (1, 2)]
    unknown = made.post("/v2/models/flights/versions/7/infer", good())
    drawn = made.post(INFER, good()).json()
    made.pool.shutdown()

    assert [answer["model_version"] for answer in said] == ["1", "2"] and drawn["model_version"] == "1"
    assert said[0]["outputs"][0]["data"] == ["yes"] and said[1]["outputs"][0]["data"] == ["no"]
    assert unknown.status_code == 404 and unknown.json()["error"] == "version '7' is not loaded; loaded: 1, 2"
    assert [record.revision for record in made.predictions()] == [-1, -1, 3]


@pytest.mark.parametrize(
    ("classes", "datatype", "data"),
    [((False, True), "BOOL", [True]), ((0, 1), "INT64", [1]), ((0.5, 1.5), "FP64", [1.5]), ((0, "x"), "BYTES", ["x"])],
)
def test_labels_have_the_datatype_of_the_classes(tmp_path: Any, classes: Any, datatype: str, data: Any) -> None:
    made = serving(tmp_path, Logistic(classes=classes))
    answer = made.post(INFER, good()).json()
    made.pool.shutdown()

    assert answer["outputs"][0] == {"name": "predictions", "datatype": datatype, "shape": [1], "data": data}


def test_a_regression_tells_numbers_and_no_probabilities(tmp_path: Any) -> None:
    made = serving(tmp_path, Logistic(task="regression", classes=()))
    answer = made.post(INFER, good()).json()
    metadata = made.get("/v2/models/flights").json()
    made.pool.shutdown()

    assert [(each["name"], each["datatype"]) for each in metadata["outputs"]] == [
        ("predictions", "FP64"),
        ("ids", "BYTES"),
    ]
    assert [each["name"] for each in answer["outputs"]] == ["predictions", "ids"]


def test_the_unit_and_strictness_are_parameters(world: World) -> None:
    extra = good(more=tensor("more", "FP32", [1], [1.0]))
    assert world.post(INFER, {**extra, "parameters": {"unit": "u1"}}).status_code == 200
    refused = world.post(INFER, {**extra, "parameters": {"strict": True}})

    assert refused.status_code == 422 and "column 'more' unknown" in refused.json()["error"]
    assert world.predictions()[0].unit == "u1" and world.predictions()[0].row["delay"] == 90.0
    assert set(ROW) >= set(world.predictions()[0].row)


def test_the_server_and_the_model_tell_that_they_are_ready(world: World) -> None:
    paths = ("/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models/flights/ready", "/v2/models/flights")
    assert [world.get(path).status_code for path in paths] == [200] * len(paths)
    world.served.routing = None

    assert [world.get(path).status_code for path in paths] == [200, 200, 200, 503, 503, 503]
    assert world.get("/v1/models/flights").status_code == 503
    assert "it has no version yet" in world.get("/v2/models/flights").json()["error"]
