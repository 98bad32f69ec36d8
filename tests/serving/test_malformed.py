"""Whatever is sent to whatever door: no answer is a fault of the server, each refusal has its shape, it lives on."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from answering import World, predicted, serving
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from stand_in import ROW, Logistic

DOORS = (
    "/predict/flights",
    "/feedback/flights",
    "/invocations",
    "/loops/flights/invocations",
    "/endpoints/flights/invocations",
    "/v1/models/flights:predict",
    "/v2/models/flights/infer",
    "/predict/unknown",
    "/v2/models/flights/versions/9/infer",
)
TENSOR = {"name": "delay", "datatype": "FP64", "shape": [1], "data": [1.0]}
VALID: dict[str, Any] = {
    "/predict/flights": {"rows": [ROW]},
    "/feedback/flights": [{"key": "f1", "time": "2013-04-01T05:15:00", "label": "yes", "at": "2013-04-01T06:00:00Z"}],
    "/invocations": {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())]}},
    "/v1/models/flights:predict": {"instances": [ROW]},
    "/v2/models/flights/infer": {"id": "1", "inputs": [TENSOR]},
}
VALUES: list[bytes] = [
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"9" * 400,
    b"0." + b"1" * 400,
    b'""',
    b"[]",
    b"{}",
    b'"\\ud800"',
    b'"\\u0000"',
    b'"\xff"',
    b'"' + b"x" * 5000 + b'"',
    b"[[[[[]]]]]",
    b'{"a":{"a":{"a":1}}}',
    b"[null]",
    b'{"": ""}',
    b"18446744073709551616",
    b"-9223372036854775809",
    b'"2013-13-45T99:99:99"',
    b'"9999-12-31T23:59:59-14:00"',
]
BODIES: list[bytes] = [
    b"",
    b" ",
    b"\x00",
    b"\xef\xbb\xbf{}",
    '{"rows": []}'.encode("utf-16"),
    b"{" * 50_000,
    b'{"a":' * 5_000,
    b"[" * 99_000,
    b'{"rows": [{}], "rows": [{}]}',
    b'{"rows": [' + b"{}," * 60 + b"{}]}",
    b"{} {}",
    b"{}x",
    b"'a'",
    b"{'a': 1}",
    b'{"rows": [{"delay": 1}, 1]}',
    b'{"inputs": {}}',
    b'{"instances": [[[[1]]]]}',
    b'{"dataframe_split": {"data": [[1]]}}',
    b'{"dataframe_split": {"columns": ["delay"], "data": [[1, 2]], "index": [1, 2, 3]}}',
    b'{"columns": [1], "data": [1]}',
]
HEADERS: list[dict[str, str]] = [
    {"content-type": "application/json; charset=utf-16"},
    {"content-type": "text/csv"},
    {"content-type": ";;=,"},
    {"content-type": "application/octet-stream"},
    {"content-encoding": "gzip, gzip"},
    {"content-encoding": "deflate"},
    {"inference-header-content-length": "-1"},
    {"inference-header-content-length": "99999999999999999999"},
    {"inference-header-content-length": "x"},
    {"inference-header-content-length": "2"},
    {"mainspring-unit": "\x7f" * 9000},
    {"accept": "text/html"},
    {"authorization": "Basic \xff"},
    {"origin": "null"},
    {"expect": "200-ok"},
    {"range": "bytes=-1"},
]


def corpus(many: int) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Bodies by hand at every door; every value in the place of every other; headers; then seeded mutations."""
    for door in DOORS:
        yield from ((door, body, {}) for body in [*BODIES, *VALUES])
        body = json.dumps(VALID.get(door, {"rows": [ROW]})).encode()
        yield from ((door, body, headers) for headers in HEADERS)
    for door, body in VALID.items():
        yield from ((door, replaced, {}) for replaced in _replaced(body))
    source = random.Random(24)
    for _ in range(many):
        door = source.choice(list(VALID))
        yield door, _mutated(json.dumps(VALID[door]).encode(), source), source.choice([{}, {}, *HEADERS])


def _replaced(body: Any) -> Iterator[bytes]:
    """*body* with each of its values, at any depth, replaced by each of VALUES."""
    mark = "\u2400"
    for path in list(_paths(body)):
        copy = json.loads(json.dumps(body))
        inner = copy
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = mark
        text = json.dumps(copy).encode()
        yield from (text.replace(json.dumps(mark).encode(), value) for value in VALUES)


def _paths(body: Any) -> Iterator[tuple[Any, ...]]:
    steps = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for step, inner in steps:
        yield (step,)
        yield from ((step, *rest) for rest in _paths(inner))


