"""The mean of what comes in, and the difference of two arms' means, with intervals that hold however often read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from mainspring.statistics.weighted import Array

_BORROWED = 10.0
"""Units' worth of the common residual that an arm borrows: one that has shown no event yet isn't free of noise."""


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

    def interval(self, alpha: float, least_deviation: float = 0.0) -> tuple[float, float]:
        """Where the mean lies, with confidence 1 - *alpha* over all looks together.

        least_deviation: what the values' standard deviation can't be below: of rare events, none may have come yet.
        """
        if self.count < 2:
            return -math.inf, math.inf
        error = max(self.error, least_deviation / math.sqrt(self.count))
        half = error * _boundary(self.count, self.tuned, alpha)
        return self.estimate - half, self.estimate + half

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
    residuals: the squares of what the predictions left. weights: the sums of one over each arm's propensity, of all
    units. The variance is the larger of what the scores show and of what residuals and weights foresee: where an arm
    is rare, its few heavy scores show too little.

    >>> arms, rewards = [0, 1] * 500, [1.0, 3.0] * 500
    >>> found = Difference.start(tuned=1000).update(arms, rewards, [0.5] * 1000)
    >>> round(found.estimate, 6)
    2.0
    """

    scores: MeanSequence
    counts: tuple[float, float]
    totals: tuple[float, float]
    residuals: tuple[float, float]
    weights: tuple[float, float]

    @classmethod
    def start(cls, tuned: float) -> Self:
        return cls(MeanSequence.start(tuned), *[(0.0, 0.0)] * 4)

    def update(self, arms: npt.ArrayLike, rewards: npt.ArrayLike, propensities: npt.ArrayLike) -> Self:
        """The evidence after these units: 1 in *arms* met the candidate, 0 the champion, each with its propensity."""
        to, got, chance = np.asarray(arms, dtype=int), np.asarray(rewards, dtype=float), np.asarray(propensities, float)
        expected = np.array([self._expected(0), self._expected(1)])
        sign = np.where(to == 1, 1.0, -1.0)
        left = got - expected[to]
        return replace(
            self,
            scores=self.scores.update(expected[1] - expected[0] + sign * left / chance),
            counts=_added(self.counts, to, np.ones(len(to))),
            totals=_added(self.totals, to, got),
            residuals=_added(self.residuals, to, left**2),
            weights=(
                self.weights[0] + float((1 / np.where(to == 0, chance, 1 - chance)).sum()),
                self.weights[1] + float((1 / np.where(to == 1, chance, 1 - chance)).sum()),
            ),
        )

    @property
    def estimate(self) -> float:
        """The candidate's mean less the champion's."""
        return self.scores.estimate

    @property
    def error(self) -> float:
        """The estimate's standard error; infinite while an arm has no unit."""
        if min(self.counts) < 1 or self.scores.count < 2:
            return math.inf
        pooled = sum(self.residuals) / sum(self.counts)
        foreseen = sum(
            weight * (left + _BORROWED * pooled) / (count + _BORROWED)
            for weight, left, count in zip(self.weights, self.residuals, self.counts, strict=True)
        )
        return max(self.scores.error, math.sqrt(foreseen) / self.scores.count)

    def interval(self, alpha: float) -> tuple[float, float]:
        """Where the difference lies, with confidence 1 - *alpha* over all looks together."""
        if not math.isfinite(self.error):
            return -math.inf, math.inf
        half = self.error * _boundary(self.scores.count, self.scores.tuned, alpha)
        return self.estimate - half, self.estimate + half

    def chance_above(self) -> float:
        """The chance that the candidate is above, by a flat prior: what Thompson sampling draws with."""
        if not math.isfinite(self.error) or self.error == 0:
            return 0.5
        return float(ndtr(self.estimate / self.error))

    def mean(self, arm: int) -> float:
        """The plain mean of an arm's rewards."""
        return self.totals[arm] / self.counts[arm] if self.counts[arm] else 0.0

    def _expected(self, arm: int) -> float:
        """An arm without units is expected to be like the other."""
        return self.mean(arm if self.counts[arm] else 1 - arm)

    def to_list(self) -> list[float]:
        """Plain floats for JSON."""
        return [*self.scores.to_list(), *self.counts, *self.totals, *self.residuals, *self.weights]

    @classmethod
    def from_list(cls, state: Sequence[float]) -> Self:
        """The evidence that `to_list` wrote."""
        pairs = [(state[place], state[place + 1]) for place in range(4, len(state), 2)]
        return cls(MeanSequence.from_list(state[:4]), *pairs)


def _added(sums: tuple[float, float], arms: npt.NDArray[np.int_], values: Array) -> tuple[float, float]:
    return sums[0] + float(values[arms == 0].sum()), sums[1] + float(values[arms == 1].sum())


def _boundary(count: float, tuned: float, alpha: float) -> float:
    """How many standard errors the interval reaches to each side."""
    spread = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tuned
    known = count * spread + 1
    return math.sqrt(2 * known / (count * spread) * math.log(math.sqrt(known) / alpha))
