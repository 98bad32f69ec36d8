"""Times commands as whole processes, interleaved, so that a noisy machine disturbs all alike."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median


def seconds(commands: Mapping[str, Sequence[str]], *, runs: int, folder: Path | None = None) -> dict[str, float]:
    """The median wall seconds of each command over *runs* interleaved runs."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            taken[name].append(time.perf_counter() - began)
    return {name: median(values) for name, values in taken.items()}


def line(what: str, value: float, unit: str, target: str) -> None:
    """One figure beside its target."""
    print(f"{what:<58} {value:>10.3f} {unit:<6} target {target}", flush=True)