def _mutated(body: bytes, source: random.Random) -> bytes:
    content = bytearray(body)
    for _ in range(source.randint(1, 4)):
        place = source.randrange(len(content) + 1)
        kind = source.randrange(5)
        if kind == 0:
            content[place : place + 1] = bytes([source.randrange(256)])
        elif kind == 1:
            del content[place : place + source.randint(1, 30)]
        elif kind == 2:
            content[place:place] = source.choice(VALUES)
        elif kind == 3:
            content[place:place] = content[: source.randint(1, 60)]
        else:
            content[place:place] = bytes([source.choice(b'{}[]",:\\0e-')])
        content = content or bytearray(b"x")
    return bytes(content)


@pytest.mark.parametrize("many", [500, pytest.param(50_000, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_no_body_and_no_header_is_a_fault_of_the_server(world: World, many: int) -> None:
    async def send() -> int:
        sent = 0
        async with world.client() as client:
            for door, body, headers in corpus(many):
                answer = await client.post(door, content=body, headers=[*_ascii(headers)])
                _check(answer, (door, body[:300], headers))
                sent += 1
        return sent

    predicted(world)
    assert asyncio.run(send()) > 2_000
    assert world.post("/predict/flights", ROW).status_code == 200, "it lives on"


DATATYPES = ["FP64", "FP32", "FP16", "BF16", "INT64", "UINT8", "BOOL", "BYTES", "NOPE", "", None, 7]
SHAPES = [[1], [2], [0], [-1], [1 << 40], [1 << 62, 4], [1, 1], [], None, "x", [1.5], [True], [[1]], {}]
SIZES = [8, 0, 1, 7, -1, 1 << 31, 1 << 63, 1.5, True, "8", None, []]
CONTENTS = [
    b"",
    b"\x00",
    b"\x00" * 8,
    b"\xff" * 8,  # NaN
    b"\x00\x00\x00\x00\x00\x00\xf0\x7f",  # infinity
    b"\x04\x00\x00\x00\xff\xfe\x00\xd8",  # a text that isn't UTF-8
    b"\xff\xff\xff\xff" + b"a" * 4,  # a text of 4 GB
    b"\x00" * 4096,
]


def binary(many: int) -> Iterator[tuple[bytes, str]]:
    """Bodies with a tensor behind the JSON: each part wrong by itself, then seeded mixtures; the length of the JSON."""
    parts = (["delay", "carrier", "nothing"], DATATYPES, SHAPES, SIZES, CONTENTS)
    for place, values in enumerate(parts):
        for value in values:
            yield _with_tensor(*(value if place == other else each[0] for other, each in enumerate(parts)))
    source = random.Random(25)
    for _ in range(many):
        body, told = _with_tensor(*(source.choice(values) for values in parts))
        if source.random() < 0.3:
            body = _mutated(body, source)
        yield body, source.choice([told, told, told, str(int(told) + source.randint(-9, 9)), "0", str(len(body) + 1)])


def _with_tensor(name: str, datatype: Any, shape: Any, size: Any, content: bytes) -> tuple[bytes, str]:
    tensor = {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
    told = json.dumps({"inputs": [tensor]}).encode()
    return told + content, str(len(told))


@pytest.mark.parametrize("many", [300, pytest.param(50_000, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_no_binary_tensor_is_a_fault_of_the_server(world: World, many: int) -> None:
    async def send() -> list[int]:
        statuses = []
        async with world.client() as client:
            for body, told in binary(many):
                headers = {"inference-header-content-length": told, "content-type": "application/octet-stream"}
                answer = await client.post("/v2/models/flights/infer", content=body, headers=headers)
                _check(answer, (body[:300], told))
                statuses.append(answer.status_code)
        return statuses

    statuses = asyncio.run(send())
    assert len(statuses) > 300 and set(statuses) & {400, 422}
    assert world.post("/predict/flights", ROW).status_code == 200, "it lives on"


def _ascii(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


def _check(answer: httpx.Response, sent: Any) -> None:
    assert answer.status_code < 500, (answer.status_code, answer.text, sent)
    assert "Traceback" not in answer.text, sent
    if answer.status_code >= 400:
        error = answer.json()["error"]
        told = error if isinstance(error, dict) else {"code": answer.json()["code"], "message": error}
        assert told["code"] and told["message"] and "\n" not in told["message"], (answer.text, sent)


@pytest.mark.parametrize("examples", [25, pytest.param(1000, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_the_endpoint_does_what_its_description_says(tmp_path_factory: Any, task: str, examples: int) -> None:
    model = Logistic() if task == "binary" else Logistic(task=task, classes=())
    made = serving(tmp_path_factory.mktemp("described"), model)
    host = {"host": "127.0.0.1:8700"}
    described = schemathesis.openapi.from_asgi("/openapi.json", made.endpoint.app, headers=host)
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    asked = []

    for operation in (each.ok() for each in described.get_all_operations()):

        @seed(5)
        @settings(
            max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(operation.as_strategy())
        def ask(case: Any) -> None:
            answer = case.call(headers=host)
            asked.append(answer.status_code)
            case.validate_response(answer, checks=checks)

        ask()

    assert len(asked) > 4 * examples and asked.count(200) > examples
