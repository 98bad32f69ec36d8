"""Standalone HTML pages: tables, key figures and plots in one file that loads nothing from elsewhere.

All text is escaped unless it is `Html`, which only the functions of this file make. A plot is drawn once and is legible
on light and dark: its colours are the palette's, which the page's style sheet maps to each scheme.
"""

from __future__ import annotations

import html
import io
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mainspring.core.wording import number

INK = "#1f2933"
MUTED = "#7b8794"
GRID = "#d9dee4"
BLUE = "#2f6db3"
ORANGE = "#c7711f"
GREEN = "#2f8f5b"
RED = "#c2453d"

_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", BLUE: "blue", ORANGE: "orange", GREEN: "green", RED: "red"}
_DARK = {
    "ink": "#e4e8ec",
    "muted": "#9aa5b1",
    "grid": "#36404b",
    "blue": "#6ea8e8",
    "orange": "#e89a4c",
    "green": "#5fc08a",
    "red": "#ec7a70",
}
_NUMERIC = re.compile(r"[-+−<>≤≥~]?\s*\d[^A-Za-z]*|–")
_DRAWING = threading.Lock()  # matplotlib's settings are global
_SETTINGS: dict[str, Any] = {
    "svg.hashsalt": "mainspring",
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE, GREEN, RED, MUTED]),
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "patch.edgecolor": "none",
    "lines.linewidth": 1.8,
}


class Html(str):
    """Markup that is already escaped."""

    __slots__ = ()


def page(title: str, parts: Iterable[str], *, subtitle: str = "") -> str:
    """A whole document of *parts* in their order; a part that isn't `Html` becomes a paragraph of escaped text.

    >>> "<h1>Churn &amp; more</h1>" in page("Churn & more", [text("All is well.")])
    True
    """
    body = "\n".join(part if isinstance(part, Html) else text(part) for part in parts)
    below = f'<p class="subtitle">{_escaped(subtitle)}</p>' if subtitle else ""
    return _PAGE.format(title=_escaped(title), style=_STYLE, subtitle=below, body=body)


def heading(words: str) -> Html:
    """The heading of a section."""
    return Html(f"<h2>{_escaped(words)}</h2>")


def text(sentence: str) -> Html:
    """A paragraph.

    >>> text("a < b")
    '<p>a &lt; b</p>'
    """
    return Html(f"<p>{_escaped(sentence)}</p>")


def bullets(sentences: Iterable[str]) -> Html:
    """A list of short sentences."""
    return Html("<ul>" + "".join(f"<li>{_escaped(sentence)}</li>" for sentence in sentences) + "</ul>")


def code(command: str) -> Html:
    """A command or a value to be copied as it is."""
    return Html(f"<pre><code>{_escaped(command)}</code></pre>")


