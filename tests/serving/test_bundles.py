"""A real bundle behind the real endpoint: what evaluation measured is what is answered, and nothing heavy is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from stand_in import START, listening

from mainspring.core.declarations import Roles
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.values import Candidate
from mainspring.packaging.package import package
from mainspring.pipeline.reach import reach
from mainspring.serving import runtime
from mainspring.serving.loaded import load, opener
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import Deployments, Route
from mainspring.store.encoding import Encoding
from mainspring.store.home import Home
from mainspring.store.profile import Profile

INPUTS = Schema((Column("delay", Type.FLOAT), Column("carrier", Type.TEXT)))
ROLES = Roles("late", key="id")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    """A home that serves a packaged logistic regression."""
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        home = Home.open(folder / "home")
        draw = np.random.default_rng(0)
        rows = pl.DataFrame({"delay": draw.normal(10, 20, 400), "carrier": draw.choice(["AA", "UA"], 400)})
        late = (rows["delay"].to_numpy() > 15).astype(int)
        encoding = Encoding.fit(rows, "scaled")
        model = LogisticRegression().fit(encoding.transform(rows), late)
        candidate = Candidate(
            model=model, encoding=encoding, estimator="LogisticRegression", parameters={}, task="binary",
            classes=(0, 1), inputs=INPUTS, roles=ROLES, metric="roc_auc", score=0.9, baseline=0.5, trials=(),
            profile=Profile.of(rows, INPUTS), sample=rows.head(20), train_rows=400, dataset_version=1, holdout_id="h",
        )  # fmt: skip
        bundle = package(candidate, features=(), unit=None, loop="flights", home=home, code=reach([]), lineage={})
        deployments = Deployments(home)
        deployments.register("flights", bundle, run="r", champion_digest=None, metrics={}, at=START)
        deployments.change_route(Route("flights", 0, 1, None, None, 0.0, 0, START, START, "s", False), expected=0)
        assert bundle.runtime == "onnx", bundle.notes
    return home, folder / "config"


def test_a_bundle_passes_its_sample_and_may_join_requests(
    made: tuple[Home, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, config = made
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
    version = Deployments(home).version("flights", 1)
    loaded = load(version, *opener(home)(version.digest))
    rows = [{"delay": float(delay), "carrier": "AA"} for delay in range(40)]
    alone = [loaded.say(loaded.columns.read([row]).typed).labels[0] for row in rows]

    assert loaded.classes == (0, 1) and loaded.joins in (True, False)
    assert loaded.say(loaded.columns.read(rows).typed).labels == alone


_SERVE = """
import json, sys, threading, urllib.request
from mainspring.serving import worker
import socket
settings = json.load(sys.stdin)
sock = socket.socket(fileno=settings["fd"])
url = f"http://127.0.0.1:{sock.getsockname()[1]}"
def ask():
    rows = json.dumps({"rows": [{"delay": 30, "carrier": "AA", "id": 1}, {"delay": None, "carrier": None}]}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{url}/predict/flights", rows), timeout=20) as answer:
        said = json.load(answer)
    heavy = ("sklearn", "pandas", "mlflow", "scipy", "skops", "optuna", "matplotlib", "sqlalchemy", "deltalake")
    print(json.dumps({"said": said, "heavy": [name for name in heavy if name in sys.modules]}), flush=True)
    import os, signal
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=ask).start()
worker.serve(worker.Settings(**settings))
"""


def test_the_process_answers_a_bundle_as_its_runtime_does_without_anything_heavy(
    made: tuple[Home, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, config = made
    monkeypatch.setenv("XDG_CONFIG_HOME", str(config))
    with listening() as sock:
        settings = f'{{"home": "{home.path}", "fd": {sock.fileno()}}}'
        done = subprocess.run(
            [sys.executable, "-c", _SERVE], input=settings, capture_output=True, text=True, pass_fds=(sock.fileno(),),
            timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = httpx.Response(200, text=done.stdout).json()
    rows = pl.DataFrame({"delay": [30.0, None], "carrier": ["AA", None]})
    expected = runtime.load(Bundles(home).path(Deployments(home).version("flights", 1).digest)).predict(rows)

    assert told["heavy"] == []
    assert told["said"]["predictions"] == expected.labels.tolist() and told["said"]["classes"] == [0, 1]
    assert told["said"]["probabilities"] == np.asarray(expected.probabilities, dtype=float).tolist()
