"""Has the distribution of a feature left its reference? A Shiryaev-Roberts e-detector with a tolerance, and e-BH.

It may be read after every window, for ever: M - t falls or stays in the mean, so P(alarm by window t) <= t/ARL and the
mean time to a false alarm is at least ARL windows (Shin, Ramdas & Rinaldo, "E-detectors: a nonparametric framework for
sequential change detection", 2024). How large a drift is, is in `drift_measures`.

**The bet.** Bins are b, the reference has n rows and shares q. A bet is a payoff w_b > 0 for each bin, and its price is
the most that any tolerated p makes a row pay on average:

    price(w) = E_q[w] + tau sd_q(w) + tau^2 (max w - min w),     L = product over a window's rows of w(row) / price(w)

Rows are independent given the past, so E_p[L] = (E_p[w] / price)^rows <= 1 for *every* p with E_p[w] <= price(w), in
any window, however chosen its size. This covers

- every p within chi-square distance tau of q, sum (p-q)^2/q <= tau^2, since by Cauchy-Schwarz
  E_p[w] - E_q[w] = sum (p-q)/sqrt(q) (w - E_q[w]) sqrt(q) <= tau sd_q(w); a shift of the mean by delta standard
  deviations is at a distance of about delta, so tau is the tolerance in standard deviations;
- the population behind a finite reference: tau is at least 3/sqrt(n), and then the price is the reference's mean payoff
  plus 3 standard errors, plus 9/n of the range for bins that the reference hardly or never saw (of an unseen bin it
  tolerates the share 9/n; the shape is the empirical Bernstein bound of Maurer & Pontil 2009). Each bet stands at
  least tau beyond its price, and so grows steadily only where the reference is off by 4.5 standard errors. (The first
  item is a theorem; this one holds for a bet with chance 0.999, and the tests simulate it over many features.)

**The bets.** Location and spread: w = exp(size * score), with normal scores of the ordered bins standardised under q
(unordered bins score 0), in both directions. Every bin alone, missing and "other" too: w is the likelihood ratio of a
share moved by size/2 on the arcsine scale, from the end of its tolerated interval outwards. Sizes are in standard
deviations. Each bet m = (m + 1) L per window; M is their mean over bets and features, an e-detector again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from mainspring.statistics.weighted import Array

SIZES = (0.05, 0.15, 0.5)
"""How far beyond the tolerance a bet expects the change, in standard deviations."""
STANDARD_ERRORS = 3.0
"""The tolerance of a finite reference, in standard errors."""


@dataclass(frozen=True, slots=True)
class Reference:
    """How many reference rows fell in each bin of a feature. The first *ordered* bins go from low to high values.

    The others have no order: categories, missing, "other". About 10 quantile bins of a number are enough; of categories
    keep the commonest few dozen, since the bets on bins share one stake.
    """

    counts: tuple[int, ...]
    ordered: int = 0


@dataclass(frozen=True, slots=True)
class EDetector:
    """The state of one detector over all features; a value that `update` replaces.

    *log_sums* has per feature the log of (1 + m) of each bet. *tolerance* is in standard deviations; a feature whose
    reference is small has at least 3/sqrt(rows).

    >>> detector = EDetector.start({"age": Reference((2500, 2500, 2500, 2500, 0), ordered=4)}, arl=1000)
    >>> detector.update({"age": (510, 480, 500, 505, 5)}).alarm
    False
    >>> detector.update({"age": (500, 490, 480, 480, 50)}).alarm
    True
    """

    references: dict[str, Reference]
    arl: float
    tolerance: float
    windows: int
    log_sums: dict[str, tuple[float, ...]]

    @classmethod
    def start(cls, references: Mapping[str, Reference], arl: float = 1000.0, tolerance: float = 0.0) -> Self:
        """A detector that has seen no window. Features with one bin or too few reference rows are left out."""
        usable = {name: each for name, each in references.items() if sum(each.counts) and len(each.counts) > 1}
        bets = {name: len(bet_weights(each, tolerance)) for name, each in usable.items()}
        kept = {name: usable[name] for name, count in bets.items() if count}
        return cls(kept, arl, tolerance, 0, {name: (0.0,) * bets[name] for name in kept})

    def update(self, window: Mapping[str, Sequence[int]]) -> Self:
        """The detector after one more window: its rows per bin for each feature.

        A feature that is not in the window, or has no rows in it, stays as it is.
        """
        sums = dict(self.log_sums)
        for name, reference in self.references.items():
            counts = np.asarray(window.get(name, ()), dtype=float)
            if counts.sum() > 0:
                grown = np.array(sums[name]) + window_log_factors(reference, counts, self.tolerance)
                sums[name] = tuple(np.logaddexp(0.0, grown).tolist())
        return replace(self, windows=self.windows + 1, log_sums=sums)

    @property
    def e_value(self) -> float:
        """M, the mean over all features and bets; the alarm is at M >= ARL."""
        values = self.by_feature().values()
        return math.fsum(values) / len(values) if values else 0.0

    @property
    def alarm(self) -> bool:
        """Whether some feature has drifted beyond the tolerance. After it was acted upon, start anew."""
        return self.e_value >= self.arl

    def by_feature(self) -> dict[str, float]:
        """Each feature's own M, at most 1e290: which features the alarm is about."""
        found = {}
        for name, sums in self.log_sums.items():
            weights = _bets(self.references[name], self.tolerance)[1]
            found[name] = float(weights @ np.expm1(np.minimum(sums, 667.0)))
        return found

    def drifted(self) -> list[str]:
        """The features that an alarm is about, strongest first: e-BH's discoveries, or the first; else none."""
        values = self.by_feature()
        ranked = sorted(values, key=lambda name: -values[name])
        found = sum(e_bh([values[name] / self.arl for name in ranked], alpha=1.0))
        return ranked[: max(found, 1)] if self.alarm else []

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: lists, numbers and text."""
        features = {
            name: {"counts": list(each.counts), "ordered": each.ordered, "log_sums": list(self.log_sums[name])}
            for name, each in self.references.items()
        }
        return {"arl": self.arl, "tolerance": self.tolerance, "windows": self.windows, "features": features}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """The detector that `to_dict` wrote."""
        features = state["features"]
        references = {name: Reference(tuple(each["counts"]), each["ordered"]) for name, each in features.items()}
        sums = {name: tuple(each["log_sums"]) for name, each in features.items()}
        return cls(references, state["arl"], state["tolerance"], state["windows"], sums)


def window_log_factors(reference: Reference, counts: npt.ArrayLike, tolerance: float = 0.0) -> Array:
    """log L of each bet for windows of *counts*: from (..., bins) to (..., bets).

    >>> bets = window_log_factors(Reference((50, 50)), [0, 30])
    >>> bool(bets.max() > 0 > bets.min())
    True
    """
    payoffs = _bets(reference, tolerance)[0]
    seen = np.asarray(counts, dtype=float)
    if seen.shape[-1] != payoffs.shape[1]:
        raise ValueError(
            f"the window has {seen.shape[-1]} bins, its reference {payoffs.shape[1]}; bin both with the same edges"
        )
    return np.asarray(seen @ payoffs.T)


def bet_weights(reference: Reference, tolerance: float = 0.0) -> Array:
    """The weight of each bet in its feature's mean; they sum to 1.

    >>> round(float(bet_weights(Reference((50, 50))).sum()), 6)
    1.0
    """
    return _bets(reference, tolerance)[1]


def e_bh(e_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which of many e-values are discoveries at false discovery rate *alpha*, however they depend on each other.

    The e-BH procedure (Wang & Ramdas 2022): the k largest, for the largest k with k e_(k) >= len / alpha.

    >>> e_bh([100.0, 1.0, 35.0], alpha=0.05)
    [True, False, True]
    """
    largest = sorted(e_values, reverse=True)
    enough = [e for rank, e in enumerate(largest, start=1) if rank * e * alpha >= len(largest)]
    return [bool(enough) and e >= enough[-1] for e in e_values]