def mark(passed: bool | None) -> Html:
    """A check's outcome as a word in its colour: passed, failed, or open for None."""
    word, colour = {True: ("passed", "green"), False: ("failed", "red"), None: ("open", "orange")}[passed]
    return Html(f'<span class="mark" style="color: var(--{colour})">{word}</span>')


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, caption: str = "") -> Html:
    """A table that scrolls inside itself; columns of numbers are aligned to the right, None is a dash.

    >>> "<td class=number>1,234</td>" in table(["city", "rows"], [("Bern", 1234)])
    True
    """
    cells = [[_shown(value) for value in row] for row in rows]
    columns = list(zip(*cells, strict=True)) or [()] * len(headers)
    kinds = [" class=number" if _numbers(column) else "" for _, column in zip(headers, columns, strict=True)]
    head = "".join(f"<th scope=col{kind}>{_escaped(header)}</th>" for header, kind in zip(headers, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{_escaped(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in cells
    )
    above = f"<caption>{_escaped(caption)}</caption>" if caption else ""
    scrolling = '<div class="scroll" tabindex="0">'  # reachable by keyboard, so that it can be scrolled
    return Html(f"{scrolling}<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")


def facts(pairs: Iterable[tuple[Any, ...]]) -> Html:
    """Key figures as tiles: (label, value) or (label, value, note)."""
    tiles = []
    for label, value, *note in pairs:
        below = f"<small>{_escaped(note[0])}</small>" if note and note[0] else ""
        tiles.append(f"<div><dt>{_escaped(label)}</dt><dd>{_escaped(_shown(value))}{below}</dd></div>")
    return Html(f'<dl class="facts">{"".join(tiles)}</dl>')


def meter(share: float, words: str) -> Html:
    """A share as a bar of that length, with its *words*.

    >>> meter(0.25, "25 %")
    '<span class="meter" style="--share: 25.0%">25 %</span>'
    """
    return Html(f'<span class="meter" style="--share: {100 * min(max(share, 0.0), 1.0):.1f}%">{_escaped(words)}</span>')


def bars(counts: Sequence[float], alt: str) -> Html:
    """A small histogram in a line of text; *alt* says what it shows."""
    most, width = max([*counts, 1e-12]), 100 / max(1, len(counts))
    drawn = "".join(
        f'<rect x="{place * width:.2f}" y="{24 - 24 * size / most:.2f}" width="{0.88 * width:.2f}" '
        f'height="{24 * size / most:.2f}"/>'
        for place, size in enumerate(counts)
    )
    label = f'role="img" aria-label="{_escaped(alt)}"'
    return Html(f'<svg class="bars" viewBox="0 0 100 24" preserveAspectRatio="none" {label}>{drawn}</svg>')


def side_by_side(parts: Iterable[Html]) -> Html:
    """Parts beside each other where there is room, below each other where there is none."""
    return Html('<div class="beside">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>")


def figure(draw: Callable[[Axes], None], *, alt: str, width: float = 7, height: float = 3.2, caption: str = "") -> Html:
    """What *draw* puts on an Axes, as inline SVG of *width* x *height* inches; *alt* says it in words.

    The same drawing gives the same bytes. Colours other than this file's palette stay as they are on light and dark.
    """
    buffer = io.StringIO()
    with _DRAWING, matplotlib.rc_context(_SETTINGS):
        sheet = Figure(figsize=(width, height), layout="tight")
        draw(sheet.add_subplot())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a category in a script that this font doesn't have
            layout = sheet.get_layout_engine()
            if layout is not None:
                layout.execute(sheet)  # once: savefig would do it twice
            sheet.set_layout_engine("none")
            sheet.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    below = f"<figcaption>{_escaped(caption)}</figcaption>" if caption else ""
    drawing = _themed(buffer.getvalue(), alt, width)
    return Html(f'<figure><div class="scroll" tabindex="0">{drawing}</div>{below}</figure>')


def _numbers(column: Sequence[str]) -> bool:
    return bool(column) and all(not isinstance(cell, Html) and _NUMERIC.fullmatch(cell) for cell in column)


def _shown(value: Any) -> str:
    value = value.item() if hasattr(value, "item") else value  # numpy's numbers
    if isinstance(value, str):
        return value
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return number(float(value)) if isinstance(value, float) else str(value)


def _escaped(words: Any) -> str:
    return words if isinstance(words, Html) else html.escape(str(words))


def _themed(svg: str, alt: str, width: float) -> str:
    """The drawing without header, metadata and addresses, its colours as the page's variables."""
    svg = svg[svg.index("<svg") :]
    opening, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    rest = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", rest, flags=re.DOTALL)
    for colour, name in _VARIABLES.items():
        rest = rest.replace(colour, f"var(--{name})")
    style = f"min-width: {width * 74:.0f}px; max-width: {width * 100:.0f}px"
    shape = f'<svg {box[0] if box else ""} role="img" aria-label="{_escaped(alt)}" style="{style}">'
    return shape + rest.rstrip()


def _scheme(colours: dict[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


_LIGHT = {name: colour for colour, name in _VARIABLES.items()}
_STYLE = f"""
:root {{ color-scheme: light dark; {_scheme(_LIGHT)} --paper: #ffffff; --tile: #f4f6f8; }}
@media (prefers-color-scheme: dark) {{ :root {{ {_scheme(_DARK)} --paper: #14181d; --tile: #1d232a; }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, sans-serif; }}
main {{ max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }}
h1 {{ font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.15rem; margin: 2.4rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--grid); }}
p, ul {{ max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }}
ul {{ padding-left: 1.2rem; }}
.subtitle, figcaption, caption, small, dt {{ color: var(--muted); }}
.scroll {{ overflow-x: auto; }}
.scroll:focus-visible {{ outline: 2px solid var(--blue); }}
table {{ border-collapse: collapse; font-size: .92rem; margin: .6rem 0; min-width: min(100%, 24rem); }}
caption {{ text-align: left; padding-bottom: .4rem; }}
th, td {{ text-align: left; vertical-align: top; padding: .32rem 1.1rem .32rem 0; }}
th, td {{ border-bottom: 1px solid var(--grid); }}
td:first-child {{ min-width: 8.5rem; }}
th {{ font-weight: 600; white-space: nowrap; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.mark {{ font-weight: 600; }}
.facts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(7.8rem, 1fr)); gap: .7rem; margin: 1rem 0; }}
.facts > div {{ background: var(--tile); border-radius: .5rem; padding: .7rem .9rem; }}
dt {{ font-size: .82rem; }}
dd {{ margin: 0; font-size: 1.25rem; font-weight: 600; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }}
dd small {{ display: block; font-size: .8rem; font-weight: 400; }}
.meter {{ display: inline-block; min-width: 5rem; padding: 0 .3rem; text-align: right; border-radius: .2rem;
  background: linear-gradient(90deg, color-mix(in srgb, var(--blue) 32%, transparent) var(--share), transparent 0); }}
.bars {{ width: 7rem; height: 1.5rem; fill: var(--blue); vertical-align: middle;
  border-bottom: 1px solid var(--grid); }}
.beside {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 0 1.5rem; }}
.beside > div {{ min-width: 0; }}
figure {{ margin: 1rem 0; }}
figure svg {{ display: block; width: 100%; height: auto; }}
svg text {{ font-family: inherit !important; }}
figcaption {{ font-size: .88rem; max-width: 46rem; }}
pre {{ background: var(--tile); border-radius: .5rem; padding: .7rem .9rem; overflow-x: auto; font-size: .88rem; }}
@media print {{
  :root {{ {_scheme(_LIGHT)} --paper: #ffffff; --tile: #ffffff; color-scheme: light; }}
  main {{ max-width: none; padding: 0; }}
  figure, tr, .facts {{ break-inside: avoid; }}
  h2 {{ break-after: avoid; }}
  .scroll {{ overflow: visible; }}
}}
"""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<header><h1>{title}</h1>{subtitle}</header>
{body}
</main>
</body>
</html>
"""
