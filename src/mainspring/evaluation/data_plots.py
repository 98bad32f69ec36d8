"""The plots of the rows that a model was made of: gaps, distributions, correlations, moves since the version before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mainspring.core.wording import percent
from mainspring.store.pages import BLUE, GRID, INK, MUTED, ORANGE, Html, figure

BARS = 20
SMALL, LOW = 2.35, 1.75
_LONGEST = 22

Quality = Mapping[str, Any]


def missing(quality: Quality) -> Html:
    """The share of missing values of the columns that have some."""
    shown = sorted((c for c in quality["columns"] if c["missing"] > 0), key=lambda c: -c["missing"])[:BARS]
    return _bars([c["name"] for c in shown], [c["missing"] for c in shown], "missing values", "Share of missing values")


def moved(quality: Quality) -> Html:
    """How far columns moved since the version before."""
    since = quality["since"]
    shown = sorted(since["moved"].items(), key=lambda pair: -pair[1])[:BARS]
    title = f"moved since version {since['version']}"
    return _bars([name for name, _ in shown], [far for _, far in shown], title, "Share of rows that moved, by column")


def distribution(column: Mapping[str, Any]) -> Html:
    """The histogram of a number or a moment, or the most frequent levels of a text."""

    def draw(axes: Axes) -> None:
        counts = np.array(column["counts"], dtype=float)
        if column["kind"] == "text":
            names = [*map(_short, column["levels"]), "other"][: len(counts) if counts[-1] else len(counts) - 1]
            axes.barh(range(len(names)), counts[: len(names)], color=BLUE, height=0.7)
            axes.set_yticks(range(len(names)), names, fontsize=7.5)
            axes.set_ylim(max(len(names), 4) - 0.4, -0.6)
        else:
            edges = np.array(column["edges"])
            axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BLUE)
            ticks = np.linspace(edges[0], edges[-1], 3)
            axes.set_xticks(ticks, [_place(tick, column["kind"]) for tick in ticks], fontsize=7.5)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
        axes.set_title(_short(column["name"]))
        if column["kind"] == "text":
            axes.set_xticks([])
            axes.spines["bottom"].set_visible(False)
            axes.tick_params(length=0)

    words = f"Distribution of {column['name']}; {column['distinct']:,} distinct values"
    return figure(draw, alt=words, width=SMALL, height=LOW)


def correlations(quality: Quality) -> Html:
    """Rank correlations of numbers: blue together, orange against each other."""
    names, matrix = quality["correlations"]["names"], quality["correlations"]["matrix"]

    def draw(axes: Axes) -> None:
        for down, line in enumerate(matrix):
            for across, value in enumerate(line[:down]):
                if value is None:
                    continue
                square = Rectangle((across - 0.46, down - 0.46), 0.92, 0.92, facecolor=BLUE if value > 0 else ORANGE)
                square.set_alpha(0.08 + 0.85 * abs(value))
                axes.add_patch(square)
                if len(names) <= 12:
                    axes.text(across, down, f"{value:.2f}", ha="center", va="center", color=INK, fontsize=7.5)
        places = range(len(names))
        axes.set(xlim=(-0.5, len(names) - 1.5), ylim=(len(names) - 0.5, 0.5))
        axes.set_yticks(places[1:], [_short(name) for name in names[1:]])
        axes.set_xticks(places[:-1], [_short(name) for name in names[:-1]], rotation=45, ha="right")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title("Rank correlations")

    side = 1.6 + 0.36 * len(names)
    return figure(draw, alt="Rank correlations of the number columns", width=side + 0.8, height=side)


def _bars(names: list[str], shares: list[float], title: str, alt: str) -> Html:
    def draw(axes: Axes) -> None:
        places = np.arange(len(names))
        axes.barh(places, np.ones(len(names)), color=GRID, height=0.62, alpha=0.5)
        axes.barh(places, shares, color=BLUE, height=0.62)
        for place, share in enumerate(shares):
            axes.annotate(percent(share, 2), (1, place), xytext=(5, 0), textcoords="offset points", va="center", color=MUTED)
        axes.set_yticks(places, [_short(name) for name in names])
        axes.set(xlim=(0, 1), ylim=(max(len(names), 3) - 0.4, -0.6), xticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        axes.set_title(title)

    return figure(draw, alt=alt, width=4.6, height=0.6 + 0.26 * max(len(names), 3))


def _place(value: float, kind: str) -> str:
    if kind == "moment":
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d}"
    return f"{value:.3g}" if abs(value) < 10_000 else f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.1e}"


def _short(words: str) -> str:
    words = " ".join(words.split()).replace("$", r"\$")  # a dollar sign would open matplotlib's formulas
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
