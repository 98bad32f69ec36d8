"""From a candidate to a signed folder."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
from candidates import ROLES, candidate, flights, hours, keys, opened, packed
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mainspring.core.errors import CodeChanged, FeaturesError
from mainspring.packaging.package import package
from mainspring.pipeline.reach import reach
from mainspring.serving import runtime
from mainspring.store.bundles import Bundles
from mainspring.store.encoding import apply_features
from mainspring.store.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return opened(tmp_path)


class Halves(ClassifierMixin, BaseEstimator):
    """A classifier of the user's own."""

    def fit(self, matrix: Any, target: Any) -> Halves:
        self.classes_ = np.unique(target)
        self.middle_ = float(np.median(matrix[:, 0]))
        return self

    def predict_proba(self, matrix: Any) -> Any:
        above = (matrix[:, 0] > self.middle_).astype(float)
        return np.column_stack([1 - above, above])

    def predict(self, matrix: Any) -> Any:
        return self.classes_[np.argmax(self.predict_proba(matrix), axis=1)]


class Remembering(Halves):
    """One that holds what skops can't keep."""

    def fit(self, matrix: Any, target: Any) -> Remembering:
        super().fit(matrix, target)
        self.seen_ = memoryview  # a type outside every list
        self.path_ = Path("somewhere")
        return self


def halved(matrix: Any) -> Any:
    return matrix / 2


