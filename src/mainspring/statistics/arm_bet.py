"""Bets whose winnings may be read after every minute: is the canary worse, not much worse, or good enough by itself?

Each state is a frozen value of a few floats that survives a restart. An e-value is what a gambler with one coin holds
after betting against the null; under the null it reaches 1/alpha with chance at most alpha, however often it is read
(Ville 1939). Count affected *units*, the first event of a unit only: a user's ten errors are one piece of evidence.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, xlogy

from mainspring.statistics.weighted import Array

BETS = 24
_SMALLEST, _LARGEST = 1.05, 20.0
_WORSE = np.geomspace(_SMALLEST, _LARGEST, BETS)
_UNIFORM = (-math.log(BETS),) * BETS


@dataclass(frozen=True, slots=True)
class ArmBet:
    """Evidence on the rate ratio r between canary and stable arm, from the events of each minute and the share then.

    Given an event, it fell on the canary with chance q(r) = s r / (s r + 1 - s), where s is the canary's share of the
    units not yet affected; so a daily wave or a common outage cancels. Each ratio gambles that it is truer than
    *tolerated*; the e-value is the mean. A log factor holds its bet's weight, so the sum of the factors is the mean.
    See Johari et al. (peeking at A/B tests), Turner, Ly & Gruenwald 2024, Lindon & Malek 2022.

    >>> bet = ArmBet.worse()
    >>> for minute in range(30):
    ...     bet = bet.update(x1=2, x0=19, share=0.05)
    >>> bet.e_value > 20
    True
    """

    tolerated: float
    ratios: tuple[float, ...]
    log_factors: tuple[float, ...]

    @classmethod
    def worse(cls) -> Self:
        """Bets against "the canary has at most the stable arm's rate": ratios 1.05 to 20."""
        return cls(1.0, tuple(_WORSE.tolist()), _UNIFORM)

    @classmethod
    def not_worse_than(cls, margin: float) -> Self:
        """Bets against "the rate is at least *margin* times the stable arm's": ratios margin/20 to margin/1.05."""
        return cls(margin, tuple((margin / _WORSE).tolist()), _UNIFORM)

    def update(self, x1: float, x0: float, share: float) -> Self:
        """The bet after a minute with *x1* newly affected units in the canary, *x0* in the stable arm.

        With *share* 0 or 1 there is nobody to compare with, and nothing changes.
        """
        gained = arm_log_factors(x1, x0, share, self.ratios, self.tolerated)
        return replace(self, log_factors=tuple((np.array(self.log_factors) + gained).tolist()))

    @property
    def e_value(self) -> float:
        """What one coin has become; act at 1/alpha."""
        return _total(self.log_factors)

    def to_list(self) -> list[float]:
        """Plain floats for JSON: the tolerated ratio, the ratios, the log factors."""
        return [self.tolerated, *self.ratios, *self.log_factors]

    @classmethod
    def from_list(cls, state: Sequence[float]) -> Self:
        """The bet that `to_list` wrote."""
        return cls(state[0], *_halves(state[1:]))


def arm_log_factors(
    x1: npt.ArrayLike, x0: npt.ArrayLike, share: npt.ArrayLike, ratios: Sequence[float], tolerated: float
) -> Array:
    """What each ratio wins, as logs, in one minute: the shape of *x1* with one axis more, of len(ratios).

    >>> arm_log_factors(x1=[0, 1], x0=0, share=0.5, ratios=(2.0, 3.0), tolerated=1.0).round(3).tolist()
    [[0.0, 0.0], [0.288, 0.405]]
    """
    canary, stable, s = (np.asarray(given, dtype=float)[..., None] for given in (x1, x0, share))
    both = (s > 0) & (s < 1)
    s = np.where(both, s, 0.5)
    r = np.asarray(ratios, dtype=float)
    # log q(r)/q(r0) = log(r/r0) - shift and log (1-q(r))/(1-q(r0)) = -shift
    shift = np.log1p(s * (r - 1)) - np.log1p(s * (tolerated - 1))
    return np.where(both, canary * np.log(r / tolerated) - (canary + stable) * shift, 0.0)


@dataclass(frozen=True, slots=True)
class RateBet:
    """Evidence on one arm's own rate of affected units, against a fixed *bound*.

    Each alternative rate p gambles (p/bound)^bad ((1-p)/(1-bound))^good; on its own side of the bound no rate lets that
    grow in the mean. See Waudby-Smith & Ramdas 2024.
    """

    bound: float
    rates: tuple[float, ...]
    log_factors: tuple[float, ...]

    @classmethod
    def below(cls, objective: float) -> Self:
        """Bets against "the rate is at least *objective*"; half the coin says that it is practically 0.

        >>> RateBet.below(0.01).update(bad=0, units=330).e_value > 20
        True
        """
        rates = (objective / 1000, *(objective / _WORSE).tolist())
        return cls(objective, rates, (math.log(0.5), *(weight - math.log(2) for weight in _UNIFORM)))

    @classmethod
    def above(cls, bound: float) -> Self:
        """Bets against "the rate is at most *bound*", the hard stop: odds 1.05 to 20 times as high.

        >>> RateBet.above(0.05).update(bad=6, units=20).e_value > 20
        True
        """
        odds = _WORSE * bound / (1 - bound)
        return cls(bound, tuple((odds / (1 + odds)).tolist()), _UNIFORM)

    def update(self, bad: float, units: float) -> Self:
        """The bet after *units* more units, of which *bad* were affected."""
        gained = rate_log_factors(bad, units, self.rates, self.bound)
        return replace(self, log_factors=tuple((np.array(self.log_factors) + gained).tolist()))

    @property
    def e_value(self) -> float:
        """What one coin has become; act at 1/alpha."""
        return _total(self.log_factors)

    def to_list(self) -> list[float]:
        """Plain floats for JSON: the bound, the rates, the log factors."""
        return [self.bound, *self.rates, *self.log_factors]

    @classmethod
    def from_list(cls, state: Sequence[float]) -> Self:
        """The bet that `to_list` wrote."""
        return cls(state[0], *_halves(state[1:]))


def rate_log_factors(bad: npt.ArrayLike, units: npt.ArrayLike, rates: Sequence[float], bound: float) -> Array:
    """What each rate wins, as logs: the shape of *bad* with one axis more, of len(rates).

    >>> rate_log_factors(bad=1, units=2, rates=(0.5,), bound=0.25).round(3).tolist()
    [0.288]
    """
    hit, seen = (np.asarray(given, dtype=float)[..., None] for given in (bad, units))
    p = np.asarray(rates, dtype=float)
    won: Array = hit * np.log(p / bound) + (seen - hit) * (np.log1p(-p) - math.log1p(-bound))
    return won


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Evidence that units are not assigned by the planned shares: a broken assignment blocks every other decision.

    A Dirichlet e-process (Lindon & Malek 2022). Other shares begin another one: a unit that comes again is no news.

    >>> SampleRatio.start((0.5, 0.5)).update((505, 495)).e_value < 1
    True
    >>> SampleRatio.start((0.5, 0.5)).update((5_600, 4_400)).e_value > 100
    True
    """

    shares: tuple[float, ...]
    counts: tuple[float, ...]
    concentration: float

    @classmethod
    def start(cls, shares: Sequence[float], concentration: float = 1000.0) -> Self:
        """No units yet; *shares* are planned for all arms and sum to 1; *concentration* is the prior's, in units."""
        return cls(tuple(shares), (0.0,) * len(shares), concentration)

    def update(self, counts: Sequence[float]) -> Self:
        """The evidence after these many more units in each arm."""
        return replace(self, counts=tuple(old + new for old, new in zip(self.counts, counts, strict=True)))

    @property
    def e_value(self) -> float:
        """What one coin has become; block at 1/alpha."""
        return _total((float(sample_ratio_log_e(self.counts, self.shares, self.concentration)),))

    def to_list(self) -> list[float]:
        """Plain floats for JSON: concentration, shares, counts."""
        return [self.concentration, *self.shares, *self.counts]

    @classmethod
    def from_list(cls, state: Sequence[float]) -> Self:
        """The evidence that `to_list` wrote."""
        shares, counts = _halves(state[1:])
        return cls(shares, counts, state[0])


