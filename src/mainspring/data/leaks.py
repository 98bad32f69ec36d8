"""Columns that give the target away: a leak that is proven stops the run, with the `ignore=` to write.

When is a leak proven? A feature that predicts perfectly may be an honest one: petal length tells two kinds of iris
apart, and two clusters of points lie apart in one coordinate. So being right is not enough; one of these must hold too.

- *A recoding.* The target is a function of the column's few levels, or of whether it has a value at all. Honest
  measurements are not one-to-one with the answer: two classes, two levels.
- *A sharp edge.* The target changes at a threshold of a number (or of the difference of two: arrival - scheduled), and
  at that threshold the rows are dense. What nature measures blurs where there are many cases near the edge, or is right
  only because the edge lies in a gap between two clusters. A rule that was applied to the column has an edge anywhere.
- *A function.* For a number as target: the same number in other units, or one that leaves less than 1/10,000 of its
  variance, and far less than the row before it does (a slow series predicts its next value honestly).

Each must be beyond chance: if the labels were dealt out at random, fewer than one in a million columns would do it.
What can't be proven (a column that is only filled in afterwards, such as air time) is not stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl
import polars.selectors as cs
from scipy.stats import rankdata

from mainspring.core.declarations import Roles
from mainspring.core.errors import LeakFound
from mainspring.core.wording import listed, number
from mainspring.data.edges import CHANCE_DIGITS, Codes, Numbers, Rule, chance_digits, sharp_rule, tolerated

Mask = npt.NDArray[np.bool_]
Gaps = Mapping[str, int]
EMPTY: Gaps = {}
_EPOCH = datetime(1970, 1, 1)

ROWS = 20_000
"""So many rows, drawn at random, are looked at."""
PAIR_COLUMNS = 30
MIN_EDGE_ROWS = 100
NOISE = 1e-4


@dataclass(frozen=True, slots=True)
class Leak:
    """Columns that give the target away together, the one of them to ignore, and the evidence."""

    columns: tuple[str, ...]
    ignore: str
    evidence: str


def refuse_leaks(leaks: Sequence[Leak], inputs: Sequence[str], roles: Roles) -> None:
    """Raise LeakFound with every leak, its evidence, and the line to write."""
    if not leaks:
        return
    said = "; ".join(leak.evidence for leak in leaks)
    raw = list(dict.fromkeys(leak.ignore for leak in leaks if leak.ignore in inputs))
    derived = list(dict.fromkeys(leak.ignore for leak in leaks if leak.ignore not in inputs))
    ignored, mends = [*roles.ignore, *raw], []
    if raw:
        mends.append(f"what isn't known when predicting can't be a feature: write ignore={json.dumps(ignored)}")
    if derived:
        mends.append(f"take {listed(derived)} out of the features function, or ignore what it is made of")
    raise LeakFound(f"target {roles.target!r} is given away: {said}; {'; '.join(mends)}")


def class_leaks(features: pl.DataFrame, codes: Codes, target: str, gaps: Gaps = EMPTY) -> list[Leak]:
    """The columns, and pairs of columns by their difference, that determine the class *codes* (0, 1, ...).

    gaps: how many values each column lacks, rows without a label included; what lacks more is known later.
    """
    found = [leak for column in features.iter_columns() if (leak := _class_leak(column, codes, target))]
    if len(codes) < MIN_EDGE_ROWS:
        return found
    for a, b, difference in _differences(features, {leak.columns[0] for leak in found}):
        rule = sharp_rule(difference, codes)
        if rule is not None:
            later = _later(features, a, b, codes.astype(float), gaps)
            found.append(Leak((a, b), later, f"{a!r} - {b!r} together {_told(rule)}"))
    return found


def value_leaks(features: pl.DataFrame, values: Numbers, target: str, gaps: Gaps = EMPTY) -> list[Leak]:
    """The columns, and pairs of columns by their difference, that determine a number."""
    found = [leak for column in features.iter_columns() if (leak := _value_leak(column, values, target))]
    for a, b, difference in _differences(features, {leak.columns[0] for leak in found}):
        if _same_in_other_units(difference, values):
            later = _later(features, a, b, values, gaps)
            found.append(Leak((a, b), later, f"{a!r} - {b!r} is {target!r} in some unit"))
    return found


def numeric(column: pl.Series) -> Numbers | None:
    """A number, truth value, time (in microseconds) as floats with NaN for missing; None for anything else."""
    if column.dtype in (pl.Date, pl.Datetime):
        column = column.cast(pl.Datetime("us"))
    if column.dtype.is_temporal():
        column = column.to_physical()
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        return None
    return column.cast(pl.Float64).to_numpy()


def _class_leak(column: pl.Series, codes: Codes, target: str) -> Leak | None:
    name, missing = column.name, column.is_null().to_numpy()
    if missing.any() and not missing.all() and _marks_a_class(missing, codes):
        return Leak((name,), name, f"{name!r} is empty exactly where {target!r} has one value ({missing.sum():,} rows)")
    said = _recoded(column, codes)
    values = numeric(column)
    if not said and values is not None and len(codes) >= MIN_EDGE_ROWS and (rule := sharp_rule(values, codes)):
        said = _told(rule, times=column.dtype in (pl.Date, pl.Datetime))
    return Leak((name,), name, f"{name!r} alone {said}") if said else None


def _marks_a_class(missing: Mask, codes: Codes) -> bool:
    inside, outside = np.unique(codes[missing]), np.unique(codes[~missing])
    apart = len(np.intersect1d(inside, outside)) == 0 and min(len(inside), len(outside)) == 1
    return apart and missing.sum() >= 10 and chance_digits(missing.astype(np.int64), 2) >= CHANCE_DIGITS


def _recoded(column: pl.Series, codes: Codes) -> str:
    """Whether the class is a function of the column's levels: of as many as there are classes, or of a text's."""
    classes = int(codes.max()) + 1
    levels = column.n_unique()
    if levels < classes or (levels > classes and column.dtype not in (pl.String, pl.Categorical, pl.Enum)):
        return ""
    if chance_digits(codes, levels) < CHANCE_DIGITS:
        return ""
    place = column.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    table = np.zeros((int(place.max()) + 1, classes), dtype=np.int64)
    np.add.at(table, (place, codes), 1)
    right = int(table.max(axis=1).sum())
    if len(codes) - right > tolerated(codes):
        return ""
    what = "is the target in other words" if levels == classes else f"determines it by its {levels:,} values"
    return f"{what} (right on {right:,} of {len(codes):,} rows)"


def _told(rule: Rule, *, times: bool = False) -> str:
    edges = listed([str(_EPOCH + timedelta(microseconds=edge)) if times else f"{edge:,g}" for edge in rule.edges])
    return f"determines it by a threshold at {edges} (right on {rule.rows - rule.errors:,} of {rule.rows:,} rows)"


def _differences(features: pl.DataFrame, taken: set[str]) -> Iterator[tuple[str, str, Numbers]]:
    """The differences of two numbers or of two times; of two clock times such as 1455 and 1505 in minutes too."""
    free = features.drop(taken)
    for group in (free.select(cs.numeric()), free.select(cs.temporal())):
        columns = {column.name: values for column in group.iter_columns() if (values := numeric(column)) is not None}
        for (a, left), (b, right) in combinations(list(columns.items())[:PAIR_COLUMNS], 2):
            yield a, b, left - right
            if _is_clock(left) and _is_clock(right):
                yield a, b, (_minutes(left) - _minutes(right) + 720) % 1440 - 720


def _is_clock(values: Numbers) -> bool:
    """Times of day written as numbers: 5, 1455 and 2400, but never 1475."""
    known = values[~np.isnan(values)]
    within = len(known) > 0 and known.min() >= 0 and 1000 < known.max() <= 2400
    return bool(within and (known == known.round()).all() and (known % 100 < 60).all())


def _minutes(values: Numbers) -> Numbers:
    return values // 100 * 60 + values % 100


def _later(features: pl.DataFrame, a: str, b: str, outcome: Numbers, gaps: Gaps) -> str:
    """Which of two is more likely to be known only afterwards.

    What lacks more values; else what has clearly more different ones (plans are round); else what tells more alone.
    """
    if gaps.get(a, 0) != gaps.get(b, 0):
        return a if gaps.get(a, 0) > gaps.get(b, 0) else b
    one, two = features[a].n_unique(), features[b].n_unique()
    if abs(one - two) > 0.05 * max(one, two):
        return a if one > two else b
    return b if _tells(features[b], outcome) > _tells(features[a], outcome) else a


def _tells(column: pl.Series, outcome: Numbers) -> float:
    values = np.asarray(numeric(column), dtype=float)
    known = ~np.isnan(values)
    if known.sum() < 2 or values[known].std() == 0 or outcome[known].std() == 0:
        return 0.0
    return abs(float(np.corrcoef(values[known], outcome[known])[0, 1]))


def _value_leak(column: pl.Series, values: Numbers, target: str) -> Leak | None:
    name, numbers = column.name, numeric(column)
    missing = column.is_null().to_numpy()
    if missing.sum() >= 20 and not missing.all() and _marks_a_value(missing, values):
        return Leak((name,), name, f"{name!r} is empty exactly where {target!r} is {number(values[missing][0])}")
    if numbers is None:
        return None
    if _same_in_other_units(numbers, values):
        return Leak((name,), name, f"{name!r} is {target!r} in some unit")
    noise = _noise(numbers, values)
    if noise > NOISE or noise > 0.1 * _noise(np.arange(len(values), dtype=float), values):
        return None
    return Leak((name,), name, f"{name!r} alone determines it (all but {noise:.1g} of its variance)")


def _marks_a_value(missing: Mask, values: Numbers) -> bool:
    inside = np.unique(values[missing])
    return len(inside) == 1 and not (values[~missing] == inside[0]).any()


def _same_in_other_units(column: Numbers, values: Numbers) -> bool:
    """Whether the target is a straight line of the column, to the last digits."""
    known = ~np.isnan(column)
    x, y = column[known], values[known]
    if len(x) < 20 or len(x) < 0.9 * len(values) or len(np.unique(x)) < 10 or x.std() == 0 or y.std() == 0:
        return False
    return abs(float(np.corrcoef(x, y)[0, 1])) > 1 - 1e-9


def _noise(column: Numbers, values: Numbers) -> float:
    """The share of the target's variance between neighbours along the column: von Neumann's ratio, of ranks."""
    known = ~np.isnan(column)
    x, y = column[known], values[known]
    if len(x) < MIN_EDGE_ROWS or len(x) < 0.9 * len(values) or y.std() == 0:
        return 1.0
    mixed = np.random.default_rng(0).permutation(len(x))  # ties in no order
    y = rankdata(y)[mixed][np.argsort(x[mixed], kind="stable")]
    return float(np.mean(np.diff(y) ** 2) / (2 * y.var()))
