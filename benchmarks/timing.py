"""Times commands as whole processes, interleaved, so that a noisy machine disturbs all alike; and prints figures."""

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


def row(what: str, value: float, unit: str, *, at_most: float | None = None, at_least: float | None = None) -> None:
    """One figure, its target, and whether it is reached; a floor or a peer has none."""
    target = f"<= {at_most:g}" if at_most is not None else f">= {at_least:g}" if at_least is not None else ""
    met = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    print(f"{what:<58} {value:>10.3f} {unit:<8} {target:<8} {('ok' if met else 'SHORT') if target else ''}", flush=True)
