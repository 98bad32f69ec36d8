"""Memory of a chain of 100, beyond the same functions called plainly in a process that has loaded the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.engine import projects, runs
from benchmarks.timing import row


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        file = projects.chain(Path(name), 100)
        plain = runs.plainly(file)
        taken = runs.run(file)
        row("memory: the functions called plainly", plain, "MiB")
        row("memory: a chain of 100, beyond that", taken.peak - plain, "MiB", at_most=60)
        row("  its largest worker process", taken.children, "MiB")


if __name__ == "__main__":
    main()
