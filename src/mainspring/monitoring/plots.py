"""The plots of a monitoring page, each drawn on one Axes from the reports of a loop, the oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.patches import Rectangle

from mainspring.monitoring.drift import FeatureDrift
from mainspring.monitoring.performance import CalibrationNow
from mainspring.monitoring.report import Report
from mainspring.store.pages import BLUE, GREEN, GRID, INK, MUTED, ORANGE, RED

_LONGEST_LABEL = 14
_MOST_EVIDENCE = 1e9


def performance(axes: Axes, reports: Sequence[Report]) -> None:
    """The watched version's metric per window with its interval, the gate's value, and the estimate without labels."""
    measured = [(each, each.performance.of("window", each.version)) for each in reports]
    told = [(each, found) for each, found in measured if found is not None and found.value is not None]
    if told:
        days = _days([each for each, _ in told])
        values = np.array([found.value for _, found in told])
        low = np.array([found.value if found.low is None else found.low for _, found in told])
        high = np.array([found.value if found.high is None else found.high for _, found in told])
        axes.errorbar(days, values, [values - low, high - values], fmt="o-", ms=4, elinewidth=1, label="measured")
    guessed = [each for each in reports if each.performance.estimate is not None]
    if guessed:
        estimates = [float(each.performance.estimate or 0) for each in guessed]
        axes.plot(_days(guessed), estimates, ":", color=MUTED, label="estimate without labels")
    references = [np.nan if each.performance.reference is None else each.performance.reference for each in reports]
    days = [float(date2num(reports[0].start)), *_days(reports)]
    axes.step(days, references[:1] + references, where="pre", color=GREEN, lw=1.2, label="at the gate")
    _releases(axes, reports)
    axes.set_ylabel(reports[-1].performance.metric)
    axes.grid(axis="y")
    axes.legend(loc="lower left", ncols=3)
    axes.margins(y=0.25)
    _dates(axes, reports)


def calibration(axes: Axes, curve: CalibrationNow) -> None:
    """Observed against predicted rate with Wilson intervals."""
    predicted, observed = np.array(curve.predicted), np.array(curve.observed)
    errors = np.clip([observed - curve.low, np.array(curve.high) - observed], 0, None)
    axes.plot([0, 1], [0, 1], color=MUTED, lw=1, ls="--")
    axes.errorbar(predicted, observed, errors, fmt="o", ms=4, elinewidth=1)
    axes.set(xlabel="predicted probability", ylabel="observed rate", xlim=(0, 1), ylim=(0, 1))
    axes.set_title("Calibration since release")
    axes.grid()


def evidence(axes: Axes, reports: Sequence[Report]) -> None:
    """The drift detector's M per window on a logarithmic axis, and the alarm's threshold."""
    days, arl = _days(reports), reports[-1].drift.arl
    values = np.clip([each.drift.evidence for each in reports], 0.05, _MOST_EVIDENCE)
    axes.semilogy(days, values, "o-", ms=3.5)
    alarms = np.array([each.drift.alarm for each in reports])
    axes.semilogy(np.array(days)[alarms], values[alarms], "o", ms=5, color=RED)
    axes.axhline(arl, color=RED, lw=1.2, ls="--")
    axes.annotate("alarm", (1, arl), xycoords=("axes fraction", "data"), xytext=(-2, 3), textcoords="offset points",
                  ha="right", color=RED)  # fmt: skip
    axes.set_ylim(0.03, max(arl * 10, values.max() * 3))
    axes.set_ylabel("evidence")
    axes.grid(axis="y")
    _releases(axes, reports)
    _dates(axes, reports)


def heat(axes: Axes, reports: Sequence[Report], names: Sequence[str]) -> None:
    """The Jensen-Shannon distance of each feature in each window, the darker the farther; dots where it drifted."""
    grid, drifted = np.full((len(names), len(reports)), np.nan), []
    for column, report in enumerate(reports):
        found = {feature.feature: feature for feature in report.drift.features}
        for row, name in enumerate(names):
            if name in found:
                grid[row, column] = found[name].jensen_shannon
                drifted += [(column, row)] if found[name].drifted else []
    most = max(0.2, float(np.nanmax(grid, initial=0.0)))
    cells = [(row, column) for row, column in np.ndindex(*grid.shape) if np.isfinite(grid[row, column])]
    squares = [Rectangle((column - 0.47, row - 0.44), 0.94, 0.88) for row, column in cells]
    colours = [(BLUE, 0.05 + 0.95 * grid[cell] / most) for cell in cells]
    axes.add_collection(PatchCollection(squares, facecolors=colours, edgecolors="none"))
    if drifted:
        axes.plot(*zip(*drifted, strict=True), "o", ms=3.5, color=RED)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.5, max(len(reports), 12) - 0.5)
    _window_ticks(axes, reports)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def histogram(axes: Axes, feature: FeatureDrift) -> None:
    """The training rows' and the window's share per bin, side by side."""
    places = np.arange(len(feature.bins))
    axes.bar(places - 0.2, feature.training, 0.4, color=MUTED, label="training")
    axes.bar(places + 0.2, feature.served, 0.4, color=RED if feature.drifted else BLUE, label="this window")
    axes.set_xticks(places, [_short(each) for each in feature.bins], rotation=45, ha="right", fontsize=7.5)
    axes.set_title(feature.feature)
    axes.set_yticks(axes.get_yticks(), [f"{100 * tick:g} %" for tick in axes.get_yticks()])
    axes.grid(axis="y")
    axes.legend(fontsize=8)


def latency(axes: Axes, reports: Sequence[Report]) -> None:
    """The quantiles of latency per window."""
    told = [each for each in reports if each.service.p50 is not None]
    days = _days(told)
    for name, colour in (("p99", ORANGE), ("p95", BLUE), ("p50", GREEN)):
        axes.plot(days, [getattr(each.service, name) for each in told], "o-", ms=3, color=colour, label=name)
    axes.set_title("Latency, ms")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    axes.legend(ncols=3, loc="lower left")
    _dates(axes, reports)


def traffic(axes: Axes, reports: Sequence[Report]) -> None:
    """Predictions per window, stacked by version; failures as a line below the top."""
    versions = sorted({version for each in reports for version in each.service.traffic}, key=int)
    bottom = np.zeros(len(reports))
    places = np.arange(len(reports))
    for version, colour in zip(versions[-5:], (BLUE, ORANGE, GREEN, INK, GRID), strict=False):
        rows = np.array([each.service.traffic.get(version, 0) for each in reports])
        axes.bar(places, rows, 0.8, bottom=bottom, color=colour, label=f"version {version}")
        bottom += rows
    failed = np.array([each.service.failed for each in reports])
    if failed.any():
        axes.bar(places, failed, 0.4, color=RED, label="failed")
    axes.set_title("Predictions per window")
    axes.set_xlim(-0.6, max(len(reports), 12) - 0.4)
    axes.set_ylim(0, 1.25 * max(1.0, bottom.max()))
    _window_ticks(axes, reports)
    axes.grid(axis="y")
    if versions:
        axes.legend(ncols=3, loc="upper left", fontsize=8)


def _releases(axes: Axes, reports: Sequence[Report]) -> None:
    """A line where another version took over."""
    for before, after in pairwise(reports):
        if before.version != after.version:
            place = float(date2num(after.start))
            axes.axvline(place, color=MUTED, lw=1, ls=":")
            axes.annotate(f"@{after.version}", (place, 1), xycoords=("data", "axes fraction"), xytext=(3, -9),
                          textcoords="offset points", color=MUTED, fontsize=8)  # fmt: skip


def _days(reports: Sequence[Report]) -> list[float]:
    return [float(date2num(each.at)) for each in reports]


def _dates(axes: Axes, reports: Sequence[Report]) -> None:
    """An axis over the time that the windows cover, so that one window alone doesn't stretch over years."""
    first, last = float(date2num(reports[0].start)), float(date2num(reports[-1].at))
    margin = 0.03 * max(last - first, 1e-4)
    axes.set_xlim(first - margin, last + margin)
    locator = AutoDateLocator(minticks=3, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _window_ticks(axes: Axes, reports: Sequence[Report]) -> None:
    """The days of some windows on an axis that counts windows."""
    step = max(1, -(-len(reports) // 6))
    places = list(range(0, len(reports), step))
    axes.set_xticks(places, [f"{reports[place].at:%d %b}" for place in places])


def _short(words: str) -> str:
    return words if len(words) <= _LONGEST_LABEL else words[: _LONGEST_LABEL - 1] + "…"
