"""The candidate beside the champion, or the dummy, on the same rows by the primary metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mainspring.core.declarations import Gate
from mainspring.core.values import Evaluation
from mainspring.core.wording import count, number, percent
from mainspring.evaluation.holdout import Labels
from mainspring.statistics.intervals import normal_quantile
from mainspring.statistics.metrics import Metric, metric
from mainspring.statistics.paired_tests import Difference, paired_difference, smallest_margin

_ROUNDING = 1e-12
"""Metrics whose size says nothing by itself: their margin is a share of the champion's value."""


FEWEST = 10
"""Rows (or entities) below which nothing is compared: no interval means anything there."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Whether the candidate is good enough (None: these rows can't tell), in a sentence and in figures.

    *no_worse*: the point estimate isn't worse than the champion's.
    """

    passed: bool | None
    reason: str
    no_worse: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)


def primary(evaluation: Evaluation) -> Metric:
    """The metric that the evaluation is judged by."""
    return metric(evaluation.metric, evaluation.bundle.task)


def margin(of: Metric, rule: Gate, champion: float) -> float:
    """The gate's margin in the metric's own points."""
    return rule.margin * of.scale(champion)


def _margin_in_words(of: Metric, rule: Gate, champion: float) -> str:
    if of.in_the_targets_unit:
        return f"{number(margin(of, rule, champion))} ({percent(rule.margin)} of the champion's {of.name})"
    return f"{rule.margin:g}"


def beats_dummy(evaluation: Evaluation, rule: Gate, alpha: float) -> Comparison:
    """Whether a first candidate is better than a model that knows the training target only."""
    name, (value, low, high) = evaluation.metric, evaluation.metrics[evaluation.metric]
    if _cases(evaluation) < FEWEST:
        return Comparison(None, _too_few(evaluation))
    sign = 1.0 if primary(evaluation).greater_is_better else -1.0
    gap = sign * (value - evaluation.baseline)
    if math.isnan(gap):
        return Comparison(None, _undefined(evaluation))
    side = max(
        value - low if sign > 0 else high - value, _perfection(evaluation, 0.025) if value == low == high else 0.0
    )
    figures = {"gain_over_dummy": gap}
    if math.isnan(side):
        return Comparison(
            None, f"{name} {number(value, 4)} has no interval on {evaluation.rows:,} rows: too few to tell."
        )
    bound = gap - side * normal_quantile(1 - alpha) / normal_quantile(0.975)
    said = f"{name} {number(value, 4)} against the dummy's {number(evaluation.baseline, 4)}"
    confidence = percent(1 - alpha, 4)
    figures["gain_over_dummy_low"] = bound
    if bound > 0:
        return Comparison(
            True, f"{said}: better by at least {number(bound)} with {confidence} confidence.", True, figures
        )
    if gap <= 0:
        return Comparison(False, f"{said}: a model that knows nothing is as good.", False, figures)
    needed = math.ceil(evaluation.rows * (1 - bound / gap) ** 2)
    reason = (
        f"{said}: better by {number(gap)}, but {evaluation.rows:,} holdout rows don't show it with {confidence} "
        f"confidence; about {needed:,} would."
    )
    return Comparison(None, reason, True, figures)


def not_worse(evaluation: Evaluation, rule: Gate, alpha: float) -> Comparison:
    """Whether the candidate is worse than the champion by less than the margin, or (margin 0) better."""
    if evaluation.champion is None:
        fault = evaluation.facts.get("champion_fault", "it gave no predictions")
        mend = f"release the candidate all the same by `mainspring promote {evaluation.bundle.loop}`"
        return Comparison(None, f"The champion can't be compared on this holdout: {fault}; {mend}.")
    found = paired_difference(
        _metric(evaluation),
        evaluation.target,
        evaluation.champion,
        evaluation.candidate,
        alpha,
        evaluation.clusters,
        superiority=rule.margin == 0,
    )
    if math.isnan(found.low):
        return Comparison(None, _undefined(evaluation), found.estimate >= 0)
    if _cases(evaluation) < FEWEST:
        return Comparison(None, _too_few(evaluation), found.estimate >= 0)
    before = evaluation.champion_metrics[evaluation.metric][0]
    allowed = margin(primary(evaluation), rule, before)
    shown = _can_show(evaluation, found, alpha)
    figures = {"difference": found.estimate, "difference_low": found.low, "margin": allowed, "smallest_margin": shown}
    passed = _passes(found, allowed, shown)
    reason = _compared(evaluation, found, before, alpha)
    if allowed == 0:
        reason += " Margin 0 asks for better: " + ("shown." if passed else "not shown.")
    else:
        conclusion = _conclusion(passed, found, allowed, shown, evaluation.rows)
        reason += f" The margin is {_margin_in_words(primary(evaluation), rule, before)}: {conclusion}"
    reason += _below_the_dummy(evaluation)
    return Comparison(passed, reason, found.estimate >= 0, figures)


