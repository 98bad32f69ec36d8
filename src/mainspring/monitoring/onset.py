"""Since when are the predictions worse? The likeliest rise of the labelled rows' mean loss, in their own time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mainspring.core.values import Onset
from mainspring.monitoring.served import Array, Served

ALPHA = 0.01
_CRITICAL = math.sqrt(-math.log(ALPHA) / 2)
"""What the highest point of a Brownian bridge exceeds with chance ALPHA (OLS-based CUSUM, Ploberger & Kramer 1992)."""


def onset(own: Served) -> Onset | None:
    """From where on the labelled predictions *own* are worse than those before; from the first one, where no change
    stands out among them. None where their rows have no time."""
    if own.times is None:
        return None
    timed = own.where(own.times.is_not_null().to_numpy())
    if timed.times is None or not len(timed):
        return None
    moments = timed.times.to_physical().to_numpy()
    order = np.argsort(moments, kind="stable")
    start = _change(_losses(timed)[order], moments[order])
    first = order[start]
    return Onset(moments[first].item(), _shown(timed.times[int(first)]), len(moments) - start)


def _change(losses: Array, moments: Any) -> int:
    """Where the losses' mean rises for good, between two different times; 0 where that may be chance."""
    ends = np.flatnonzero(moments[1:] != moments[:-1])
    spread = losses.std() * math.sqrt(len(losses))
    if not len(ends) or not spread:
        return 0
    below = -np.cumsum(losses - losses.mean())[ends]
    return int(ends[below.argmax()]) + 1 if below.max() > _CRITICAL * spread else 0


def _losses(own: Served) -> Array:
    """The error of each row: how far the number is off, or how little was given to the class that came."""
    if own.task == "regression":
        off: Array = np.abs(own.truth - own.said)
        return off
    said = own.predictions.probabilities
    if said is None:
        wrong: Array = (own.truth != own.said).astype(float)
        return wrong
    rows, known = np.arange(len(own)), own.truth < said.shape[1]
    given = np.where(known, said[rows, np.where(known, own.truth, 0).astype(int)], 0.0)
    lacking: Array = 1 - given
    return lacking


def _shown(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if hasattr(moment, "hour") else str(moment)
