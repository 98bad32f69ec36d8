"""The model card as one standalone HTML page with its plots."""

from __future__ import annotations

from mainspring.core.values import Evaluation
from mainspring.evaluation.card import Bullets, Columns, Facts, Heading, Part, Plots, Table, Text, contents, title
from mainspring.evaluation.data_plots import columns
from mainspring.evaluation.plots import plot
from mainspring.store import pages


def card_html(evaluation: Evaluation) -> str:
    """The model card of *evaluation* as a page that loads nothing from elsewhere."""
    bundle = evaluation.bundle
    subtitle = f"{bundle.estimator}, {bundle.task}, bundle {bundle.digest[:12]}"
    return pages.page(title(evaluation), [_html(part, evaluation) for part in contents(evaluation)], subtitle=subtitle)


def _html(part: Part, evaluation: Evaluation) -> pages.Html:
    match part:
        case Heading(words):
            return pages.heading(words)
        case Text(sentence):
            return pages.text(sentence)
        case Bullets(sentences):
            return pages.bullets(sentences)
        case Facts(figures):
            return pages.facts(figures)
        case Table(headers, rows, caption):
            return pages.table(headers, rows, caption=caption)
        case Plots(names):
            return pages.side_by_side([plot(name, evaluation) for name in names])
        case Columns(quality):
            return columns(quality)
