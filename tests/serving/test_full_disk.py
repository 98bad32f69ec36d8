"""A disk that is really full: predictions go on unrecorded and say so, feedback waits, and all is well once there is
room."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from stand_in import ROW, Process, home, route

from mainspring.store.records import Records


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "a disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"this machine lets nobody mount a disk: {done.stderr.decode().strip()[:80]}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"b" * 4096)
        except OSError:
            return


def test_a_full_disk_costs_records_not_answers_and_is_told_everywhere(disk: Path) -> None:
    made = home(disk, ("good",))
    route(made)
    process = Process(made, workers=2).ready()  # the other one isn't there
    client = httpx.Client(base_url=process.url, timeout=10)
    (known,) = client.post("/predict/flights", json=ROW).json()["ids"]
    fill(disk / "ballast")

    answers = [client.post("/predict/flights", json=ROW) for _ in range(60)]
    unrecorded = [each.json()["ids"][0] for each in answers if each.headers.get("mainspring-recorded") == "no"]
    feedback = [client.post("/feedback/flights", json={"id": known, "label": label}) for label in ("yes", "no") * 20]
    ready, metrics = client.get("/readyz").json(), client.get("/metrics").text
    status = subprocess.run(
        [sys.executable, "-m", "mainspring.app.cli", "--home", str(made.path), "status", "--json"],
        capture_output=True, text=True, env={**os.environ, "TMPDIR": "/tmp"},
    )  # fmt: skip
    (disk / "ballast").unlink()
    again = client.post("/predict/flights", json=ROW)
    label = client.post("/feedback/flights", json={"id": known, "label": "no"})
    recovered = client.get("/readyz").json()
    client.close()
    said = process.stop()

    assert {each.status_code for each in answers} == {200} and len(unrecorded) > 20
    assert feedback[-1].status_code == 503 and feedback[-1].headers["retry-after"] == "1"
    assert "make room" in feedback[-1].json()["error"]["message"]
    assert ready["loops"]["flights"]["recording"] is False
    assert f'mainspring_unrecorded_total{{loop="flights"}} {len(unrecorded)}' in metrics
    assert status.returncode == 0, status.stderr
    told = f"flights: predictions are answered but not recorded, {len(unrecorded)} so far; make room"
    assert json.loads(status.stdout)["troubles"] == [told]
    assert "mainspring-recorded" not in again.headers and label.status_code == 200
    assert recovered["loops"]["flights"]["recording"] is True
    kept = {record.id for record in Records(made, "flights").predictions()[0]}
    answered = {each.json()["ids"][0] for each in [*answers, again]}
    assert answered - kept == set(unrecorded)
    assert Records(made, "flights").feedback()[0][-1].label == "no"
    assert "not recorded" in said and "recorded again" in said and "Traceback" not in said
