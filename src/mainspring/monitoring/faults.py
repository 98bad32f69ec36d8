"""Is something broken before the model: a column gone empty, a changed unit, failing requests? Then don't retrain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from mainspring.core.wording import count, listed, number, percent
from mainspring.statistics.intervals import wilson
from mainspring.store.profile import Numbers, Profile, numbers

MISSING_JUMP = 0.10
FAILED_SHARE = 0.20
LEAST_ROWS = 20
_LEVEL = 0.998  # a fault blocks retraining, so a single window must show it clearly
_QUARTERS = (25, 40, 50, 60, 75)
_UNIT_FACTORS = (1000.0, 1024.0, 100.0, 60.0, 24.0, 12.0, 10.0, 7.0, 3600.0, 3.6, 2.54, 1.609, 1.852, 2.2046, 3.2808)
_SPREAD = 0.05
"""How far the ratios of the quantiles may lie apart, as a part, to be one factor."""


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
                    f"{column.name} is {number(factor)} times its values in training at every quartile, as if its unit "
                    "had changed; mend its source"
                )
                yield Fault("unit", column.name, reason)


def _factor(column: Numbers, values: pl.Series) -> float | None:
    """The constant by which all quantiles are scaled, if there is one: a known ratio of units, or at least five."""
    present = numbers(values)
    present = present[~np.isnan(present)]
    before = np.array([column.percentiles[quarter] for quarter in _QUARTERS])
    if len(present) < 5 * LEAST_ROWS or not before.all() or len(np.unique(before)) < 4:
        return None
    now = np.percentile(present, _QUARTERS)
    ratios = now / before
    if ratios.min() <= 0 or ratios.max() > ratios.min() * (1 + 2 * _SPREAD):
        return None
    factor = float(np.median(ratios))
    size = max(factor, 1 / factor)
    known = any(abs(size / unit - 1) < _SPREAD / 2 for unit in _UNIT_FACTORS)
    return factor if size >= 5 or known else None
