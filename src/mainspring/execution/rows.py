"""How many rows a kept value has, where that is told without loading big libraries or files."""

from __future__ import annotations

import sys
from typing import Any

from mainspring.core.values import Dataset
from mainspring.store.catalog import DOCUMENT, Artifact, Catalog

_MOST_BYTES = 64 << 20
_NEEDS = {"frame": "polars", "arrow-frame": "polars", "series": "polars", "arrow-series": "polars",
          "pandas-frame": "pandas", "array": "numpy"}  # fmt: skip


def count(catalog: Catalog, artifact: Artifact) -> int | None:
    """The rows of a dataset, list, frame or array; None where that isn't plain to see."""
    if artifact.format != DOCUMENT:
        if _NEEDS.get(artifact.format) not in sys.modules:
            return None
        if catalog.files.path(artifact.digest).stat().st_size > _MOST_BYTES:
            return None
        return len(catalog.load(artifact))
    if artifact.content is None:
        return None
    value: Any = catalog.load(artifact)
    if isinstance(value, Dataset):
        return value.rows
    return len(value) if isinstance(value, list | tuple) else None
