"""How long one prediction takes: single real rows through the bundle, as a caller would send them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import polars as pl

from mainspring.core.protocols import Model

CALLS = 200
WARM_UP = 5
LONGEST_SECONDS = 3.0


def latency(
    model: Model, rows: pl.DataFrame, *, seed: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """The p50, p95 and p99 in milliseconds of about 200 one-row predictions; fewer where the model is slow."""
    places = np.random.default_rng(seed).integers(0, rows.height, CALLS + WARM_UP)
    single = [rows.slice(int(place), 1) for place in places]
    for row in single[:WARM_UP]:
        model.predict(row)
    took: list[float] = []
    for row in single[WARM_UP:]:
        start = clock()
        model.predict(row)
        took.append(clock() - start)
        if sum(took) > LONGEST_SECONDS and len(took) >= 20:
            break
    return {f"p{share}": round(1000 * float(np.percentile(took, share)), 4) for share in (50, 95, 99)}
