"""100 steps of which nothing has changed, by the command line, start-up and all."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from benchmarks.engine import projects, runs
from benchmarks.timing import row


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        file = projects.chain(Path(name), 100)
        runs.command("run", file.name, folder=file.parent)
        again = [runs.command("run", file.name, folder=file.parent) for _ in range(5)]
        row("100 steps, nothing changed, by the command line", median(again), "s", at_most=0.3)
        row("  of which `mainspring --version`", runs.command("--version", folder=file.parent), "s")


if __name__ == "__main__":
    main()