def _below_the_dummy(evaluation: Evaluation) -> str:
    """A word on a candidate that may well be better than the champion, and no better than knowing nothing."""
    sign = 1.0 if primary(evaluation).greater_is_better else -1.0
    if not sign * (evaluation.metrics[evaluation.metric][0] - evaluation.baseline) <= 0:
        return ""
    return (
        f" A dummy that knows the training target only has {number(evaluation.baseline, 4)}: on these rows the "
        "candidate is no better than knowing nothing."
    )


def _passes(found: Difference, margin: float, shown: float) -> bool | None:
    """None where the holdout is too small for the margin, and shows neither that it is better nor that it is worse."""
    if margin == 0 or found.low > 0:
        return found.low > 0
    if shown <= margin:
        return found.non_inferior(margin)
    highest = 2 * found.estimate - found.low
    return False if highest < -margin else None


def _can_show(evaluation: Evaluation, found: Difference, alpha: float) -> float:
    """The smallest margin that this holdout shows an equally good candidate to keep, in four cases of five."""
    by_error = max(smallest_margin(found.standard_error, alpha), found.estimate - found.low)
    certain = found.standard_error == 0 and found.method != "identical predictions"
    return max(by_error, _perfection(evaluation, alpha)) if certain else by_error


def _perfection(evaluation: Evaluation, alpha: float) -> float:
    """How far from perfect a metric may be that rows without any error give: z^2 / (n + z^2) of the rarest class.

    Variance estimates are 0 there, which would make five rows prove anything.
    """
    if evaluation.bundle.task == "regression":
        return 0.0
    rarest = int(np.unique(evaluation.target, return_counts=True)[1].min())
    square = normal_quantile(1 - alpha) ** 2
    return square / (rarest + square)


def _compared(evaluation: Evaluation, found: Difference, champion: float, alpha: float) -> str:
    entities = "rows" if evaluation.clusters is None else "entities"
    worst = f"better by at least {number(found.low)}" if found.low > 0 else f"at most {number(-found.low)} worse"
    return (
        f"{evaluation.metric} {number(evaluation.metrics[evaluation.metric][0], 4)} against the champion's "
        f"{number(champion, 4)} ({found.n:,} {entities}, {found.method}): {_direction(found.estimate)}, and {worst} "
        f"with {percent(1 - alpha, 4)} confidence."
    )


def _direction(estimate: float) -> str:
    if abs(estimate) < _ROUNDING:
        return "equal"
    return f"{'better' if estimate > 0 else 'worse'} by {number(abs(estimate))}"


def _conclusion(passed: bool | None, found: Difference, margin: float, shown: float, rows: int) -> str:
    if passed is None:
        needed = math.ceil(rows * (shown / margin) ** 2)
        return f"{rows:,} holdout rows can show no margin below {number(shown)}; about {needed:,} rows are needed."
    if passed:
        return "better than the champion." if found.low > 0 else "as good as the champion."
    return "not shown to be as good." if 2 * found.estimate - found.low >= -margin else "shown to be worse."


def _cases(evaluation: Evaluation) -> int:
    """Rows, or entities where rows repeat one."""
    return evaluation.rows if evaluation.clusters is None else len(np.unique(evaluation.clusters))


def _too_few(evaluation: Evaluation) -> str:
    entities = "row" if evaluation.clusters is None else "entity"
    held = count(_cases(evaluation), entities, "entities" if entities == "entity" else "")
    return f"The holdout has {held} only; no verdict is given on fewer than {FEWEST}."


def _undefined(evaluation: Evaluation) -> str:
    classes = len(np.unique(evaluation.target))
    why = "it holds one class only" if evaluation.bundle.task != "regression" and classes < 2 else "it has too few rows"
    return f"{evaluation.metric} can't be judged on this holdout of {evaluation.rows:,} rows: {why}."


def _metric(evaluation: Evaluation) -> Metric:
    known = Labels(evaluation.target, evaluation.weight, evaluation.clusters)
    return known.weighing(primary(evaluation))