@lru_cache(maxsize=1024)
def _bets(reference: Reference, tolerance: float) -> tuple[Array, Array]:
    """The log of payoff over price of each bet (bets x bins), and the bets' weights: a family shares equally."""
    counts = np.asarray(reference.counts, dtype=float)
    shares = counts / counts.sum()
    tau = max(tolerance, STANDARD_ERRORS / math.sqrt(counts.sum()))
    sizes = tau + np.array(SIZES)
    families = [_score_bets(scores, sizes) for scores in _scores(shares, reference.ordered)]
    families.append(_bin_bets(shares, tau, sizes))
    payoffs = np.concatenate(families)
    weights = np.concatenate([np.full(len(family), 1.0 / max(len(family), 1)) for family in families])
    return payoffs - _log_price(payoffs, shares, tau)[:, None], weights / max(weights.sum(), 1.0)


def _log_price(log_payoffs: Array, shares: Array, tau: float) -> Array:
    """The log of the largest mean payoff that a tolerated distribution can have."""
    payoffs = np.exp(log_payoffs)
    mean = payoffs @ shares
    spread = np.sqrt(((payoffs - mean[:, None]) ** 2) @ shares)
    price: Array = np.log(mean + tau * spread + tau**2 * np.ptp(payoffs, axis=1))
    return price


def _scores(shares: Array, ordered: int) -> list[Array]:
    """A location and a spread score per bin, mean 0 and variance 1 within the ordered bins; none without an order."""
    inside = shares[:ordered]
    if np.count_nonzero(inside) < 2:
        return []
    middles = (np.cumsum(inside) - inside / 2) / inside.sum()
    normal = ndtri(np.clip(middles, 1e-4, 1 - 1e-4))
    location = _standardised(normal, shares)
    spread = _standardised(normal**2, shares)
    return [score for score in (location, spread) if score.any()]


def _standardised(score: Array, shares: Array) -> Array:
    inside = shares[: len(score)] / shares[: len(score)].sum()
    centred = score - inside @ score
    scale = math.sqrt(inside @ centred**2)
    if scale < 1e-9:
        return np.zeros_like(shares)
    held = np.clip(centred / scale, -4.0, 4.0)  # a bin that the reference never saw may lie far out
    return np.concatenate([held, np.zeros(len(shares) - len(score))])


def _score_bets(scores: Array, sizes: Array) -> Array:
    return np.concatenate([np.outer(sizes, scores), np.outer(-sizes, scores)])


def _bin_bets(shares: Array, tau: float, sizes: Array) -> Array:
    """Log likelihood ratios of a moved share for each bin, size and direction; a bin too rare to fall has no fall."""
    slack = tau * np.sqrt(shares * (1 - shares)) + tau**2
    rows = []
    for b, (low, high) in enumerate(zip(shares - slack, shares + slack, strict=True)):
        ends = [(high, angle) for angle in sizes / 2 if high < 1] + [(low, -angle) for angle in sizes / 2 if low > 0]
        for end, angle in ends:
            moved = math.sin(min(max(math.asin(math.sqrt(end)) + angle, 0.0), math.pi / 2)) ** 2
            moved = min(max(moved, end / 20), 1 - (1 - end) / 20)  # a bin may shrink to nothing, a bet never does
            row = np.full(len(shares), math.log1p(-moved) - math.log1p(-end))
            row[b] = math.log(moved / end)
            rows.append(row)
    return np.array(rows).reshape(-1, len(shares))
