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
from mainspring.statistics.metrics import Metric, default_metric
from mainspring.statistics.metrics import metric as metric_named
from mainspring.statistics.splitters import Indices, holdout_mask
from mainspring.training.algorithms import Contender, contenders
from mainspring.training.folds import Folds
from mainspring.training.race import Entry, Race
from mainspring.training.rows import training_rows, transformers

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
    return scores[1] > scores[0], _told(all_rows, split.onset, measure, scores, int(recent.sum()), len(parts[0][1]))


def _scores(
    frame: Frame,
    choices: Sequence[Contender],
    measure: Metric,
    features: Sequence[Any],
    clean: tuple[Clean, ...],
    parts: Sequence[tuple[Indices, Indices]],
) -> tuple[float, float] | None:
    """The best score after learning from all rows, and from those since the onset; None where one can't be had."""
    try:
        folds = Folds(training_rows(frame, features, clean), parts, measure)
    except TrainingError:  # none of the two has the classes that the metric needs
        return None
    entries = [Entry(place, choice, {}) for place, choice in enumerate(choices)]
    Race(folds, lambda entry: None).run(entries, halve=False)
    sound = [entry.scores for entry in entries if entry.error is None and len(entry.scores) == len(parts)]
    return (max(each[0] for each in sound), max(each[1] for each in sound)) if sound else None


def _told(frame: Frame, onset: Onset, measure: Metric, scores: tuple[float, float], recent: int, tried: int) -> str:
    sign = 1 if measure.greater_is_better else -1
    whole, since = (number(sign * score) for score in scores)
    chosen = f"only the {recent:,} since then" if scores[1] > scores[0] else "all"
    return (
        f"the champion's predictions are worse since {onset.at}: of {count(frame.data.height, 'training row')} "
        f"{chosen} are learnt from; tried on the newest {tried:,}, {measure.name} is {since} with the rows since then "
        f"and {whole} with all"
    )
