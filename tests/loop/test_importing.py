"""MLflow's models under a loop: each flavour answers as it did, waits for promote, and is watched like any other."""

from __future__ import annotations

import sys
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
from mainspring.serving.runtime import load
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.keys import Keys
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


OWN = """
import mlflow

class Own(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        import words  # as late as can be
        return {answer}

mlflow.models.set_model(Own())
"""
NUMBER = "model_input['delay'] * 2 + model_input['load'] * words.FACTOR"
WORD = "[words.say(value) for value in model_input['delay']]"


def of_own_code(folder: Path, answer: str, says: str, target: Any, from_code: bool = True) -> Path:
    """A pyfunc whose answer is made with its module `words`."""
    folder.mkdir()
    (folder / "words.py").write_text(says)
    (folder / "own.py").write_text(OWN.format(answer=answer))
    inputs = rows()[NUMBERS]
    if not from_code:  # as an object, its class in the pickle
        found: dict[str, Any] = {}
        exec((folder / "own.py").read_text(), found)
    mlflow.pyfunc.save_model(
        str(folder / "model"), python_model=str(folder / "own.py") if from_code else found["Own"](),
        code_paths=[str(folder / "words.py")], pip_requirements=["x"], input_example=None,
        signature=infer_signature(inputs, target),
    )  # fmt: skip
    return folder / "model"


@pytest.fixture
def rows_file(tmp_path: Path) -> str:
    rows()[NUMBERS].to_csv(tmp_path / "rows.csv", index=False)
    return str(tmp_path / "rows.csv")


@pytest.mark.parametrize("from_code", [True, False])
def test_a_pyfunc_of_its_own_code_answers_at_a_persons_word(
    empty: Home, tmp_path: Path, rows_file: str, from_code: bool
) -> None:
    """Two of them with modules of one name, in one process, and nothing left behind."""
    first = of_own_code(tmp_path / "1", NUMBER, "FACTOR = 1", np.zeros(3), from_code)
    second = of_own_code(tmp_path / "2", NUMBER, "FACTOR = -1", np.zeros(3), from_code)

    with pytest.raises(BundleUntrusted, match="--trust"):
        brought(empty, first, rows=rows_file)
    for name, model in ("first", first), ("second", second):
        brought(empty, model, name, rows=rows_file, trust=True)
    table = pl.from_pandas(rows()[NUMBERS])
    said = [champion.predict(empty, name, table) for name in ("first", "second", "first")]

    for answers, factor in zip(said, (1, -1, 1), strict=True):
        assert np.allclose(answers, rows()["delay"] * 2 + rows()["load"] * factor)
    assert "words" not in sys.modules and not any("mainspring-unpacked" in path for path in sys.path)


def test_a_pyfuncs_labels_are_those_that_it_answers(empty: Home, tmp_path: Path, rows_file: str) -> None:
    says = "say = lambda value: 'late' if value > {limit} else 'in time'"
    model = of_own_code(tmp_path / "labels", WORD, says.format(limit=rows()["delay"].median()), np.array(["late"]))
    same = of_own_code(tmp_path / "same", WORD, says.format(limit=1e9), np.array(["late"]))

    released = brought(empty, model, rows=rows_file, trust=True)
    manifest, table = Bundles(empty).manifest(released.bundle.digest), pl.from_pandas(rows()[NUMBERS])
    said = champion.predict(empty, "brought", table)

    assert (manifest.task, manifest.classes, manifest.model_format) == ("binary", ("in time", "late"), "pickle")
    assert (said == "late").tolist() == (rows()["delay"] > rows()["delay"].median()).tolist()
    assert "whenever it answers" in Deployments(empty).decisions("brought")[0].reason
    with pytest.raises(BundleError, match="'in time' on all"):
        brought(empty, same, "another", rows=rows_file, trust=True)
    assert brought(empty, same, trust=True).version == 2  # the loop's classes are known


def test_a_pyfuncs_bundle_is_loaded_on_its_installation_only(empty: Home, tmp_path: Path, rows_file: str) -> None:
    released = brought(
        empty, of_own_code(tmp_path / "own", NUMBER, "FACTOR = 1", np.zeros(3)), rows=rows_file, trust=True
    )
    elsewhere = Keys(tmp_path / "elsewhere")
    (elsewhere.folder / "trusted").mkdir(parents=True)
    (elsewhere.folder / "trusted" / "ours.pub").write_text(Keys().public)

    with pytest.raises(BundleUntrusted, match="only the installation that signed it"):
        load(Bundles(empty).path(released.bundle.digest), keys=elsewhere)


def test_a_pyfunc_that_answers_no_one_thing_a_row_is_refused(empty: Home, tmp_path: Path, rows_file: str) -> None:
    for name, answer, reason in (
        ("table", "model_input", "of shape"),
        ("mapping", "[{'a': 1}] * len(model_input)", "number, a text or a truth value"),
        ("broken", "missing", "missing"),
    ):
        model = of_own_code(tmp_path / name, answer, "", np.zeros(3))
        with pytest.raises(BundleError, match=reason):
            brought(empty, model, rows=rows_file, trust=True)


def test_a_model_that_only_its_own_code_loads_runs_it(empty: Home, tmp_path: Path) -> None:
    """Which it may; what it needs is told."""
    (tmp_path / "model" / "code").mkdir(parents=True)
    (tmp_path / "model" / "code" / "net.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    columns = '[{"type": "double", "name": "a"}]'
    (tmp_path / "model" / "MLmodel").write_text(
        f"flavors:\n  python_function:\n    loader_module: net\n    code: code\nsignature:\n  inputs: '{columns}'\n"
    )

    with pytest.raises(BundleError, match="_load_pyfunc"):
        brought(empty, tmp_path / "model", trust=True)

    assert (tmp_path / "ran").exists() and "net" not in sys.modules


@pytest.mark.parametrize("form", ["pickle", "pt2"])
def test_a_torch_module_is_served_as_onnx(empty: Home, tmp_path: Path, form: str) -> None:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Softmax(dim=1)).eval()
    example = rows()[NUMBERS].head(5).to_numpy(np.float32)
    mlflow.pytorch.save_model(
        module, str(tmp_path / "model"), input_example=example, serialization_format=form, pip_requirements=["x"]
    )

    released = brought(empty, tmp_path / "model", trust=True)
    manifest = Bundles(empty).manifest(released.bundle.digest)
    matrix = rows()[NUMBERS].to_numpy(np.float32)
    said = champion.predict(empty, "brought", pl.DataFrame(matrix.astype(float), schema=["x0", "x1"]))

    assert (manifest.runtime, manifest.model_format, manifest.classes) == ("onnx", "onnx", (0, 1))
    with torch.no_grad():
        assert said.tolist() == module(torch.from_numpy(matrix)).argmax(1).tolist()
