import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Lasso, Ridge
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from mainspring.core.declarations import Log, Search
from mainspring.core.errors import DeclarationError, TrainingError
from mainspring.core.values import Split
from mainspring.statistics.metrics import metric
from mainspring.training.algorithms import Contender, contenders
from mainspring.training.folds import Folds
from mainspring.training.race import Entry, Race
from mainspring.training.rows import training_rows
from mainspring.training.search import search
from mainspring.training.space import spaces


def regressors(*estimators: Any) -> tuple[Contender, ...]:
    return contenders(list(estimators), "regression", transformers=(), seed=0)


@pytest.fixture
def folds(diabetes: Split) -> Folds:
    rows = training_rows(diabetes.train, ())
    parts = list(KFold(5, shuffle=True, random_state=0).split(rows.target))
    return Folds(rows, parts, metric("rmse", "regression"))


def ignore(entry: Entry) -> None:
    """Nobody waits."""


def work(entries: list[Entry]) -> int:
    return sum(len(entry.scores) for entry in entries)


# --------------------------------------------------------------------------------------------------------- the race


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_race_finds_the_winner_of_the_exhaustive_comparison_with_less_than_half_the_work(
    diabetes: Split, seed: int
) -> None:
    rows = training_rows(diabetes.train, ())
    folds = Folds(rows, list(KFold(5, shuffle=True, random_state=seed).split(rows.target)), metric("r2", "regression"))
    [ridge] = regressors(Ridge())
    grid = [{"alpha": 10.0**power} for power in range(-5, 11)]

    def entries() -> list[Entry]:
        return [Entry(number, ridge, parameters) for number, parameters in enumerate(grid)]

    every, raced = entries(), entries()
    best = Race(folds, ignore).run(every, halve=False)
    winner = Race(folds, ignore).run(raced)

    assert best is not None and winner is not None
    assert winner.score > best.score - 0.002  # the folds' own noise is 0.05
    assert work(every) == 80 and work(raced) == 16 + 8 + 4 + 2 + 1


def test_a_clear_winner_wins_the_race(folds: Folds) -> None:
    entries = [
        Entry(k, choice, {}) for k, choice in enumerate(regressors(*(KNeighborsRegressor(k) for k in (1, 300, 20, 2))))
    ]

    winner = Race(folds, ignore).run(entries)

    assert winner is entries[2] and [len(entry.scores) for entry in entries] == [1, 2, 5, 1]


def test_who_is_behind_the_best_so_far_on_the_same_folds_stops(folds: Folds) -> None:
    good, bad = regressors(Ridge(), DecisionTreeRegressor())
    best = Race(folds, ignore).run([Entry(0, good, {})])
    late = Entry(1, bad, {})

    assert Race(folds, ignore).run([late], best) is best
    assert len(late.scores) == 2 and late.trial(5).stopped_early


def test_a_race_stops_at_its_deadline_with_the_best_so_far(folds: Folds) -> None:
    ticks: Iterator[float] = itertools.count().__iter__()
    [tree] = regressors(DecisionTreeRegressor())
    entries = [Entry(depth, tree, {"max_depth": depth}) for depth in range(1, 9)]

    winner = Race(folds, ignore, clock=lambda: float(next(ticks)), deadline=10.0).run(entries)

    assert winner is not None and 0 < work(entries) <= 12


def test_even_a_deadline_in_the_past_lets_one_entry_run(folds: Folds) -> None:
    found = search(regressors(Ridge(), Lasso()), folds, Search(time=0), seed=0, clock=lambda: 100.0)

    assert found.contender.name == "Ridge" and sum(len(trial.fold_scores) for trial in found.trials) == 1


def test_scores_are_those_of_the_metric_with_the_sign_that_makes_greater_better(folds: Folds) -> None:
    [ridge] = regressors(Ridge())
    assert -80 < folds.score(ridge, {"alpha": 1.0}, 0) < -50
    assert folds.baseline < -70


# -------------------------------------------------------------------------------------------------------- the search


def test_each_contender_is_tried_as_declared_and_the_choice_of_algorithm_is_searched(folds: Folds) -> None:
    told: list[tuple[str, int, int]] = []
    choices = regressors(Ridge(), KNeighborsRegressor(), DecisionTreeRegressor(max_depth=3))
    declared = Search({"alpha": Log(0.01, 100.0), "n_neighbors": (2, 60), "max_depth": (1, 9)}, trials=24)

    found = search(choices, folds, declared, seed=1, progress=lambda *said: told.append(said))

    assert [trial.parameters for trial in found.trials[:3]] == [{}, {}, {}]
    assert {trial.estimator for trial in found.trials[3:]} == {"Ridge", "KNeighborsRegressor", "DecisionTreeRegressor"}
    assert sum(len(trial.fold_scores) for trial in found.trials) < 24 * 5 / 2
    complete = [trial for trial in found.trials if not trial.stopped_early]
    assert found.score == max(trial.score for trial in complete)
    assert found.contender.name == "Ridge" and 0.01 <= found.parameters.get("alpha", 1.0) <= 100
    assert told[-1] == ("train", len(found.trials), 24)


