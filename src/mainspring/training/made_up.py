"""Sample rows that are nobody's: for loops whose rows are about people, so that a bundle holds no row of a person."""

from __future__ import annotations

import numpy as np
import polars as pl

from mainspring.core.values import Frame
from mainspring.store.profile import SHARED


def made_up(frame: Frame, rows: int, seed: int) -> pl.DataFrame:
    """*rows* rows in the columns of a request: numbers and times between those that are there, texts that several rows
    share, each column drawn for itself; columns that are personal are empty."""
    random = np.random.default_rng(seed)
    columns = []
    for column in frame.inputs:
        values = frame.data[column.name]
        if column.personal or column.name == frame.roles.subject:
            made = pl.Series(column.name, [None], dtype=values.dtype).new_from_index(0, rows)
        else:
            made = _drawn(values, rows, random)
        columns.append(made)
    return pl.DataFrame(columns)


def _drawn(values: pl.Series, rows: int, random: np.random.Generator) -> pl.Series:
    known = values.drop_nulls()
    if values.dtype == pl.String or values.dtype == pl.Boolean:
        counted = known.value_counts().filter(pl.col("count") >= SHARED)[values.name].sort().to_list()
        drawn = [counted[place] for place in random.integers(0, len(counted), rows)] if counted else [None] * rows
        return pl.Series(values.name, drawn, dtype=values.dtype)
    if not len(known):
        return pl.Series(values.name, [None], dtype=values.dtype).new_from_index(0, rows)
    numbers = known.to_physical().cast(pl.Float64).to_numpy()
    between = np.quantile(numbers[np.isfinite(numbers)], random.uniform(0.05, 0.95, rows))
    whole = values.dtype.is_integer() or values.dtype.is_temporal()
    kind = pl.Int64 if whole else pl.Float64
    return pl.Series(values.name, np.rint(between) if whole else between).cast(kind).cast(values.dtype)
