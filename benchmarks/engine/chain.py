"""A chain of tiny steps: 100, 1,000 and 10,000, durable and fast, beside the floor."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.engine import floor, projects, runs
from benchmarks.timing import row

LENGTHS = (100, 1000, 10_000)
TARGETS = {"durable": 1.0, "fast": 0.5}


def main(lengths: tuple[int, ...] = LENGTHS) -> None:
    first, *longer = lengths
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for durability, target in TARGETS.items():
            plain = floor.loop(folder / f"floor {durability}", 1000) / 1000
            one = step(folder, first, durability=durability)
            row("floor: a commit and an fsynced file per step", plain * 1000, "ms/step")
            row(f"a step of a chain of {first:,}, {durability}", one * 1000, "ms/step", at_most=target)
            row("  over the floor", one / plain, "x", at_most=0.3 if durability == "durable" else None)
            for length in longer:
                more = step(folder, length, durability=durability)
                row(f"a step of a chain of {length:,}, {durability}", more * 1000, "ms/step")
                row(f"  over one of a chain of {first}", more / one, "x", at_most=1.2)
        row(
            f"a step of a chain of {first:,}, in a worker process",
            step(folder, first, executor="local") * 1000,
            "ms/step",
        )


def step(folder: Path, length: int, **options: str) -> float:
    """Seconds a step, beyond start-up and FILE's load; the median of three where that is quick."""
    taken = []
    for number in range(3 if length <= 1000 else 1):
        file = projects.chain(folder / f"{length} {number} {' '.join(options.values())}", length)
        taken.append(runs.run(file, **options).run)
    return median(taken) / length


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or LENGTHS)
