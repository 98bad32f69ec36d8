"""What the rows of a version are like: gaps, distributions, correlations, and how far they moved since the last one.

Plain JSON, kept beside the table: the next version is compared with it, and the run's report draws it.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.values import Dataset
from mainspring.store import durable
from mainspring.store.home import Home

ROWS = 50_000
"""So many rows, drawn with a fixed seed, are looked at; not every n-th, for values may come round with n."""
COLUMNS = 60
CORRELATED = 24
BINS, LEVELS = 20, 8
_OTHER = "other"


def quality(rows: pl.DataFrame, dataset: Dataset, home: Home, growing: Collection[str | None] = ()) -> dict[str, Any]:
    """The quality of *rows*, those of *dataset*; what it was in the version before is known from the home.

    growing: columns that move by themselves, such as the key and the time.
    """
    sample = rows if rows.height <= ROWS else rows.sample(ROWS, seed=0)
    before = _before(home, dataset)
    told = {column["name"]: column for column in before.get("columns", ())}
    columns = [_described(sample[column.name], column.personal) for column in list(dataset.schema)[:COLUMNS]]
    found = {
        "version": dataset.version,
        "rows": rows.height,
        "columns": columns,
        "correlations": _correlations(sample.drop(*filter(None, growing), strict=False)),
    }
    _keep(home, dataset, found)
    still = [column["name"] for column in columns if column["name"] not in growing]
    moved = {name: _moved(sample[name], told.get(name)) for name in still}
    since = {"version": before["version"], "moved": {name: far for name, far in moved.items() if far is not None}} \
        if before else None  # fmt: skip
    return {**found, "since": since, "left_out": max(0, len(dataset.schema.names) - COLUMNS)}


def _described(values: pl.Series, personal: bool) -> dict[str, Any]:
    known = values.drop_nulls()
    told = {"name": values.name, "missing": values.null_count() / max(1, len(values)), "distinct": known.n_unique()}
    if personal or not len(known):
        return {**told, "kind": "hidden"}
    numbers = _numbers(known)
    if numbers is None:
        shown = known.cast(pl.String).value_counts(sort=True).head(LEVELS)
        levels, counts = [_short(level) for level in shown[known.name]], shown["count"].to_list()
        return {**told, "kind": "text", "levels": levels, "counts": [*counts, len(known) - sum(counts)]}
    low, high = np.quantile(numbers, [0.005, 0.995])
    low, high = (float(low), float(high)) if high > low else (float(low) - 0.5, float(low) + 0.5)
    edges = np.linspace(low, high, BINS + 1)
    kind = "moment" if values.dtype.is_temporal() else "number"
    return {**told, "kind": kind, "edges": edges.tolist(), "counts": _counted(numbers, edges)}


def _numbers(known: pl.Series) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Numbers, and moments as seconds since 1970; None of anything else."""
    if known.dtype.is_temporal():
        return known.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64).to_numpy() / 1e6
    if known.dtype.is_numeric():
        return known.cast(pl.Float64).to_numpy()
    return None


def _counted(numbers: np.ndarray[Any, np.dtype[np.float64]], edges: np.ndarray[Any, np.dtype[np.float64]]) -> list[int]:
    """How many lie in each bin; what is beyond the ends counts in the outermost."""
    counts: list[int] = np.histogram(np.clip(numbers, edges[0], edges[-1]), edges)[0].tolist()
    return counts


def _moved(values: pl.Series, before: dict[str, Any] | None) -> float | None:
    """The share of rows that would have to change to have the distribution of *before*, gaps included."""
    if before is None or "counts" not in before or not len(values):
        return None
    known = values.drop_nulls()
    numbers = _numbers(known)
    if before["kind"] == "text":
        counts = dict(known.cast(pl.String).value_counts().iter_rows())
        short: dict[str, int] = {}
        for level, rows in counts.items():
            short[_short(level)] = short.get(_short(level), 0) + rows
        now = [short.get(level, 0) for level in before["levels"]]
        now.append(len(known) - sum(now))
    elif numbers is None:
        return None
    else:
        now = _counted(numbers, np.array(before["edges"]))
    old, new = _shares(before["counts"], before["missing"]), _shares(now, values.null_count() / len(values))
    return float(np.abs(old - new).sum() / 2)


def _shares(counts: list[int], missing: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    known = np.array(counts, dtype=float)
    return np.append(known / max(1.0, known.sum()) * (1 - missing), missing)


def _correlations(sample: pl.DataFrame) -> dict[str, Any]:
    """Spearman's rank correlations of numbers and truth values."""
    numeric = [column for column in sample.iter_columns() if column.dtype.is_numeric() or column.dtype == pl.Boolean]
    names = [column.name for column in numeric if column.n_unique() > 1][:CORRELATED]
    if len(names) < 2:
        return {"names": [], "matrix": []}
    ranks = sample.select(pl.col(name).cast(pl.Float64).rank() for name in names).to_numpy().T
    matrix: list[list[float | None]] = [[None] * len(names) for _ in names]
    for one, two in combinations_with_replacement(range(len(names)), 2):
        matrix[one][two] = matrix[two][one] = _correlation(ranks[one], ranks[two])
    return {"names": names, "matrix": matrix}


def _correlation(one: np.ndarray[Any, Any], two: np.ndarray[Any, Any]) -> float | None:
    """Of the rows where both are known."""
    known = ~(np.isnan(one) | np.isnan(two))
    one, two = one[known], two[known]
    if len(one) < 3 or np.ptp(one) == 0 or np.ptp(two) == 0:
        return None
    return float(np.corrcoef(one, two)[0, 1])


def _before(home: Home, dataset: Dataset) -> dict[str, Any]:
    """What was kept of the version before; empty where there is none."""
    folder = _folder(home, dataset)
    versions = sorted(int(file.stem) for file in folder.glob("*.json") if file.stem.isdigit())
    older = [version for version in versions if version < dataset.version]
    try:
        kept: dict[str, Any] = json.loads((folder / f"{older[-1]}.json").read_text(encoding="utf-8")) if older else {}
    except (OSError, ValueError):
        return {}
    return kept


def _keep(home: Home, dataset: Dataset, found: dict[str, Any]) -> None:
    folder = _folder(home, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    durable.write(folder / f"{dataset.version}.json", json.dumps(found, ensure_ascii=False).encode())


def _folder(home: Home, dataset: Dataset) -> Path:
    return home.folder("tables") / dataset.loop / "quality"


def _short(level: str) -> str:
    return level if len(level) <= 40 else level[:39] + "…"
