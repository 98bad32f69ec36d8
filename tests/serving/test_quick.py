"""The short way of plain predictions: it says what the long one says, and leaves to it what isn't plain."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from answering import World
from stand_in import ROW, Process, home, route

from mainspring.core.errors import TooMany
from mainspring.serving.bodies import Headers, Reply
from mainspring.store.records import Records

DOORS = ("/predict/flights", "/v1/models/flights:predict", "/v2/models/flights/infer", "/loops/flights/invocations")
PLAIN = [(b"host", b"127.0.0.1:8700"), (b"content-type", b"application/json")]
TENSOR = {"name": "delay", "datatype": "FP64", "shape": [1], "data": [1.0]}
VALID = ({"rows": [ROW]}, {"instances": [ROW]}, {"inputs": [TENSOR]}, {"dataframe_records": [ROW]})
VALUES = (b"", b"null", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'"\\ud800"', b'"\xff"', b"[[[[]]]]", b'{"rows": NaN}')
BODIES: list[bytes] = [
    *VALUES,
    *(json.dumps(body).encode() for body in VALID),
    *(
        json.dumps(body).encode()
        for body in (ROW, [ROW, ROW], {**ROW, "more": 1}, {**ROW, "delay": "late"}, {"rows": []})
    ),
    b'{"rows": [{"delay": 1',
]


async def _short(world: World, url: str, content: bytes, headers: Headers = PLAIN) -> Reply | None:
    """What the short way says; None where it leaves it to the long one."""
    quick, said = world.endpoint.quick, asyncio.get_running_loop().create_future()
    headers = [*headers, (b"content-length", b"%d" % len(content))]
    way = quick.way(url.encode())
    if way is None or not quick.takes(headers, "http") or not quick.ask(way, headers, content, said.set_result):
        return None
    reply: Reply = await said
    return reply


def _without_ids(text: Any) -> Any:
    said = json.loads(text)
    return {key: value for key, value in said.items() if key not in ("ids", "outputs")} if "ids" in said else said


@pytest.mark.parametrize("door", DOORS)
def test_it_says_what_the_long_way_says(world: World, door: str) -> None:
    taken = 0
    for body in BODIES:
        reply = asyncio.run(_short(world, door, body))
        long = world.post(door, content=body, headers={"content-type": "application/json"})
        if reply is not None:
            taken += 1
            assert reply.status == long.status_code, body
            if not door.startswith("/v2") or reply.status != 200:
                assert _without_ids(reply.body) == _without_ids(long.text), body

    assert taken >= len(BODIES) - 2
    counted = [line for line in world.get("/metrics").text.splitlines() if line.startswith("mainspring_requests_total")]
    assert sum(int(line.split()[-1]) for line in counted) == taken + len(BODIES)


def test_what_it_answers_is_on_record(world: World) -> None:
    reply = asyncio.run(
        _short(world, "/predict/flights", json.dumps(ROW).encode(), [*PLAIN, (b"mainspring-unit", b"u")])
    )

    assert reply is not None
    (record,) = world.predictions()
    assert (record.id, record.unit, record.row) == (json.loads(reply.body)["ids"][0], "u", ROW)


@pytest.mark.parametrize(
    ("url", "more"),
    [
        ("/predict/flights?explain=true", []),
        ("/predict/trains", []),
        ("/feedback/flights", []),
        ("/v2/models/flights/versions/1/infer", []),
        ("/predict/flights", [(b"transfer-encoding", b"chunked")]),
        ("/predict/flights", [(b"content-encoding", b"gzip")]),
        ("/predict/flights", [(b"expect", b"100-continue")]),
        ("/predict/flights", [(b"connection", b"close")]),
        ("/predict/flights", [(b"origin", b"http://evil.example")]),
        ("/predict/flights", [(b"host", b"evil.example")]),
    ],
)
def test_it_leaves_to_the_long_way_what_is_not_plain(world: World, url: str, more: Headers) -> None:
    assert asyncio.run(_short(world, url, json.dumps(ROW).encode(), [*PLAIN, *more])) is None
    assert world.predictions() == []


def test_who_finds_no_room_is_told_a_moment_later(world: World) -> None:
    world.served._seconds_in_flight = 5.0

    async def asked() -> tuple[Reply | None, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        return await _short(world, "/predict/flights", json.dumps(ROW).encode()), loop.time() - began

    reply, seconds = asyncio.run(asked())

    assert reply is not None and reply.status == 429 and (b"retry-after", b"1") in reply.headers
    assert seconds > 0.2, "it would be back at once, and take time from those that are answered"


def test_a_burst_after_a_calm_is_answered_as_a_whole_and_a_standing_queue_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, now = world.served, 1000.0
    monkeypatch.setattr("mainspring.serving.served.time.monotonic", lambda: now)
    served._in_flight = 500
    served.admit()
    now += 0.04
    served.admit()
    now += 0.04
    for seconds in (0.0, 0.9, 0.9, 0.9):  # it has stood for longer than a burst, and goes on
        now += seconds
        with pytest.raises(TooMany, match="500 requests wait for loop 'flights' already"):
            served.admit()
    now += 1.1
    served.admit()


@pytest.mark.parametrize("door", DOORS)
def test_a_value_that_no_record_can_hold_keeps_nobody_waiting(world: World, door: str) -> None:
    half = b'{"delay": NaN, "carrier": "\\ud800"}'
    tensor = json.dumps(TENSOR).replace("1.0", "NaN").encode()
    body = {
        "/predict/flights": b'{"rows": [%b]}' % half,
        "/v1/models/flights:predict": b'{"instances": [%b]}' % half,
        "/loops/flights/invocations": b'{"dataframe_records": [%b]}' % half,
        "/v2/models/flights/infer": b'{"parameters": {"unit": "\\ud800"}, "inputs": [%b]}' % tensor,
    }[door]

    reply = asyncio.run(asyncio.wait_for(_short(world, door, body), 5))

    assert reply is not None and reply.status == 400
    assert (world.served._in_flight, world.served._seconds_in_flight) == (0, 0.0)


def test_who_waits_is_answered_when_records_or_answers_fail(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise TypeError("no record holds it")

    monkeypatch.setattr(world.served.records, "append", broken)
    unrecorded = asyncio.run(_short(world, "/predict/flights", json.dumps(ROW).encode()))
    monkeypatch.setattr(type(world.served), "_records", broken)
    failed = asyncio.run(_short(world, "/predict/flights", json.dumps(ROW).encode()))

    assert unrecorded is not None and unrecorded.status == 200 and world.served.unrecorded == 1
    assert failed is not None and failed.status == 500
    assert (world.served._in_flight, world.served._seconds_in_flight) == (0, 0.0)


def test_more_rows_than_the_endpoint_takes_go_the_long_way(world: World) -> None:
    world.endpoint.quick._most_rows = 2

    assert asyncio.run(_short(world, "/predict/flights", json.dumps({"rows": [ROW] * 3}).encode())) is None
    assert asyncio.run(_short(world, "/predict/flights", json.dumps({"rows": [ROW] * 2}).encode())) is not None


def test_queries_of_any_number_keep_no_path_from_it(world: World) -> None:
    quick = world.endpoint.quick
    for number in range(300):
        assert quick.way(b"/predict/flights?number=%d" % number) is not None

    assert not quick._ways and quick.way(b"/v1/models/flights:predict") is not None


def test_a_row_among_many_is_expected_to_take_less_than_alone(world: World) -> None:
    served = world.served
    served._row_seconds = {(1, False): 0.01, (1, True): 0.0001}
    loaded = served.live().champion

    def expected(rows: int, beside: int = 0) -> float:
        ask = SimpleNamespace(loaded=loaded, ids=["id"] * rows)
        return served._expected_seconds([ask], beside)  # type: ignore[list-item]

    assert loaded.version.number == 1
    assert (expected(1), expected(5000), expected(1, beside=40)) == pytest.approx((0.01, 0.5, 0.0001))


# ------------------------------------------------------------------------------------------------ a real connection


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    made = home(tmp_path_factory.mktemp("short"), ("good",))
    route(made)
    running = Process(made).ready()
    yield running
    assert running.stop() == ""


def _request(path: str = "/predict/flights", body: bytes = json.dumps(ROW).encode(), more: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: localhost:%%d\r\n%bcontent-length: %d\r\n\r\n" % (path.encode(), more, len(body))
    return head + body.replace(b"%", b"%%")


def _answers(process: Process, *parts: bytes, least: int = 1) -> list[int]:
    """The statuses of what is said to *parts*, each sent when an answer to those before has begun, until *least* have
    come and it is calm."""
    port, said = process.sock.getsockname()[1], b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as asking:
        for part in parts:
            asking.sendall(part.replace(b"%d", b"%d" % port))
            said += asking.recv(1 << 16)
        while said.count(b"HTTP/1.1 ") < least and (more := asking.recv(1 << 16)):
            said += more
        asking.settimeout(0.15)
        try:
            while more := asking.recv(1 << 16):
                said += more
        except TimeoutError:
            pass
    return [int(each[:3]) for each in said.split(b"HTTP/1.1 ")[1:]]


def test_requests_sent_at_once_are_answered_in_their_order(process: Process) -> None:
    plain, wrong, long = _request(), _request(body=b'{"rows": 1}'), _request("/predict/flights?explain=true")

    assert _answers(process, plain + wrong + plain + wrong, least=4) == [200, 422, 200, 422]
    assert _answers(process, wrong + long + plain, least=3) == [422, 422, 200]


def test_a_client_that_asks_without_end_fills_no_memory(process: Process) -> None:
    def megabytes() -> int:
        return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.process.pid}/status").read_text())[0]) >> 10

    port, before = process.sock.getsockname()[1], megabytes()
    asked = b"GET /healthz HTTP/1.1\r\nhost: localhost:%d\r\n\r\n" % port * 4_000
    until = time.monotonic() + 0.5
    with socket.create_connection(("127.0.0.1", port), timeout=10) as asking:
        asking.setblocking(False)
        while time.monotonic() < until:
            for do in (partial(asking.send, asked), partial(asking.recv, 1 << 20)):
                with suppress(BlockingIOError):
                    do()
        assert megabytes() - before < 25


def test_one_connection_takes_both_ways_in_turn(process: Process) -> None:
    chunked = (
        b"POST /predict/flights HTTP/1.1\r\nhost: localhost:%d\r\ntransfer-encoding: chunked\r\n\r\n"
        b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    )
    elsewhere = _request().replace(b"localhost:%d", b"evil.example")
    health = b"GET /healthz HTTP/1.1\r\nhost: localhost:%d\r\n\r\n"

    assert _answers(process, _request(), health, chunked, _request(), elsewhere, _request(), least=6) == [
        200, 200, 422, 200, 403, 200,
    ]  # fmt: skip


def test_a_client_that_asks_for_another_protocol_is_answered_by_this_one(process: Process) -> None:
    asking = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n"
    upgrade = _request(more=asking)
    chunked = upgrade.replace(b"content-length", b"x").replace(
        b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n"
    )
    chunked = chunked[: chunked.index(b"0\r\n\r\n") + 5]
    health = b"GET /healthz HTTP/1.1\r\nhost: localhost:%d\r\n" + asking + b"\r\n"

    assert (
        _answers(process, _request() + upgrade + _request() + upgrade[:-9], upgrade[-9:], health, least=5) == [200] * 5
    )
    assert _answers(process, chunked, health * 300, least=301) == [422] + [200] * 300
    assert _answers(process, b"CONNECT /here HTTP/1.1\r\nhost: localhost:%d\r\n\r\n") == [400]


def test_a_body_in_pieces_and_a_closing_connection_are_understood(process: Process) -> None:
    body = json.dumps(ROW).encode()
    asked = _request(body=body, more=b"connection: close\r\n")
    port = process.sock.getsockname()[1]
    for pieces in ((_request(body=body)[: -len(body)], body), (_request(body=body)[:-5], body[-5:])):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as asking:
            asking.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in (*pieces, *pieces):
                time.sleep(0.03)
                asking.sendall(piece.replace(b"%d", b"%d" % port))
            said = b""
            while said.count(b"HTTP/1.1 200") < 2 and (more := asking.recv(1 << 16)):
                said += more
            assert said.count(b"HTTP/1.1 200") == 2

    assert _answers(process, asked) == [200]


def test_who_goes_away_before_the_answer_leaves_its_record(process: Process) -> None:
    before = len(Records(process.home, "flights").predictions()[0])
    port = process.sock.getsockname()[1]
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as asking:
            asking.sendall(_request().replace(b"%d", b"%d" % port))

    assert _answers(process, _request()) == [200]
    assert len(Records(process.home, "flights").predictions()[0]) == before + 21


def test_who_goes_away_while_requests_wait_behind_another_leaves_no_fault(process: Process) -> None:
    port, rows = process.sock.getsockname()[1], json.dumps([ROW] * 400).encode()
    asked = _request(body=rows).replace(b"%d", b"%d" % port)
    with socket.socket() as asking, suppress(TimeoutError):
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        asking.settimeout(0.3)
        asking.connect(("127.0.0.1", port))
        while True:  # until it is full of answers that nobody reads
            asking.sendall(asked)

    assert _answers(process, _request()) == [200]  # and, as the process ends, that it has told of nothing


def test_what_stands_behind_a_body_is_bounded(process: Process) -> None:
    port = process.sock.getsockname()[1]
    head = b"POST /feedback/flights HTTP/1.1\r\nhost: localhost:%d\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" % port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as asking, pytest.raises(OSError):
        asking.sendall(head)
        for _ in range(400):
            asking.sendall(b"x-more: %b\r\n" % (b"y" * 50_000))

    assert _answers(process, _request()) == [200]
