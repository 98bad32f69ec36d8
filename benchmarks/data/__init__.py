"""Reading data against polars and pandas doing the same; each floor is measured in the same run."""

from __future__ import annotations

from importlib import import_module

NAMES = ("load", "unchanged", "postgres", "joined")


def main() -> None:
    for name in NAMES:
        import_module(f"benchmarks.data.{name}").main()
