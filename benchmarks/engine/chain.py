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
            one, plain = beside_floor(folder / durability, first, durability)
            row("floor: a commit and an fsynced file per step", plain * 1000, "ms/step")
            row(f"a step of a chain of {first:,}, {durability}", one * 1000, "ms/step", at_most=target)
            row("  over the floor", one / plain, "x", at_most=0.3 if durability == "durable" else None)
            for length in longer:
                more, plain = beside_floor(folder / f"{durability} {length}", length, durability)
                row(f"a step of a chain of {length:,}, {durability}", more * 1000, "ms/step", at_most=target)
                row("  over the floor", more / plain, "x", at_most=0.3 if durability == "durable" else None)
                row(f"  over one of a chain of {first}", more / one, "x", at_most=1.2)
        there, _ = beside_floor(folder / "local", first, "durable", executor="local")
        row(f"a step of a chain of {first:,}, in a worker process", there * 1000, "ms/step")


def beside_floor(folder: Path, length: int, durability: str, **options: str) -> tuple[float, float]:
    """Seconds a step beyond those of a chain of one, and seconds a step of the floor: medians of interleaved runs."""
    taken: list[float] = []
    floors: list[float] = []
    folder.mkdir(parents=True)
    for number in range(5 if length <= 1000 else 1):
        floors.append(floor.loop(folder / f"floor {number}", length) / length)
        alone, chain = (
            runs.run(projects.chain(folder / f"{each} {number}", each), durability=durability, **options).run
            for each in (1, length)
        )
        taken.append((chain - alone) / (length - 1))
    return median(taken), median(floors)


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or LENGTHS)