def test_the_same_seed_proposes_the_same_and_another_seed_something_else(folds: Folds) -> None:
    declared = Search({"alpha": (0.1, 20.0)}, trials=12, folds=2)

    tried = [
        [
            (trial.parameters, trial.fold_scores)
            for trial in search(regressors(Ridge()), folds, declared, seed=seed).trials
        ]
        for seed in (5, 5, 6)
    ]

    assert tried[0] == tried[1] != tried[2]


def test_a_space_that_is_soon_exhausted_is_not_tried_twice(folds: Folds) -> None:
    found = search(regressors(Ridge()), folds, Search({"alpha": [0.1, 1.0, 10.0]}, time="1h"), seed=0)

    assert sorted(trial.parameters.get("alpha", 0) for trial in found.trials) == [0, 0.1, 1.0, 10.0]


def test_ranges_give_whole_numbers_fractions_and_any_object(folds: Folds) -> None:
    choices = regressors(make_pipeline(PolynomialFeatures(), StandardScaler(), Ridge()))
    declared = Search(
        {
            "polynomialfeatures__degree": (1, 2),
            "alpha": Log(1, 1000),
            "Ridge.tol": (1e-5, 1e-3),
            "standardscaler": [StandardScaler(), "passthrough"],
        },
        trials=8,
    )

    tried = search(choices, folds, declared, seed=0).trials[1:]

    for trial in tried:
        assert isinstance(trial.parameters["polynomialfeatures__degree"], int)
        assert isinstance(trial.parameters["ridge__alpha"], int) and isinstance(trial.parameters["ridge__tol"], float)


def test_a_trial_that_fails_is_recorded_and_loses(folds: Folds) -> None:
    found = search(regressors(Ridge()), folds, Search({"alpha": [-1.0, 1.0]}, trials=9), seed=0)

    [failed] = [trial for trial in found.trials if trial.error]
    assert failed.parameters == {"alpha": -1.0} and np.isnan(failed.score) and not failed.stopped_early
    assert failed.error is not None and failed.error.startswith("InvalidParameterError: The 'alpha' parameter of Ridge")
    assert found.parameters.get("alpha", 1.0) == 1.0


def test_a_search_of_nothing_but_failures_says_why_the_first_failed(folds: Folds) -> None:
    with pytest.raises(TrainingError, match=r"all 3 trials failed; the first, Ridge: InvalidParameterError: .*'alpha'"):
        search(regressors(Ridge(alpha=-1.0)), folds, Search({"alpha": [-1.0, -2.0]}, trials=12), seed=0)


# --------------------------------------------------------------------------------------------------------- the space


def test_a_plain_key_means_every_estimator_that_has_it() -> None:
    choices = regressors(RandomForestRegressor(), HistGradientBoostingRegressor(), Ridge())

    found = spaces({"max_depth": (3, 12), "RandomForestRegressor.max_features": [0.5], "alpha": (0.1, 1.0)}, choices)

    assert found == {
        "RandomForestRegressor": {"max_depth": (3, 12), "max_features": [0.5]},
        "HistGradientBoostingRegressor": {"max_depth": (3, 12)},
        "Ridge": {"alpha": (0.1, 1.0)},
    }


def test_an_estimator_nobody_speaks_of_keeps_its_default_space() -> None:
    found = spaces({"max_depth": (3, 12)}, regressors(RandomForestRegressor(), Ridge(), Lasso()))

    assert found["RandomForestRegressor"] == {"max_depth": (3, 12)}
    assert set(found["Ridge"]) == {"alpha"} and found["Lasso"] == {}


def test_two_estimators_of_one_class_may_be_meant_apart_or_together() -> None:
    choices = regressors(Lasso(), Lasso(positive=True))

    assert spaces({"Lasso.alpha": (0.1, 1.0)}, choices) == {
        "Lasso": {"alpha": (0.1, 1.0)},
        "Lasso-2": {"alpha": (0.1, 1.0)},
    }
    assert spaces({"Lasso-2.alpha": (0.1, 1.0)}, choices)["Lasso"] == {}


def test_an_unknown_key_names_the_nearest_parameters() -> None:
    choices = regressors(RandomForestRegressor(), make_pipeline(StandardScaler(), Lasso()))

    with pytest.raises(DeclarationError, match=r"'max_dept': .* has no parameter 'max_dept'; did you mean max_depth"):
        spaces({"max_dept": (1, 3)}, choices)
    with pytest.raises(DeclarationError, match=r"'with_std': .*; did you mean standardscaler__with_std"):
        spaces({"with_std": [True]}, choices)
    with pytest.raises(
        DeclarationError, match=r"no estimator 'RandomForest' in model=; write RandomForestRegressor.max_d"
    ):
        spaces({"RandomForest.max_depth": (1, 3)}, choices)
    with pytest.raises(DeclarationError, match=r"'Lasso.max_depth': Lasso has no parameter 'max_depth'"):
        spaces({"Lasso.max_depth": (1, 3)}, choices)
