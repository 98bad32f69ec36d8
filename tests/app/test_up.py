"""`mainspring up` as a whole: it serves, watches, retrains, and goes on after a kill."""

from __future__ import annotations

import http.client
import importlib.util
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer

from mainspring.app.supervisor import DRAIN_SECONDS
from mainspring.store.home import Home
from mainspring.store.journal import Journal
from mainspring.store.records import Records

_spec = importlib.util.spec_from_file_location("service", Path(__file__).with_name("service.py"))
assert _spec is not None and _spec.loader is not None
service = importlib.util.module_from_spec(_spec)
sys.modules["service"] = service
_spec.loader.exec_module(service)

LOOP = """
from sklearn.linear_model import LogisticRegression

import mainspring as ms

tumours = ms.Loop(
    "tumours",
    data=ms.csv("tumours.csv"),
    target="target",
    key="patient",
    model=LogisticRegression(max_iter=500),
    release=ms.Canary(steps=(20, 100), min_units=20, min_time="1h", guardrails=("errors",)),
    monitor=ms.Monitor(every="1d"),
    retrain=ms.Retrain(every="5d", min_labels=20, cooldown="1d"),
    privacy=ms.Privacy(subject="patient", detect="off"),
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("up")
    table().head(400).write_csv(folder / "tumours.csv")
    (folder / "tumours.py").write_text(LOOP)
    return folder


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[Any]:
    with service.Up(folder, "tumours.py") as running:
        yield running.ready()


def table() -> pl.DataFrame:
    bunch = load_breast_cancer()
    frame = pl.DataFrame(bunch.data, schema=[name.replace(" ", "_") for name in bunch.feature_names])
    return frame.with_columns(patient=pl.int_range(pl.len()) + 1, target=pl.Series(bunch.target))


def rows(start: int, count: int) -> list[dict[str, Any]]:
    return table().drop("target").slice(start, count).to_dicts()


def test_it_answers_and_takes_feedback_by_id_and_by_key(up: Any) -> None:
    status, answer = up.post("/predict/tumours", {"rows": rows(400, 3)})
    assert status == 200 and len(answer["ids"]) == 3 and answer["model"] == "tumours@1"
    assert all(abs(sum(row) - 1) < 1e-6 for row in answer["probabilities"])

    assert up.post("/feedback/tumours", {"id": answer["ids"][0], "label": 1})[0] == 200
    assert up.post("/feedback/tumours", {"key": rows(401, 1)[0]["patient"], "label": 0})[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict/nobody", {"rows": []}, 404),
        ("/predict/tumours", b"{", 400),
        ("/predict/tumours", b'{"mean_radius": NaN}', 400),
        ("/predict/tumours", {"rows": []}, 422),
        ("/predict/tumours", {"mean_radius": 1.0}, 422),
        ("/predict/tumours", {**dict.fromkeys(rows(0, 1)[0], 1.0), "mean_radius": "wide"}, 422),
        ("/feedback/tumours", {"id": "nobody", "label": 1}, 404),
        ("/feedback/tumours", {"id": "nobody", "label": 7}, 422),
    ],
)
def test_bad_requests_are_refused_with_a_message(up: Any, path: str, body: Any, status: int) -> None:
    given, answer = up.post(path, body)

    assert given == status and answer["error"]["message"]


def test_a_label_is_idempotent_and_can_be_corrected(up: Any) -> None:
    _, answer = up.post("/predict/tumours", rows(410, 1)[0])
    feedback = {"id": answer["ids"][0], "label": 1}

    assert [up.post("/feedback/tumours", feedback)[0] for _ in range(2)] == [200, 200]
    assert up.post("/feedback/tumours", {**feedback, "label": 0})[1]["corrected"] == 1


def test_the_api_asks_for_its_token(up: Any) -> None:
    assert up.api("/api/status")[0] == 200
    assert up.api("/api/status", token="guess")[0] == 401
    assert up.api("/api/clock", {"now": "yesterday"})[0] == 400


def test_a_person_is_erased_while_it_runs_and_found_by_no_key_afterwards(up: Any, folder: Path) -> None:
    asked = [{**row, "patient": 90_000 + place} for place, row in enumerate(rows(450, 2))]
    ids = up.post("/predict/tumours", {"rows": asked})[1]["ids"]  # both under the unit of the first

    erased = erase(folder, "90000")

    assert erased.returncode == 0 and "1 prediction," in erased.stdout, erased.stdout + erased.stderr
    assert up.post("/feedback/tumours", {"key": 90_000, "label": 1})[0] == 404
    assert up.post("/feedback/tumours", {"key": 90_001, "label": 1})[1]["ids"] == ids[1:]
    found = {record.id: record for record in Records(Home.open(folder / ".mainspring"), "tumours").predictions()[0]}
    assert found[ids[0]].row == {} and (found[ids[1]].key, found[ids[1]].unit.strip()) == (90_001, "")
    assert erase(folder, "90000", "--loop", "other").stderr.startswith("mainspring: no loop 'other'")


def erase(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mainspring.app.cli", "erase", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_loop_closes_and_a_kill_in_between_changes_nothing(up: Any) -> None:
    for day in range(2, 6):
        start = 400 + (day - 2) * 30
        status, answer = up.post("/predict/tumours", {"rows": rows(start, 30)})
        assert status == 200
        truth = table()["target"].slice(start, 30).to_list()
        labels = [{"id": name, "label": label} for name, label in zip(answer["ids"], truth, strict=False)]
        assert up.post("/feedback/tumours", labels)[0] == 200
        assert up.api("/api/clock", {"now": f"2024-01-0{day}T00:00:00+00:00"})[0] == 200
    up.kill()
    up.again()
    up.ready()
    status, _ = up.api("/api/clock", {"now": "2024-01-07T00:00:00+00:00"})
    assert status == 200, up.log.read_text()
    decisions = up.api("/api/loops/tumours/decisions")[1]
    reports = [entry["at"] for entry in decisions if entry["kind"] == "monitor"]
    assert len(reports) == len(set(reports)) == 6, reports
    assert [entry["data"]["cause"] for entry in decisions if entry["decision"] == "retrain"] == ["schedule"]
    assert len({entry["version"] for entry in decisions if entry["kind"] == "gate"}) == 2
    assert all(entry["reason"] for entry in decisions)


def test_a_second_service_on_one_home_is_refused(up: Any, folder: Path) -> None:
    with service.Up(folder, "tumours.py") as second:
        assert second.process.wait(30) == 1
    assert "another `mainspring up` runs" in second.log.read_text()


SLOW = """
import time
from pathlib import Path


