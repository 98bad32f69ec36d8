"""The endpoint answers, records, takes labels, and refuses in one shape."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from stand_in import ROW, SAMPLE, START, Logistic, bundle, home, route

from mainspring.core.errors import StoreError
from mainspring.core.schema import Column, Schema, Type
from mainspring.serving.door import loopback
from mainspring.serving.endpoint import Endpoint
from mainspring.serving.loaded import Loaded, load
from mainspring.serving.served import Routing, ServedLoop
from mainspring.statistics.assignment import assigned
from mainspring.store.deployments import Deployments, Route
from mainspring.store.records import Records, identifiers


class World(SimpleNamespace):
    """An endpoint in this process, with the model, the records and a client."""

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        options = options if body is None else {"json": body, **options}
        return asyncio.run(self._call("POST", path, options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return asyncio.run(self._call("GET", path, options))

    def predictions(self) -> list[Any]:
        return Records(self.home, "flights").predictions()[0]

    def feedback(self) -> list[Any]:
        return Records(self.home, "flights").feedback()[0]

    async def _call(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        async with self.client() as client:
            return await client.request(method, path, **options)

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.endpoint.app, raise_app_exceptions=True)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8700")


def loaded(model: Logistic, number: int) -> Loaded:
    digest = f"d{number}"
    deployments = SimpleNamespace(name=f"flights@{number}", number=number, digest=digest, loop="flights")
    return load(deployments, model, SAMPLE)  # type: ignore[arg-type]


def serving(tmp_path: Path, model: Logistic, canary: Logistic | None = None, share: float = 0.5) -> World:
    made = home(tmp_path, ("d1", "d2"))
    records = Records(made, "flights")
    pool = ThreadPoolExecutor(4)
    served = ServedLoop("flights", records, lambda: START, identifiers("flights", 1, records.take_up()), pool)
    served.labels_ready = True
    where = Route(
        "flights", 3, 1, 2 if canary else None, None, share if canary else 0.0, 0, START, START, "salt", False
    )
    second = loaded(canary, 2) if canary else None
    served.routing = Routing(where, loaded(model, 1), second)
    endpoint = Endpoint({"flights": served}, threads=pool, max_rows=50, max_body_bytes=100_000, hosts=loopback(8700))
    return World(home=made, endpoint=endpoint, served=served, model=model, pool=pool)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = serving(tmp_path, Logistic())
    yield made
    made.pool.shutdown()


def predicted(world: World, **changes: Any) -> str:
    answer = world.post("/predict/flights", {**ROW, **changes})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ids"][0])


# ---------------------------------------------------------------------------------------------------- predictions


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
        (b"", 400, "InvalidRequest", "not valid JSON"),
        (b"{", 400, "InvalidRequest", "not valid JSON"),
        (b'{"delay": NaN}', 400, "InvalidRequest", "not valid JSON"),
        (b'{"delay": -Infinity}', 400, "InvalidRequest", "not valid JSON"),
        (b'{"delay": 1e999}', 400, "InvalidRequest", "out of range"),
        (b'{"delay": 1, "delay": 2}', 400, "InvalidRequest", "key 'delay' stands twice"),
        (b'{"delay": 1, "del\\u0061y": 2}', 400, "InvalidRequest", "key 'delay' stands twice"),
        (b"[1]", 400, "InvalidRequest", "the body must be"),
        (b"null", 400, "InvalidRequest", "the body must be"),
        (b'"\xff\xfe"', 400, "InvalidRequest", "not valid JSON"),
        (b"[" * 5000 + b"]" * 5000, 400, "InvalidRequest", "not valid JSON"),
        (b'{"rows": ' + b"[" * 50 + b"]" * 50 + b"}", 400, "InvalidRequest", "nested deeper"),
        (b'{"rows": []}', 422, "InvalidRows", "there are no rows"),
        (b'{"rows": [3]}', 422, "InvalidRows", "row 0 is '3', not an object"),
        (b'{"rows": [{}]}', 422, "InvalidRows", "row 0 lacks"),
        (b'{"rows": {}}', 422, "InvalidRows", "row 0 lacks"),
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
    monkeypatch.setattr(world.served.records, "append_feedback", full)
    answer = world.post("/predict/flights", ROW)
    refused = world.post("/feedback/flights", {"id": identity, "label": "no"})
    monkeypatch.undo()

    assert answer.status_code == 200 and answer.headers["mainspring-recorded"] == "no"
    assert "mainspring_unrecorded_total" in world.get("/metrics").text
    assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
    assert world.post("/feedback/flights", {"id": identity, "label": "yes"}).json()["new"] == 1


# -------------------------------------------------------------------------------------------- units and versions


def test_a_unit_sticks_to_its_version(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(), Logistic(slope=0.2))
    models = {unit: made.post("/predict/flights", {**ROW, "id": unit}).json()["model"] for unit in map(str, range(40))}

    assert models == {unit: f"flights@{2 if assigned('salt', unit, 0.5) else 1}" for unit in models}
    assert set(models.values()) == {"flights@1", "flights@2"}
    assert {record.arm for record in made.predictions() if record.version == 2} == {"canary"}


def test_the_header_names_the_unit_and_a_request_is_one_unit(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(), Logistic(slope=0.2))
    unit = next(unit for unit in map(str, range(9)) if assigned("salt", unit, 0.5))
    rows = [{**ROW, "id": str(number)} for number in range(10)]
    answer = made.post("/predict/flights", {"rows": rows}, headers={"Mainspring-Unit": unit})

    assert answer.json()["model"] == "flights@2"
    assert {(record.unit, record.version) for record in made.predictions()} == {(unit, 2)}


def test_without_header_and_key_each_request_is_a_unit(world: World) -> None:
    for _ in range(2):
        predicted(world, id=None)

    assert [record.unit for record in world.predictions()] == [record.id for record in world.predictions()]


def test_a_failing_canary_stays_an_error(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(), Logistic(fail_on="XX"), share=1.0)
    answer = made.post("/predict/flights", {**ROW, "carrier": "XX"})

    assert answer.status_code == 500
    (record,) = made.predictions()
    assert (record.arm, record.version) == ("canary", 2) and record.error


def test_rows_that_only_the_canary_refuses_count_against_it(tmp_path: Path) -> None:
    wider = Logistic(inputs=Schema((Column("delay", Type.FLOAT), Column("gate", Type.TEXT))))
    made = serving(tmp_path, Logistic())
    made.served.routing = Routing(
        Route("flights", 4, 1, 2, None, 1.0, 0, START, START, "salt", False),
        made.served.routing.champion,
        Loaded(SimpleNamespace(name="flights@2", number=2), wider),  # type: ignore[arg-type]
    )
    answer = made.post("/predict/flights", ROW)
    useless = made.post("/predict/flights", {"nothing": 1})

    assert answer.status_code == 422 and "lacks column 'gate'" in answer.text and useless.status_code == 422
    (record,) = made.predictions()
    assert record.arm == "canary" and "lacks column 'gate'" in record.error


def test_requests_that_arrive_together_share_a_model_call_and_get_their_own_answers(world: World) -> None:
    async def together() -> list[httpx.Response]:
        async with world.client() as client:
            rows = [{**ROW, "delay": float(delay), "id": str(delay)} for delay in range(0, 40, 2)]
            return await asyncio.gather(*(client.post("/predict/flights", json=row) for row in rows))

    before = len(world.model.calls)
    answers = asyncio.run(together())
    calls = world.model.calls[before:]
    alone = [world.post("/predict/flights", {**ROW, "delay": float(delay)}).json() for delay in range(0, 40, 2)]

    assert sum(calls) == 20 and len(calls) < 20
    assert [answer.json()["probabilities"] for answer in answers] == [answer["probabilities"] for answer in alone]
    keys = {record.id: record.key for record in world.predictions()}
    assert [keys[answer.json()["ids"][0]] for answer in answers] == [str(delay) for delay in range(0, 40, 2)]


def test_a_request_that_fails_does_not_spoil_those_beside_it(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(fail_on="XX"))

    async def together() -> list[int]:
        async with made.client() as client:
            rows = [{**ROW, "carrier": "XX" if number == 3 else "AA"} for number in range(6)]
            answers = await asyncio.gather(*(client.post("/predict/flights", json=row) for row in rows))
            return [answer.status_code for answer in answers]

    assert asyncio.run(together()) == [200, 200, 200, 500, 200, 200]


def test_a_slow_model_does_not_stop_the_endpoint(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(seconds=0.05))
    made.post("/predict/flights", ROW)

    async def meanwhile() -> tuple[bool, int]:
        async with made.client() as client:
            slow = asyncio.ensure_future(client.post("/predict/flights", json=ROW))
            await asyncio.sleep(0.01)
            await client.get("/healthz")
            return slow.done(), (await slow).status_code

    assert asyncio.run(meanwhile()) == (False, 200)


# ------------------------------------------------------------------------------------------------------- feedback


def test_a_label_finds_its_prediction_by_id(world: World) -> None:
    identity = predicted(world)
    answer = world.post("/feedback/flights", {"id": identity, "label": "yes", "at": "2013-04-02T10:00:00+02:00"})

    assert answer.json() == {"ids": [identity], "new": 1, "known": 0}
    (record,) = world.feedback()
    assert (record.id, record.label, record.at.isoformat()) == (identity, "yes", "2013-04-02T08:00:00+00:00")


def test_a_label_without_a_time_is_known_since_the_loops_now(world: World) -> None:
    world.post("/feedback/flights", {"id": predicted(world), "label": "no"})

    assert world.feedback()[0].at == START


def test_a_label_finds_its_prediction_by_key_and_time(world: World) -> None:
    early, late = predicted(world), predicted(world, scheduled="2013-04-02T05:15:00")
    by_row = world.post("/feedback/flights", {"key": "f1", "time": "2013-04-01T05:15:00", "label": "no"})
    by_key = world.post("/feedback/flights", {"key": "f1", "label": "yes"})

    assert by_row.json()["ids"] == [early] and by_key.json()["ids"] == [late]


def test_the_same_label_twice_is_taken_once_and_another_is_refused(world: World) -> None:
    identity = predicted(world)
    answers = [world.post("/feedback/flights", {"id": identity, "label": label}) for label in ("yes", "yes", "no")]

    assert [answer.status_code for answer in answers] == [200, 200, 409]
    assert answers[1].json() == {"ids": [identity], "new": 0, "known": 1}
    assert "has the label 'yes', not 'no'" in answers[2].text
    assert len(world.feedback()) == 1


def test_a_list_is_taken_whole_or_not_at_all(world: World) -> None:
    ids = [predicted(world) for _ in range(3)]
    refused = world.post("/feedback/flights", [{"id": each, "label": "no"} for each in [*ids, "unknown"]])
    assert refused.status_code == 404 and world.feedback() == []

    taken = world.post("/feedback/flights", [{"id": each, "label": "yes"} for each in ids])
    assert taken.json()["new"] == 3 and len(world.feedback()) == 3


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"label": "perhaps"}, 422, "label 'perhaps' is none of the classes 'no', 'yes'"),
        ({"label": None}, 422, "label 'None' is none of the classes"),
        ({"label": ["yes"]}, 422, "is none of the classes"),
        ({"label": True}, 422, "is none of the classes"),
        ({"id": "flights-unknown"}, 404, "no prediction has the id 'flights-unknown'"),
        ({"id": 7}, 422, "id '7' is not text"),
        ({"at": "yesterday"}, 422, "at 'yesterday' is not a time"),
        ({"at": "2013-04-01T00:00:00"}, 422, "has no time zone; add \\+00:00"),
        ({"at": "0001-01-01T00:00:00+10:00"}, 422, "is not a time"),
        ({"note": "x"}, 400, "the unknown field 'note'"),
        ({"key": "f1"}, 400, "must be"),
    ],
)
def test_feedback_that_cannot_be_is_refused(world: World, change: dict[str, Any], status: int, message: str) -> None:
    answer = world.post("/feedback/flights", {"id": predicted(world), "label": "yes", **change})

    assert answer.status_code == status, answer.text
    assert re.search(message, answer.json()["error"]["message"])
    assert world.feedback() == []


@pytest.mark.parametrize("body", [b"[]", b"[1]", b"3", b'{"label": "yes"}', b'{"key": null, "label": "yes"}', b"{"])
def test_malformed_feedback_is_refused(world: World, body: bytes) -> None:
    assert world.post("/feedback/flights", content=body).status_code in (400, 422)


def test_a_regression_takes_numbers(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(task="regression", classes=()))
    identity = predicted(made)

    assert made.post("/feedback/flights", {"id": identity, "label": "late"}).status_code == 422
    assert made.post("/feedback/flights", {"id": identity, "label": True}).status_code == 422
    assert made.post("/feedback/flights", {"id": identity, "label": 10**400}).status_code in (400, 422)
    assert made.post("/feedback/flights", {"id": identity, "label": 3}).json()["new"] == 1


def test_boolean_classes_take_booleans_only(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(classes=(False, True)))
    identity = predicted(made)

    assert made.post("/feedback/flights", {"id": identity, "label": 1}).status_code == 422
    assert made.post("/feedback/flights", {"id": identity, "label": True}).status_code == 200


def test_feedback_waits_until_the_records_are_read_back(world: World) -> None:
    identity = predicted(world)
    world.served.labels_ready = False

    answer = world.post("/feedback/flights", {"id": identity, "label": "yes"})
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"


# ---------------------------------------------------------------------------------------------- MLflow's protocol


@pytest.mark.parametrize("path", ["/invocations", "/loops/flights/invocations"])
@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": list(ROW), "data": [list(ROW.values())]}},
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
        (b'{"inputs": {"delay": [1, 2], "carrier": ["AA"]}}', 422),
    ],
)
def test_malformed_forms_are_refused(world: World, body: bytes, status: int) -> None:
    assert world.post("/invocations", content=body).status_code == status


@pytest.mark.parametrize(
    "text", [b"", b"delay,carrier\n1\n", b"delay\nabc\n", b'delay\n"1', b"\xff\xfe", b"delay\nnan\n"]
)
def test_malformed_csv_is_refused(world: World, text: bytes) -> None:
    answer = world.post("/invocations", content=text, headers={"content-type": "text/csv"})

    assert answer.status_code in (400, 422), answer.text


def test_with_several_loops_the_path_must_name_one(world: World) -> None:
    world.endpoint.loops = {"flights": world.served, "trains": world.served}
    answer = world.post("/invocations", {"instances": [ROW]})

    assert answer.status_code == 409 and "/loops/flights/invocations, /loops/trains/invocations" in answer.text


# --------------------------------------------------------------------------------------- what it says of itself


def test_health_readiness_and_metrics(world: World) -> None:
    predicted(world)
    world.post("/predict/flights", {})
    ready = world.get("/readyz").json()
    text = world.get("/metrics").text

    assert world.get("/healthz").json() == {"status": "ok"}
    assert ready["ready"] is True and ready["loops"]["flights"]["champion"] == 1
    assert 'mainspring_requests_total{loop="flights",version="1",status="200"} 1' in text
    assert 'mainspring_requests_total{loop="flights",version="",status="422"} 1' in text
    assert 'mainspring_request_seconds_count{loop="flights"} 2' in text
    assert 'mainspring_version_share{loop="flights",version="1"} 1.0' in text


def test_a_loop_without_a_version_is_not_ready_and_says_why(world: World) -> None:
    world.served.routing = None

    assert world.get("/readyz").status_code == 503
    answer = world.post("/predict/flights", ROW)
    assert answer.status_code == 503 and "it has no version yet" in answer.text


def test_the_openapi_document_has_the_loops_real_columns(world: World) -> None:
    document = world.get("/openapi.json").json()

    body = document["paths"]["/predict/flights"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    row = body["oneOf"][1]
    assert row["properties"]["distance"] == {"type": ["integer", "null"], "format": "int64"}
    assert set(row["required"]) == {"delay", "distance", "carrier", "freight"}, "nothing changes without the time"
    assert "/feedback/flights" in document["paths"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "127.0.0.1:8700"}, 200),
        ({"host": "localhost:8700"}, 200),
        ({"host": "LOCALHOST:8700", "origin": "http://localhost:8700"}, 200),
        ({"host": "evil.example:8700"}, 403),
        ({"host": "127.0.0.1:8700.evil.example"}, 403),
        ({"host": "127.0.0.1"}, 403),
        ({"host": "127.0.0.1:8700", "origin": "http://evil.example"}, 403),
        ({"host": "127.0.0.1:8700", "origin": "null"}, 403),
        ({"host": "127.0.0.1:8700", "origin": "http://127.0.0.1:9999"}, 403),
    ],
)
def test_only_this_machine_and_its_own_pages_get_in(world: World, headers: dict[str, str], status: int) -> None:
    assert world.get("/healthz", headers=headers).status_code == status


def test_an_unforeseen_fault_shows_no_stack_trace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("mainspring.serving.endpoint._told", broken)
    answer = world.post("/predict/flights", ROW)

    assert answer.status_code == 500 and answer.json()["error"]["code"] == "Failed"
    assert "secret" not in answer.text


def test_stand_ins_are_what_the_store_knows(tmp_path: Path) -> None:
    made = home(tmp_path)
    route(made)

    assert Deployments(made).version("flights", 1).bundle == bundle("a" * 8)
