"""ONNX forms answer exactly as scikit-learn does, or aren't used."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from mainspring.packaging.onnx_model import answers, convert
from mainspring.store.onnx_names import CLASS, INPUT, PROBABILITY, VALUE

Matrix = npt.NDArray[np.float64]


def rows(count: int = 600, seed: int = 0) -> tuple[Matrix, Matrix]:
    random = np.random.default_rng(seed)
    matrix = random.normal(size=(count, 5)).round(2)
    matrix[:, 1] = random.integers(0, 4, count)
    return matrix, matrix[:, 0] + matrix[:, 2] * matrix[:, 1] + random.normal(size=count)


def target(strength: Matrix, classes: int) -> Any:
    return np.digitize(strength, np.quantile(strength, np.linspace(0, 1, classes + 1)[1:-1]))


def run(content: bytes, matrix: Matrix) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: matrix}), strict=True))


def assert_exact(model: Any, matrix: Matrix, seen: Matrix) -> None:
    content, why = convert(model, seen)
    assert content is not None, why
    said, expected = run(content, matrix), answers(model, matrix)
    if expected.values is not None:
        np.testing.assert_allclose(said[VALUE].reshape(-1), expected.values, rtol=1e-6, atol=1e-9)
        return
    assert (said[CLASS] == expected.codes).all()
    if expected.probabilities is not None:
        np.testing.assert_allclose(said[PROBABILITY], expected.probabilities, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeClassifier(random_state=0),
        RandomForestClassifier(20, random_state=0),
        ExtraTreesClassifier(20, random_state=0, min_samples_leaf=3),
        GradientBoostingClassifier(n_estimators=15, random_state=0),
        HistGradientBoostingClassifier(max_iter=15, random_state=0),
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        GaussianNB(),
        LinearSVC(random_state=0),
        AdaBoostClassifier(n_estimators=8, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_classifiers_keep_every_label_on_rows_never_seen(model: Any, classes: int) -> None:
    matrix, strength = rows()
    model.fit(matrix, target(strength, classes))

    assert_exact(model, rows(4_000, seed=1)[0], matrix[:150])


@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeRegressor(random_state=0),
        DecisionTreeRegressor(min_samples_leaf=600),
        RandomForestRegressor(20, random_state=0),
        GradientBoostingRegressor(n_estimators=15, random_state=0),
        HistGradientBoostingRegressor(max_iter=15, random_state=0),
        HistGradientBoostingRegressor(max_iter=15, loss="poisson", random_state=0),
        Ridge(),
    ],
    ids=lambda model: type(model).__name__,
)
def test_regressors_keep_every_value(model: Any) -> None:
    matrix, strength = rows()
    model.fit(matrix, np.abs(strength))

    assert_exact(model, rows(4_000, seed=1)[0], matrix[:150])


@pytest.mark.parametrize(
    "model",
    [RandomForestClassifier(10, random_state=0), HistGradientBoostingClassifier(max_iter=10, random_state=0)],
    ids=lambda model: type(model).__name__,
)
def test_gaps_go_the_way_that_training_sent_them(model: Any) -> None:
    matrix, strength = rows()
    random = np.random.default_rng(2)
    matrix[random.random(matrix.shape) < 0.1] = np.nan
    model.fit(matrix, target(strength, 2))
    unseen = rows(3_000, seed=1)[0]
    unseen[random.random(unseen.shape) < 0.3] = np.nan

    assert_exact(model, unseen, matrix[:150])


def test_ties_between_votes_go_to_the_first_class_as_in_scikit_learn() -> None:
    matrix, strength = rows()
    model = RandomForestClassifier(10, random_state=0).fit(matrix, target(strength, 2))
    unseen = rows(20_000, seed=3)[0]
    tied = model.predict_proba(unseen)[:, 1] == 0.5
    assert tied.sum() > 100

    assert_exact(model, unseen[tied], matrix[:150])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_value_on_a_threshold_or_next_to_it_goes_the_same_way(seed: int) -> None:
    matrix, strength = rows(200, seed=seed % 7)
    model = HistGradientBoostingClassifier(max_iter=3, random_state=0).fit(matrix * 1.1, target(strength, 2))
    edges = np.concatenate([tree.nodes["num_threshold"] for stage in model._predictors for tree in stage])
    random = np.random.default_rng(seed)
    near = random.choice(edges, (300, 5))
    near = np.where(random.random(near.shape) < 0.5, np.nextafter(near, random.choice([-np.inf, np.inf])), near)

    assert_exact(model, near, (matrix * 1.1)[:100])


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (HistGradientBoostingClassifier(max_iter=3, categorical_features=[1]), "splits on categories"),
        (make_pipeline(QuantileTransformer(n_quantiles=10), LogisticRegression()), "QuantileTransformer"),
        (make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=20)), "off by up to"),
    ],
)
def test_what_cannot_be_exact_is_left_to_scikit_learn_and_says_why(model: Any, reason: str) -> None:
    matrix, strength = rows()
    model.fit(matrix / 3, target(strength, 2))

    content, why = convert(model, (matrix / 3)[:150])

    assert content is None and reason in why and "scikit-learn" in why


@pytest.mark.parametrize("labels", [("hi", "lo"), ("a", "b", "c"), (1, 2), (False, True)])
@pytest.mark.parametrize("model", [make_pipeline(StandardScaler(), LogisticRegression()), GaussianNB()])
def test_classes_may_have_any_names(model: Any, labels: tuple[Any, ...]) -> None:
    matrix, strength = rows()
    fitted = clone(model).fit(matrix, np.array(labels)[target(strength, len(labels))])

    assert_exact(fitted, rows(seed=1)[0], matrix)

    assert fitted.classes_.tolist() == list(labels)


def test_the_rows_that_are_answered_otherwise_are_named() -> None:
    matrix, strength = rows(12_000)
    model = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=20))
    model.fit(matrix[:600] / 3, target(strength[:600], 2))

    content, why = convert(model, matrix / 3, named=[f"key-{place}" for place in range(12_000)])

    assert content is None and re.search(r"on \d+ of 16000 rows \(training rows key-\d+.* and \d+ more\)$", why), why


@pytest.mark.parametrize(
    "model", [HistGradientBoostingClassifier(max_iter=10), RandomForestClassifier(10, random_state=0)]
)
def test_whole_numbers_beyond_float32_are_compared_as_in_scikit_learn(model: Any) -> None:
    matrix, _ = rows(2_000)
    matrix[:, 1] = 2**24 + np.arange(2_000) % 7
    label = ((matrix[:, 1] % 2) + matrix[:, 0] > 0.5).astype(int)

    assert_exact(model.fit(matrix, label), matrix, matrix[:500])


def test_a_converted_model_is_the_same_bytes_each_time() -> None:
    matrix, strength = rows()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for model in (RandomForestClassifier(5, random_state=0), LogisticRegression()):
            model.fit(matrix, target(strength, 2))
            assert convert(model, matrix[:100]) == convert(model, matrix[:100])
