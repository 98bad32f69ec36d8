import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from mainspring.core.declarations import Roles, Search
from mainspring.core.declarations import Split as Rule
from mainspring.core.errors import DeclarationError, FeaturesError, TrainingError, UnknownMetric
from mainspring.core.values import Candidate, Split
from mainspring.training.train import train


def trained(split: Split, models: Any, **changes: Any) -> Candidate:
    settings = {"features": (), "search": None, "metric": None, "rule": Rule(), "seed": 0, **changes}
    return train(split, models=models, **settings)


def same_model(one: Candidate, other: Candidate) -> bool:
    return pickle.dumps(one.model) == pickle.dumps(other.model)


def hour(flights: pl.DataFrame) -> pl.DataFrame:
    return flights.with_columns(hour=pl.col("scheduled").dt.hour())


FLIGHT = Roles("late", key="id", time="scheduled", weight="weight")


# ------------------------------------------------------------------------------------------------- one estimator


def test_the_forest_is_scikit_learns_on_the_plain_frame(breast_cancer: Split) -> None:
    forest = RandomForestClassifier(n_estimators=100, random_state=42)

    candidate = trained(breast_cancer, forest, metric="accuracy")

    data = breast_cancer.train.data
    frame = data.drop("target").to_pandas()
    plain = RandomForestClassifier(n_estimators=100, random_state=42).fit(frame, data["target"].to_numpy())
    for ours, theirs in zip(candidate.model.estimators_, plain.estimators_, strict=True):
        assert np.array_equal(ours.tree_.threshold, theirs.tree_.threshold)
    inputs = candidate.encoding.transform(data)
    assert np.array_equal(candidate.model.predict_proba(inputs), plain.predict_proba(frame))
    assert candidate.parameters["n_estimators"] == 100 and candidate.parameters["random_state"] == 42
    assert candidate.model.n_jobs is None and not hasattr(forest, "estimators_")


def test_one_estimator_without_a_search_is_fitted_once(breast_cancer: Split) -> None:
    told: list[tuple[str, int, int]] = []

    candidate = trained(breast_cancer, DecisionTreeClassifier(max_depth=2), progress=lambda *said: told.append(said))

    assert candidate.score is None and candidate.baseline == 0.5 and candidate.metric == "roc_auc"
    [trial] = candidate.trials
    assert np.isnan(trial.score) and trial.fold_scores == () and trial.estimator == "DecisionTreeClassifier"
    assert told == [("train", 0, 1), ("train", 1, 1)]


def test_an_open_random_state_follows_the_seed(breast_cancer: Split) -> None:
    forest = RandomForestClassifier(n_estimators=3)

    first, again, other = (trained(breast_cancer, forest, seed=seed) for seed in (1, 1, 2))

    assert same_model(first, again) and not same_model(first, other)
    assert first.parameters["random_state"] == 1 and forest.random_state is None


def test_an_estimator_that_fails_is_named_with_its_reason(breast_cancer: Split) -> None:
    with pytest.raises(
        TrainingError, match=r"DecisionTreeClassifier can't be fitted: InvalidParameterError: .*max_depth"
    ):
        trained(breast_cancer, DecisionTreeClassifier(max_depth=-1))


def test_what_an_estimator_warns_of_is_a_note(breast_cancer: Split) -> None:
    candidate = trained(breast_cancer, LogisticRegression(max_iter=1))

    assert any("LogisticRegression warns: lbfgs failed to converge" in note for note in candidate.notes)


# ------------------------------------------------------------------------------------------------- several and auto


def test_auto_is_better_than_the_baseline_on_two_classes(breast_cancer: Split) -> None:
    candidate = trained(breast_cancer, "auto", search=Search(trials=6, folds=3))

    assert candidate.score is not None and candidate.score > 0.98 > candidate.baseline
    assert {trial.estimator for trial in candidate.trials} >= {
        "LogisticRegression",
        "RandomForestClassifier",
        "HistGradientBoostingClassifier",
    }


def test_auto_is_better_than_the_baseline_on_three_classes(wine: Split) -> None:
    candidate = trained(wine, "auto")

    assert candidate.task == "multiclass" and candidate.classes == (0, 1, 2)
    assert candidate.score is not None and candidate.score > 0.95 and candidate.baseline == pytest.approx(1 / 3)
    assert len(candidate.trials) == 15


