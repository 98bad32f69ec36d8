"""A loaded bundle: light, exact, row by row as in tables, and checked against its own sample."""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge

from mainspring.core.errors import BundleChanged, BundleError, BundleUntrusted, InvalidRows
from mainspring.core.schema import Column, Schema, Type
from mainspring.packaging.package import package
from mainspring.pipeline.reach import reach
from mainspring.serving import runtime
from mainspring.serving.inputs import conform
from mainspring.serving.pyfunc import BundleModel
from mainspring.serving.runtime import Runtime
from mainspring.store.bundles import MANIFEST, Bundles, Manifest, write_manifest
from mainspring.store.home import Home
from mainspring.store.keys import Keys


def _candidates() -> Any:
    """The small trained candidates of the packaging room's tests."""
    if "candidates" not in sys.modules:
        place = Path(__file__).parents[1] / "packaging" / "candidates.py"
        spec = importlib.util.spec_from_file_location("candidates", place)
        assert spec is not None and spec.loader is not None
        sys.modules["candidates"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["candidates"])
    return sys.modules["candidates"]


candidates = _candidates()
ROWS: pl.DataFrame = candidates.flights(200, seed=9)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made: Home = candidates.opened(tmp_path_factory.mktemp("runtime"))
    return made


@pytest.fixture(scope="module")
def forest(home: Home) -> Path:
    """The folder of a bundle that ONNX serves."""
    bundle, _ = candidates.packed(home, RandomForestClassifier(10, random_state=0))
    return Bundles(home, candidates.keys(home)).path(bundle.digest)


@pytest.fixture(scope="module")
def served(home: Home, forest: Path) -> Runtime:
    return runtime.load(forest, keys=candidates.keys(home))


def test_one_row_is_answered_as_the_whole_table(served: Runtime) -> None:
    together = served.predict(ROWS)
    alone = [served.predict(ROWS[index]) for index in range(ROWS.height)]

    assert together.labels is not None and together.probabilities is not None
    assert [one.labels[0] for one in alone] == together.labels.tolist()
    np.testing.assert_array_equal(np.concatenate([one.probabilities for one in alone]), together.probabilities)


