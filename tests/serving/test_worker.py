"""The serving process follows routes and clock, drains, and loses nothing to kill -9."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import pytest
from stand_in import ROW, START, Load, Process, home, route

from mainspring.serving.push import notify
from mainspring.store.deployments import Deployments
from mainspring.store.records import Records


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for the tests that don't kill it: version 2 raises for carrier XX, 3 is slow, 4 can't be loaded."""
    made = home(tmp_path_factory.mktemp("serving"), ("good", "fail", "slow", "gone"))
    Deployments(made).set_clock(START)
    route(made)
    process = Process(made, manual_clock=True, max_rows=1000, max_body_bytes=1 << 20).ready()
    yield process
    said = process.stop()
    assert "Traceback" not in said.replace("ModelFailed", ""), said


def predict(process: Process, **changes: Any) -> httpx.Response:
    return httpx.post(f"{process.url}/predict/flights", json={**ROW, **changes}, timeout=10)


def test_a_pushed_route_is_served_when_the_push_returns(running: Process) -> None:
    for version in (2, 1, 2, 1):
        route(running.home, version)
        assert notify(running.home) is True
        assert predict(running).json()["model"] == f"flights@{version}"


def test_an_unpushed_route_is_noticed_by_the_poll(running: Process) -> None:
    route(running.home, 2)
    time.sleep(0.6)
    assert predict(running).json()["model"] == "flights@2"
    route(running.home, 1)
    assert notify(running.home)


def test_the_manual_clock_is_the_records_clock_when_the_push_returns(running: Process) -> None:
    later = START + timedelta(days=3)
    Deployments(running.home).set_clock(later)
    assert notify(running.home)
    identity = predict(running).json()["ids"][0]

    (record,) = [each for each in Records(running.home, "flights").predictions()[0] if each.id == identity]
    assert record.at == later


def test_a_canary_gets_its_share_and_every_answer_one_version(running: Process) -> None:
    route(running.home, 1, 2, 0.3)
    assert notify(running.home)
    models = [predict(running, id=f"unit-{number}").json()["model"] for number in range(60)]
    route(running.home, 1)
    assert notify(running.home)

    assert 5 < models.count("flights@2") < 32 and models.count("flights@1") == 60 - models.count("flights@2")


@pytest.mark.parametrize("canary", [False, True])
def test_a_version_that_cannot_be_loaded_leaves_the_others_serving_and_is_told(running: Process, canary: bool) -> None:
    if canary:
        route(running.home, 1, 4, 0.9)
    else:
        route(running.home, 4)
    assert notify(running.home)
    models = {predict(running, id=str(number)).json()["model"] for number in range(10)}
    state = Deployments(running.home).load_state("flights", "serving")
    route(running.home, 1)
    assert notify(running.home)

    assert models == {"flights@1"}
    assert state["version"] == 4 and state["error"].startswith("flights@4 can't be loaded")


