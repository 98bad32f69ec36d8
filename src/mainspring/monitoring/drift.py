"""Have the inputs drifted from the training rows? Evidence over all windows since release, effect sizes in this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core.declarations import Monitor
from mainspring.statistics.drift_measures import jensen_shannon, population_stability
from mainspring.statistics.e_detector import EDetector, Reference
from mainspring.statistics.intervals import wilson
from mainspring.statistics.paired_tests import spent_alpha
from mainspring.store.profile import Counts, Histogram, Numbers, Profile, numbers

Array = npt.NDArray[np.float64]

NEW_LEVELS = 5
OUTSIDE_TOLERANCE = 0.05
"""The share of rows outside the training support that a loop lives with: new names, a record-breaking day."""
OUTSIDE_ROWS = 100
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Drift:
    """What a drift test says about one numeric column; its function's name is the name of the report's column."""

    statistic: float


DriftTest = Callable[[Array, Array], Drift]
"""From the training values (their 101 percentiles) and the window's values, missing ones left out."""


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature in one window, against the training rows.

    evidence: its own e-detector's M. drifted: it is among those that an alarm is about (e-BH). psi_by_chance: the mean
    index of a window of this size without any drift. shift: of the mean, in the training rows' standard deviations.
    bins, training and served: the two histograms, in shares of rows.
    """

    feature: str
    drifted: bool
    evidence: float
    missing: float
    missing_in_training: float
    psi: float
    psi_by_chance: float
    jensen_shannon: float
    shift: float | None
    new_levels: tuple[tuple[str, float], ...] = ()
    tests: Mapping[str, float] = field(default_factory=dict)
    bins: tuple[str, ...] = ()
    training: tuple[float, ...] = ()
    served: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class InputDrift:
    """All features: *evidence* is M, the alarm is on while it is *arl* or more; windows: the version's so far."""

    alarm: bool
    evidence: float
    arl: float
    windows: int
    features: tuple[FeatureDrift, ...] = ()

    @property
    def drifted(self) -> list[str]:
        """The features that the alarm is about, strongest first."""
        return [feature.feature for feature in self.features if feature.drifted]


@dataclass(frozen=True, slots=True)
class OutsideSupport:
    """Rows of the window with a value that training never saw.

    low: the bound that their true share exceeds; it stays valid however many windows are looked at.
    beyond: that bound is above *tolerated*, on at least OUTSIDE_ROWS rows.
    """

    rows: int
    share: float
    low: float
    tolerated: float
    beyond: bool
    columns: Mapping[str, float] = field(default_factory=dict)


def watch(
    profile: Profile, rows: pl.DataFrame, monitor: Monitor, state: Mapping[str, Any] | None, *, seen: bool = False
) -> tuple[InputDrift, dict[str, Any]]:
    """The drift of *rows*, one window, from *profile*, and the detector's new state (JSON).

    state: None for a version's first window; its detector is never armed anew, not when a rollback brings it back
    either. seen: *state* has had this window already.
    """
    counts = profile.counts(rows)
    detector = _detector(profile, monitor) if state is None else EDetector.from_dict(state)
    if rows.height and not seen:
        detector = detector.update({name: tuple(each.tolist()) for name, each in counts.items()})
    drifted, values = detector.drifted(), detector.by_feature()
    features = [
        _feature(column, profile.rows, counts[column.name], rows, values.get(column.name, 0.0), drifted, monitor.tests)
        for column in profile
        if rows.height
    ]
    features.sort(key=lambda each: (drifted.index(each.feature) if each.drifted else len(drifted), -each.psi))
    found = InputDrift(detector.alarm, detector.e_value, detector.arl, detector.windows, tuple(features))
    return found, detector.to_dict()


def outside_support(profile: Profile, rows: pl.DataFrame, looks: int) -> OutsideSupport:
    """The share of *rows* outside the training support; *looks* counts the windows looked at, this one included."""
    found = profile.outside(rows)
    level = 1 - 2 * spent_alpha(ALPHA, max(looks, 1))
    low = float(wilson(found.outside, found.rows, level)[0])
    ordered = sorted(found.columns.items(), key=lambda pair: -pair[1])
    return OutsideSupport(
        rows=found.rows,
        share=found.share,
        low=low,
        tolerated=OUTSIDE_TOLERANCE,
        beyond=found.rows >= OUTSIDE_ROWS and low > OUTSIDE_TOLERANCE,
        columns={name: rows / found.rows for name, rows in ordered},
    )


def _detector(profile: Profile, monitor: Monitor) -> EDetector:
    references = {column.name: Reference(column.counts, column.ordered) for column in profile}
    return EDetector.start(references, arl=monitor.arl, tolerance=monitor.tolerance)


def _feature(
    column: Histogram,
    training_rows: int,
    counts: Counts,
    rows: pl.DataFrame,
    evidence: float,
    drifted: Sequence[str],
    tests: Sequence[DriftTest],
) -> FeatureDrift:
    reference, many = np.array(column.counts), int(counts.sum())
    training, served = reference / max(training_rows, 1), counts / max(many, 1)
    values = numbers(rows[column.name]) if isinstance(column, Numbers) else None
    return FeatureDrift(
        feature=column.name,
        drifted=column.name in drifted,
        evidence=evidence,
        missing=float(served[-1]),
        missing_in_training=float(training[-1]),
        psi=population_stability(reference, counts),
        psi_by_chance=(int((reference + counts > 0).sum()) - 1) * (1 / max(many, 1) + 1 / max(training_rows, 1)),
        jensen_shannon=jensen_shannon(reference, counts),
        shift=_shift(column, values),
        new_levels=_new_levels(column, rows[column.name]),
        tests=_tested(column, values, tests),
        bins=column.bins,
        training=_rounded(training),
        served=_rounded(served),
    )


def _shift(column: Histogram, values: Array | None) -> float | None:
    if not isinstance(column, Numbers) or values is None or not column.deviation:
        return None
    finite = values[np.isfinite(values)]
    return float((finite.mean() - column.mean) / column.deviation) if len(finite) else None


def _new_levels(column: Histogram, values: pl.Series) -> tuple[tuple[str, float], ...]:
    """The most frequent levels that training never saw, with their share of the rows."""
    if isinstance(column, Numbers) or column.known is None:
        return ()
    unseen = values.cast(pl.String).filter(pl.Series(column.outside(values), dtype=pl.Boolean)).rename("level")
    most = unseen.value_counts(name="rows").sort(["rows", "level"], descending=[True, False]).head(NEW_LEVELS)
    return tuple((level, rows / len(values)) for level, rows in most.iter_rows())


def _tested(column: Histogram, values: Array | None, tests: Sequence[DriftTest]) -> dict[str, float]:
    if not isinstance(column, Numbers) or values is None:
        return {}
    present = values[~np.isnan(values)]
    if not len(present):
        return {}
    results = {getattr(test, "__name__", repr(test)): test(np.array(column.percentiles), present) for test in tests}
    return {name: float(result.statistic) for name, result in results.items()}


def _rounded(shares: Array) -> tuple[float, ...]:
    return tuple(round(float(share), 5) for share in shares)
