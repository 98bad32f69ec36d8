"""Several serving processes under one supervisor: one may die at any time, and nobody notices more than its silence."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from stand_in import ROW, Load, Process, home, listening, opened, route

from mainspring.serving import switchboard
from mainspring.serving.beside import shared_memory
from mainspring.serving.push import ask, notify
from mainspring.store.home import Home
from mainspring.store.records import Records

_SERVICE = """
import sys
from pathlib import Path
from mainspring.app import spare, supervisor
from mainspring.app.config import Settings
supervisor._WORKER = "stand_in"  # its models instead of bundles
spare.CALM_SECONDS = 0.2
supervisor.serve(Settings(Path(sys.argv[1]), port=int(sys.argv[2]), workers=int(sys.argv[3])))
"""


class Service:
    """A supervisor of its own, and its serving processes."""

    def __init__(self, home: Home, workers: int, port: int | None = None) -> None:
        self.home, self.workers, self.port = home, workers, port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home.path / "service.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SERVICE, str(home.path), str(self.port), str(workers)],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
                stdout=log,
                stderr=log,
            )

    def children(self) -> list[int]:
        """The serving processes, by their start; the last is in reserve."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(each) for each in path.read_text().split()]

    def ready(self, seconds: float = 30.0) -> float:
        """Wait until all processes serve; when that was."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                said = httpx.get(f"{self.url}/readyz", timeout=2).json()
                if said["loops"]["flights"]["feedback"] and self._told() == self.workers:
                    return time.monotonic()
            except (httpx.HTTPError, KeyError):
                pass
            time.sleep(0.01)
        raise AssertionError(self.log.read_text())

    def _told(self) -> int:
        """How many processes serve by the route."""
        return sum(map(_listens, self.home.folder("run").glob("serving*.sock"))) if notify(self.home) else 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> str:
        self.process.terminate()
        assert self.process.wait(30) == 0
        return self.log.read_text()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(str(path)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def nothing_is_lost_or_doubled(made: Home, load: Load) -> None:
    recorded = [record.id for record in Records(made, "flights").predictions()[0]]
    labelled = [record.id for record in Records(made, "flights").feedback()[0]]
    assert len(load.answered) > 100 and len(load.acknowledged) > 50
    assert len(set(recorded)) == len(recorded) and set(load.answered) <= set(recorded)
    assert len(set(labelled)) == len(labelled) and set(load.acknowledged) <= set(labelled)
    assert set(load.refused) <= {503}, "feedback waits while the records are read back"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Process]]:
    """Two processes on one socket and one home, for the tests that don't kill them."""
    made, sock, measures = home(tmp_path_factory.mktemp("two"), ("good", "slow")), listening(), shared_memory()
    route(made)
    both = tuple(
        Process(made, sock, worker=number, workers=2, measures_fd=measures, shared=(measures,)) for number in range(2)
    )
    for each in both:
        each.alive()
    yield both  # type: ignore[misc]
    for each in both:
        if each.process.poll() is None:
            assert "Traceback" not in each.stop()
    os.close(measures)


def connection_to(process: Process, other: Process) -> httpx.Client:
    """A client whose connection the one process has taken, and not the other."""
    other.process.send_signal(signal.SIGSTOP)
    client = httpx.Client(base_url=process.url, timeout=10)
    assert client.get("/healthz").status_code == 200
    other.process.send_signal(signal.SIGCONT)
    return client


@pytest.fixture(scope="module")
def clients(two: tuple[Process, Process]) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """A connection to each."""
    one, other = two
    both = connection_to(one, other), connection_to(other, one)
    for client in both:
        while not client.get("/readyz").json().get("loops", {}).get("flights", {}).get("feedback"):
            time.sleep(0.02)
    yield both
    for client in both:
        client.close()


def test_a_label_finds_the_prediction_of_another_process_and_is_known_and_corrected_there(
    two: tuple[Process, Process], clients: tuple[httpx.Client, httpx.Client]
) -> None:
    first, second = clients
    for one, other in ((first, second), (second, first)):
        (identity,) = one.post("/predict/flights", json=ROW).json()["ids"]

        assert other.post("/feedback/flights", json={"id": identity, "label": "yes"}).json()["new"] == 1
        assert one.post("/feedback/flights", json={"id": identity, "label": "yes"}).json()["known"] == 1
        assert one.post("/feedback/flights", json={"id": identity, "label": "no"}).json()["corrected"] == 1
        assert other.post("/feedback/flights", json={"id": identity, "label": "no"}).json()["known"] == 1

    kept = [record.label for record in Records(two[0].home, "flights").feedback()[0][-4:]]
    assert kept == ["yes", "no", "yes", "no"]


