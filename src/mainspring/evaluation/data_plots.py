"""The rows that a model was made of, as a page shows them: gaps, distributions and moves by column, correlations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from mainspring.core.wording import number, percent
from mainspring.store import pages
from mainspring.store.pages import BLUE, INK, ORANGE, Html, figure

_LONGEST = 22
_LABELLED = 12
"""So many columns, and the cells of a correlation matrix have room for their figures."""

Quality = Mapping[str, Any]


def columns(quality: Quality) -> Html:
    """A line per column: missing values, distribution, and how far it moved since the version before."""
    since = quality["since"]
    headers = [
        "column",
        "distinct",
        "missing",
        "distribution",
        "",
        *([f"moved since {since['version']}"] if since else []),
    ]
    rows = [_line(column, since) for column in quality["columns"]]
    return pages.table(headers, rows)


def _line(column: Mapping[str, Any], since: Mapping[str, Any] | None) -> list[Any]:
    line = [column["name"], column["distinct"], pages.meter(column["missing"], percent(column["missing"], 2))]
    if column["kind"] == "hidden":
        line += ["", "not shown"]
    else:
        counts = column["counts"][:-1] if column["kind"] == "text" and not column["counts"][-1] else column["counts"]
        line += [pages.bars(counts, f"distribution of {column['name']}"), _range(column)]
    far = None if since is None else since["moved"].get(column["name"])
    return [*line, *([] if since is None else ["–" if far is None else pages.meter(far, percent(far, 2))])]


def _range(column: Mapping[str, Any]) -> str:
    if column["kind"] == "text":
        more = column["distinct"] - len(column["levels"])
        first = ", ".join(_short(level) for level in column["levels"][:2])
        return first + (f" and {column['distinct'] - 2:,} more" if column["distinct"] > 2 or more > 0 else "")
    ends = column["edges"][0], column["edges"][-1]
    if column["kind"] == "moment":
        return " to ".join(f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d}" for end in ends)
    return " to ".join(number(end) for end in ends)


def correlations(quality: Quality) -> Html:
    """Rank correlations of numbers: blue together, orange against each other."""
    names, matrix = quality["correlations"]["names"], quality["correlations"]["matrix"]

    def draw(axes: Axes) -> None:
        known = [
            (across, down, value)
            for down, line in enumerate(matrix)
            for across, value in enumerate(line[:down])
            if value is not None
        ]
        squares = [Rectangle((across - 0.46, down - 0.46), 0.92, 0.92) for across, down, _ in known]
        colours = [(BLUE if value > 0 else ORANGE, 0.08 + 0.85 * abs(value)) for _, _, value in known]
        axes.add_collection(PatchCollection(squares, facecolors=colours, edgecolors="none"))
        for across, down, value in known if len(names) <= _LABELLED else ():
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


def _short(words: str) -> str:
    words = " ".join(words.split()).replace("$", r"\$")  # a dollar sign would open matplotlib's formulas
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"
