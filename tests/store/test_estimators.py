"""Estimators as files: skops with our list, a signed pickle as the last resort, nothing disguised."""

from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import Birch
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from mainspring.core.errors import BundleChanged, BundleError, BundleUntrusted
from mainspring.store import estimators
from mainspring.store.usercode import UserCode

MATRIX = np.random.default_rng(0).normal(size=(80, 3))
TARGET = (MATRIX[:, 0] > 0).astype(int)
CODE = UserCode.of({"own": "class Plus:\n    def __init__(self, n): self.n = n\ndef double(x): return 2 * x\n"})


def round_trip(model: Any, references: Any = None, signed_here: bool = True) -> tuple[Any, estimators.ModelFile]:
    kept = estimators.save(model, CODE, references or {})
    return estimators.load(kept.content, kept.format, CODE, kept.user_types, signed_here=signed_here), kept


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(4, random_state=0),
        ExtraTreesRegressor(4, random_state=0),
        GradientBoostingClassifier(n_estimators=4, random_state=0),
        HistGradientBoostingClassifier(max_iter=4, random_state=0),
        AdaBoostClassifier(n_estimators=4, random_state=0),
        LogisticRegression(),
        SGDClassifier(random_state=0),
        GaussianNB(),
        SVC(random_state=0),
        MLPClassifier((4,), max_iter=5, random_state=0),
        make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
        VotingClassifier([("a", LogisticRegression()), ("b", RandomForestClassifier(2, random_state=0))]),
        StackingClassifier([("a", GaussianNB()), ("b", RandomForestClassifier(2, random_state=0))], cv=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_scikit_learns_estimators_are_kept_by_skops_with_the_same_bytes_each_time(model: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(MATRIX, TARGET)

    again, kept = round_trip(model, signed_here=False)

    assert kept.format == "skops" and not kept.note
    np.testing.assert_array_equal(again.predict(MATRIX), model.predict(MATRIX))
    assert estimators.save(pickle.loads(pickle.dumps(model)), CODE, {}).content == kept.content


def test_neighbours_are_kept_by_skops() -> None:
    model = KNeighborsClassifier().fit(MATRIX, TARGET)

    again, kept = round_trip(model, signed_here=False)

    assert kept.format == "skops" and (again.predict(MATRIX) == model.predict(MATRIX)).all()


@pytest.mark.parametrize("package", ["lightgbm", "xgboost"])
def test_boosters_are_kept_by_skops(package: str) -> None:
    module = pytest.importorskip(package)
    model = (module.LGBMClassifier if package == "lightgbm" else module.XGBClassifier)(
        n_estimators=3, n_jobs=1, verbosity=-1 if package == "lightgbm" else 0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(MATRIX, TARGET)

        again, kept = round_trip(model, signed_here=False)

        assert kept.format == "skops", kept.note
        np.testing.assert_allclose(again.predict_proba(MATRIX), model.predict_proba(MATRIX))


def test_the_users_functions_come_from_the_packaged_code() -> None:
    space: dict[str, Any] = {"__name__": "__main__"}
    exec("def double(x): return 2 * x", space)
    model = make_pipeline(FunctionTransformer(space["double"]), LogisticRegression()).fit(MATRIX, TARGET)

    again, kept = round_trip(model, {id(space["double"]): (space["double"], "own:double")}, signed_here=False)

    assert kept.user_types == (f"{CODE.package}.own.double",)
    assert again.steps[0][1].func is CODE.find("own:double")
    assert b"__main__" not in zipfile.ZipFile(io.BytesIO(kept.content)).read("schema.json")


def test_a_pickle_names_the_packaged_code_and_loads_only_where_it_was_signed() -> None:
    model = Birch().fit(MATRIX)  # skops refuses it
    again, kept = round_trip(model)

    assert kept.format == "pickle" and "this installation only" in kept.note
    np.testing.assert_array_equal(again.predict(MATRIX), model.predict(MATRIX))
    with pytest.raises(BundleUntrusted, match="only the installation that signed it"):
        estimators.load(kept.content, "pickle", CODE, (), signed_here=False)


class Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, at: Path) -> None:
        self.at = at

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.at),)


def test_a_pickle_disguised_as_skops_never_runs(tmp_path: Path) -> None:
    planted = pickle.dumps(Planted(tmp_path / "ran"))
    for content in (planted, b"PK\x03\x04" + planted, b""):
        with pytest.raises(BundleError):
            estimators.load(content, "skops", CODE, (), signed_here=True)

    assert not (tmp_path / "ran").exists()


def test_an_archive_that_names_other_types_never_makes_them(tmp_path: Path) -> None:
    schema = (
        '{"__class__": "mkdir", "__module__": "os", "__loader__": "FunctionNode", "__id__": 1, '
        '"protocol": 2, "_skops_version": "0.16"}'
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("schema.json", schema)

    with pytest.raises(BundleUntrusted, match="trusted list"):
        estimators.load(file.getvalue(), "skops", CODE, (), signed_here=True)


def test_an_archive_without_a_model_is_named() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("other.txt", "x")

    with pytest.raises(BundleChanged):
        estimators.load(file.getvalue(), "skops", CODE, (), signed_here=True)


def test_what_cannot_be_kept_at_all_says_so() -> None:
    model = make_pipeline(FunctionTransformer(lambda x: x), LogisticRegression()).fit(MATRIX, TARGET)

    with pytest.raises(BundleError, match=r"Pipeline can't be kept .*top level"):
        estimators.save(model, CODE, {})


def test_versions_are_those_of_the_distributions() -> None:
    found = estimators.versions(("sklearn", "numpy", "no_such_package"))

    assert list(found) == ["numpy", "scikit-learn"] and all(found.values())
