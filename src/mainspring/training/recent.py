"""After a decay: do the rows from before it help? Tried on the newest training rows; the holdout isn't looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mainspring.core.cleaning import Clean
from mainspring.core.errors import TrainingError
from mainspring.core.values import Frame, Onset, Split
from mainspring.core.wording import count, number
from mainspring.statistics.metrics import Metric
from mainspring.statistics.splitters import Indices, holdout_mask
from mainspring.training.algorithms import Contender
from mainspring.training.folds import Folds
from mainspring.training.race import Entry, Race
from mainspring.training.rows import training_rows

TRIED = 0.3
"""The share of the rows since the decay, the newest of them, on which it is tried what to learn from."""


def learnt_from(
    split: Split, choices: Sequence[Contender], measure: Metric, features: Sequence[Any], clean: tuple[Clean, ...]
) -> tuple[Frame, list[str]]:
    """The training rows, or those since *split*'s onset only where a model of these is better; and what to say of it.

    The best of *choices*, as they are declared, is fitted on either and tried on the same rows (the window of training
    rows after Klinkenberg & Joachims 2000).
    """
    frame, onset = split.train, split.onset
    if onset is None:
        return frame, []
    moments = frame.data[str(frame.roles.time)]
    recent = np.flatnonzero((moments.to_physical() >= onset.since).fill_null(False).to_numpy())
    target = frame.data[frame.roles.target]
    if moments[recent].n_unique() < 2 or (frame.classes and target[recent].n_unique() < target.n_unique()):
        return frame, []
    newest = holdout_mask("time", moments[recent].to_numpy(), TRIED)
    everything = np.setdiff1d(np.arange(frame.data.height), recent[newest])
    parts = [(everything, recent[newest]), (recent[~newest], recent[newest])]
    scores = _scores(frame, choices, measure, features, clean, parts)
    if scores is None:
        return frame, []
    note = _told(frame, onset, measure, scores, len(recent), int(newest.sum()))
    if scores[1] <= scores[0]:
        return frame, [note]
    return replace(frame, data=frame.data[recent]), [note]


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
