"""After a decay: do the rows from before it help? Tried on the newest training rows; the holdout isn't looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.cleaning import Clean
from mainspring.core.errors import TrainingError
from mainspring.core.protocols import Named
from mainspring.core.values import Frame, Onset, Split
from mainspring.core.wording import count, number
from mainspring.statistics.metrics import Metric, Predictions, default_metric
from mainspring.statistics.metrics import metric as metric_named
from mainspring.statistics.paired_tests import paired_difference
from mainspring.statistics.splitters import Indices, holdout_mask
from mainspring.training.algorithms import Contender, contenders
from mainspring.training.folds import Folds
from mainspring.training.rows import training_rows, transformers

ALPHA = 0.01
"""The chance that rows which would help are left out."""
TRIED = 0.3
"""The share of the rows since the decay, the newest of them, on which it is tried what to learn from."""


def recent_alone(
    frame: Frame,
    split: Split,
    *,
    features: tuple[Any, ...],
    models: Any,
    metric: str | Named | None,
    seed: int,
    clean: tuple[Clean, ...] = (),
) -> tuple[bool, str | None]:
    """Whether a model of *split*'s training rows, those since its onset, is better than one that has learnt from the
    older rows of *frame* too; and what to say of it, where both could be tried.

    The best of *models*, as they are declared, is fitted on either and tried on the same rows (the window of training
    rows after Klinkenberg & Joachims 2000).
    """
    name, target = str(frame.roles.time), frame.roles.target
    moments = split.train.data[name]
    if split.onset is None or moments.n_unique() < 2:
        return False, None
    tried = moments.filter(pl.Series(holdout_mask("time", moments.to_numpy(), TRIED)))
    all_rows = replace(frame, data=frame.data.filter(pl.col(name) < split.holdout.data[name].min()))
    number_of = all_rows.data[name].to_physical()
    test = (all_rows.data[name] >= tried.min()).to_numpy()
    recent = (number_of >= split.onset.since).to_numpy()
    if frame.classes and split.train.data[target].n_unique() < all_rows.data[target].n_unique():
        return False, None
    parts = [(np.flatnonzero(~test), np.flatnonzero(test)), (np.flatnonzero(recent & ~test), np.flatnonzero(test))]
    measure = default_metric(frame.task) if metric is None else metric_named(metric, frame.task)
    choices = contenders(models, frame.task, transformers=transformers(features), seed=seed)
    scores = _scores(all_rows, choices, measure, features, clean, parts)
    if scores is None:
        return False, None
    return scores[2], _told(all_rows, split.onset, measure, scores, int(recent.sum()), len(parts[0][1]))


def _scores(
    frame: Frame,
    choices: Sequence[Contender],
    measure: Metric,
    features: Sequence[Any],
    clean: tuple[Clean, ...],
    parts: Sequence[tuple[Indices, Indices]],
) -> tuple[float, float, bool] | None:
    """The best score after learning from all rows, and from those since the onset; whether the latter is shown to be
    better. None where one can't be had."""
    try:
        folds = Folds(training_rows(frame, features, clean), parts, measure)
    except TrainingError:  # none of the two has the classes that the metric needs
        return None
    if len(folds) < len(parts):
        return None
    tried: list[tuple[list[float], list[Predictions]]] = []
    for choice in choices:
        try:
            said = [folds.predicted(choice, {}, part) for part in range(len(parts))]
        except Exception:  # who can't be fitted here loses, as in a search, which reports it
            continue
        tried.append(([folds.scored(part, each) for part, each in enumerate(said)], said))
    if not tried:
        return None
    old, new = (max(tried, key=lambda each: each[0][part]) for part in (0, 1))
    truth = folds.rows.target[parts[0][1]]
    shown = paired_difference(measure, truth, old[1][0], new[1][1], ALPHA).low > 0
    return old[0][0], new[0][1], shown


def _told(
    frame: Frame, onset: Onset, measure: Metric, scores: tuple[float, float, bool], recent: int, tried: int
) -> str:
    sign = 1 if measure.greater_is_better else -1
    whole, since = (number(sign * score) for score in scores[:2])
    chosen = f"only the {recent:,} since then" if scores[2] else "all"
    return (
        f"the champion's predictions are worse since {onset.at}: of {count(frame.data.height, 'training row')} "
        f"{chosen} are learnt from; tried on the newest {tried:,}, {measure.name} is {since} with the rows since then "
        f"and {whole} with all"
    )
