"""The algorithms of `model="auto"`, the user's own estimators, and what each needs and can do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from mainspring.core.declarations import Log
from mainspring.core.errors import DeclarationError, TrainingError
from mainspring.core.values import Task
from mainspring.statistics.metrics import Metric
from mainspring.store.encoding import Kind

CLASSIFICATION = frozenset({"binary", "multiclass"})
REGRESSION = frozenset({"regression"})


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A name, the tasks it can do, a scikit-learn style constructor, and what is worth searching.

    space: as in `Search`: a tuple is a range, `ms.log` a logarithmic one, a list choices.
    """

    name: str
    tasks: frozenset[str]
    constructor: Callable[[], Any]
    space: Mapping[str, Any] = field(default_factory=dict)


def _logistic_regression() -> LogisticRegression:
    return LogisticRegression(max_iter=1000)


_LINEAR = {"C": Log(1e-3, 1e2)}
_RIDGE = {"alpha": Log(1e-2, 1e3)}
_FOREST = {"max_features": (0.2, 0.8), "min_samples_leaf": Log(1, 30)}
_BOOSTING = {
    "learning_rate": Log(0.02, 0.3),
    "max_leaf_nodes": Log(7, 63),
    "min_samples_leaf": Log(5, 100),
    "l2_regularization": Log(1e-3, 10.0),
}
AUTO = (
    Algorithm("linear", CLASSIFICATION, _logistic_regression, _LINEAR),
    Algorithm("linear", REGRESSION, Ridge, _RIDGE),
    Algorithm("forest", CLASSIFICATION, RandomForestClassifier, _FOREST),
    Algorithm("forest", REGRESSION, RandomForestRegressor, _FOREST),
    Algorithm("boosting", CLASSIFICATION, HistGradientBoostingClassifier, _BOOSTING),
    Algorithm("boosting", REGRESSION, HistGradientBoostingRegressor, _BOOSTING),
)
"""What "auto" tries: one algorithm of each family that tables are commonly won by."""


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """An estimator that may become the candidate: unfitted, seeded, the user's transformers before it.

    name: its class, of a pipeline the last step's. prefix: what stands before the last step's parameters in a pipeline
    ("randomforestclassifier__"). space: what is worth searching where the user doesn't say.
    """

    name: str
    estimator: Any
    kind: Kind
    prefix: str = ""
    space: Mapping[str, Any] = field(default_factory=dict)

    def build(self, parameters: Mapping[str, Any]) -> Any:
        """A fresh estimator with these *parameters*."""
        estimator = fresh(self.estimator)
        return estimator.set_params(**parameters) if parameters else estimator


def contenders(models: Any, task: Task, *, transformers: Sequence[Any], seed: int) -> tuple[Contender, ...]:
    """The estimators that *models* declares for *task*: "auto", an estimator, an `Algorithm`, or several of them.

    Raises DeclarationError for what is no estimator and TrainingError for one of another task.
    """
    declared = [models] if not isinstance(models, list | tuple) else list(models)
    if not declared:
        raise DeclarationError('model=[] names no estimator; give one, several, or "auto"')
    names: dict[str, int] = {}
    result = []
    for estimator, space in (choice for item in declared for choice in _chosen(item, task)):
        _check_task(estimator, task)
        name = type(last_step(estimator)).__name__
        names[name] = names.get(name, 0) + 1
        unique = name if names[name] == 1 else f"{name}-{names[name]}"
        result.append(_contender(unique, seeded(fresh(estimator), seed), transformers, space))
    return tuple(result)


def _chosen(item: Any, task: Task) -> list[tuple[Any, Mapping[str, Any]]]:
    if isinstance(item, str):
        if item != "auto":
            raise DeclarationError(f'model={item!r} is no estimator; write "auto" or, say, RandomForestClassifier()')
        return [(algorithm.constructor(), algorithm.space) for algorithm in AUTO if task in algorithm.tasks]
    if isinstance(item, Algorithm):
        if task not in item.tasks:
            able = " or ".join(sorted(item.tasks))
            raise TrainingError(f"algorithm {item.name!r} does {able}, but the task is {task}; choose another")
        return [(item.constructor(), item.space)]
    if isinstance(item, type):
        raise DeclarationError(f"model={item.__name__} is a class; write an instance, {item.__name__}()")
    if not (callable(getattr(item, "fit", None)) and (hasattr(item, "predict") or hasattr(type(item), "predict"))):
        raise DeclarationError(f'model={item!r} has no fit and predict; give a scikit-learn estimator or "auto"')
    return [(item, _known_space(item))]


def _known_space(estimator: Any) -> Mapping[str, Any]:
    kind = type(last_step(estimator))
    return next((known.space for known in AUTO if type(known.constructor()) is kind), {})


def last_step(estimator: Any) -> Any:
    """The estimator itself; of a pipeline its last step."""
    return last_step(estimator.steps[-1][1]) if isinstance(estimator, Pipeline) else estimator


