"""The rows of the benchmarks: an id, numbers, a truth value, texts with few and many levels, an instant."""

from __future__ import annotations

import numpy as np
import polars as pl


def rows(count: int, seed: int = 0, start: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed + start)
    tails = np.array([f"N{number:05}" for number in range(5_000)])
    return pl.DataFrame(
        {
            "id": np.arange(start, start + count),
            "distance": random.integers(80, 5_000, count),
            "delay": random.normal(5, 30, count).round(1),
            "wind": random.gamma(2, 5, count),
            "carrier": random.choice(np.array(["AA", "B6", "DL", "EV", "MQ", "UA", "US", "WN"]), count),
            "tail": random.choice(tails, count),
            "night": random.random(count) < 0.3,
            "late": random.integers(0, 2, count),
        }
    ).with_columns(at=pl.datetime(2013, 1, 1) + pl.duration(seconds=pl.col("id") * 30))
