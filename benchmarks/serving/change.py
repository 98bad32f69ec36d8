"""100,000 predictions at 1,000 a second while versions change: canary steps, promotions, what is left loaded anew."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.timing import row
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home

VERSIONS = 6
RATE, REQUESTS = 1_000, 100_000
_EVERY_SECONDS = 0.3

Load = Callable[[float], tuple[float, float, float, float, float]]
"""Seconds -> answers a second, p50, p99 and the largest latency in milliseconds, and how many failed; at RATE."""


def compare(path: Path, load: Load) -> None:
    """*load*: on the endpoint that serves the VERSIONS of the home *path*."""
    still = load(REQUESTS / RATE / 5)
    stop, changes = threading.Event(), [0]
    changing = threading.Thread(target=_change, args=(Deployments(Home.open(path)), stop, changes))
    changing.start()
    moved = load(REQUESTS / RATE)
    stop.set()
    changing.join()
    row(f"{RATE}/s, nothing changes: slowest answer", still[3], "ms")
    row(f"{RATE}/s, {changes[0]} changes of version: slowest answer", moved[3], "ms", at_most=50)
    row(f"{RATE}/s, {changes[0]} changes of version: failed", moved[4], "", at_most=0)


def _change(deployments: Deployments, stop: threading.Event, changes: list[int]) -> None:
    while not stop.wait(_EVERY_SECONDS):
        now = deployments.routes()["bench"]
        champion = now.champion or 1
        if now.canary is None:
            then = replace(now, canary=champion % VERSIONS + 1, share=0.1)
        elif now.share < 0.5:
            then = replace(now, share=0.5)
        elif changes[0] % 2:
            then = replace(now, champion=now.canary, previous=champion, canary=None, share=0.0)
        else:
            then = replace(now, canary=None, share=0.0)
        deployments.change_route(replace(then, revision=now.revision + 1), expected=now.revision)
        changes[0] += 1
