"""The train stage: features, search, refit. Training rows go in, a candidate comes out; nothing is stored here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mainspring.core.declarations import Clean, Search
from mainspring.core.errors import TrainingError
from mainspring.core.protocols import Named, Progress
from mainspring.core.quiet import heard
from mainspring.core.values import Candidate, Frame, Split, Trial
from mainspring.statistics.metrics import Metric, default_metric
from mainspring.statistics.metrics import metric as metric_named
from mainspring.statistics.splitters import folds as folds_by_rule
from mainspring.store.encoding import Encoding
from mainspring.store.profile import SHARED, Profile
from mainspring.training.algorithms import Algorithm, Contender, check_metric, contenders
from mainspring.training.folds import Folds, all_cores, fit, native_threads, prior, weight_key
from mainspring.training.rows import TrainingRows, sample, training_rows, transformers
from mainspring.training.search import Found, compare
from mainspring.training.search import search as raced

AUTO_SEARCH = Search(trials=15)
"""The search of model="auto" where the user declares none."""
_WARNINGS = 3


def train(
    split: Split,
    *,
    features: tuple[Any, ...],
    models: Any,
    search: Search | None,
    metric: str | Named | None,
    rule: Any,
    seed: int,
    clean: tuple[Clean, ...] = (),
    progress: Progress | None = None,
) -> Candidate:
    """The best of *models* for the training rows, refitted on all of them.

    One estimator without a search is fitted once, without cross-validation; several are compared over shared folds; a
    search races through their parameters. rule: the split's, by which the folds are made too.
    """
    frame = split.train
    measure = default_metric(frame.task) if metric is None else metric_named(metric, frame.task)
    choices = contenders(models, frame.task, transformers=transformers(features), seed=seed)
    for choice in choices:
        check_metric(choice, measure)
    rows = training_rows(frame, features, clean)
    if search is None and _has_auto(models):
        search = AUTO_SEARCH
    if search is None and len(choices) == 1:
        found, baseline, notes = Found(choices[0], {}, None, ()), _baseline(rows, measure), []
    else:
        folds = _folds(rows, frame, measure, rule, seed, 5 if search is None else search.folds)
        found, baseline, notes = _searched(choices, folds, search, seed, progress), folds.baseline, folds.notes
    model, encoding, seconds, said = _fitted(found, rows, progress)
    name = found.contender.name
    return Candidate(
        model=model,
        encoding=encoding,
        estimator=name,
        parameters=_plain(model),
        task=frame.task,
        classes=frame.classes,
        inputs=frame.inputs,
        roles=frame.roles,
        metric=measure.name,
        score=None if found.score is None else _in_its_unit(found.score, measure),
        baseline=_in_its_unit(baseline, measure),
        trials=found.trials or (Trial(0, name, {}, float("nan"), (), seconds),),
        profile=_profile(frame, _unwatched(frame, features, encoding)),
        sample=sample(frame, rows.target, seed),
        train_rows=frame.data.height,
        dataset_version=frame.dataset_version,
        holdout_id=split.holdout_id,
        notes=(*frame.notes, *encoding.notes, *notes, *said),
    )


def _profile(frame: Frame, exclude: frozenset[str]) -> Profile:
    shared = 1 if frame.roles.subject is None else SHARED
    return Profile.of(frame.data.select(frame.inputs.names), frame.inputs, exclude, shared)


def _unwatched(frame: Frame, features: Sequence[Any], encoding: Encoding) -> frozenset[str]:
    """The columns whose drift is no news: those with a role, and those that the model doesn't read."""
    unread = frozenset() if _functions(features) else set(frame.inputs.names) - set(encoding.inputs)
    personal = {column.name for column in frame.inputs if column.personal}
    return frame.roles.special | unread | personal


def _functions(features: Sequence[Any]) -> bool:
    return any(not hasattr(item, "fit") for item in features)


def _has_auto(models: Any) -> bool:
    declared = models if isinstance(models, list | tuple) else [models]
    return any(isinstance(item, str | Algorithm) for item in declared)


def _folds(rows: TrainingRows, frame: Frame, measure: Metric, rule: Any, seed: int, count: int) -> Folds:
    def column(name: str) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = frame.data.get_column(name).to_numpy()
        return values

    target = rows.target if rows.classes else None
    parts = folds_by_rule(rule, frame.roles, column, rows.features.height, count=count, seed=seed, target=target)
    return Folds(rows, parts, measure)


def _searched(
    choices: Sequence[Contender], folds: Folds, search: Search | None, seed: int, progress: Progress | None
) -> Found:
    if search is None:
        return compare(choices, folds, progress=progress)
    return raced(choices, folds, search, seed=seed, progress=progress)


def _baseline(rows: TrainingRows, measure: Metric) -> float:
    """The score on the training rows of a model that ignores its inputs; greater is better."""
    everything = np.arange(rows.features.height)
    value = measure.function(rows.target, prior(rows, everything, len(everything)), rows.weight)
    return _in_its_unit(value, measure)


def _in_its_unit(score: float, measure: Metric) -> float:
    return score if measure.greater_is_better else -score


def _fitted(found: Found, rows: TrainingRows, progress: Progress | None) -> tuple[Any, Encoding, float, list[str]]:
    """The model and the encoding fitted on all training rows, the seconds it took, and what there is to say."""
    tell = progress if progress and not found.trials else _silent
    tell("train", 0, 1)
    started = time.perf_counter()
    encoding = Encoding.fit(rows.features, found.contender.kind, rows.clean)
    if not encoding.columns:
        raise TrainingError(f"no column is left to learn from: {'; '.join(encoding.notes)}")
    model = found.contender.build(found.parameters)
    notes = _fit(model, found.contender.name, encoding.transform(rows.features), rows)
    tell("train", 1, 1)
    return model, encoding, time.perf_counter() - started, notes


def _silent(what: str, done: int, total: int) -> None:
    """Nobody waits, or has been told by the search."""


def _fit(model: Any, name: str, inputs: Any, rows: TrainingRows) -> list[str]:
    """Fit *model*; what it warned of, and whether it left the weights aside."""
    with all_cores(model), native_threads(inputs), heard() as said:
        try:
            fit(model, inputs, rows.target, rows.weight)
        except Exception as error:
            reason = f"{type(error).__name__}: {_first_line(error)}"
            raise TrainingError(f"{name} can't be fitted: {reason}; mend its parameters or the features") from error
    notes = list(dict.fromkeys(f"{name} warns: {_first_line(warning)}" for warning in said))[:_WARNINGS]
    if rows.weight is not None and weight_key(model) is None:
        notes.append(f"{name} takes no weights in fit: they count in the metric only")
    return notes


def _first_line(message: object) -> str:
    return (str(message).strip().splitlines() or ["no message"])[0]


def _plain(model: Any) -> dict[str, Any]:
    """The model's parameters that are plain values, nested ones too."""
    parameters = model.get_params() if hasattr(model, "get_params") else {}
    return {name: value for name, value in parameters.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | None) and value == value  # NaN isn't JSON