def test_auto_is_better_than_the_baseline_on_numbers_and_scores_are_in_their_unit(diabetes: Split) -> None:
    candidate = trained(diabetes, "auto", search=Search(trials=6, folds=3))

    assert candidate.metric == "rmse" and candidate.score is not None
    assert 50 < candidate.score < 60 < 70 < candidate.baseline < 85
    assert all(trial.score < 0 for trial in candidate.trials)


def test_several_estimators_are_compared_on_every_fold_as_scikit_learn_does(breast_cancer: Split) -> None:
    models = [DecisionTreeClassifier(max_depth=3, random_state=0), RandomForestClassifier(10, random_state=0)]
    rule = KFold(4)

    candidate = trained(breast_cancer, models, rule=rule)

    data = breast_cancer.train.data
    inputs, target = data.drop("target").to_numpy(), data["target"].to_numpy()
    expected = [cross_val_score(model, inputs, target, cv=rule, scoring="roc_auc") for model in models]
    assert [trial.fold_scores for trial in candidate.trials] == [pytest.approx(tuple(scores)) for scores in expected]
    assert candidate.estimator == "RandomForestClassifier" and candidate.score == pytest.approx(expected[1].mean())


def test_the_same_seed_gives_the_same_candidate(wine: Split) -> None:
    models = [RandomForestClassifier(n_estimators=5), DecisionTreeClassifier()]
    search = Search({"max_depth": (1, 8), "RandomForestClassifier.max_features": ["sqrt", 0.5]}, trials=12, folds=3)

    first, again = (trained(wine, models, search=search, seed=3) for _ in range(2))

    assert same_model(first, again) and first.score == again.score
    assert [replace(trial, seconds=0) for trial in first.trials] == [
        replace(trial, seconds=0) for trial in again.trials
    ]


# ------------------------------------------------------------------------------------------------- columns and roles


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(30),
        HistGradientBoostingClassifier(max_iter=30),
        LogisticRegression(),
        KNeighborsClassifier(),
        SVC(),
    ],
)
def test_text_missing_values_and_dates_work_for_every_kind_of_estimator(
    to_split: Any, flights: pl.DataFrame, model: Any
) -> None:
    split = to_split(flights, FLIGHT, "binary")

    candidate = trained(split, model, features=(hour,), metric="accuracy")

    assert candidate.classes == ("no", "yes")
    assert not {"id", "scheduled", "weight", "late"} & set(candidate.encoding.inputs)
    assert "hour" in candidate.encoding.inputs
    assert any("'passenger' is dropped" in note for note in candidate.notes)
    inputs = candidate.encoding.transform(hour(flights.drop("late", "weight")))
    accuracy = (np.array(candidate.classes)[candidate.model.predict(inputs)] == flights["late"].to_numpy()).mean()
    assert accuracy > candidate.baseline + 0.1


def test_folds_follow_time_and_train_only_on_what_came_before(to_split: Any, flights: pl.DataFrame) -> None:
    split = to_split(flights, FLIGHT, "binary")
    models = [DecisionTreeClassifier(max_depth=3), DecisionTreeClassifier(max_depth=5)]

    candidate = trained(split, models, features=(hour,), metric="roc_auc")

    assert [trial.estimator for trial in candidate.trials] == ["DecisionTreeClassifier", "DecisionTreeClassifier-2"]
    assert all(len(trial.fold_scores) == 5 for trial in candidate.trials)
    assert candidate.score is not None and 0.7 < candidate.score < 1.0


def test_weights_reach_the_fit_and_one_that_takes_none_is_noted(to_split: Any, flights: pl.DataFrame) -> None:
    tree = DecisionTreeClassifier(max_depth=3)
    weighted = trained(to_split(flights, FLIGHT, "binary"), tree, features=(hour,))
    unweighted = trained(
        to_split(flights, replace(FLIGHT, weight=None, ignore=("weight",)), "binary"), tree, features=(hour,)
    )
    assert not same_model(weighted, unweighted)

    neighbours = trained(to_split(flights, FLIGHT, "binary"), KNeighborsClassifier(), features=(hour,))
    assert "KNeighborsClassifier takes no weights in fit: they count in the metric only" in neighbours.notes


