"""How large a drift is, for a report over one window. Whether it is one, however often one looks: `e_detector`."""

import numpy as np
import numpy.typing as npt
from scipy import stats

from mainspring.statistics.weighted import Array


def population_stability(reference: npt.ArrayLike, current: npt.ArrayLike) -> float:
    """The population stability index of two binned distributions, in counts; customarily 0.1 is some drift, 0.25 much.

    Half a row is added to each bin, so that an empty one gives a finite index.

    >>> round(population_stability([500, 500], [600, 400]), 3)
    0.04
    """
    p, q = (_shares(np.asarray(counts, dtype=float) + 0.5) for counts in (reference, current))
    return float(((q - p) * np.log(q / p)).sum())


def jensen_shannon(reference: npt.ArrayLike, current: npt.ArrayLike) -> float:
    """The Jensen-Shannon distance of two binned distributions: 0 where equal, 1 where they share no bin (base 2).

    >>> jensen_shannon([1, 0], [0, 1]), jensen_shannon([2, 2], [5, 5])
    (1.0, 0.0)
    """
    p, q = _shares(reference), _shares(current)
    middle = (p + q) / 2
    bits = sum(
        float((part * np.log2(np.divide(part, middle, out=np.ones_like(part), where=part > 0))).sum())
        for part in (p, q)
    )
    return float(np.sqrt(max(bits / 2, 0.0)))


def total_variation(reference: npt.ArrayLike, current: npt.ArrayLike) -> float:
    """The share of rows that would have to change bins: 0 to 1.

    >>> total_variation([50, 50], [60, 40])
    0.1
    """
    return round(float(np.abs(_shares(reference) - _shares(current)).sum() / 2), 15)


def chi_square(reference: npt.ArrayLike, current: npt.ArrayLike) -> tuple[float, float]:
    """Cramér's V (0 to 1) of two binned distributions in counts, and the p-value of "both are the same"; one look only.

    >>> [round(each, 3) for each in chi_square([500, 500], [600, 400])]
    [0.101, 0.0]
    """
    table = np.array([reference, current], dtype=float)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or not table.sum(axis=1).all():
        return 0.0, 1.0
    found = stats.chi2_contingency(table, correction=False)
    return float(np.sqrt(found.statistic / table.sum())), float(found.pvalue)


def kolmogorov_smirnov(reference: Array, current: Array) -> tuple[float, float]:
    """The largest distance of two samples' distribution functions, and its p-value; missing values are left out.

    >>> kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([3.0, np.nan, 4.0]))[0]
    1.0
    """
    before, now = _present(reference), _present(current)
    if not len(before) or not len(now):
        return 0.0, 1.0
    found = stats.ks_2samp(before, now, method="auto")
    return float(found.statistic), float(found.pvalue)


def wasserstein(reference: Array, current: Array) -> float:
    """The earth mover's distance of two samples in the reference's standard deviations; missing values are left out.

    >>> wasserstein(np.array([-1.0, 1.0]), np.array([0.0, 2.0]))
    1.0
    """
    before, now = _present(reference), _present(current)
    if not len(before) or not len(now):
        return 0.0
    return float(stats.wasserstein_distance(before, now) / (before.std() or 1.0))


def _shares(counts: npt.ArrayLike) -> Array:
    array = np.asarray(counts, dtype=float)
    shares: Array = array / (array.sum() or 1.0)
    return shares


def _present(sample: Array) -> Array:
    array = np.asarray(sample, dtype=float)
    present: Array = array[~np.isnan(array)]
    return present
