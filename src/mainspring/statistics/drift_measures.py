"""How large a drift is, for a report over one window. Whether it is one, however often one looks: `e_detector`."""

import numpy as np
import numpy.typing as npt

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


def _shares(counts: npt.ArrayLike) -> Array:
    array = np.asarray(counts, dtype=float)
    shares: Array = array / (array.sum() or 1.0)
    return shares
