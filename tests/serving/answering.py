"""An endpoint in this process over a real, tiny model: what the tests of the HTTP face call."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from stand_in import ROW, SAMPLE, START, Logistic, home

from mainspring.serving.door import loopback
from mainspring.serving.endpoint import Endpoint
from mainspring.serving.loaded import Loaded, load
from mainspring.serving.served import Routing, ServedLoop
from mainspring.store.deployments import Route
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


def predicted(world: World, **changes: Any) -> str:
    answer = world.post("/predict/flights", {**ROW, **changes})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["ids"][0])
