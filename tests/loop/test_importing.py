"""MLflow's models under a loop: each flavour answers as it did, waits for promote, and is watched like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
from living import START, table
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mainspring.core.errors import BundleError, BundleUntrusted, InvalidRows, NotInStore, UsageError
from mainspring.core.values import Release
from mainspring.loop import champion
from mainspring.loop.importing import bring
from mainspring.loop.watch import Watch
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.registry import Registry

NUMBERS = ["delay", "load"]
SAFE: dict[str, Any] = {"serialization_format": "skops", "skops_trusted_types": ["sklearn.tree._tree.Tree"]}
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


def rows() -> pd.DataFrame:
    return table().to_pandas()


def late() -> pd.Series:
    return rows()["late"].astype(int)


def described(inputs: pd.DataFrame, target: Any) -> dict[str, Any]:
    return {"signature": infer_signature(inputs, target), "input_example": inputs.head(5), "pip_requirements": ["x"]}


def forest() -> Any:
    return RandomForestClassifier(5, max_depth=4, random_state=0).fit(rows()[NUMBERS], late())


def of_forest(folder: str, **how: Any) -> Any:
    model = forest()
    mlflow.sklearn.save_model(model, folder, **described(rows()[NUMBERS], late()), **(how or SAFE))
    return model


def of_pipeline(folder: str) -> Any:
    """Columns by their names, words as labels."""
    columns = make_column_transformer((OneHotEncoder(), ["city"]), (StandardScaler(), NUMBERS))
    words = np.where(late() == 1, "yes", "no")
    model = make_pipeline(columns, LogisticRegression()).fit(rows()[[*NUMBERS, "city"]], words)
    mlflow.sklearn.save_model(model, folder, **described(rows()[[*NUMBERS, "city"]], words), **SAFE)
    return model


def of_regression(folder: str) -> Any:
    model = LinearRegression().fit(rows()[["load"]], rows()["delay"])
    mlflow.sklearn.save_model(model, folder, **described(rows()[["load"]], rows()["delay"]), **SAFE)
    return model


def of_lightgbm(folder: str) -> Any:
    lightgbm = pytest.importorskip("lightgbm")
    data = lightgbm.Dataset(rows()[NUMBERS], late())
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "min_data_in_leaf": 5}, data, 5)
    mlflow.lightgbm.save_model(booster, folder, **described(rows()[NUMBERS], late()))
    return booster


def of_xgboost(folder: str) -> Any:
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=5).fit(rows()[NUMBERS], late())
    mlflow.xgboost.save_model(model, folder, **described(rows()[NUMBERS], late()))
    return model


def of_onnx(folder: str) -> Any:
    model = forest()
    graph = to_onnx(model, rows()[NUMBERS].to_numpy(np.float32)[:1], options={"zipmap": False})
    example = rows()[NUMBERS].astype(np.float32)
    mlflow.onnx.save_model(graph, folder, **described(example, late()))
    return model


FLAVOURS: dict[str, Callable[[str], Any]] = {
    "scikit-learn, numbers": of_forest,
    "scikit-learn, text and labels in words": of_pipeline,
    "scikit-learn, regression": of_regression,
    "LightGBM": of_lightgbm,
    "XGBoost": of_xgboost,
    "ONNX": of_onnx,
}


def brought(home: Home, uri: Path | str, loop: str = "brought", **options: Any) -> Release:
    told = {"rows": None, "target": None, "key": None, "trust": False, "mlflow": None, "now": START, **options}
    return bring(home, str(uri), loop, **told)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_flavour_answers_as_it_did(empty: Home, tmp_path: Path, flavour: str) -> None:
    model = FLAVOURS[flavour](str(tmp_path / "model"))
    released = brought(empty, tmp_path / "model")
    inputs = Bundles(empty).manifest(released.bundle.digest).inputs.names

    said = champion.predict(empty, "brought", pl.from_pandas(rows()[list(inputs)]))
    expected = model.predict(rows()[list(inputs)])
    if flavour == "LightGBM":
        expected = expected > 0.5

    assert released.state == "champion" and released.version == 1
    if flavour == "scikit-learn, regression":
        assert np.allclose(said, expected)
    else:
        assert said.tolist() == expected.tolist()


def test_a_second_version_waits_and_is_promoted_rolled_back_and_watched(home: Home, tmp_path: Path) -> None:
    """Into a loop of mainspring's own, whose labels are truth values and whose requests carry more columns."""
    of_forest(str(tmp_path / "model"))
    released = brought(home, tmp_path / "model", "late")
    deployments = Deployments(home)

    assert (released.version, released.state) == (2, "waiting")
    assert "imported from" in deployments.decisions("late")[-2].reason
    champion.promote(home, "late", 2, reason="tried", mlflow=None)
    report, _ = Watch.last(home, "late").report(START)
    said = champion.predict(home, "late", table().drop("late"))
    champion.rollback(home, "late", reason="enough", mlflow=None)

    route = deployments.route("late")
    assert report.version == 2 and said.dtype == bool and route is not None and route.champion == 1


