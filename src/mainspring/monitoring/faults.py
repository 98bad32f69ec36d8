"""Is something broken before the model: a column gone empty, a changed unit, failing requests? Then don't retrain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from mainspring.core.wording import count, listed, number, percent
from mainspring.statistics.drift_measures import population_stability
from mainspring.statistics.intervals import wilson
from mainspring.statistics.weighted import Array
from mainspring.store.profile import Numbers, Profile, numbers

MISSING_JUMP = 0.10
FAILED_SHARE = 0.20
LEAST_ROWS = 20
_LEVEL = 0.998  # a fault blocks retraining, so a single window must show it clearly
_UNITS = (1000.0, 1024.0, 100.0, 10.0, 60.0, 3600.0, 24.0, 12.0, 7.0, 3.6, 2.54, 2.2046, 3.2808)
"""Usual ratios of units. Smaller ones (a mile has 1.6 km) can't be told from growth; they are reported as drift."""
_LEAST_FACTOR = 5.0
"""From here on any constant factor is taken for a changed unit."""
_FAR = 0.5
_ALIKE = 2.5
"""How often its value by chance the stability index may be after the units are changed back."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that retraining would learn instead of mend. kind: "missing", "unit" or "outage"."""

    kind: str
    column: str | None
    reason: str


def faults(profile: Profile, rows: pl.DataFrame, requests: int, failed: int) -> tuple[Fault, ...]:
    """What is broken in one window of *rows*; *requests* and *failed* count its requests."""
    return (*_outage(requests, failed), *_missing(profile, rows), *_units(profile, rows))


def extra_columns(extra: Sequence[str]) -> str | None:
    """A note on columns that are served and that the contract doesn't know; no fault, they are ignored."""
    if not extra:
        return None
    return f"{count(len(extra), 'column')} not in the contract: {listed(list(extra))}; ignored when predicting"


def _outage(requests: int, failed: int) -> Iterator[Fault]:
    if requests >= LEAST_ROWS and wilson(failed, requests, _LEVEL)[0] > FAILED_SHARE:
        yield Fault(
            "outage", None, f"{failed:,} of {requests:,} requests failed; mend the service or its callers first"
        )


def _missing(profile: Profile, rows: pl.DataFrame) -> Iterator[Fault]:
    if rows.height < LEAST_ROWS:
        return
    for column in profile:
        before, missing = column.counts[-1] / max(profile.rows, 1), int(column.count(rows[column.name])[-1])
        if wilson(missing, rows.height, _LEVEL)[0] > before + MISSING_JUMP:
            reason = (
                f"{column.name} is missing in {percent(missing / rows.height)} of the rows, {percent(before)} in "
                "training; mend its source, or leave the column out"
            )
            yield Fault("missing", column.name, reason)


def _units(profile: Profile, rows: pl.DataFrame) -> Iterator[Fault]:
    for column in profile:
        if isinstance(column, Numbers) and column.judged:
            factor = _factor(column, rows[column.name])
            if factor is not None:
                reason = (
                    f"{column.name} is {number(factor)} times what it was in training, as if its unit had changed; "
                    "mend its source"
                )
                yield Fault("unit", column.name, reason)


def _factor(column: Numbers, values: pl.Series) -> float | None:
    """The constant by which all values are scaled, if dividing by it gives the training's distribution back."""
    present = numbers(values)
    present = present[~np.isnan(present)]
    if len(present) < 5 * LEAST_ROWS or len(set(column.percentiles)) < 4 or _index(column, present) < _FAR:
        return None
    by_chance = (len(column.counts) - 1) * (1 / len(present) + 1 / max(sum(column.counts), 1))
    indices = {factor: _index(column, present / factor) for factor in _candidates(column, present)}
    likeliest = min(indices, key=lambda factor: indices[factor])
    return likeliest if indices[likeliest] < _ALIKE * by_chance else None


def _candidates(column: Numbers, present: Array) -> list[float]:
    usual = [*_UNITS, *(1 / unit for unit in _UNITS)]
    median, before = float(np.median(present)), column.percentiles[50]
    factor = median / before if before else 1.0
    return [factor, *usual] if factor > 0 and max(factor, 1 / factor) >= _LEAST_FACTOR else usual


def _index(column: Numbers, present: Array) -> float:
    """The stability index of the values that are there."""
    counts = column.count(pl.Series(present))
    return population_stability(column.counts[:-1], counts[:-1])
