"""The evaluation of real models on real data, as the loop calls it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score, root_mean_squared_error
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from mainspring.core.declarations import Gate, Roles
from mainspring.core.errors import DeclarationError, NotInStore, TargetUnusable, UnknownMetric
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.values import Frame, Split
from mainspring.evaluation.evaluate import evaluate
from mainspring.evaluation.gate import gate
from mainspring.evaluation.latency import latency
from mainspring.statistics.metrics import Predictions


def measured(bench: Any, split: Split, estimator: Any, champion: Any = None, rule: Gate | None = None) -> Any:
    bundle = bench.bundle(estimator, split, "new" * 20)
    if champion is not None:
        bench.bundle(champion, split, "old" * 20)
    digest = None if champion is None else "old" * 20
    return evaluate(bundle, split, gate=rule or Gate(), champion_digest=digest, load=bench.load, seed=0)


def test_binary_metrics_are_scikit_learns_with_intervals_around_them(bench: Any) -> None:
    split = bench.split("cancer")
    found = measured(bench, split, DecisionTreeClassifier(max_depth=3, random_state=0), DummyClassifier())
    positive = split.holdout.data["target"].to_numpy() == "malignant"

    value, low, high = found.metrics["roc_auc"]
    assert value == pytest.approx(roc_auc_score(positive, found.candidate.probabilities[:, 1]))
    assert low < value < high
    assert found.baseline == 0.5 == found.champion_metrics["roc_auc"][0]
    assert {"accuracy", "log_loss", "brier", "average_precision"} < set(found.metrics)
    assert next(iter(found.metrics)) == found.metric == "roc_auc"
    assert found.rows == len(found.target) == split.holdout.data.height
    assert 0 < found.latency_ms["p50"] <= found.latency_ms["p95"] <= found.latency_ms["p99"]
    assert found.calibration.counts.sum() == found.rows


def test_several_classes_have_their_own_metrics_and_top_class_calibration(bench: Any) -> None:
    found = measured(bench, bench.split("wine"), RandomForestClassifier(20, random_state=0))

    assert found.metric == "balanced_accuracy"
    assert found.baseline == pytest.approx(1 / 3)
    assert {"f1_macro", "roc_auc_ovr", "log_loss"} < set(found.metrics)
    assert (found.calibration.mean_predicted >= 1 / 3).all()


def test_a_number_is_measured_against_the_training_mean(bench: Any) -> None:
    split = bench.split("diabetes")
    found = measured(bench, split, LinearRegression())
    target = split.holdout.data["target"].to_numpy()

    mean = split.train.data["target"].mean()
    assert found.baseline == pytest.approx(root_mean_squared_error(target, np.full(len(target), mean)))
    assert found.metrics["rmse"][0] < found.baseline
    assert found.calibration is None


def test_models_see_the_input_columns_and_never_the_target(bench: Any) -> None:
    split = bench.split("cancer")
    measured(bench, split, DecisionTreeClassifier(), DecisionTreeClassifier())

    for model in bench.models.values():
        assert model.seen == list(split.holdout.inputs.names)
        assert "target" not in model.seen


def test_a_model_without_probabilities_is_measured_by_its_labels(bench: Any) -> None:
    found = measured(bench, bench.split("wine"), LinearSVC(random_state=0, max_iter=20_000, dual=False))

    assert "accuracy" in found.metrics and "log_loss" not in found.metrics
    assert found.calibration is None
    assert "no probabilities" in found.card


def test_a_metric_that_the_model_cannot_serve_is_named(bench: Any) -> None:
    with pytest.raises(UnknownMetric, match="needs probabilities"):
        measured(bench, bench.split("cancer"), LinearSVC(dual=False), rule=Gate("roc_auc"))
    with pytest.raises(UnknownMetric, match="doesn't fit a regression task"):
        measured(bench, bench.split("diabetes"), LinearRegression(), rule=Gate("roc_auc"))


def test_an_empty_holdout_and_an_unknown_slice_are_refused(bench: Any) -> None:
    split = bench.split("cancer")
    empty = replace(split, holdout=replace(split.holdout, data=split.holdout.data.head(0)))

    with pytest.raises(TargetUnusable, match="no rows"):
        measured(bench, empty, DecisionTreeClassifier())
    with pytest.raises(DeclarationError, match="did you mean 'mean_area'"):
        measured(bench, split, DecisionTreeClassifier(), rule=Gate(slices=["mean_aera"]))
    with pytest.raises(DeclarationError, match="no column 'target'"):
        measured(bench, split, DecisionTreeClassifier(), rule=Gate(slices=["target"]))


# ------------------------------------------------------------------------------------------------------- champions


def test_a_champion_that_cannot_be_loaded_is_a_note_and_the_candidate_is_measured(bench: Any) -> None:
    split = bench.split("cancer")
    bundle = bench.bundle(DecisionTreeClassifier(random_state=0), split, "new")

    def load(digest: str) -> Any:
        if digest == "old":
            raise NotInStore("no bundle old")
        return bench.load(digest)

    found = evaluate(bundle, split, gate=Gate(), champion_digest="old", load=load, seed=0)

    assert found.champion is None and found.champion_metrics == {}
    assert "the champion can't be run: no bundle old" in found.notes
    assert "no bundle old" in gate(found, rule=Gate(), uses=1).reasons[0]
    assert "no bundle old" in found.card


def test_a_champion_whose_columns_are_gone_is_a_note(bench: Any) -> None:
    split = bench.split("cancer")
    bundle = bench.bundle(DecisionTreeClassifier(random_state=0), split, "new")

    class Packed:
        class manifest:
            inputs = Schema((Column("mean_area", Type.FLOAT), Column("age", Type.INTEGER)))

        def predict(self, rows: pl.DataFrame) -> Predictions:
            raise AssertionError("not asked")

    bench.models["old"] = Packed()
    found = evaluate(bundle, split, gate=Gate(), champion_digest="old", load=bench.load, seed=0)

    assert found.champion is None
    assert found.notes == ("the champion needs column 'age', which the data no longer gives",)


def test_a_champion_of_another_task_is_a_note(bench: Any) -> None:
    split = bench.split("cancer")
    bundle = bench.bundle(DecisionTreeClassifier(random_state=0), split, "new")
    numeric = bench.split("cancer").train.data.with_columns(target=pl.col("mean_area"))
    bench.bundle(DummyRegressor(), replace(split, train=replace(split.train, data=numeric, task="regression")), "old")

    found = evaluate(bundle, split, gate=Gate(), champion_digest="old", load=bench.load, seed=0)

    assert found.champion is None and "answers another question" in found.notes[0]


def test_the_champion_itself_is_measured_once_and_held(bench: Any) -> None:
    split = bench.split("cancer")
    bundle = bench.bundle(DecisionTreeClassifier(random_state=0), split, "same")
    found = evaluate(bundle, split, gate=Gate(), champion_digest="same", load=bench.load, seed=0)

    assert found.champion is found.candidate
    assert gate(found, rule=Gate(), uses=1).decision == "hold"


def test_a_champion_with_its_classes_in_another_order_is_compared_class_by_class(bench: Any) -> None:
    split = bench.split("cancer")
    bundle = bench.bundle(LogisticRegression(max_iter=10_000), split, "new")
    inner = bench.load("new")

    class Turned:
        def predict(self, rows: pl.DataFrame) -> Predictions:
            said = inner.predict(rows)
            return replace(said, probabilities=said.probabilities[:, ::-1], classes=said.classes[::-1])

    bench.models["old"] = Turned()
    found = evaluate(bundle, split, gate=Gate(), champion_digest="old", load=bench.load, seed=0)

    assert found.champion_metrics == found.metrics


# ------------------------------------------------------------------------------------- weights, clusters, repetition


def test_rows_with_weight_two_count_as_two_rows(bench: Any) -> None:
    twice = np.arange(569) % 3 == 0
    weighted = bench.split("cancer", roles=Roles("target", weight="w"), w=pl.Series(np.where(twice, 2.0, 1.0)))
    doubled = weighted.holdout.data.filter(pl.col("w") == 2)
    repeated = pl.concat([weighted.holdout.data, doubled]).with_columns(w=pl.lit(1.0))
    plain = replace(weighted, holdout=replace(weighted.holdout, data=repeated))

    tree = DecisionTreeClassifier(max_depth=2, random_state=0)
    one, other = measured(bench, weighted, tree), measured(bench, plain, tree)

    for name, (value, low, high) in one.metrics.items():
        assert value == pytest.approx(other.metrics[name][0])
        assert low <= value <= high
    assert "w" not in bench.load("new" * 20).seen


def test_rows_that_repeat_an_entity_widen_the_intervals(bench: Any) -> None:
    patient = pl.Series(np.arange(569) // 20)
    alone = measured(bench, bench.split("cancer"), DecisionTreeClassifier(max_depth=2, random_state=0))
    split = bench.split("cancer", roles=Roles("target", key="patient"), patient=patient)
    together = measured(bench, split, DecisionTreeClassifier(max_depth=2, random_state=0))

    assert alone.clusters is None
    assert len(np.unique(together.clusters)) == 29
    assert any("over 29 entities" in note for note in together.notes)


def test_the_same_call_gives_the_same_evaluation_but_for_the_clock(bench: Any) -> None:
    split = bench.split("cancer")
    rule = Gate(slices=["mean_area"])
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    one, other = measured(bench, split, tree, rule=rule), measured(bench, split, tree, rule=rule)

    for name in ("metrics", "baseline", "slices", "importance", "notes", "facts"):
        assert getattr(one, name) == getattr(other, name)


def test_a_holdout_of_one_class_is_measured_as_far_as_it_goes(bench: Any) -> None:
    split = bench.split("cancer")
    one = split.holdout.data.filter(pl.col("target") == "benign")
    found = measured(bench, replace(split, holdout=replace(split.holdout, data=one)), DecisionTreeClassifier())

    assert np.isnan(found.metrics["roc_auc"][0]) and found.metrics["accuracy"][0] > 0.8
    assert found.importance == ()
    assert any("one class only" in note for note in found.notes)


def test_a_class_that_the_model_never_met_counts_as_wrong(bench: Any) -> None:
    split = bench.split("wine")
    known = split.train.data.filter(pl.col("target") != "class_2")
    train = replace(split.train, data=known, classes=("class_0", "class_1"))
    found = measured(bench, replace(split, train=train), DecisionTreeClassifier(random_state=0))

    assert any("a class that the model doesn't know" in note for note in found.notes)
    assert found.metrics["accuracy"][0] < 0.8


# ------------------------------------------------------------------------------------- slices, importance, latency


def noisy(random: np.random.Generator, rows: int) -> pl.DataFrame:
    signal, city = random.normal(size=rows), random.choice(["Bern", "Ulm"], rows)
    late = (signal + random.normal(0, 0.7, rows)) > 0
    return pl.DataFrame({"signal": signal, "noise": random.normal(size=rows), "city": city, "late": late})


@pytest.fixture
def flights(bench: Any) -> Split:
    random = np.random.default_rng(0)
    schema = Schema((Column("signal", Type.FLOAT), Column("noise", Type.FLOAT), Column("city", Type.TEXT)))
    train, holdout = (
        Frame(noisy(random, rows), Roles("late"), "binary", (False, True), schema, 1) for rows in (4_000, 3_000)
    )
    return Split(train, holdout, "time", "h")


class ByCity:
    """A model that answers upside down for some cities."""

    def __init__(self, wrong: tuple[str, ...]) -> None:
        self.wrong = wrong

    def predict(self, rows: pl.DataFrame) -> Predictions:
        turn = np.where(rows["city"].is_in(self.wrong).to_numpy(), -1.0, 1.0)
        p = 1 / (1 + np.exp(-3 * turn * rows["signal"].to_numpy()))
        return Predictions(p > 0.5, np.column_stack([1 - p, p]), classes=(False, True))


def test_a_slice_that_got_worse_is_found_and_holds_the_candidate(bench: Any, flights: Split) -> None:
    bundle = bench.bundle(DecisionTreeClassifier(), _numeric(flights), "new")
    bench.models |= {"new": ByCity(("Ulm",)), "old": ByCity(())}
    rule = Gate(slices=["city", "signal"])

    found = evaluate(bundle, flights, gate=rule, champion_digest="old", load=bench.load, seed=0)
    by_name = {f"{each.column}={each.value}": each for each in found.slices}

    assert by_name["city=Ulm"].p_worse < 1e-6 and by_name["city=Ulm"].score < 0.2
    assert by_name["city=Bern"].p_worse == 1.0
    assert by_name["city=Bern"].champion_score == by_name["city=Bern"].score
    assert len(found.slices) == 6
    verdict = gate(found, rule=rule, uses=1)
    assert verdict.decision == "hold" and any("Where city is Ulm" in reason for reason in verdict.reasons)


def test_importance_finds_the_columns_that_a_model_lives_on(bench: Any, flights: Split) -> None:
    bundle = bench.bundle(DecisionTreeClassifier(), _numeric(flights), "new")
    bench.models["new"] = ByCity(())
    told: list[tuple[str, int, int]] = []

    def tell(*step: Any) -> None:
        told.append(step)

    found = evaluate(bundle, flights, gate=Gate(), champion_digest=None, load=bench.load, seed=0, progress=tell)

    assert [name for name, _ in found.importance] == ["signal", "city", "noise"]
    assert found.importance[0][1] > 0.3 and found.importance[2][1] == 0
    assert ("importance of columns", 3, 3) in told


def test_latency_is_of_single_rows_and_ends_early_for_a_slow_model() -> None:
    sizes: list[int] = []
    now = [0.0]

    class Slow:
        def predict(self, rows: pl.DataFrame) -> Predictions:
            sizes.append(rows.height)
            now[0] += 0.5
            return Predictions()

    found = latency(Slow(), pl.DataFrame({"x": range(10)}), seed=0, clock=lambda: now[0])

    assert set(sizes) == {1} and len(sizes) == 25
    assert found == {"p50": 500.0, "p95": 500.0, "p99": 500.0}


def _numeric(split: Split) -> Split:
    train = split.train.data.select("signal", "noise", target="late")
    schema = split.train.inputs.only(("signal", "noise"))
    return replace(split, train=replace(split.train, data=train, inputs=schema))


def test_a_forest_beside_a_line_on_real_data_says_which_is_better_and_how_sure(bench: Any) -> None:
    found = measured(bench, bench.split("diabetes"), RandomForestRegressor(20, random_state=0), LinearRegression())
    verdict = gate(found, rule=Gate(), uses=1)

    assert verdict.decision == "inconclusive"
    assert "of the champion's rmse" in verdict.reasons[0] and "rows are needed" in verdict.reasons[0]
