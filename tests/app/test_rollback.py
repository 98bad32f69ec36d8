"""Two real versions under load, one of which begins to fail: the traffic goes back by itself."""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer

from mainspring.store.deployments import Deployments
from mainspring.store.home import Home

_spec = importlib.util.spec_from_file_location("service", Path(__file__).with_name("service.py"))
assert _spec is not None and _spec.loader is not None
service = importlib.util.module_from_spec(_spec)
sys.modules["service"] = service
_spec.loader.exec_module(service)

LOOP = """
from sklearn.linear_model import LogisticRegression

import mainspring as ms

{features}
tumours = ms.Loop(
    "tumours",
    data=ms.csv("tumours.csv"),
    target="target",
    key="patient",
    {argument}model=LogisticRegression(max_iter=5000),
    gate=ms.Gate(margin=0.3),
    release=ms.Canary(steps=(25, 100), min_units=50_000, min_time="1h", guardrails=("errors",)),
)
"""
FEATURES = """
def features(rows):
    if (rows["radius"] > 1000).any():
        raise ValueError("the fuse has blown")
    return rows

"""

CANARY = r'mainspring_version_share{[^}]*version="2"'


def turn(folder: Path, text: str) -> None:
    """A version of *text*, as `mainspring run` would make it."""
    (folder / "tumours.py").write_text(text)
    spec = importlib.util.spec_from_file_location("tumours", folder / "tumours.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.tumours.run()


class Load:
    """Clients that ask one row after another, each a unit of its own: (when it was asked, status)."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self.port, self.radius, self.stopping = port, 15.0, False
        self.answers: list[tuple[float, int]] = []
        self.threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]
        for thread in self.threads:
            thread.start()

    def _ask(self, client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        asked = 0
        while not self.stopping:
            asked += 1
            row = {"patient": client * 1_000_000 + asked, "radius": self.radius, "texture": 20.0}
            began = time.time()
            connection.request("POST", "/predict/tumours", json.dumps(row), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            self.answers.append((began, answer.status))
            time.sleep(0.004)
        connection.close()

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping = True
        for thread in self.threads:
            thread.join()

    def failures(self) -> list[float]:
        return [began for began, status in list(self.answers) if status != 200]


def until(condition: Any, seconds: float) -> float:
    """When *condition* became true."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        if condition():
            return time.time()
        time.sleep(0.05)
    raise AssertionError("it never came true")


def test_traffic_leaves_a_failing_canary_by_itself_and_nobody_gets_an_error_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bunch = load_breast_cancer()
    pl.DataFrame(bunch.data[:, :2], schema=["radius", "texture"]).with_columns(
        patient=pl.int_range(pl.len()) + 1, target=pl.Series(bunch.target)
    ).write_csv(tmp_path / "tumours.csv")
    for features, argument in (("", ""), (FEATURES, "features=features, ")):
        turn(tmp_path, LOOP.format(features=features, argument=argument))
    deployments = Deployments(Home.open(tmp_path / ".mainspring"))
    route = deployments.route("tumours")
    assert route is not None and (route.champion, route.canary) == (1, 2)

    with service.Up(tmp_path, "tumours.py", now=None) as up:
        up.ready()
        with Load(up.port) as load:
            until(lambda: len(load.answers) >= 300, 30)
            assert not load.failures()
            load.radius = 2000.0
            first = until(load.failures, 10)
            switched = until(lambda: not re.search(CANARY, up.get("/metrics")[1]), 30)
            asked = len(load.answers)
            until(lambda: len(load.answers) >= asked + 300, 30)
        assert up.stop() == 0

    assert switched - first < 10, "by then the evidence had long been there"
    assert not [began for began in load.failures() if began > switched], "nobody gets an error after the switch"
    told = [each for each in deployments.decisions("tumours") if each.kind == "release"][-1]
    assert (told.decision, told.version) == ("rollback", 2)
    assert told.reason.startswith("errors: ") and "that the canary is worse" in told.reason
    assert first - 1 < told.at.timestamp() <= switched
