"""The mean of what comes in, and the difference of two arms' means, with intervals that hold however often read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr


@dataclass(frozen=True, slots=True)
class MeanSequence:
    """An asymptotic confidence sequence for a mean.

    The half-width is that of a normal mixture with the variance seen so far (Waudby-Smith, Arbour, Sinha, Kennedy &
    Ramdas 2021, theorem 2.2); it is narrowest about *tuned* values.

    >>> seen = MeanSequence.start(tuned=100).update([0.0, 1.0] * 200)
    >>> low, high = seen.interval(0.05)
    >>> low < 0.5 < high and high - low < 0.2
    True
    """

    tuned: float
    count: float
    total: float
    squares: float

    @classmethod
    def start(cls, tuned: float) -> Self:
        return cls(tuned, 0.0, 0.0, 0.0)

    def update(self, values: npt.ArrayLike) -> Self:
        """The evidence after *values* more."""
        x = np.asarray(values, dtype=float)
        return replace(
            self,
            count=self.count + x.size,
            total=self.total + float(x.sum()),
            squares=self.squares + float((x * x).sum()),
        )

    @property
    def estimate(self) -> float:
        return self.total / self.count if self.count else 0.0

    @property
    def error(self) -> float:
        """The estimate's standard error; infinite before the second value."""
        if self.count < 2:
            return math.inf
        return math.sqrt(max(self.squares / self.count - self.estimate**2, 0.0) / self.count)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Where the mean lies, with confidence 1 - *alpha* over all looks together."""
        if self.count < 2:
            return -math.inf, math.inf
        half = self.error * _boundary(self.count, self.tuned, alpha)
        return self.estimate - half, self.estimate + half

    def chance_above(self, bound: float) -> float:
        """The chance that the mean is above *bound*, by a flat prior: what Thompson sampling draws with."""
        if not math.isfinite(self.error):
            return 0.5
        if self.error == 0:
            return 0.5 if self.estimate == bound else float(self.estimate > bound)
        return float(ndtr((self.estimate - bound) / self.error))

    def to_list(self) -> list[float]:
        """Plain floats for JSON."""
        return [self.tuned, self.count, self.total, self.squares]

    @classmethod
    def from_list(cls, state: Sequence[float]) -> Self:
        """The evidence that `to_list` wrote."""
        return cls(*state)


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean difference between two arms from units that were assigned by known propensities, which may change.

    Each unit gives an augmented inverse-propensity score (AIPW): unbiased whatever the arms' means of the units before
    it predict, which only make it narrower. counts, totals: of the champion's and of the candidate's rewards.

    >>> arms, rewards = [0, 1] * 500, [1.0, 3.0] * 500
    >>> found = Difference.start(tuned=1000).update(arms, rewards, [0.5] * 1000)
    >>> round(found.scores.estimate, 6)
    2.0
    """

    scores: MeanSequence
    counts: tuple[float, float]
    totals: tuple[float, float]

    @classmethod
    def start(cls, tuned: float) -> Self:
        return cls(MeanSequence.start(tuned), (0.0, 0.0), (0.0, 0.0))

    def update(self, arms: npt.ArrayLike, rewards: npt.ArrayLike, propensities: npt.ArrayLike) -> Self:
        """The evidence after these units: 1 in *arms* met the candidate, 0 the champion, each with its propensity."""
        to, got, chance = np.asarray(arms, dtype=int), np.asarray(rewards, dtype=float), np.asarray(propensities, float)
        expected = np.array([self._expected(0), self._expected(1)])
        sign = np.where(to == 1, 1.0, -1.0)
        scores = expected[1] - expected[0] + sign * (got - expected[to]) / chance
        counts = (self.counts[0] + float((to == 0).sum()), self.counts[1] + float((to == 1).sum()))
        totals = (self.totals[0] + float(got[to == 0].sum()), self.totals[1] + float(got[to == 1].sum()))
        return replace(self, scores=self.scores.update(scores), counts=counts, totals=totals)

    def mean(self, arm: int) -> float:
        """The plain mean of an arm's rewards."""
        return self.totals[arm] / self.counts[arm] if self.counts[arm] else 0.0

    def _expected(self, arm: int) -> float:
        """An arm without units is expected to be like the other."""
        return self.mean(arm if self.counts[arm] else 1 - arm)

    def to_list(self) -> list[float]:
        """Plain floats for JSON."""
        return [*self.scores.to_list(), *self.counts, *self.totals]

    @classmethod
    def from_list(cls, state: Sequence[float]) -> Self:
        """The evidence that `to_list` wrote."""
        return cls(MeanSequence.from_list(state[:4]), (state[4], state[5]), (state[6], state[7]))


def _boundary(count: float, tuned: float, alpha: float) -> float:
    """How many standard errors the interval reaches to each side."""
    spread = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuned
    known = count * spread + 1
    return math.sqrt(2 * known / (count * spread) * math.log(math.sqrt(known) / alpha))
