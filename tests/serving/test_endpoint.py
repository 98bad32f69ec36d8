"""The endpoint answers, records, says of itself what there is, and refuses in one shape."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from answering import World, predicted, serving
from stand_in import ROW, START, Logistic, bundle, home, route

from mainspring.core.errors import StoreError
from mainspring.store.deployments import Deployments


def test_rows_are_answered_and_on_record(world: World) -> None:
    answer = world.post("/predict/flights", {"rows": [ROW, {**ROW, "delay": 90, "id": "f2"}]})

    said = answer.json()
    assert answer.status_code == 200 and said["model"] == "flights@1"
    assert said["predictions"] == ["no", "yes"] and said["classes"] == ["no", "yes"]
    assert [round(sum(row), 9) for row in said["probabilities"]] == [1, 1]
    first, second = world.predictions()
    assert [first.id, second.id] == said["ids"] and first.row == ROW
    assert (first.key, first.time, first.unit, first.at) == ("f1", ROW["scheduled"], "f1", START)
    assert (first.label, first.probabilities, first.error) == ("no", said["probabilities"][0], None)
    assert (first.version, first.revision, first.arm, second.unit) == (1, 3, "champion", "f1")
    assert first.latency_ms > 0


def test_one_row_may_stand_for_itself(world: World) -> None:
    assert world.post("/predict/flights", ROW).json()["predictions"] == ["no"]


def test_a_regression_says_numbers_only(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(task="regression", classes=()))
    said = made.post("/predict/flights", ROW).json()

    assert said["predictions"] == [1.25] and "classes" not in said and "probabilities" not in said


def test_extra_columns_are_ignored_and_counted_or_refused(world: World) -> None:
    assert world.post("/predict/flights", {**ROW, "noise": 1}).status_code == 200
    assert 'mainspring_extra_columns_total{loop="flights"} 1' in world.get("/metrics").text
    for answer in (
        world.post("/predict/flights?strict=true", {**ROW, "noise": 1}),
        world.post("/predict/flights", {"rows": [{**ROW, "noise": 1}], "strict": True}),
    ):
        assert answer.status_code == 422 and "'noise' unknown" in answer.json()["error"]["message"]
    assert "noise" not in world.predictions()[0].row


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        (b"", 400, "InvalidRequest", "the body is empty"),
        (b"{", 400, "InvalidRequest", "not valid JSON"),
        (b'{"delay": NaN}', 400, "InvalidRequest", "not valid JSON, which has no NaN and no Infinity: write null"),
        (b'{"delay": -Infinity}', 400, "InvalidRequest", "not valid JSON"),
        (b'{"delay": 1e999}', 400, "InvalidRequest", "out of range"),
        (b'{"delay": 1, "delay": 2}', 400, "InvalidRequest", "key 'delay' stands twice"),
        (b'{"delay" : 1, "delay": 2}', 400, "InvalidRequest", "key 'delay' stands twice"),
        (b'{"delay": 1, "del\\u0061y": 2}', 400, "InvalidRequest", "key 'delay' stands twice"),
        (b"3", 400, "InvalidRequest", "the body must be"),
        (b"[1]", 422, "InvalidRows", "row 0 is '1', not an object"),
        (b'{"rows": "x"}', 422, "InvalidRows", "rows must be a list of objects, not 'x'"),
        (b"null", 400, "InvalidRequest", "the body must be"),
        (b'"\xff\xfe"', 400, "InvalidRequest", "not valid JSON"),
        (b"[" * 5000 + b"]" * 5000, 400, "InvalidRequest", "not valid JSON"),
        (b'{"rows": ' + b"[" * 50 + b"]" * 50 + b"}", 400, "InvalidRequest", "nested deeper"),
        (b'{"rows": []}', 422, "InvalidRows", "there are no rows"),
        (b'{"rows": [3]}', 422, "InvalidRows", "row 0 is '3', not an object"),
        (b'{"rows": [{}]}', 422, "InvalidRows", "row 0 lacks"),
        (b'{"rows": [{"delay": 1}], "unit": "u7"}', 400, "InvalidRequest", "'unit' beside rows is unknown"),
        (b'{"rows": {}}', 422, "InvalidRows", "rows must be a list of objects"),
        (json.dumps({"rows": [ROW] * 51}).encode(), 413, "TooLarge", "51 rows, at most 50"),
        (b"[" + b"1," * 60_000 + b"1]", 413, "TooLarge", "at most 100,000 are taken"),
    ],
)
def test_a_bad_body_is_refused_with_what_to_do(world: World, body: bytes, status: int, code: str, message: str) -> None:
    answer = world.post("/predict/flights", content=body)

    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"] == code and message in answer.json()["error"]["message"]
    assert world.predictions() == []


def test_a_colon_in_a_text_is_no_duplicate_key(world: World) -> None:
    assert predicted(world, carrier='":"a":') and world.predictions()[0].row["carrier"] == '":"a":'


def test_a_body_that_grows_beyond_the_limit_is_cut_off(world: World) -> None:
    async def drip() -> Any:
        for _ in range(30):
            yield b" " * 5000

    assert world.post("/predict/flights", content=drip()).status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/predict/other", 404),
        ("POST", "/feedback/other", 404),
        ("POST", "/predict/../../etc/passwd", 404),
        ("POST", "/loops/%2e%2e/invocations", 404),
        ("GET", "/predict/flights", 405),
        ("GET", "/nothing", 404),
        ("DELETE", "/feedback/flights", 405),
    ],
)
def test_wrong_paths_are_refused_in_the_same_shape(world: World, method: str, path: str, status: int) -> None:
    answer = asyncio.run(world._call(method, path, {"content": b"{}"} if method == "POST" else {}))

    assert answer.status_code == status and set(answer.json()["error"]) == {"code", "message"}


def test_a_model_that_raises_is_a_recorded_error_without_a_stack_trace(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(fail_on="XX"))
    answer = made.post("/predict/flights", {**ROW, "carrier": "XX"})

    assert answer.status_code == 500 and answer.json()["error"]["code"] == "ModelFailed"
    assert "ZeroDivisionError" in answer.text and "Traceback" not in answer.text
    (record,) = made.predictions()
    assert record.error == "ZeroDivisionError: division by zero in a features function"
    assert record.label is None and record.id in answer.text


def test_a_full_disk_costs_the_record_not_the_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(batch: Any) -> Any:
        raise StoreError("no room")

    identity = predicted(world)
    monkeypatch.setattr(world.served.records, "append", full)
    monkeypatch.setattr(world.served.records, "write_feedback", full)
    answer = world.post("/predict/flights", ROW)
    refused = world.post("/feedback/flights", {"id": identity, "label": "no"})
    assert world.get("/readyz").json()["loops"]["flights"]["recording"] is False
    monkeypatch.undo()

    assert answer.status_code == 200 and answer.headers["mainspring-recorded"] == "no"
    assert "mainspring_unrecorded_total" in world.get("/metrics").text
    assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
    assert world.post("/feedback/flights", {"id": identity, "label": "yes"}).json()["new"] == 1
    assert "mainspring-recorded" not in world.post("/predict/flights", ROW).headers
    assert world.get("/readyz").json()["loops"]["flights"]["recording"] is True


# ------------------------------------------------------------------------------------- what it says of itself


def test_health_readiness_and_metrics(world: World) -> None:
    predicted(world)
    world.post("/predict/flights", {})
    ready = world.get("/readyz").json()
    text = world.get("/metrics").text

    assert world.get("/healthz").json() == {"status": "ok"}
    assert ready["ready"] is True and ready["loops"]["flights"]["champion"] == 1
    assert 'mainspring_requests_total{loop="flights",version="1",status="200"} 1' in text
    assert 'mainspring_requests_total{loop="flights",version="",status="422"} 1' in text
    assert 'mainspring_request_seconds_count{loop="flights",version="1"} 1' in text
    assert 'mainspring_request_seconds_bucket{loop="flights",version="",le="+Inf"} 1' in text
    assert 'mainspring_queue{loop="flights"} 0' in text and 'mainspring_log_lag_seconds{loop="flights"} ' in text
    assert 'mainspring_version_share{loop="flights",version="1"} 1.0' in text


def test_a_loop_without_a_version_is_not_ready_and_says_why(world: World) -> None:
    world.served.routing = None

    assert world.get("/readyz").status_code == 503
    answer = world.post("/predict/flights", ROW)
    assert answer.status_code == 503 and "it has no version yet" in answer.text


def test_a_list_of_rows_is_taken_as_rows(world: World) -> None:
    assert len(world.post("/predict/flights", [ROW, ROW]).json()["predictions"]) == 2


def test_the_openapi_document_has_the_loops_real_columns(world: World) -> None:
    document = world.get("/openapi.json").json()

    body = document["paths"]["/predict/flights"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    row = body["oneOf"][2]
    assert row["properties"]["distance"] == {"type": ["integer", "null"], "format": "int64"}
    assert set(row["required"]) == {"delay", "distance", "carrier", "freight"}, "nothing changes without the time"
    assert "/feedback/flights" in document["paths"]


def test_an_unforeseen_fault_shows_no_stack_trace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("mainspring.serving.asked._told", broken)
    answer = world.post("/predict/flights", ROW)

    assert answer.status_code == 500 and answer.json()["error"]["code"] == "Failed"
    assert "secret" not in answer.text


def test_stand_ins_are_what_the_store_knows(tmp_path: Path) -> None:
    made = home(tmp_path)
    route(made)

    assert Deployments(made).version("flights", 1).bundle == bundle("a" * 8)