@pytest.mark.parametrize("together", [(4.0, 1.0, 9.0), (4.0, 2.0, 9.0)], ids=["worth it", "not"])
def test_threads_are_taken_where_they_are_measured_to_be_quicker_and_change_no_answer(
    home: Home, forest: Path, served: Runtime, monkeypatch: pytest.MonkeyPatch, together: tuple[float, ...]
) -> None:
    one_by_one = 2.0
    clock = iter(time for seconds in together for time in (0.0, seconds, 0.0, one_by_one))
    monkeypatch.setattr(runtime, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(runtime, "os", SimpleNamespace(sched_getaffinity=lambda process: {0, 1}))
    monkeypatch.setattr(runtime, "_PART_ROWS", 100)
    rows, before = candidates.flights(1_050, seed=3), threading.active_count()

    loaded = runtime.load(forest, keys=candidates.keys(home), measured=True)
    said = loaded.predict(rows)

    assert np.array_equal(said.probabilities, served.predict(rows).probabilities)
    assert (threading.active_count() > before) is (min(together) < one_by_one)


def test_extra_columns_and_other_orders_change_nothing(served: Runtime) -> None:
    shuffled = ROWS.select(reversed(ROWS.columns)).with_columns(extra=pl.lit("x"))

    assert (served.predict(shuffled).labels == served.predict(ROWS).labels).all()


def test_no_rows_are_answered_with_no_answers(served: Runtime) -> None:
    said = served.predict(ROWS.clear())

    assert said.labels is not None and said.probabilities is not None
    assert len(said.labels) == 0 and said.probabilities.shape == (0, 2)


def test_missing_columns_are_named(served: Runtime) -> None:
    with pytest.raises(InvalidRows, match="lack 'delay', 'carrier'"):
        served.predict(ROWS.drop("delay", "carrier"))


def test_a_column_of_another_type_is_named_with_its_value(served: Runtime) -> None:
    with pytest.raises(InvalidRows, match=r"'distance' holds String, such as 'far'.*integer"):
        served.predict(ROWS.with_columns(distance=pl.lit("far")))


@pytest.mark.parametrize(
    ("classes", "dtype"), [((False, True), "bool"), (("no", "yes"), "<U3"), ((3, 7), "int64"), ((0, "late"), "object")]
)
def test_labels_come_back_as_what_they_were(home: Home, classes: tuple[Any, ...], dtype: str) -> None:
    bundle, _ = candidates.packed(home, RandomForestClassifier(2, random_state=0), classes=classes)

    said = runtime.load(home.folder("bundles") / bundle.digest, keys=candidates.keys(home)).predict(ROWS)

    assert said.labels is not None and str(said.labels.dtype) == dtype and set(said.labels.tolist()) == set(classes)
    assert said.classes == classes


def test_a_class_that_training_lacked_has_probability_nought(home: Home) -> None:
    trained = candidates.candidate(LogisticRegression(), kind="scaled")
    trained.model.classes_ = np.array([0, 2])
    unlucky = replace(trained, classes=("a", "b", "c"), task="multiclass")
    bundle = package(
        unlucky, features=(candidates.hours,), unit=None, loop="late-flights", home=home,
        code=reach([candidates.hours]), lineage={}, keys=candidates.keys(home),
    )  # fmt: skip

    said = runtime.load(home.folder("bundles") / bundle.digest, keys=candidates.keys(home)).predict(ROWS)

    assert said.probabilities is not None and said.labels is not None
    assert said.probabilities.shape == (200, 3) and (said.probabilities[:, 1] == 0).all()
    assert set(said.labels.tolist()) == {"a", "c"}


def test_serving_by_onnx_imports_neither_scikit_learn_nor_pandas_nor_the_code_by_its_name(
    home: Home, forest: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from mainspring.serving import runtime\n"
        "from mainspring.store.keys import Keys\n"
        f"served = runtime.load(Path({str(forest)!r}), keys=Keys(Path({str(home.path / 'keys')!r})))\n"
        "heavy = {'sklearn', 'pandas', 'skops', 'onnx', 'mlflow', 'deltalake', 'candidates'}\n"
        "print(sorted(sys.modules.keys() & heavy))"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=home.path, check=True)

    assert run.stdout.strip() == "[]"


def test_two_versions_with_different_features_answer_rightly_in_one_process(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, made = [], []
    for version, change in enumerate(("* RATE", "+ RATE")):
        folder = tmp_path / str(version)
        folder.mkdir()
        (folder / "rates.py").write_text(f"RATE = {version + 10}\n")
        (folder / "features.py").write_text(
            "import polars as pl\nfrom rates import RATE\n"
            f"def features(rows):\n    return rows.with_columns(delay=pl.col('delay') {change})\n"
        )
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(folder))
            functions = [importlib.import_module("features").features]
            bundle, trained = candidates.packed(home, Ridge(), kind="scaled", classes=(), features=functions)
            made.append(trained.model.predict(trained.encoding.transform(functions[0](ROWS))))
        del sys.modules["features"], sys.modules["rates"]
        served.append(runtime.load(home.folder("bundles") / bundle.digest, keys=candidates.keys(home)))

    for version in (0, 1, 0):
        np.testing.assert_allclose(served[version].predict(ROWS).values, made[version])
    assert "features" not in sys.modules and "rates" not in sys.modules


def test_a_bundle_that_answers_otherwise_than_when_packed_is_refused(home: Home, forest: Path, tmp_path: Path) -> None:
    folder = signed_with_other_answers(home, forest, tmp_path / "copy")

    with pytest.raises(BundleError, match=r"of its 20 sample rows are answered otherwise"):
        runtime.load(folder, keys=candidates.keys(home))


def signed_with_other_answers(home: Home, forest: Path, copy: Path) -> Path:
    """A copy of the bundle with other expected answers, signed by its owner."""
    shutil.copytree(forest, copy)
    manifest = Manifest.from_bytes((copy / MANIFEST).read_bytes())
    answers = json.loads((copy / "answers.json").read_text())
    (copy / "answers.json").write_text(json.dumps({**answers, "codes": [1 - code for code in answers["codes"]]}))
    write_manifest(copy, manifest)
    return home.folder("bundles") / Bundles(home, candidates.keys(home)).add(copy)


@pytest.mark.parametrize(
    "name",
    ["model.onnx", "model.skops", "encoding.json", "sample.arrow", "answers.json", "MLmodel", "code/candidates.py"],
)
def test_a_changed_file_is_refused_before_it_is_read(home: Home, forest: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(forest, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(bytes(content))

    with pytest.raises(BundleChanged, match=name):
        runtime.load(copy, keys=candidates.keys(home))


def test_a_strangers_bundle_is_refused(forest: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleUntrusted):
        runtime.load(forest, keys=Keys(tmp_path / "keys"))


def test_a_python_served_bundle_answers_too(home: Home) -> None:
    model = HistGradientBoostingClassifier(max_iter=3, categorical_features=[3], random_state=0)
    bundle, _ = candidates.packed(home, model, kind="ordered")

    said = runtime.load(home.folder("bundles") / bundle.digest, keys=candidates.keys(home)).predict(ROWS)

    assert bundle.runtime == "scikit-learn" and said.probabilities is not None and said.probabilities.shape == (200, 2)


def test_mlflows_face_gives_labels_and_on_request_probabilities(served: Runtime) -> None:
    model, frame = BundleModel(served), ROWS.to_pandas()

    assert model.predict(frame).tolist() == served.predict(ROWS).labels.tolist()  # type: ignore[union-attr]
    np.testing.assert_array_equal(model.predict(frame, {"method": "predict_proba"}), served.predict(ROWS).probabilities)
    with pytest.raises(Exception, match="'explain' is unknown"):
        model.predict(frame, {"method": "explain"})


def test_mlflows_face_takes_text_columns_that_are_all_missing(served: Runtime) -> None:
    frame = ROWS.head(3).to_pandas().assign(carrier=float("nan"))

    assert len(BundleModel(served).predict(frame)) == 3


def test_a_regression_gives_values(home: Home) -> None:
    bundle, _ = candidates.packed(home, Ridge(), kind="scaled", classes=())
    said = runtime.load(home.folder("bundles") / bundle.digest, keys=candidates.keys(home))

    assert said.predict(ROWS).labels is None and said.predict(ROWS.clear()).values is not None
    assert BundleModel(said).predict(ROWS).shape == (200,)


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (Type.INTEGER, pl.Series([1, None], dtype=pl.Int8), [1, None]),
        (Type.INTEGER, pl.Series([1.0, float("nan")]), [1, None]),
        (Type.FLOAT, pl.Series([1, 2]), [1.0, 2.0]),
        (Type.FLOAT, pl.Series([timedelta(minutes=2)]), [120.0]),
        (Type.TEXT, pl.Series([time(3, 30)]), ["03:30:00"]),
        (Type.BOOLEAN, pl.Series([1, 0]), [True, False]),
        (Type.TEXT, pl.Series(["a", None], dtype=pl.Categorical), ["a", None]),
        (Type.TEXT, pl.Series([None, None]), [None, None]),
        (Type.DATETIME, pl.Series(["2013-01-02T03:04:05", None]), [datetime(2013, 1, 2, 3, 4, 5), None]),
        (Type.DATETIME, pl.Series(["2013-01-02T03:04:05+02:00"]), [datetime(2013, 1, 2, 1, 4, 5)]),
        (Type.DATETIME, pl.Series([datetime(2013, 1, 2, tzinfo=UTC)]), [datetime(2013, 1, 2)]),
        (Type.DATETIME, pl.Series([date(2013, 1, 2)]), [datetime(2013, 1, 2)]),
        (Type.DATE, pl.Series([datetime(2013, 1, 2)]), [date(2013, 1, 2)]),
        (Type.DATE, pl.Series(["2013-01-02"]), [date(2013, 1, 2)]),
    ],
)
def test_values_of_a_near_type_become_the_contracts(kind: Type, given: pl.Series, expected: list[Any]) -> None:
    rows = conform(pl.DataFrame({"x": given}), Schema((Column("x", kind),)))

    assert rows["x"].to_list() == expected


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (Type.INTEGER, [1.5]),
        (Type.INTEGER, ["1"]),
        (Type.INTEGER, [2**63]),
        (Type.INTEGER, [True]),
        (Type.FLOAT, ["1.5"]),
        (Type.FLOAT, [True]),
        (Type.BOOLEAN, [2]),
        (Type.BOOLEAN, ["yes"]),
        (Type.TEXT, [1]),
        (Type.DATETIME, ["soon"]),
        (Type.DATETIME, [1]),
        (Type.DATE, [1.0]),
        (Type.FLOAT, [[1.0]]),
        (Type.TEXT, [{"a": 1}]),
    ],
)
def test_values_of_another_type_are_refused_by_name(kind: Type, given: list[Any]) -> None:
    with pytest.raises(InvalidRows, match="column 'x' holds"):
        conform(pl.DataFrame({"x": given}), Schema((Column("x", kind),)))
