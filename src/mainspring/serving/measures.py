"""What the endpoint counts about itself, and the text in which Prometheus reads it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

Labels = tuple[tuple[str, str], ...]

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_HELP = {
    "mainspring_requests_total": ("counter", "Requests by loop, version and status"),
    "mainspring_rows_total": ("counter", "Rows predicted by loop and version"),
    "mainspring_extra_columns_total": ("counter", "Unknown columns ignored in rows"),
    "mainspring_unrecorded_total": ("counter", "Predictions answered that could not be recorded"),
    "mainspring_feedback_total": ("counter", "Labels and events taken, by loop"),
    "mainspring_feedback_corrected_total": ("counter", "Labels that corrected an earlier one, by loop"),
    "mainspring_refused_total": ("counter", "Requests refused before a loop was reached, by status"),
    "mainspring_load_failures_total": ("counter", "Versions that could not be loaded"),
    "mainspring_request_seconds": ("histogram", "Seconds from a request's last byte to its answer"),
    "mainspring_version_share": ("gauge", "Share of the units that a version gets"),
    "mainspring_shadow_queue": ("gauge", "Rows that wait to be shown to a shadowing candidate"),
    "mainspring_shadow_dropped": ("gauge", "Rows that found no place in that queue, since this process began"),
    "mainspring_queue": ("gauge", "Requests that wait for their answer now"),
    "mainspring_log_lag_seconds": ("gauge", "Age of the oldest record that is not yet safe from a loss of power"),
}


class Measures:
    """Counters and a latency histogram in memory; they begin at 0 with the process. worker: its number, a label, where
    there are several.

    >>> measures = Measures()
    >>> measures.count("mainspring_rows_total", 3, loop="late", version="1")
    >>> 'mainspring_rows_total{loop="late",version="1"} 3' in measures.text()
    True
    """

    def __init__(self, worker: str | None = None) -> None:
        self._worker: Labels = () if worker is None else (("worker", worker),)
        self._counts: Counter[tuple[str, Labels]] = Counter()
        self._gauges: dict[tuple[str, Labels], float] = {}
        self._latencies: dict[Labels, list[int]] = {}
        self._seconds: Counter[Labels] = Counter()

    def count(self, name: str, by: int = 1, **labels: str) -> None:
        self._counts[name, tuple(labels.items())] += by

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self._gauges[name, tuple(labels.items())] = value

    def forget(self, name: str, **labels: str) -> None:
        """Drop the gauges of *name* that have these labels."""
        had = set(labels.items())
        self._gauges = {key: value for key, value in self._gauges.items() if key[0] != name or not had <= set(key[1])}

    def latency(self, seconds: float, loop: str, version: str) -> None:
        labels = (("loop", loop), ("version", version))
        counts = self._latencies.setdefault(labels, [0] * (len(_BUCKETS) + 1))
        counts[bisect_left(_BUCKETS, seconds)] += 1
        self._seconds[labels] += seconds  # type: ignore[assignment]

    def request(self, loop: str, version: str, status: int, seconds: float) -> None:
        """Count a request of a loop, and how long its answer took."""
        self.count("mainspring_requests_total", loop=loop, version=version, status=str(status))
        self.latency(seconds, loop, version)

    def answered(self, loop: str, version: str, rows: int, extra: int, recorded: bool) -> None:
        """Count what a request asked and got."""
        self.count("mainspring_rows_total", rows, loop=loop, version=version)
        if extra:
            self.count("mainspring_extra_columns_total", extra, loop=loop)
        if not recorded:
            self.count("mainspring_unrecorded_total", rows, loop=loop)

    def text(self, others: Iterable[Mapping[str, list[str]]] = ()) -> str:
        """The exposition format, with the lines of *others*."""
        told = [self.lines(), *others]
        lines = {name: [line for each in told for line in each.get(name, ())] for name in _HELP}
        return "".join(_section(name, each) for name, each in lines.items() if each)

    def lines(self) -> dict[str, list[str]]:
        """The lines of each measure."""
        lines: dict[str, list[str]] = {name: [] for name in _HELP}
        for (name, labels), value in sorted({**self._counts, **self._gauges}.items()):
            lines[name].append(f"{name}{_labels((*labels, *self._worker))} {value}")
        for labels, counts in sorted(self._latencies.items()):
            lines["mainspring_request_seconds"] += self._histogram((*labels, *self._worker), counts, labels)
        return lines

    def _histogram(self, labels: Labels, counts: list[int], kept: Labels) -> Iterable[str]:
        name, total = "mainspring_request_seconds", 0
        for bound, many in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=True):
            total += many
            yield f"{name}_bucket{_labels((*labels, ('le', bound)))} {total}"
        yield f"{name}_sum{_labels(labels)} {self._seconds[kept]}"
        yield f"{name}_count{_labels(labels)} {total}"


def _section(name: str, lines: Iterable[str]) -> str:
    kind, text = _HELP[name]
    return "\n".join((f"# HELP {name} {text}", f"# TYPE {name} {kind}", *lines, ""))


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    escaped = (f'{name}="{_escaped(value)}"' for name, value in labels)
    return "{" + ",".join(escaped) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
