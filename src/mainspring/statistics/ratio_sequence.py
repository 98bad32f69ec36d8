"""How many times as often an event befalls one arm as the other: an interval that holds however often it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from mainspring.statistics.arm_bet import arm_log_factors
from mainspring.statistics.weighted import Array

_SIZES = np.geomspace(0.01, 3.0, 40)
_RATIOS = np.exp(np.concatenate([-_SIZES[::-1], [0.0], _SIZES]))
_EQUAL = len(_SIZES)


@dataclass(frozen=True, slots=True)
class RatioSequence:
    """The arm bet turned into a confidence sequence for the rate ratio r, candidate to champion.

    log_factors: what each of 81 ratios between 1/20 and 20 has won against "r = 1". The e-value against any r0 is the
    mean of all winnings over r0's own; the ratios that no bet has refuted are the interval (a mixture of likelihood
    ratios is an e-process for every r0, so the interval holds at all times at once: Ville 1939, Howard et al. 2021).

    >>> found = RatioSequence.start()
    >>> for minute in range(200):
    ...     found = found.update(x1=6, x0=3, share=0.5)
    >>> low, high = found.interval(0.05)
    >>> 1 < low < 2 < high
    True
    """

    log_factors: tuple[float, ...]

    @classmethod
    def start(cls) -> Self:
        """No events yet."""
        return cls((0.0,) * len(_RATIOS))

    def update(self, x1: float, x0: float, share: float) -> Self:
        """The evidence after a bin with *x1* new units with the event in the candidate's arm, *x0* in the champion's.

        share: the candidate's part of the new units of the bin; 0 or 1 compares nobody and changes nothing.
        """
        gained = arm_log_factors(x1, x0, share, tuple(_RATIOS.tolist()), 1.0)
        return replace(self, log_factors=tuple((np.array(self.log_factors) + gained).tolist()))

    @property
    def e_value(self) -> float:
        """Of the bets against "r = 1", both directions together; at most 1e300."""
        return math.exp(min(self._log_e()[_EQUAL], 690.7))

    def interval(self, alpha: float) -> tuple[float, float]:
        """The ratios not refuted at *alpha*; each end is itself refuted, or the end of what is bet on (1/20, 20)."""
        kept = np.flatnonzero(self._log_e() < -math.log(alpha))
        if not len(kept):  # between two neighbours of the grid
            best = int(np.argmax(self.log_factors))
            kept = np.array([best])
        low, high = max(int(kept[0]) - 1, 0), min(int(kept[-1]) + 1, len(_RATIOS) - 1)
        return float(_RATIOS[low]), float(_RATIOS[high])

    def _log_e(self) -> Array:
        """log e against each ratio."""
        won = np.array(self.log_factors)
        others = np.delete(won, _EQUAL)
        largest = others.max()
        log_mean = largest + math.log(float(np.exp(others - largest).mean()))
        return np.asarray(log_mean - won)

    def to_list(self) -> list[float]:
        """Plain floats for JSON."""
        return list(self.log_factors)

    @classmethod
    def from_list(cls, state: Sequence[float]) -> Self:
        """The evidence that `to_list` wrote."""
        return cls(tuple(state))
