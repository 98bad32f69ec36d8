"""MLflow loads a released bundle in an empty folder, knowing only the tracking server."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from mainspring.serving import runtime
from mainspring.store.home import Home
from mainspring.store.registry import Registry

LOAD = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import mlflow.pyfunc, pandas
model = mlflow.pyfunc.load_model("models:/late-flights@champion")
rows = pandas.read_parquet(sys.argv[1])
said = [model.predict(rows).tolist(), model.predict(rows, params={"method": "predict_proba"}).tolist(), os.listdir(".")]
print(json.dumps(said))
"""


def candidates() -> Any:
    place = Path(__file__).parents[1] / "packaging" / "candidates.py"
    spec = importlib.util.spec_from_file_location("candidates", place)
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault("candidates", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


def test_mlflow_loads_the_champion_in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = candidates()
    monkeypatch.setattr(made, "keys", lambda home: None)  # the installation's own key
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home: Home = made.opened(tmp_path)
    bundle, _ = made.packed(home, RandomForestClassifier(5, random_state=0))
    registry = Registry(home)
    registry.enqueue("run", "run/1", {"loop": "late-flights", "run": "1"})
    registry.enqueue(
        "version", "version/1", {"loop": "late-flights", "version": 1, "digest": bundle.digest, "run": "1"}
    )
    registry.enqueue("alias", "alias/1", {"loop": "late-flights", "alias": "champion", "version": 1})
    assert registry.drain(120) == 0, registry.pending()
    rows = made.flights(40, seed=3)
    rows.write_parquet(tmp_path / "rows.parquet")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    environment["MLFLOW_TRACKING_URI"] = registry.tracking_uri

    run = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path / "rows.parquet")],
        cwd=empty, env=environment, capture_output=True, text=True,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    labels, probabilities, left = json.loads(run.stdout.splitlines()[-1])
    here = runtime.load(home.folder("bundles") / bundle.digest).predict(rows)
    assert here.labels is not None and labels == here.labels.tolist()
    np.testing.assert_array_equal(probabilities, here.probabilities)
    assert left == []