def test_a_label_by_key_finds_the_latest_prediction_whoever_made_it(
    clients: tuple[httpx.Client, httpx.Client],
) -> None:
    row = {**ROW, "id": "hot"}
    made = [client.post("/predict/flights", json=row).json()["ids"][0] for client in clients * 2]

    found = [
        client.post("/feedback/flights", json={"key": "hot", "label": "yes"}).json()["ids"][0] for client in clients * 2
    ]

    assert found == made[::-1]


def test_a_push_returns_when_every_process_serves_by_the_route_and_sticks_alike(
    two: tuple[Process, Process], clients: tuple[httpx.Client, httpx.Client]
) -> None:
    made = two[0].home
    for version in (2, 1):
        route(made, version)
        assert notify(made)
        models = [client.post("/predict/flights", json=ROW).json()["model"] for client in clients]
        assert models == [f"flights@{version}"] * 2

    route(made, 1, 2, 0.4)
    assert notify(made) and ask(made) == []
    units = [f"unit-{number}" for number in range(25)]
    answered = [
        [client.post("/predict/flights", json={**ROW, "id": unit}).json()["model"] for unit in units]
        for client in clients
    ]
    assert answered[0] == answered[1] and len(set(answered[0])) == 2


def test_the_metrics_of_all_processes_are_told_by_each(clients: tuple[httpx.Client, httpx.Client]) -> None:
    for client in clients:
        client.post("/predict/flights", json=ROW)
    time.sleep(1.2)
    before = rows_of_workers(clients[0])
    for client in (clients[0], clients[0], clients[1]):
        client.post("/predict/flights", json=ROW)
    time.sleep(1.2)

    for client in clients:
        assert rows_of_workers(client) == [before[0] + 2, before[1] + 1]


def rows_of_workers(client: httpx.Client) -> list[int]:
    text = client.get("/metrics").text
    assert text.count("# TYPE mainspring_rows_total") == 1
    return [
        int(re.search(f'mainspring_rows_total{{loop="flights",version="1",worker="{worker}"}} (.+)', text)[1])  # type: ignore[index]
        for worker in range(2)
    ]


def test_the_process_in_reserve_has_loaded_what_the_routes_name_but_nothing_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = home(tmp_path, ("good", "slow", "gone"))
    route(made, 1, 3, 0.5)
    assert set(switchboard.prepared(made, opened, None)) == {("flights", 1)}, "what can't be loaded is told later"
    assert not switchboard.prepared(made, opened, ["trains"])

    monkeypatch.setattr(switchboard, "PREPARED_BYTES", 10)
    assert not switchboard.prepared(made, opened, None)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the processes are found in /proc")
@pytest.mark.parametrize("kills", [1, pytest.param(50, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_kill_9_of_a_process_and_of_the_supervisor_under_load_loses_and_doubles_nothing(
    tmp_path: Path, kills: int
) -> None:
    made = home(tmp_path, ("good",))
    route(made)
    service, died, started = Service(made, 2), [], []
    service.ready()
    with Load(service.url) as load:
        for kill in range(kills):
            time.sleep(0.4)
            while len(before := service.children()) < 3:
                time.sleep(0.005)
            os.kill(before[kill % 2], signal.SIGKILL)
            killed = time.monotonic()
            died.append(service.ready() - killed)
            children = service.children()
            assert children[:2] == [before[1 - kill % 2], before[2]], "the one in reserve serves in its place"
            service.kill()
            while any(_alive(child) for child in children):
                assert time.monotonic() < killed + 60, "a killed supervisor leaves no process behind"
                time.sleep(0.02)
            began = time.monotonic()
            service = Service(made, 2, service.port)
            started.append(service.ready() - began)
        time.sleep(0.4)
    said = service.stop()

    print(f"a worker was back after {max(died):.2f} s, under load; the next start served after {max(started):.2f} s")
    nothing_is_lost_or_doubled(made, load)
    assert said.count("process died (exit -9); starting it again") == kills and "Traceback" not in said


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
