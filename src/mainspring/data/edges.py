"""Whether classes change at sharp edges of a number: the arithmetic of leaks. numpy and one small tree, no frames."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln
from sklearn.tree import DecisionTreeClassifier

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

QUICK_ROWS = 1_000
TOLERATED = 0.001
"""The share of rows, and of the rarest class five times that, that a rule may get wrong: rounding, midnight, typing."""
VALLEY = 0.25
"""An edge lies in a gap where fewer rows are near it than this part of the densest place of the emptier side."""


CHANCE_DIGITS = 6.0
"""Fewer than one column in a million would do by chance what counts as evidence."""
RUN_ROWS = 10


@dataclass(frozen=True, slots=True)
class Rule:
    """Where the class changes along a number, and how many rows that gets wrong."""

    edges: tuple[float, ...]
    errors: int
    rows: int


def sharp_rule(values: Numbers, codes: Codes) -> Rule | None:
    """The few thresholds of *values* (NaN: missing) that give nearly every row its class, one of them in dense rows."""
    if not _promising(values, codes):
        return None
    distinct, rank = np.unique(values, return_inverse=True, equal_nan=True)  # NaN comes last
    classes = int(codes.max()) + 1
    tree = DecisionTreeClassifier(max_leaf_nodes=2 * classes + 4, random_state=0).fit(rank[:, None], codes)
    said = tree.predict(np.arange(len(distinct))[:, None]).astype(np.int64)
    run = _runs(said, rank)
    errors = int(((said[rank] != codes) | (run[rank] < 0)).sum())
    places = np.flatnonzero(run >= 0)
    changes = [(left, right) for left, right in pairwise(places) if said[left] != said[right]]
    chance = chance_digits(codes, len(changes) + 1) - _choices(len(distinct), len(changes))
    if errors > tolerated(codes) or chance < CHANCE_DIGITS:
        return None
    inner = [(distinct[left], distinct[right]) for left, right in changes if not np.isnan(distinct[right])]
    ordered, width = np.sort(values[~np.isnan(values)]), _width(values, codes, distinct)
    if not any(_dense(ordered, left, right, width) for left, right in inner):
        return None
    return Rule(tuple(float((left + right) / 2) for left, right in inner), errors, len(codes))


def _runs(said: Codes, rank: Codes) -> Codes:
    """The run of equal classes that each distinct value lies in; -1 where the run has few rows and may be a fluke."""
    run = np.cumsum(np.concatenate([[0], said[1:] != said[:-1]]))
    few = np.bincount(run[rank]) < RUN_ROWS
    return np.where(few[run], -1, run)


def tolerated(codes: Codes) -> int:
    """So many rows may be wrong: of exact rules recorded by people a few are."""
    return int(min(TOLERATED * len(codes), 5 * TOLERATED * np.bincount(codes).min()))


def chance_digits(codes: Codes, levels: int) -> float:
    """How improbable it is, in powers of ten, that labels dealt out at random are constant on each of *levels*.

    >>> round(chance_digits(np.array([0, 1] * 15), 2), 1)
    7.6
    """
    counts = np.bincount(codes)
    arrangements = gammaln(len(codes) + 1) - gammaln(counts + 1).sum()
    return float((arrangements - levels * np.log(len(counts))) / np.log(10))


def _choices(distinct: int, thresholds: int) -> float:
    """The thresholds could have been elsewhere: in so many (powers of ten) ways."""
    ways = gammaln(distinct + 1) - gammaln(thresholds + 1) - gammaln(distinct - thresholds + 1)
    return float(ways / np.log(10))


def _promising(values: Numbers, codes: Codes) -> bool:
    """A glance at some rows: along the number, does the class change seldom?"""
    step = max(1, len(values) // QUICK_ROWS)
    glance, classes = values[::step], codes[::step]
    order = np.lexsort((classes, glance))
    changes = int(np.count_nonzero(np.diff(classes[order])))
    return 0 < changes <= 2 * (int(codes.max()) + 1) + 8


def _width(values: Numbers, codes: Codes, distinct: Numbers) -> float:
    """Within this distance rows are near: Freedman and Diaconis' bin of the classes, at least the number's grain."""
    known = distinct[~np.isnan(distinct)]
    grain = float(np.median(np.diff(known))) if len(known) > 1 else 0.0
    spreads = []
    for code in range(int(codes.max()) + 1):
        inside = values[(codes == code) & ~np.isnan(values)]
        if len(inside) > 1:
            low, high = np.quantile(inside, [0.25, 0.75])
            spreads.append(2 * (high - low) / len(inside) ** (1 / 3))
    return max(grain, float(np.median(spreads)) if spreads else 0.0)


def _dense(ordered: Numbers, left: float, right: float, width: float) -> bool:
    """Whether rows are about as many near the edge between *left* and *right* as elsewhere on its emptier side."""
    middle = (left + right) / 2
    below, above = ordered[ordered <= left], ordered[ordered >= right]
    near = min(int((below >= middle - width).sum()), int((above <= middle + width).sum()))
    return near >= VALLEY * min(_most_within(below, width), _most_within(above, width)) and near >= 5


def _most_within(ordered: Numbers, width: float) -> int:
    ends = np.searchsorted(ordered, ordered + width, side="right")
    return int((ends - np.arange(len(ordered))).max())