def _contender(name: str, estimator: Any, transformers: Sequence[Any], space: Mapping[str, Any]) -> Contender:
    if transformers:
        parts = [fresh(item) for item in (*transformers, estimator)]
        estimator = Pipeline(list(zip(_step_names(parts), parts, strict=True)))
    prefix, inner = "", estimator
    while isinstance(inner, Pipeline):
        step, inner = inner.steps[-1]
        prefix += f"{step}__"
    prefixed = {prefix + key: values for key, values in space.items()}
    return Contender(name, estimator, encoding_kind(estimator), prefix, prefixed)


def _step_names(parts: Sequence[Any]) -> list[str]:
    """Each part's class in lower case; of several of one class, numbered."""
    names = [type(part).__name__.lower() for part in parts]
    return [name if names.count(name) == 1 else f"{name}-{place}" for place, name in enumerate(names, 1)]


def fresh(estimator: Any) -> Any:
    """An unfitted copy; an estimator without scikit-learn's get_params is copied whole."""
    return clone(estimator) if hasattr(estimator, "get_params") else copy.deepcopy(estimator)


def seeded(estimator: Any, seed: int) -> Any:
    """*estimator* with each random_state that the user left open set to *seed*."""
    if not hasattr(estimator, "get_params"):
        return estimator
    open_ = [key for key, value in estimator.get_params().items() if _is_seed(key) and value is None]
    return estimator.set_params(**dict.fromkeys(open_, seed)) if open_ else estimator


def _is_seed(key: str) -> bool:
    return key == "random_state" or key.endswith("__random_state")


# ------------------------------------------------------------------------------------------------- what they can do


def _check_task(estimator: Any, task: Task) -> None:
    kind = _estimator_type(estimator)
    wanted = "regressor" if task == "regression" else "classifier"
    if kind is None or kind == wanted:
        return
    name = type(last_step(estimator)).__name__
    ours, theirs = ("Classifier", "Regressor") if wanted == "classifier" else ("Regressor", "Classifier")
    hint = name.replace(theirs, ours) if theirs in name else f"RandomForest{ours}"
    raise TrainingError(
        f"{name} is {'an' if kind[0] in 'aeiou' else 'a'} {kind.replace('_', ' ')}, but the target makes this a {task} "
        f"task; write model={hint}(), or set task= in the Loop"
    )


def _estimator_type(estimator: Any) -> str | None:
    try:
        kind: str | None = get_tags(estimator).estimator_type
    except (AttributeError, TypeError, ValueError):  # no scikit-learn estimator: trusted
        return None
    return kind


def check_metric(contender: Contender, metric: Metric) -> None:
    """Raises TrainingError when *metric* needs probabilities and the estimator gives none."""
    if metric.needs == "probabilities" and not _gives_probabilities(contender.estimator):
        mend = f"wrap it, CalibratedClassifierCV({contender.name}())"
        if getattr(contender.estimator, "voting", None) == "hard":
            mend = f"write {contender.name}(..., voting='soft')"
        raise TrainingError(
            f"{contender.name} gives no probabilities, which metric {metric.name!r} needs; {mend}, "
            "or choose Gate('accuracy')"
        )


def _gives_probabilities(estimator: Any) -> bool:
    """Some know only once they are fitted: a stack without a final estimator ends with a logistic regression."""
    last = getattr(estimator, "final_estimator", estimator)
    return hasattr(type(estimator), "predict_proba") if last is None else hasattr(estimator, "predict_proba")


_ORDERED = ("HistGradientBoosting", "LGBM", "XGB", "CatBoost")
_FILLED = ("RandomForest", "ExtraTree", "DecisionTree", "GradientBoosting", "AdaBoost", "IsolationForest")


def encoding_kind(estimator: Any) -> Kind:
    """What *estimator* needs of `store.encoding.Encoding`.

    An estimator's own attribute `mainspring_encoding` ("ordered", "filled", "scaled" or "named") overrules the table.

    >>> encoding_kind(HistGradientBoostingClassifier()), encoding_kind(Ridge())
    ('ordered', 'scaled')
    """
    declared: Kind | None = getattr(estimator, "mainspring_encoding", None)
    if declared is not None:
        return declared
    if any(isinstance(part, ColumnTransformer) for part in _parts(estimator)):
        return "named"
    inner = _inner(estimator)
    if inner is not None:
        kind = encoding_kind(inner)
        return "filled" if kind == "ordered" else kind  # what stands around it may not take missing values
    name = type(estimator).__name__
    if name.startswith(_ORDERED):
        return "ordered"
    return "filled" if name.startswith(_FILLED) else "scaled"


def _parts(estimator: Any) -> Iterator[Any]:
    yield estimator
    if hasattr(estimator, "get_params"):
        yield from estimator.get_params().values()


def _inner(estimator: Any) -> Any:
    if isinstance(estimator, Pipeline):
        return estimator.steps[-1][1]
    return getattr(estimator, "estimator", None)