def sample_ratio_log_e(counts: npt.ArrayLike, shares: Sequence[float], concentration: float = 1000.0) -> Array:
    """The log of the Dirichlet e-value for *counts* (..., arms) against planned *shares*.

    An arm with share 0 proves a mismatch by its first unit (about 1e300, since infinity is not JSON).

    >>> float(sample_ratio_log_e([10, 0], shares=(1.0, 0.0)))
    0.0
    """
    seen, planned = np.asarray(counts, dtype=float), np.asarray(shares, dtype=float)
    live = planned > 0
    stray = seen[..., ~live].sum(axis=-1)
    seen, prior = seen[..., live], concentration * planned[live]
    log_e = (gammaln(prior + seen) - gammaln(prior) - xlogy(seen, planned[live])).sum(axis=-1)
    log_e = log_e + gammaln(prior.sum()) - gammaln(prior.sum() + seen.sum(axis=-1))
    return np.where(stray > 0, 690.0, log_e)


def _total(log_factors: Sequence[float]) -> float:
    """The sum of the factors, stable in logs and at most 1e300."""
    largest = max(log_factors)
    return math.exp(min(largest + math.log(math.fsum(math.exp(each - largest) for each in log_factors)), 690.7))


def _halves(state: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    middle = len(state) // 2
    return tuple(state[:middle]), tuple(state[middle:])
