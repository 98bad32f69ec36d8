"""The plots of a model card, each a function of an evaluation that gives inline SVG."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mainspring.core.values import Evaluation
from mainspring.core.wording import number
from mainspring.evaluation.card import confusion
from mainspring.evaluation.data_plots import correlations
from mainspring.statistics.metrics import Predictions
from mainspring.statistics.weighted import Array
from mainspring.store.pages import BLUE, INK, MUTED, ORANGE, Html, figure

POINTS = 400
"""Points of a curve or a cloud: enough for the eye, few enough for a small file."""
BARS = 15
HALF = 4.6


def plot(name: str, evaluation: Evaluation) -> Html:
    """The plot called *name* of *evaluation*."""
    return _PLOTS[name](evaluation)


def roc(evaluation: Evaluation) -> Html:
    """True against false positive rate, the champion's beside."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        if evaluation.champion is not None and evaluation.champion.probabilities is not None:
            axes.plot(*_roc(evaluation, evaluation.champion), color=ORANGE, label="champion")
        axes.plot(*_roc(evaluation, evaluation.candidate), color=BLUE, label="candidate")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(loc="lower right")
        axes.grid(True)

    area = evaluation.metrics.get("roc_auc", (float("nan"),))[0]
    return figure(draw, alt=f"ROC curve; the area under it is {number(area, 4)}", width=HALF, height=3.6)


def _roc(evaluation: Evaluation, said: Predictions) -> tuple[Array, Array]:
    order = np.argsort(-said.scores(), kind="stable")
    scores, positive = said.scores()[order], (said.codes(evaluation.target) == 1)[order]
    ends = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    hits, false = np.cumsum(positive)[ends], np.cumsum(~positive)[ends]
    keep = np.unique(np.linspace(0, len(ends) - 1, min(POINTS, len(ends))).astype(int))
    rates = [np.append(0.0, part[keep] / max(part[-1], 1)) for part in (false, hits)]
    return rates[0], rates[1]


def calibration(evaluation: Evaluation) -> Html:
    """Observed rates with their intervals against the predicted probabilities."""
    curve = evaluation.calibration

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        spread = np.maximum([curve.observed_rate - curve.low, curve.high - curve.observed_rate], 0)
        places = curve.mean_predicted
        axes.errorbar(places, curve.observed_rate, spread, fmt="o-", color=BLUE, markersize=4, elinewidth=1.2)
        axes.set(
            xlabel="predicted probability",
            ylabel="observed rate",
            title="Calibration",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
        )
        axes.grid(True)

    alt = f"Calibration curve with 95 % intervals; the mean distance is {number(curve.ece, 2)}"
    return figure(draw, alt=alt, width=HALF, height=3.6)


def confusion_matrix(evaluation: Evaluation) -> Html:
    """Shares of each true class by what the model said."""
    counts = confusion(evaluation)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_short(str(name)) for name in evaluation.bundle.classes]
    side = min(2.4 + 0.55 * len(names), 7.0)
    crowded = max(map(len, names)) * 0.085 > (side - 1.2) / len(names)  # inches

    def draw(axes: Axes) -> None:
        for (down, across), share in np.ndenumerate(shares):
            shade = 0.06 + 0.6 * float(share)
            axes.add_patch(Rectangle((across - 0.48, down - 0.48), 0.96, 0.96, facecolor=BLUE, alpha=shade))
            axes.text(across, down, f"{100 * share:.0f} %", ha="center", va="center", color=INK)
        places, ends = range(len(names)), (-0.5, len(names) - 0.5)
        axes.set(xlim=ends, ylim=ends)
        axes.set(xlabel="said", ylabel="true", title="Confusion, in % of each true class", xticks=places, yticks=places)
        axes.set_xticklabels(names, rotation=30 if crowded else 0)
        axes.set_yticklabels(names)
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    return figure(draw, alt="Confusion matrix; the table above has its figures", width=side + 0.6, height=side)