def test_a_bad_weight_is_refused(to_split: Any, flights: pl.DataFrame) -> None:
    negative = flights.with_columns(weight=pl.col("weight") - 1)

    with pytest.raises(TrainingError, match=r"weight column 'weight' has \d+ rows that are missing, negative"):
        trained(to_split(negative, FLIGHT, "binary"), DecisionTreeClassifier())


def test_the_sample_holds_raw_rows_of_every_class(
    to_split: Any, flights: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mainspring.training.rows.SAMPLE_ROWS", 200)
    rare = flights.with_columns(
        late=pl.when(pl.int_range(pl.len()) == 555).then(pl.lit("lost")).otherwise(pl.col("late"))
    )

    candidate = trained(to_split(rare, FLIGHT, "multiclass"), DecisionTreeClassifier(max_depth=2), features=(hour,))

    assert candidate.sample.height == 200 and candidate.sample.columns == list(candidate.inputs.names)
    assert "flight 555" in candidate.sample["id"] and candidate.classes == ("lost", "no", "yes")


def test_a_table_without_features_or_with_one_class_is_refused(to_split: Any, flights: pl.DataFrame) -> None:
    with pytest.raises(TrainingError, match="no feature column is left"):
        trained(to_split(flights.select("id", "late"), Roles("late", key="id"), "binary"), DecisionTreeClassifier())
    with pytest.raises(TrainingError, match="no column is left to learn from: column 'passenger' is dropped"):
        trained(to_split(flights.select("passenger", "late"), Roles("late"), "binary"), DecisionTreeClassifier())
    with pytest.raises(TrainingError, match="all training rows have late = 'yes'"):
        trained(to_split(flights.with_columns(late=pl.lit("yes")), FLIGHT, "binary"), DecisionTreeClassifier())


def test_a_features_function_sees_neither_target_nor_weight(to_split: Any, flights: pl.DataFrame) -> None:
    with pytest.raises(FeaturesError, match="it is given id, scheduled, delay, carrier, passenger "):
        trained(
            to_split(flights, FLIGHT, "binary"),
            DecisionTreeClassifier(),
            features=(lambda rows: rows.with_columns(pl.col("late").alias("leak")),),
        )


# ------------------------------------------------------------------------------------------------- pipelines


def test_a_pipeline_with_a_column_transformer_gets_its_columns_by_name(to_split: Any, flights: pl.DataFrame) -> None:
    columns = ColumnTransformer(
        [
            ("text", OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["delay", "hour"]),
        ]
    )
    pipeline = Pipeline([("columns", columns), ("model", LogisticRegression())])
    search = Search({"model__C": [0.1, 1.0]}, trials=4, folds=3)

    candidate = trained(to_split(flights, FLIGHT, "binary"), pipeline, features=(hour,), search=search)

    inputs = candidate.encoding.transform(hour(flights).head(5))
    assert list(inputs.columns) == ["delay", "carrier", "passenger", "hour"]
    assert candidate.model.predict_proba(inputs).shape == (5, 2)
    assert candidate.score is not None and candidate.score > 0.8 and candidate.parameters["model__C"] in (0.1, 1.0)


def test_transformers_of_features_become_steps_before_the_estimator(breast_cancer: Split) -> None:
    search = Search({"max_iter": (5, 20), "pca__n_components": [2, 5]}, trials=4, folds=3)

    candidate = trained(
        breast_cancer, HistGradientBoostingClassifier(), features=(StandardScaler(), PCA()), search=search
    )

    assert [type(step).__name__ for _, step in candidate.model.steps] == [
        "StandardScaler",
        "PCA",
        "HistGradientBoostingClassifier",
    ]
    assert candidate.estimator == "HistGradientBoostingClassifier" and candidate.encoding.kind == "filled"
    searched = [set(trial.parameters) for trial in candidate.trials if trial.parameters]
    assert searched and all(
        keys == {"histgradientboostingclassifier__max_iter", "pca__n_components"} for keys in searched
    )


def test_a_function_after_a_transformer_is_refused(breast_cancer: Split) -> None:
    with pytest.raises(DeclarationError, match="function 'hour' stands after PCA; write functions first"):
        trained(breast_cancer, DecisionTreeClassifier(), features=(PCA(), hour))


# ------------------------------------------------------------------------------------------------- what can't be done


def test_an_estimator_of_another_task_is_refused_with_what_to_write(breast_cancer: Split, diabetes: Split) -> None:
    with pytest.raises(
        TrainingError, match=r"RandomForestRegressor is a regressor, .* write model=RandomForestClassifier\(\)"
    ):
        trained(breast_cancer, RandomForestRegressor())
    with pytest.raises(
        TrainingError, match=r"LogisticRegression is a classifier, .* write model=RandomForestRegressor\(\)"
    ):
        trained(diabetes, [Ridge(), LogisticRegression()])
    with pytest.raises(TrainingError, match="LinearRegression is a regressor, but the target makes this a binary task"):
        trained(breast_cancer, make_pipeline(StandardScaler(), LinearRegression()))


def test_what_is_no_estimator_is_refused_with_what_to_write(breast_cancer: Split) -> None:
    with pytest.raises(DeclarationError, match=r"RandomForestClassifier is a class; write an instance"):
        trained(breast_cancer, RandomForestClassifier)
    with pytest.raises(DeclarationError, match="'forest' is no estimator; write \"auto\""):
        trained(breast_cancer, "forest")
    with pytest.raises(DeclarationError, match="has no fit and predict"):
        trained(breast_cancer, {"max_depth": 3})
    with pytest.raises(DeclarationError, match=r"model=\[\] names no estimator"):
        trained(breast_cancer, [])


def test_a_metric_the_estimator_cannot_serve_is_refused_before_any_fit(breast_cancer: Split) -> None:
    with pytest.raises(TrainingError, match="SVC gives no probabilities, which metric 'roc_auc' needs; wrap it"):
        trained(breast_cancer, SVC())
    with pytest.raises(UnknownMetric):
        trained(breast_cancer, SVC(), metric="acuracy")


class Threshold(BaseEstimator):
    """Somebody's own estimator: no mixin, no tags of a classifier."""

    def __init__(self, column: int = 0) -> None:
        self.column = column

    def fit(self, inputs: Any, target: Any) -> "Threshold":
        self.middle_ = float(np.median(inputs[:, self.column]))
        return self

    def predict(self, inputs: Any) -> Any:
        return (inputs[:, self.column] < self.middle_).astype(int)


class Foreign:
    """Fit and predict, and nothing of scikit-learn."""

    def fit(self, inputs: Any, target: Any) -> None:
        self.most = int(np.bincount(target).argmax())

    def predict(self, inputs: Any) -> Any:
        return np.full(len(inputs), self.most)


def test_anybodys_estimator_with_fit_and_predict_is_taken(breast_cancer: Split) -> None:
    candidate = trained(breast_cancer, [Threshold(), Foreign()], metric="accuracy")

    assert candidate.estimator == "Threshold" and candidate.encoding.kind == "scaled"
    assert [round(trial.score, 1) for trial in candidate.trials] == [0.8, 0.6]


def test_an_estimator_may_say_what_it_needs(breast_cancer: Split) -> None:
    class ByName(Foreign):
        mainspring_encoding = "named"

        def fit(self, inputs: Any, target: Any) -> None:
            self.columns = list(inputs.columns)
            super().fit(inputs, target)

    candidate = trained(breast_cancer, ByName(), metric="accuracy")

    assert candidate.model.columns == [f"x{number}" for number in range(30)]


def test_boosters_of_other_libraries_are_taken(wine: Split) -> None:
    lightgbm, xgboost = pytest.importorskip("lightgbm"), pytest.importorskip("xgboost")
    models = [
        lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1),
        xgboost.XGBClassifier(n_estimators=5, n_jobs=1),
    ]
    named = wine.train.data.with_columns(pl.format("kind {}", "target").alias("target"))

    candidate = trained(
        replace(wine, train=replace(wine.train, data=named, classes=("kind 0", "kind 1", "kind 2"))), models
    )

    assert candidate.encoding.kind == "ordered" and candidate.score is not None and candidate.score > 0.85
    scores = candidate.model.predict_proba(candidate.encoding.transform(named))
    assert roc_auc_score(wine.train.data["target"].to_numpy(), scores, multi_class="ovr") > 0.95
