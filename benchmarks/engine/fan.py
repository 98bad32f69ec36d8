"""Fan-out: the wall time of 1 -> 50 -> 1 on two workers, and what a second worker brings to CPU work."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.engine import projects, runs
from benchmarks.timing import row


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny = projects.fan(folder / "tiny", 50)
        taken = runs.run(tiny, executor="process:2")
        row("fan-out 1 -> 50 -> 1, two workers", taken.run, "s", at_most=0.5)
        one = runs.run(projects.fan(folder / "one", 50, 0.05), executor="process:1").run
        two = runs.run(projects.fan(folder / "two", 50, 0.05), executor="process:2").run
        row("50 steps of 50 ms CPU, one worker", one, "s")
        row("the same, two workers", two, "s")
        row("  one over two", one / two, "x", at_least=1.8)


if __name__ == "__main__":
    main()