@pytest.mark.parametrize(
    ("model", "options", "served_by"),
    [
        (RandomForestClassifier(15, random_state=0), {}, "onnx"),
        (RandomForestClassifier(15, random_state=0), {"classes": ("early", "on time", "late")}, "onnx"),
        (HistGradientBoostingClassifier(max_iter=10, random_state=0), {"kind": "ordered"}, "onnx"),
        (LogisticRegression(), {"kind": "scaled", "classes": (0, 1)}, "onnx"),
        (Ridge(), {"kind": "scaled", "classes": ()}, "onnx"),
        (KNeighborsClassifier(), {"kind": "scaled"}, "onnx"),
        (HistGradientBoostingClassifier(max_iter=5, categorical_features=[3]), {"kind": "ordered"}, "scikit-learn"),
        (CalibratedClassifierCV(RandomForestClassifier(3, random_state=0), cv=2), {}, "onnx"),
        (Halves(), {}, "scikit-learn"),
        (make_pipeline(FunctionTransformer(halved), LogisticRegression()), {"kind": "scaled"}, "scikit-learn"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else None,
)
def test_a_bundle_answers_as_its_candidate_did(home: Home, model: Any, options: Any, served_by: str) -> None:
    bundle, trained = packed(home, model, **options)
    rows = flights(300, seed=5)
    matrix = trained.encoding.transform(apply_features([hours], rows))

    said = runtime.load(Bundles(home, keys(home)).path(bundle.digest), keys=keys(home)).predict(rows)

    assert bundle.runtime == served_by, bundle.notes
    if not trained.classes:
        assert said.values is not None and said.labels is None
        np.testing.assert_allclose(said.values, trained.model.predict(matrix), rtol=1e-6)
        return
    expected = [trained.classes[code] for code in trained.model.predict(matrix)]
    assert said.labels is not None and said.labels.tolist() == expected
    np.testing.assert_allclose(said.probabilities, trained.model.predict_proba(matrix), atol=1e-5)


def test_a_model_that_skops_cannot_keep_becomes_a_pickle_for_this_installation_only(home: Home) -> None:
    bundle, _ = packed(home, Remembering())

    manifest = Bundles(home, keys(home)).manifest(bundle.digest)

    assert manifest.model_format == "pickle" and any("pickle" in note for note in bundle.notes)
    served = runtime.load(Bundles(home, keys(home)).path(bundle.digest), keys=keys(home))
    assert served.predict(flights(5)).labels is not None


def test_packing_the_same_candidate_again_gives_the_same_bundle(home: Home) -> None:
    model = HistGradientBoostingClassifier(max_iter=5, categorical_features=[3], random_state=0)

    first, trained = packed(home, model, kind="ordered")
    again = package(
        trained, features=(hours,), unit="id", loop="late-flights", home=home, code=reach((hours, trained.model)),
        lineage={"run": "r1"}, keys=keys(home),
    )  # fmt: skip

    assert again == first and not list(home.folder("tmp").iterdir())


def test_the_manifest_says_what_the_bundle_is(home: Home) -> None:
    bundle, trained = packed(home, RandomForestClassifier(3, random_state=0))

    manifest = Bundles(home, keys(home)).manifest(bundle.digest)

    assert manifest.inputs == trained.inputs and manifest.roles == ROLES and manifest.classes == (False, True)
    assert manifest.features == ("candidates:hours",) and manifest.unit == "id"
    assert {"polars", "numpy", "scikit-learn", "onnxruntime"} <= set(manifest.libraries)
    assert manifest.lineage["run"] == "r1" and manifest.lineage["trained_on"]["dataset_version"] == 3
    assert {"MLmodel", "model.onnx", "model.skops", "code/candidates.py", "profile.json"} <= set(manifest.files)
    assert bundle.size_bytes > 1000


def test_a_lambda_travels_with_the_bundle(home: Home) -> None:
    factor = 3.0
    longer = [lambda rows: rows.with_columns(longest=pl.col("distance") * factor)]

    bundle, trained = packed(home, RandomForestClassifier(3, random_state=0), features=longer)

    assert "longest" in trained.encoding.names
    assert (
        runtime.load(Bundles(home, keys(home)).path(bundle.digest), keys=keys(home)).predict(flights(9)).labels
        is not None
    )


def test_a_function_that_closes_over_an_object_is_refused_with_the_mend(home: Home) -> None:
    secret = object()

    def hidden(rows: pl.DataFrame) -> pl.DataFrame:
        return rows if secret is not None else rows.head(0)

    with pytest.raises(FeaturesError, match=r"hidden.*closes over 'secret'.*top level"):
        packed(home, RandomForestClassifier(3, random_state=0), features=[hidden])


def test_code_that_answers_otherwise_once_packaged_is_refused(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stale.py").write_text(
        "import polars as pl\ndef features(rows): return rows.with_columns(a=pl.lit(RATE))\nRATE = 1\n"
    )
    stale = ModuleType("stale")
    stale.__dict__["__file__"] = str(tmp_path / "stale.py")
    monkeypatch.setitem(sys.modules, "stale", stale)
    exec(compile((tmp_path / "stale.py").read_text(), str(tmp_path / "stale.py"), "exec"), stale.__dict__)
    stale.__dict__["RATE"] = 2

    with pytest.raises(FeaturesError, match=r"packaged code makes other values of a .*reload"):
        packed(home, RandomForestClassifier(3, random_state=0), features=[stale.features])


def test_code_that_was_edited_after_it_was_imported_is_refused(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edited.py").write_text("def features(rows): return rows\n")
    edited = ModuleType("edited")
    edited.__dict__["__file__"] = str(tmp_path / "edited.py")
    monkeypatch.setitem(sys.modules, "edited", edited)
    exec(compile((tmp_path / "edited.py").read_text(), str(tmp_path / "edited.py"), "exec"), edited.__dict__)
    (tmp_path / "edited.py").write_text("def features(rows): return rows.head(1)\n")

    with pytest.raises(CodeChanged, match=r"edited\.py was edited after this process imported it"):
        packed(home, RandomForestClassifier(3, random_state=0), features=[edited.features])


def test_parameters_are_kept_without_addresses_or_numbers_that_json_lacks(home: Home) -> None:
    trained = replace(
        candidate(RandomForestClassifier(3, random_state=0)),
        parameters={"how": hours, "limit": float("inf"), "gap": float("nan"), "depth": np.int64(3)},
    )

    bundle = package(
        trained,
        features=(hours,),
        unit=None,
        loop="late-flights",
        home=home,
        code=reach([hours]),
        lineage={},
        keys=keys(home),
    )

    kept = json.loads((home.folder("bundles") / bundle.digest / "manifest.json").read_text())["parameters"]
    assert kept == {"how": "<function hours>", "limit": "inf", "gap": None, "depth": 3}


def test_progress_is_told(home: Home) -> None:
    told: list[tuple[str, int, int]] = []
    trained = candidate(RandomForestClassifier(3, random_state=0))

    package(
        trained, features=(hours,), unit=None, loop="late-flights", home=home, code=reach([hours]), lineage={},
        keys=keys(home), progress=lambda *said: told.append(said),
    )  # fmt: skip

    assert [done for _, done, _ in told] == [0, 1, 2, 3]
