"""The engine against a plain loop that does the least that is durable: a commit and an fsynced file per step."""

from __future__ import annotations

from importlib import import_module

NAMES = ("chain", "fan", "unchanged", "memory")


def main() -> None:
    for name in NAMES:
        import_module(f"benchmarks.engine.{name}").main()
