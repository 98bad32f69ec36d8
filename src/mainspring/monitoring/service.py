"""How the endpoint did in a window: requests, failures, latency, traffic per version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mainspring.monitoring.served import Served


@dataclass(frozen=True, slots=True)
class Service:
    """One window's predictions. latency in milliseconds of real time; traffic: version -> predictions."""

    predictions: int
    failed: int
    p50: float | None
    p95: float | None
    p99: float | None
    traffic: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed_share(self) -> float:
        return self.failed / self.predictions if self.predictions else 0.0


def service(window: Served) -> Service:
    """The figures of the predictions of one window."""
    latencies = window.latency_ms[~np.isnan(window.latency_ms)]
    p50, p95, p99 = (float(each) for each in np.percentile(latencies, (50, 95, 99))) if len(latencies) else (None,) * 3
    versions, rows = np.unique(window.version, return_counts=True)
    traffic = {str(version): int(many) for version, many in zip(versions, rows, strict=True)}
    return Service(len(window), int(window.failed.sum()), p50, p95, p99, traffic)
