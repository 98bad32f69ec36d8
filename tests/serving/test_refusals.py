"""What is refused, by which status, in which shape; and who is let in."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from answering import World, serving
from stand_in import ROW, Logistic, Process, home, route

from mainspring.serving.door import carries, token_hash
from tests.certificates import certificate

DOORS = ["/predict/flights", "/invocations", "/v1/models/flights:predict", "/feedback/flights"]
TOKEN = "a-long-and-secret-token"


def shape(answer: httpx.Response) -> str:
    """The code of a refusal, whose shape is the same at all doors."""
    error = answer.json()["error"]
    assert set(error) == {"code", "message"} and answer.headers["content-type"] == "application/json"
    return str(error["code"])


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", {}, 400, "InvalidRequest"),
        (b"[" * 100_000, {}, 400, "InvalidRequest"),
        (b"x" * 100_001, {}, 413, "TooLarge"),
        (b"{}", {"content-type": "application/vnd.apache.parquet"}, 415, "WrongFormat"),
        (b"{}", {"content-encoding": "br"}, 415, "WrongFormat"),
        (b"{}", {"content-encoding": "gzip"}, 400, "InvalidRequest"),
        (gzip.compress(b"{}", mtime=0)[:-4], {"content-encoding": "gzip"}, 400, "InvalidRequest"),
        (gzip.compress(b" " * 10_000_000, mtime=0), {"content-encoding": "gzip"}, 413, "TooLarge"),
    ],
)
def test_every_door_refuses_in_one_shape(
    world: World, path: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = world.post(path, content=body, headers=headers)

    assert (answer.status_code, shape(answer)) == (status, code), answer.text
    flat = world.post("/v2/models/flights/infer", content=body, headers=headers)
    assert flat.status_code == status and isinstance(flat.json()["error"], str) and flat.json()["code"] == code


@pytest.mark.parametrize("flag", ["strict", "explain"])
def test_a_flag_that_is_neither_true_nor_false_is_refused(world: World, flag: str) -> None:
    by_query = world.post(f"/predict/flights?{flag}=maybe", ROW)
    by_body = world.post("/predict/flights", {"rows": [ROW], flag: "true"})

    for answer in (by_query, by_body):
        assert (answer.status_code, shape(answer)) == (400, "InvalidRequest"), answer.text
    assert world.post(f"/predict/flights?{flag}=false", ROW).status_code == 200


@pytest.mark.parametrize(("coding", "packed"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_packed_body_is_unpacked(world: World, coding: str, packed: Any) -> None:
    answer = world.post("/predict/flights", content=packed(b'{"rows": []}'), headers={"content-encoding": coding})

    assert answer.status_code == 422 and "there are no rows" in answer.text


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict/flights"), ("POST", "/healthz"), ("DELETE", "/docs")])
def test_another_method_is_told_which_one_is_taken(world: World, method: str, path: str) -> None:
    answer = asyncio.run(world._call(method, path, {}))

    assert (answer.status_code, shape(answer)) == (405, "MethodNotTaken")
    assert answer.headers["allow"] == ("POST" if method == "GET" else "GET, HEAD")


def test_refusals_before_a_loop_is_reached_are_counted(world: World) -> None:
    for path in ("/predict/trains", "/nowhere", "/v1/models/trains"):
        assert shape(world.get(path) if path != "/predict/trains" else world.post(path, ROW)) == "NotServed"

    elsewhere = world.get("/v2/models/flights/config")
    assert elsewhere.json()["error"].startswith("no such path")  # as V2 has it; its clients read nothing else
    assert 'mainspring_refused_total{status="404"} 4' in world.get("/metrics").text


def test_what_would_wait_too_long_is_told_to_come_again(tmp_path: Path) -> None:
    made = serving(tmp_path, Logistic(seconds=0.6))

    async def together() -> list[httpx.Response]:
        async with made.client() as client:
            return await asyncio.gather(*(client.post("/predict/flights", json=ROW) for _ in range(12)))

    answers = asyncio.run(together())
    made.pool.shutdown()
    refused = [answer for answer in answers if answer.status_code != 200]

    assert 3 <= len(refused) <= 6, "the model needs 0.6 seconds for each, and 4 seconds of work may wait"
    assert {(answer.status_code, shape(answer), answer.headers["retry-after"]) for answer in refused} == {
        (429, "TooMany", "1")
    }
    assert f'mainspring_requests_total{{loop="flights",version="",status="429"}} {len(refused)}' in (
        made.get("/metrics").text
    )


# ------------------------------------------------------------------------------------------------ a real process


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A process with a token and TLS that waits one second for a request to come."""
    folder = tmp_path_factory.mktemp("guarded")
    cert, key = certificate(folder)
    made = home(folder, ("good",))
    route(made)
    process = Process(
        made, token_hash=token_hash(TOKEN), cert=str(cert), key=str(key), request_seconds=1.0, max_body_bytes=1 << 20
    )
    with httpx.Client(verify=ssl.create_default_context(cafile=str(cert))) as client:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if client.get(process.url + "/healthz").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.02)
        process.client = client  # type: ignore[attr-defined]
        yield process
    said = process.stop()
    assert "Traceback" not in said and TOKEN not in said, said


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN}x"])
def test_without_the_token_nothing_but_health_is_told(guarded: Process, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    for path in ("/predict/flights", "/v2/models/flights/infer", "/metrics", "/openapi.json", "/readyz", "/nowhere"):
        answer = guarded.client.post(guarded.url + path, json=ROW, headers=headers)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert "flights" not in answer.text
    for path in ("/healthz", "/ping", "/v2/health/live", "/v2/health/ready"):
        assert guarded.client.get(guarded.url + path, headers=headers).status_code == 200


def test_with_the_token_the_endpoint_answers_over_tls(guarded: Process) -> None:
    bearer = {"authorization": f"Bearer {TOKEN}"}
    answer = guarded.client.post(guarded.url + "/predict/flights", json=ROW, headers=bearer)
    page = {**bearer, "origin": guarded.url}

    assert answer.status_code == 200 and answer.json()["predictions"] == ["no"]
    assert guarded.client.get(guarded.url + "/readyz", headers=page).status_code == 200
    with pytest.raises(httpx.HTTPError):
        httpx.get(guarded.url.replace("https", "http") + "/healthz")


def test_a_token_is_known_by_its_hash_and_comes_once() -> None:
    bearer = (b"authorization", b"Bearer " + TOKEN.encode())
    assert carries([bearer], token_hash(TOKEN)) and carries([(b"authorization", b"bearer x")], token_hash("x"))
    assert not carries([bearer, bearer], token_hash(TOKEN)) and not carries([], token_hash(""))


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST /predict/flights HTTP/1.1\r\nHost: {host}\r\n",
        b"POST /predict/flights HTTP/1.1\r\nHost: {host}\r\nContent-Length: 400\r\n\r\n{",
        b"POST /predict/flights HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ],
)
def test_a_request_that_comes_too_slowly_is_given_up(slow: Process, begun: bytes) -> None:
    port = slow.sock.getsockname()[1]
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(begun.replace(b"{host}", b"127.0.0.1:%d" % port))
        said = b""
        while part := sock.recv(65536):
            said += part

    assert said.startswith(b"HTTP/1.1 408 ") and b'"TooSlow"' in said and 0.9 < time.monotonic() - began < 4
    assert httpx.get(f"{slow.url}/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: {host}\r\nX: " + b"a" * 600_000, 431, "TooLarge"),
        (b"GET /healthz HTTP/1.1\r\nHost: {host}\r\n" + b"X: a\r\n" * 20_000 + b"\r\n", 431, "TooLarge"),
        (b"no request at all\r\n\r\n", 400, "InvalidRequest"),
        (b"GET /healthz HTTP/1.1\r\nHost: {host}\r\nX: " + b"a" * 50_000 + b"\r\n\r\n", 200, "ok"),
        (b"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n" * 3_000, 200, "ok"),
    ],
    ids=["endless", "many", "no HTTP", "long", "pipelined"],
)
def test_a_header_has_its_limit_and_what_is_no_http_the_shape_of_other_refusals(
    slow: Process, sent: bytes, status: int, code: str
) -> None:
    port = slow.sock.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(sent.replace(b"{host}", b"127.0.0.1:%d" % port))
        said = sock.recv(65536)

    assert said.startswith(b"HTTP/1.1 %d " % status) and code.encode() in said


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A process that waits one second for a request to come, and whose model takes longer."""
    made = home(tmp_path_factory.mktemp("slow"), ("long",))
    route(made)
    process = Process(made, request_seconds=1.0).ready()
    yield process
    assert "Traceback" not in process.stop()


@pytest.mark.parametrize(
    ("following", "status"),
    [
        (b"POST /predict/flights HTTP/1.1\r\nHost:", b"408"),
        (b"POST /predict/flights HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n", b"400"),
        (b"no request at all\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 600_000, b"431"),
    ],
    ids=["header", "chunk", "no HTTP", "endless"],
)
def test_a_refusal_waits_for_the_answers_to_the_requests_before_it(
    slow: Process, following: bytes, status: bytes
) -> None:
    port, rows = slow.sock.getsockname()[1], json.dumps([ROW] * 3).encode()
    asked = b"POST /predict/flights HTTP/1.1\r\nHost: {host}\r\nContent-Length: %d\r\n\r\n" % len(rows) + rows
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock, suppress(ConnectionResetError):
        sock.sendall((asked + following).replace(b"{host}", b"127.0.0.1:%d" % port))
        while part := sock.recv(65536):
            said += part

    assert [each[:3] for each in said.split(b"HTTP/1.1 ")[1:]] == [b"200", status]


def test_an_answer_that_takes_long_and_a_connection_that_is_kept_are_not_given_up(slow: Process) -> None:
    with httpx.Client() as client:
        for _ in range(2):
            assert client.post(f"{slow.url}/predict/flights", json=[ROW] * 3, timeout=10).status_code == 200
            time.sleep(1.2)
        (pooled,) = client._transport._pool.connections  # type: ignore[attr-defined]
        assert pooled.is_idle() and client.get(f"{slow.url}/healthz").status_code == 200