def predicted(evaluation: Evaluation) -> Html:
    """Predicted against actual values, a sample of rows."""
    places = _sample(evaluation.rows)
    actual, said = evaluation.target[places].astype(float), evaluation.candidate.values[places]

    def draw(axes: Axes) -> None:
        ends = [min(actual.min(), said.min()), max(actual.max(), said.max())]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.scatter(actual, said, color=BLUE, s=12, alpha=0.45, linewidths=0)
        axes.set(xlabel="actual", ylabel="predicted", title="Predicted against actual")
        axes.grid(True)

    return figure(draw, alt="Predicted against actual values of a sample of the holdout", width=HALF, height=3.6)


def residuals(evaluation: Evaluation) -> Html:
    """How the errors are distributed, the champion's as a line."""
    errors = evaluation.candidate.values - evaluation.target
    low, high = np.quantile(errors, [0.005, 0.995])
    edges = np.linspace(low, high, 31) if high > low else np.linspace(low - 1, high + 1, 31)

    def draw(axes: Axes) -> None:
        axes.hist(np.clip(errors, edges[0], edges[-1]), bins=edges.tolist(), color=BLUE, alpha=0.55, label="candidate")
        if evaluation.champion is not None:
            before = np.clip(evaluation.champion.values - evaluation.target, edges[0], edges[-1])
            axes.hist(before, bins=edges.tolist(), histtype="step", color=ORANGE, linewidth=1.6, label="champion")
            axes.legend()
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set(xlabel="predicted minus actual", ylabel="rows", title="Residuals")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(True, axis="y")

    return figure(draw, alt="Histogram of predicted minus actual values", width=HALF, height=3.6)


def slices(evaluation: Evaluation) -> Html:
    """The metric of each slice with its interval, and the champion's."""
    shown = evaluation.slices[:40]
    overall = evaluation.metrics[evaluation.metric][0]

    def draw(axes: Axes) -> None:
        places = np.arange(len(shown))
        score = np.array([part.score for part in shown])
        spread = [score - [part.low for part in shown], np.array([part.high for part in shown]) - score]
        axes.axvline(overall, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.errorbar(score, places, xerr=np.maximum(spread, 0), fmt="o", color=BLUE, markersize=4.5, label="candidate")
        if evaluation.champion is not None:
            before = [np.nan if part.champion_score is None else part.champion_score for part in shown]
            axes.plot(before, places, "|", color=ORANGE, markersize=10, markeredgewidth=2, label="champion")
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        axes.set_yticks(places, [f"{_short(part.column)} = {_short(part.value)}" for part in shown])
        axes.invert_yaxis()
        axes.set(xlabel=f"{evaluation.metric} with 95 % intervals; dashed: all rows")
        axes.grid(True, axis="x")

    return figure(draw, alt=f"{evaluation.metric} by slice; the table has its figures", height=0.9 + 0.26 * len(shown))


def importance(evaluation: Evaluation) -> Html:
    """What shuffling a column costs, most first."""
    shown = evaluation.importance[:BARS]

    def draw(axes: Axes) -> None:
        axes.barh(np.arange(len(shown)), [drop for _, drop in shown], color=BLUE, alpha=0.75, height=0.62)
        axes.set_yticks(np.arange(len(shown)), [_short(name) for name, _ in shown])
        axes.invert_yaxis()
        axes.set(xlabel=f"loss of {evaluation.metric} when shuffled")
        axes.grid(True, axis="x")

    return figure(draw, alt="Importance of columns; the table has its figures", height=0.8 + 0.26 * len(shown))


def _sample(rows: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.unique(np.linspace(0, rows - 1, min(rows, POINTS)).astype(np.int64))


def _short(words: str, most: int = 24) -> str:
    # a dollar sign would open matplotlib's formulas
    words = " ".join(words.split()).replace("$", r"\$")
    return words if len(words) <= most else words[: most - 1] + "…"


_PLOTS: dict[str, Callable[[Evaluation], Html]] = {
    "roc": roc,
    "calibration": calibration,
    "confusion": confusion_matrix,
    "predicted": predicted,
    "residuals": residuals,
    "slices": slices,
    "importance": importance,
    "correlations": lambda evaluation: correlations(evaluation.facts["quality"]),
}