def test_a_registered_model_is_found_by_version_alias_and_run(empty: Home, tmp_path: Path) -> None:
    """In MLflow as it stands, whoever put the model there."""
    of_forest(str(tmp_path / "model"))
    first = brought(empty, tmp_path / "model", "first")
    registry = Registry(empty)
    assert registry.pending() == []

    again = [registry.fetch(uri, tmp_path / name) for name, uri in
             (("version", "models:/first/1"), ("alias", "models:/first@champion"))]  # fmt: skip

    for folder in again:
        assert (folder / "manifest.json").read_bytes() == (
            Bundles(empty).path(first.bundle.digest) / "manifest.json"
        ).read_bytes()
    with pytest.raises(NotInStore, match="models:/first/9"):
        registry.fetch("models:/first/9", tmp_path / "none")
    with pytest.raises(NotInStore, match="no model"):
        registry.fetch("https://example.com/model", tmp_path / "web")


def test_a_pickle_needs_a_persons_word_which_is_written_down(empty: Home, tmp_path: Path) -> None:
    of_forest(str(tmp_path / "model"), serialization_format="cloudpickle")

    with pytest.raises(BundleUntrusted, match="--trust"):
        brought(empty, tmp_path / "model")
    assert Deployments(empty).loops() == [] and not list(empty.folder("tmp").iterdir())
    released = brought(empty, tmp_path / "model", trust=True)

    assert "--trust" in Deployments(empty).decisions("brought")[0].reason
    assert Bundles(empty).manifest(released.bundle.digest).model_format == "skops"


def test_drift_is_judged_against_rows_that_a_person_gives(empty: Home, tmp_path: Path) -> None:
    of_forest(str(tmp_path / "model"))
    table().write_parquet(tmp_path / "rows.parquet")

    released = brought(empty, tmp_path / "model", rows=str(tmp_path / "rows.parquet"), target="late", key="train")
    sealed = Bundles(empty).open(released.bundle.digest)

    assert b'"rows":200' in sealed.read("profile.json")
    assert (sealed.manifest.roles.target, sealed.manifest.roles.key) == ("late", "train")
    with pytest.raises(InvalidRows, match="'load'"):
        table().drop("load").write_parquet(tmp_path / "rows.parquet")
        brought(empty, tmp_path / "model", rows=str(tmp_path / "rows.parquet"), loop="another")


def test_what_doesnt_fit_the_loop_is_refused(home: Home, tmp_path: Path) -> None:
    of_regression(str(tmp_path / "regression"))
    of_pipeline(str(tmp_path / "words"))
    other = rows().rename(columns={"load": "weight"})[["delay", "weight"]]
    model = RandomForestClassifier(2, random_state=0).fit(other, late())
    mlflow.sklearn.save_model(model, str(tmp_path / "columns"), **described(other, late()), **SAFE)

    with pytest.raises(BundleError, match="regression"):
        brought(home, tmp_path / "regression", "late")
    with pytest.raises(BundleError, match="classes"):
        brought(home, tmp_path / "words", "late")
    with pytest.raises(BundleError, match="weight"):
        brought(home, tmp_path / "columns", "late")
    with pytest.raises(UsageError, match="--target"):
        brought(home, tmp_path / "words", "late", target="late")


def test_a_model_without_example_asks_for_rows(empty: Home, tmp_path: Path) -> None:
    mlflow.sklearn.save_model(forest(), str(tmp_path / "model"), pip_requirements=["x"], **SAFE)

    with pytest.raises(UsageError, match="--rows"):
        brought(empty, tmp_path / "model")


def test_a_pyfunc_of_its_own_code_is_not_read(empty: Home, tmp_path: Path) -> None:
    class Own(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
            return model_input

    mlflow.pyfunc.save_model(str(tmp_path / "model"), python_model=Own(), pip_requirements=["x"])

    with pytest.raises(BundleError, match="python_function"):
        brought(empty, tmp_path / "model", trust=True)
