"""A tiny real model by the Model protocol, a home that serves versions of it, and a process that does so."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.values import Bundle
from mainspring.serving import worker
from mainspring.statistics.metrics import Predictions
from mainspring.store.deployments import Deployments, Route
from mainspring.store.home import Home

START = datetime(2013, 4, 1, tzinfo=UTC)
INPUTS = Schema(
    (
        Column("delay", Type.FLOAT),
        Column("distance", Type.INTEGER),
        Column("carrier", Type.TEXT),
        Column("scheduled", Type.DATETIME),
        Column("freight", Type.BOOLEAN),
    )
)
ROLES = Roles("late", key="id", time="scheduled")
ROW = {
    "delay": 12.5,
    "distance": 800,
    "carrier": "AA",
    "scheduled": "2013-04-01T05:15:00",
    "freight": False,
    "id": "f1",
}
SAMPLE = pl.DataFrame(
    {
        "delay": [0.0, 30.0, None],
        "distance": [100, 2000, 5],
        "carrier": ["AA", "UA", None],
        "scheduled": [datetime(2013, 1, 1, 5), datetime(2013, 1, 2, 6), None],
        "freight": [True, False, None],
    }
)


@dataclass(frozen=True)
class Manifest:
    """The part of a bundle's manifest that serving reads."""

    inputs: Schema = INPUTS
    roles: Roles = ROLES
    task: str = "binary"
    classes: tuple[Any, ...] = ("no", "yes")
    unit: str | None = None


class Logistic:
    """Late with a chance that grows with the delay. *fail_on* makes it raise for a carrier, *seconds* makes it slow."""

    def __init__(
        self, slope: float = 0.1, *, fail_on: str | None = None, seconds: float = 0.0, **manifest: Any
    ) -> None:
        self.manifest = Manifest(**manifest)
        self.slope, self.fail_on, self.seconds = slope, fail_on, seconds
        self.calls: list[int] = []

    def predict(self, rows: pl.DataFrame) -> Predictions:
        self.calls.append(rows.height)
        if self.seconds:
            time.sleep(self.seconds)
        if self.fail_on is not None and (rows["carrier"] == self.fail_on).any():
            raise ZeroDivisionError("division by zero in a features function")
        delay = rows["delay"].fill_null(0.0).to_numpy()
        if self.manifest.task == "regression":
            return Predictions(values=delay * self.slope)
        late = 1 / (1 + np.exp(np.clip(-self.slope * (delay - 15), -500, 500)))
        probabilities = np.column_stack([1 - late, late])
        labels = np.array(self.manifest.classes, dtype=object)[(late > 0.5).astype(int)]
        return Predictions(labels, probabilities, classes=self.manifest.classes)


def bundle(digest: str, loop: str = "flights") -> Bundle:
    return Bundle(digest, loop, "LogisticRegression", "onnx", "binary", ("no", "yes"), "roc_auc", 1000)


def home(folder: Path, digests: tuple[str, ...] = ("a" * 8,), loop: str = "flights") -> Home:
    """A home whose loop has these bundles as versions 1, 2, ..."""
    made = Home.open(folder / ".mainspring")
    deployments = Deployments(made)
    for digest in digests:
        deployments.register(loop, bundle(digest, loop), run="r1", champion_digest=None, metrics={}, at=START)
    return made


def route(home: Home, champion: int = 1, canary: int | None = None, share: float = 0.0, loop: str = "flights") -> Route:
    """Write the route of *loop*."""
    deployments = Deployments(home)
    before = deployments.route(loop)
    revision = 0 if before is None else before.revision
    wanted = Route(loop, revision, champion, canary, None, share, 0, START, START, "salt", False)
    return deployments.change_route(wanted, expected=revision)


def opened(digest: str) -> tuple[Logistic, pl.DataFrame]:
    """A digest's model: "fail..." raises for carrier XX, "slow..." and "long..." are slow, "wild..." is wrong."""
    kinds = {
        "fail": Logistic(fail_on="XX"), "slow": Logistic(seconds=0.02), "long": Logistic(seconds=0.4),
        "wild": Logistic(slope=-5.0),
    }  # fmt: skip
    if digest.startswith("gone"):
        raise FileNotFoundError(digest)
    return kinds.get(digest[:4], Logistic()), SAMPLE


class Process:
    """A real serving process on its own port; of the stand-in's versions, or with *bundles* of the home's own."""

    def __init__(
        self,
        home: Home,
        sock: socket.socket | None = None,
        *,
        bundles: bool = False,
        shared: tuple[int, ...] = (),
        **settings: Any,
    ) -> None:
        self.home = home
        self.sock = sock or listening()
        scheme = "https" if settings.get("cert") else "http"
        self.url = f"{scheme}://127.0.0.1:{self.sock.getsockname()[1]}"
        command = [sys.executable, *(("-m", "mainspring.serving.worker") if bundles else (__file__,))]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(self.sock.fileno(), *shared)
        )
        assert self.process.stdin is not None
        given = {"home": str(home.path), "fd": self.sock.fileno(), **settings}
        self.process.stdin.write(json.dumps(given).encode())
        self.process.stdin.close()

    def ready(self) -> Process:
        """Wait until every loop answers and takes feedback."""
        return self._until("/readyz", lambda said: all(each["feedback"] for each in said["loops"].values()))

    def alive(self) -> Process:
        """Wait until the process answers, whatever it serves."""
        return self._until("/healthz", lambda said: True)

    def _until(self, path: str, enough: Callable[[Any], bool], seconds: float = 20.0) -> Process:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                answer = httpx.get(self.url + path, timeout=2.0)
                if answer.status_code == 200 and enough(answer.json()):
                    return self
            except httpx.HTTPError:
                pass
            time.sleep(0.02)
        self.process.kill()
        assert self.process.stderr is not None
        raise AssertionError(f"{path} never came: {self.process.stderr.read().decode()}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.close()

    def stop(self) -> str:
        """Drain; what it wrote to stderr."""
        self.process.terminate()
        self.process.wait(15)
        assert self.process.stderr is not None
        said = self.process.stderr.read().decode()
        self.close()
        self.sock.close()
        return said

    def close(self) -> None:
        assert self.process.stderr is not None
        self.process.stderr.close()


class Load:
    """Clients that predict and give feedback until they are stopped; they note what they were told."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answered: list[str] = []
        self.acknowledged: list[str] = []
        self.refused: list[int] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        client = httpx.Client(timeout=10)
        unsure: list[str] = []
        while not self._stop.is_set():
            try:
                if unsure:
                    self._label(client, unsure)
                rows = [{**ROW, "id": None}] * 2
                ids = self._ask(client, "predict", {"rows": rows}).get("ids", [])
                self.answered += ids
                unsure += ids
            except httpx.HTTPError:
                client.close()
                client = httpx.Client(timeout=10)
        client.close()

    def _label(self, client: httpx.Client, unsure: list[str]) -> None:
        told = self._ask(client, "feedback", [{"id": each, "label": "no"} for each in unsure])
        if told:
            self.acknowledged += unsure
            unsure.clear()

    def _ask(self, client: httpx.Client, verb: str, body: Any) -> dict[str, Any]:
        answer = client.post(f"{self.url}/{verb}/flights", json=body)
        if answer.status_code != 200:
            self.refused.append(answer.status_code)
            return {}
        told: dict[str, Any] = answer.json()
        return told


def listening() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(256)
    return sock


if __name__ == "__main__":
    worker.main(opened)
