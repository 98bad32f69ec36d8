"""mainspring: machine-learning pipelines that close the loop by themselves."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "mainspring.app.pipeline": ("Pipeline",),
    "mainspring.app.project": ("Loop",),
    "mainspring.pipeline.step": ("step", "at_least"),
    "mainspring.pipeline.datafiles": ("file",),
    "mainspring.core.declarations": (
        "ABTest", "Bandit", "Canary", "Clean", "Gate", "Immediate", "Manual", "Monitor", "Privacy", "Retrain", "Search",
        "Shadow", "Split",
        "log",
    ),
    "mainspring.core.sources": (
        "Http", "Paging", "arrow", "csv", "delta", "excel", "frame", "iceberg", "json", "parquet", "rest", "sql",
    ),
    "mainspring.core.object_stores": ("Azure", "Gcs", "S3"),
    "mainspring.core.joins": ("join",),
    "mainspring.core.errors": ("MainspringError",),
    "mainspring.store.formats": ("register_format",),
}  # fmt: skip
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'mainspring' has no attribute {name!r}; it has {', '.join(sorted(_MODULES))}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