@pytest.mark.parametrize("many", [300, pytest.param(100_000, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_no_request_is_dropped_while_versions_change(running: Process, many: int) -> None:
    """Deploys, canary steps, promotions and rollbacks, one after another."""
    answers: list[int] = []
    seconds: list[float] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=10) as client:
            while not stop.is_set():
                began = time.monotonic()
                answers.append(client.post(f"{running.url}/predict/flights", json=ROW).status_code)
                seconds.append(time.monotonic() - began)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    steps = cycle([(1, 2, 0.2), (1, 2, 0.6), (2, None, 0.0), (1, None, 0.0)])
    while len(answers) < many:
        route(running.home, *next(steps))
        assert notify(running.home)
        time.sleep(0.03)
    route(running.home)
    assert notify(running.home)
    stop.set()
    for thread in threads:
        thread.join()

    print(f"of {len(answers):,} answers the slowest took {1000 * max(seconds):.0f} ms")
    assert len(answers) >= many and set(answers) == {200}


RAW = [
    b"\x00\x01\x02\x03\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /predict/flights HTTP/1.1\r\n\r\n",
    b"POST /predict/flights HTTP/1.1\r\nHost: {host}\r\nContent-Length: -5\r\n\r\n",
    b"POST /predict/flights HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"POST /predict/flights HTTP/1.1\r\nHost: {host}\r\nContent-Length: 268435456\r\n\r\n{}",
    b"POST /predict/flights HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ",
    b"POST /predict/flights HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"POST /predict/x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: {host}\r\nHost: evil.example\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: {host}\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
    b"GET /%00%ff%2e%2e HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"POST /predict/%F0%9F%92%A9 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\n{}",
    b"GET http://evil.example/healthz HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"CONNECT evil.example:80 HTTP/1.1\r\nHost: {host}\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
]


@pytest.mark.parametrize("raw", RAW)
def test_malformed_http_is_no_fault_of_the_server(running: Process, raw: bytes) -> None:
    port = running.sock.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
        sock.sendall(raw.replace(b"{host}", f"127.0.0.1:{port}".encode()))
        try:
            said = sock.recv(65536)
        except (TimeoutError, ConnectionResetError):
            said = b""

    assert not said.startswith(b"HTTP/1.1 5") and b"Traceback" not in said
    assert httpx.get(f"{running.url}/healthz").json() == {"status": "ok"}


@pytest.mark.parametrize("hosts", [b"", b"Host: {host}\r\nHost: {host}\r\n", b"Host: {host}.\r\n"])
def test_a_request_without_exactly_one_right_host_gets_no_answer(running: Process, hosts: bytes) -> None:
    port = running.sock.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n" + hosts.replace(b"{host}", b"127.0.0.1:%d" % port) + b"\r\n")
        said = sock.recv(65536)

    assert said.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 ")) and b'"ok"' not in said


def test_a_terminated_process_answers_what_it_has_taken_and_leaves_the_rest_to_the_next(tmp_path: Path) -> None:
    made = home(tmp_path, ("long",))
    route(made)
    first = Process(made).ready()
    answers: list[int] = []
    client = httpx.Client(timeout=20)  # one for all: making a client takes longer than a request
    url = f"{first.url}/predict/flights"
    threads = [
        threading.Thread(target=lambda: answers.append(client.post(url, json=ROW).status_code)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    first.process.terminate()
    code = first.process.wait(10)
    first.close()
    assert code == 0 and not (made.folder("run") / "serving.sock").exists()
    second = Process(made, first.sock)
    for thread in threads:
        thread.join()
    second.stop()
    client.close()

    assert answers == [200] * 8
    assert len(Records(made, "flights").predictions()[0]) == 8


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=(pytest.mark.soak, pytest.mark.timeout(1800)))])
def test_kill_9_under_load_loses_and_doubles_nothing(tmp_path: Path, kills: int) -> None:
    made = home(tmp_path, ("good",))
    route(made)
    process = Process(made, seeds={"flights": 7}).ready()
    with Load(process.url) as load:
        for _ in range(kills):
            time.sleep(0.5)
            process.kill()
            process = Process(made, process.sock, seeds={"flights": 7})
        process.ready()
        time.sleep(0.5)
    process.stop()

    recorded = [record.id for record in Records(made, "flights").predictions()[0]]
    labelled = [record.id for record in Records(made, "flights").feedback()[0]]
    assert len(load.answered) > 100 and len(load.acknowledged) > 50
    assert len(set(recorded)) == len(recorded) and set(load.answered) <= set(recorded)
    assert len(set(labelled)) == len(labelled) and set(load.acknowledged) <= set(labelled)
    assert set(load.refused) <= {503}, "feedback waits while the records are read back"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("told", [True, False])
def test_a_body_of_256_mb_costs_little_memory(tmp_path: Path, told: bool) -> None:
    made = home(tmp_path, ("good",))
    route(made)
    process = Process(made).ready()
    before = _most_bytes(process)

    def drip() -> Iterator[bytes]:
        for _ in range(256):
            yield b" " * (1 << 20)

    headers = {"content-length": str(256 << 20)} if told else {}
    try:
        status = httpx.post(f"{process.url}/predict/flights", content=drip(), headers=headers, timeout=30).status_code
    except httpx.HTTPError:  # refused while it is still being sent
        status = 413
    after, alive = _most_bytes(process), predict(process).status_code
    process.stop()

    assert (status, alive) == (413, 200) and after - before < 64 << 20


def _most_bytes(process: Process) -> int:
    """The most memory that the process has held so far."""
    (line,) = [each for each in Path(f"/proc/{process.process.pid}/status").read_text().splitlines() if "VmHWM" in each]
    return 1024 * int(line.split()[1])


def test_a_loop_is_served_when_it_is_wanted_and_as_soon_as_it_is_born(tmp_path: Path) -> None:
    made = home(tmp_path, ("good",))
    deployments = Deployments(made)
    bundle = deployments.version("flights", 1).bundle
    deployments.register("trains", bundle, run="r", champion_digest=None, metrics={}, at=START)
    deployments.set_clock(START)
    route(made)
    process = Process(made, loops=["trains"]).alive()
    before = [httpx.post(f"{process.url}/predict/{loop}", json=ROW).status_code for loop in ("trains", "flights")]
    route(made, loop="trains")
    assert notify(made)
    process.ready()
    after = [httpx.post(f"{process.url}/predict/{loop}", json=ROW).status_code for loop in ("trains", "flights")]
    process.stop()

    assert (before, after) == ([404, 404], [200, 404])
    (record,) = Records(made, "trains").predictions()[0]
    assert abs(datetime.now(UTC) - record.at) < timedelta(minutes=1), "the manual clock is not asked for"


def test_each_loops_prediction_ids_derive_from_its_own_seed(tmp_path: Path) -> None:
    ids: list[dict[str, str]] = []
    for folder in ("one", "two"):
        made = home(tmp_path / folder, ("good",))
        deployments = Deployments(made)
        bundle = deployments.version("flights", 1).bundle
        deployments.register("trains", bundle, run="r", champion_digest=None, metrics={}, at=START)
        route(made)
        route(made, loop="trains")
        process = Process(made, seeds={"flights": 1, "trains": len(ids)}).ready()
        answers = {loop: httpx.post(f"{process.url}/predict/{loop}", json=ROW).json() for loop in ("flights", "trains")}
        ids.append({loop: answer["ids"][0] for loop, answer in answers.items()})
        process.stop()

    assert ids[0]["flights"] == ids[1]["flights"] and ids[0]["trains"] != ids[1]["trains"]


def test_many_rows_come_back_in_their_order(running: Process) -> None:
    rows = [{**ROW, "delay": float(number % 40), "id": number} for number in range(900)]
    answer = httpx.post(f"{running.url}/predict/flights", json={"rows": rows}, timeout=20).json()

    assert answer["predictions"] == ["yes" if number % 40 > 15 else "no" for number in range(900)]
    recorded = {record.id: record.key for record in Records(running.home, "flights").predictions()[0]}
    assert [recorded[identity] for identity in answer["ids"]] == list(range(900))


_SMALLER = """
import polars
from pathlib import Path
from mainspring.serving.worker import let_go_of_code

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])

before = resident()
let_go_of_code()
let_go = before - resident()
assert polars.DataFrame({"a": [3, 1]}).sort("a")["a"].to_list() == [1, 3]
print(let_go * 4096 > 10e6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is resident")
def test_code_that_only_the_start_needed_takes_no_memory_and_runs_when_it_is_called_again() -> None:
    said = subprocess.run([sys.executable, "-c", _SMALLER], check=True, capture_output=True, text=True)

    assert said.stdout == "True\n"
