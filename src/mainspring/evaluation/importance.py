"""Which raw columns a bundle lives on: how much the metric falls when one column's values are shuffled."""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from mainspring.core.protocols import Model, Progress
from mainspring.evaluation.holdout import Labels
from mainspring.statistics.metrics import Metric

SAMPLE_ROWS = 2_000
CELLS = 400_000
"""Cells predicted in all: wide tables take fewer rows, so that the time stays that of a coffee's sip."""


def importance(
    model: Model,
    rows: pl.DataFrame,
    labels: Labels,
    metric: Metric,
    *,
    seed: int,
    progress: Progress | None = None,
) -> tuple[tuple[str, float], ...]:
    """How much worse the metric gets, per raw input column, most first; empty where the metric is undefined.

    Breiman's (2001) permutation importance on a seeded sample of rows, through the bundle and its features. Columns
    that carry the same information share it.
    """
    generator = np.random.default_rng(seed)
    columns = rows.columns
    wanted = min(rows.height, SAMPLE_ROWS, max(200, CELLS // len(columns) ** 2))
    places = np.sort(generator.choice(rows.height, wanted, replace=False))
    sample, known = rows[places], labels.only(places)
    sign = 1.0 if metric.greater_is_better else -1.0
    weighing = known.weighing(metric)
    intact = weighing.function(known.target, model.predict(sample))
    if math.isnan(intact):
        return ()
    order = generator.permutation(wanted)
    drops: dict[str, float] = {}
    for done, name in enumerate(columns):
        said = model.predict(sample.with_columns(sample[name].gather(order)))
        drops[name] = sign * (intact - weighing.function(known.target, said)) + 0.0
        if progress:
            progress("importance of columns", done + 1, len(columns))
    return tuple(sorted(drops.items(), key=lambda drop: (-drop[1], drop[0])))
