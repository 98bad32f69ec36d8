"""A unit sticks to its version, and requests that come together share a model call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import httpx
from answering import World, predicted, serving
from stand_in import ROW, START, Logistic

from mainspring.core.schema import Column, Schema, Type
from mainspring.serving.loaded import Loaded
from mainspring.serving.served import Routing
from mainspring.statistics.assignment import assigned
from mainspring.store.deployments import Route


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