def slowly(gate) -> str:
    Path("begun").touch()
    time.sleep(2)
    return "done"


tumours = ms.Loop(
    "tumours", data=ms.csv("tumours.csv"), target="target", key="patient", model=LogisticRegression(max_iter=500),
    steps=[slowly],
)
"""


def test_ctrl_c_lets_the_step_that_runs_end(tmp_path: Path) -> None:
    table().head(300).write_csv(tmp_path / "tumours.csv")
    (tmp_path / "tumours.py").write_text(LOOP.partition("tumours =")[0] + SLOW)
    with service.Up(tmp_path, "tumours.py") as running:
        wait_for(tmp_path / "begun")
        asked = time.monotonic()
        assert running.stop() == 0
        overdue = time.monotonic() - asked > DRAIN_SECONDS  # on a busy machine: what drains is ended then

    said = running.log.read_text()
    journal = Journal(Home.open(tmp_path / ".mainspring"))
    (run,) = journal.runs()
    steps = {step.name: step.status for step in journal.steps(run.id)}
    assert (run.status, set(steps.values())) == ("done", {"done"}) and "slowly" in steps
    faults = ("Traceback", "Error") if overdue else ("Traceback", "Error", "Warning")
    assert "draining" in said and not [word for word in faults if word in said], said


class Caller(threading.Thread):
    """Asks as fast as it is answered, on one connection or each time on a new one, until nobody listens."""

    def __init__(self, port: int, body: bytes, keep: bool) -> None:
        super().__init__()
        self.port, self.body, self.keep = port, body, keep
        self.answered, self.lost = 0, ""

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        while True:
            try:
                if connection.sock is None:
                    connection.connect()
            except OSError:
                return
            try:
                connection.request("POST", "/predict/tumours", self.body)
                assert connection.getresponse().read().startswith(b'{"model"')
                self.answered += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.lost = f"after {self.answered} answers: {error!r}"
                return
            if not self.keep:
                connection.close()


def test_every_request_that_was_let_in_is_answered_when_the_service_ends(up: Any) -> None:
    body = json.dumps({"rows": rows(400, 1)}).encode()
    callers = [Caller(up.port, body, keep) for keep in (True, False) * 3]
    for caller in callers:
        caller.start()
    time.sleep(0.5)
    assert up.stop() == 0  # the last test of this service
    for caller in callers:
        caller.join(20)

    assert [caller.lost for caller in callers] == [""] * 6
    assert sum(caller.answered for caller in callers) > 100
    assert "Traceback" not in up.log.read_text().rpartition("draining")[2]


def wait_for(path: Path, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)
