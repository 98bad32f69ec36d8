"""A scikit-learn model behind what else one would serve it with."""

from __future__ import annotations

import importlib.util
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.serving.model import COLUMNS

PATHS = {"mlflow": "/invocations", "fastapi": "/predict", "litserve": "/predict"}
"""What each is asked at; LitServe only where it is installed."""


def saved(folder: Path) -> Path:
    """The model that all of them load, as MLflow keeps it."""
    import mlflow.sklearn

    draw = np.random.default_rng(0)
    rows = pd.DataFrame(draw.normal(size=(2000, len(COLUMNS))), columns=list(COLUMNS))
    label = (rows["x00"] + rows["x01"] * rows["x02"] > 0).astype(int)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, label)
    mlflow.sklearn.save_model(model, folder, serialization_format="cloudpickle", pip_requirements=[])
    return folder


def names() -> list[str]:
    return [name for name in PATHS if name != "litserve" or importlib.util.find_spec("litserve")]


def answered(model: Path) -> Callable[[Any], dict[str, Any]]:
    """What scikit-learn says of rows, for each of the servers."""
    loaded = pickle.loads((model / "model.pkl").read_bytes())

    def answer(rows: Any) -> dict[str, Any]:
        return {"predictions": loaded.predict_proba(pd.DataFrame(rows)[list(COLUMNS)]).tolist()}

    return answer


def _mlflow(port: int, model: Path) -> None:
    import mlflow.pyfunc
    import uvicorn
    from mlflow.pyfunc import scoring_server

    uvicorn.run(scoring_server.init(mlflow.pyfunc.load_model(str(model))), port=port, log_level="warning")


def _fastapi(port: int, model: Path) -> None:
    import uvicorn
    from fastapi import FastAPI

    app, answer = FastAPI(), answered(model)

    @app.post("/predict")
    def predict(body: dict[str, Any]) -> Any:
        return answer(body["rows"])

    uvicorn.run(app, port=port, log_level="warning")


def _litserve(port: int, model: Path) -> None:
    from benchmarks.serving import litserve_peer

    litserve_peer.serve(port, model)


def serve(name: str, port: int, model: str) -> None:
    """Serve *model* until the process ends."""
    os.environ["MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"] = "600"
    {"mlflow": _mlflow, "fastapi": _fastapi, "litserve": _litserve}[name](port, Path(model))
