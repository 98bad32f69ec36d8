"""The metric per group of rows, beside the champion's: where a model that is good on average is weak."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from mainspring.core.errors import DeclarationError
from mainspring.core.protocols import Progress
from mainspring.core.values import Slice
from mainspring.core.wording import number
from mainspring.evaluation.holdout import Labels, taken
from mainspring.statistics.intervals import interval
from mainspring.statistics.metrics import Metric, Predictions
from mainspring.statistics.paired_tests import paired_difference
from mainspring.statistics.weighted import Codes

JUDGED_ROWS = 200
"""A slice with fewer rows is reported, not judged."""
LEVELS_SHOWN = 30
MISSING = "(missing)"
OTHER = "(other)"


def slices(
    data: pl.DataFrame,
    columns: Sequence[str],
    metric: Metric,
    labels: Labels,
    candidate: Predictions,
    champion: Predictions | None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Slice, ...]:
    """The metric with its interval in each slice of *columns*, and the p-value of "worse than the champion"."""
    groups = [(name, value, places) for name in columns for value, places in cut(data, name)]
    found = []
    for done, (name, value, places) in enumerate(groups):
        found.append(_slice(name, value, places, metric, labels, candidate, champion, seed))
        if progress:
            progress("slices", done + 1, len(groups))
    return tuple(found)


def check(columns: Sequence[str], known: Sequence[str]) -> None:
    """Raises DeclarationError for a slice that is no column, naming the nearest."""
    for name in columns:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise DeclarationError(f"Gate(slices=...): no column {name!r}; {hint}The columns are {', '.join(known)}")


def cut(data: pl.DataFrame, name: str) -> Iterator[tuple[str, Codes]]:
    """The slices of one column: numbers and times by their quartiles, else one per level; missing values apart.

    >>> [(value, len(places)) for value, places in cut(pl.DataFrame({"city": ["Bern", "Ulm", "Bern", None]}), "city")]
    [('Bern', 2), ('Ulm', 1), ('(missing)', 1)]
    """
    series = data[name]
    named = _quartiles(series) if _ordered(series) else _levels(series)
    numbered = pl.DataFrame({"value": named}).with_row_index("place")
    groups = numbered.group_by("value", maintain_order=True).agg("place").rows()
    places = {MISSING if value is None else value: np.array(rows, dtype=np.int64) for value, rows in groups}
    if isinstance(named.dtype, pl.Enum):
        order = [*named.dtype.categories, MISSING]
        yield from ((value, places[value]) for value in order if value in places)
        return
    last = {OTHER: 1, MISSING: 2}
    yield from sorted(places.items(), key=lambda group: (last.get(group[0], 0), -len(group[1]), group[0]))


def _ordered(series: pl.Series) -> bool:
    """Whether the column is better cut by quartiles: numbers and times with more values than a person would list."""
    return (series.dtype.is_numeric() or series.dtype.is_temporal()) and series.n_unique() > 12


def _quartiles(series: pl.Series) -> pl.Series:
    numbers = series.to_physical().cast(pl.Float64).fill_nan(None)
    quartiles = [numbers.quantile(share, "nearest") for share in (0.25, 0.5, 0.75)]
    edges = sorted({edge for edge in quartiles if edge is not None})
    shown = [_bound(edge, series.dtype) for edge in edges]
    names = [f"up to {shown[0]}", *(f"{low} to {high}" for low, high in pairwise(shown))]
    names = list(dict.fromkeys([*names, f"above {shown[-1]}"]))
    if len(names) <= len(edges):  # bounds that read alike: tell them apart by their order
        names = [f"quartile {place + 1}" for place in range(len(edges) + 1)]
    codes = np.searchsorted(edges, numbers.fill_null(0.0).to_numpy(), side="left")
    named = pl.Series(series.name, np.array(names)[codes], dtype=pl.String).cast(pl.Enum(names))
    return pl.select(pl.when(numbers.is_not_null()).then(named)).to_series()


def _bound(edge: float, dtype: pl.DataType) -> str:
    if dtype.is_temporal():
        return str(pl.Series([int(edge)]).cast(dtype)[0])
    return number(edge, 4) if edge != int(edge) or abs(edge) >= 1e6 else str(int(edge))


def _levels(series: pl.Series) -> pl.Series:
    text = series.round_sig_figs(4).cast(pl.String) if series.dtype.is_float() else series.cast(pl.String)
    common = (
        text.drop_nulls().value_counts(sort=True, name="rows").sort(["rows", series.name], descending=[True, False])
    )
    if common.height <= LEVELS_SHOWN:
        return text
    kept = common[series.name].head(LEVELS_SHOWN).to_list()
    return pl.select(pl.when(text.is_in(kept) | text.is_null()).then(text).otherwise(pl.lit(OTHER))).to_series()


def _slice(
    name: str,
    value: str,
    places: Codes,
    metric: Metric,
    labels: Labels,
    candidate: Predictions,
    champion: Predictions | None,
    seed: int,
) -> Slice:
    of = labels.only(places)
    weighing = of.weighing(metric)
    now = taken(candidate, places)
    found = interval(weighing, of.target, now, clusters=of.clusters, seed=seed)
    shown = Slice(name, value, len(of), found.value, found.low, found.high)
    if champion is None:
        return shown
    before = taken(champion, places)
    p_worse = None
    if len(of) >= JUDGED_ROWS:
        difference = paired_difference(weighing, of.target, before, now, 0.05, of.clusters, seed)
        p_worse = None if math.isnan(difference.p_worse) else difference.p_worse
    score = weighing.function(of.target, before)
    return Slice(name, value, len(of), found.value, found.low, found.high, score, p_worse)
