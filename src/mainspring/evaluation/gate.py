"""The stage gate: may this bundle be released? One look at one holdout, decided by figures, said in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from mainspring.core.declarations import Gate, seconds
from mainspring.core.values import Check, Decision, Evaluation, Slice, Verdict
from mainspring.core.wording import count, listed, number, percent
from mainspring.evaluation.comparison import FEWEST, Comparison, beats_dummy, margin, not_worse, primary
from mainspring.evaluation.slices import JUDGED_ROWS
from mainspring.statistics.paired_tests import holm, spent_alpha

USES = 19
"""How often one holdout may decide; before the 20th use it has to be refreshed with newly labelled rows."""

Next = Literal["release", "canary", "hold", "ask"]


def gate(evaluate: Evaluation, *, rule: Gate, uses: int) -> Verdict:
    """Promotes a bundle that is shown to be as good as the champion within the margin, and gives the reasons.

    uses: k, how often this holdout has been used, this time included; the k-th use spends alpha / (k (k + 1)).
    The first bundle must beat the dummy. The margin is in the metric's points; for mae, rmse and median_ae, which are
    in the target's unit, it is a share of the champion's value: 0.01 allows 1 % more error. Margin 0 asks for
    superiority.
    A slice fails when it is shown worse than the champion (Holm over the slices) by more than the margin.
    A holdout too small for the margin is inconclusive, unless the bundle is shown to be better outright, or worse.
    """
    if evaluate.champion_digest == evaluate.bundle.digest:
        same = Check(
            "candidate",
            False,
            f"This bundle is the champion already ({evaluate.bundle.digest[:12]}): nothing to decide.",
        )
        return _verdict(evaluate, "hold", "hold", [same], None)
    budget = _budget(evaluate, rule, uses)
    if budget.passed is False:
        return _verdict(evaluate, "hold", "hold", [budget], None)
    comparison = (beats_dummy if evaluate.champion_digest is None else not_worse)(
        evaluate, rule, spent_alpha(rule.alpha, uses)
    )
    checks = [
        Check(evaluate.metric, comparison.passed, comparison.reason),
        *_floor(evaluate, rule),
        *_rare_classes(evaluate),
        *_slices(evaluate, rule),
        *_latency(evaluate, rule),
        *_size(evaluate, rule),
        budget,
    ]
    if any(check.passed is False for check in checks):
        return _verdict(evaluate, "hold", "hold", checks, comparison)
    if comparison.passed is None:
        then, why = _when_inconclusive(evaluate, rule, comparison)
        checks.append(Check("next", None, why))
        return _verdict(evaluate, "inconclusive", _asked(rule, then), checks, comparison)
    return _verdict(evaluate, "promote", _asked(rule, "release"), checks, comparison)


def _asked(rule: Gate, then: Next) -> Next:
    """What is let through waits for a person, where the gate asks for one."""
    return "ask" if rule.approval and then != "hold" else then


def _budget(evaluation: Evaluation, rule: Gate, uses: int) -> Check:
    holdout = evaluation.holdout_id[:12]
    if uses > USES:
        reason = (
            f"Holdout {holdout} would decide for the {uses}th time; after {USES} uses its budget is spent. "
            "Refresh the holdout with newly labelled rows."
        )
        return Check("holdout budget", False, reason)
    spent, whole = percent(spent_alpha(rule.alpha, uses)), percent(rule.alpha)
    reason = f"Use {uses} of {USES} of holdout {holdout}: it spends {spent} of the {whole} risk; {USES - uses} left."
    return Check("holdout budget", True, reason)


def _rare_classes(evaluation: Evaluation) -> list[Check]:
    """A word on classes of which the holdout has so few rows that nobody knows how well they are found."""
    classes = evaluation.candidate.classes
    rows = np.bincount(evaluation.candidate.codes(evaluation.target), minlength=len(classes))
    few = [f"{one!r} ({many:,})" for one, many in zip(classes, rows, strict=False) if many < FEWEST]
    if not few or len(evaluation.target) < FEWEST:
        return []
    told = f"Fewer than {FEWEST} holdout rows have class {listed(few)}: how well it is found isn't known."
    return [Check("rare classes", None, told if len(few) == 1 else told.replace("it is found", "they are found"))]


def _floor(evaluation: Evaluation, rule: Gate) -> list[Check]:
    """The floor (a ceiling for a loss) that holds whatever the champion does."""
    if rule.at_least is None:
        return []
    value, metric = evaluation.metrics[evaluation.metric][0], primary(evaluation)
    if math.isnan(value):
        return [
            Check(
                "at least",
                None,
                f"{metric.name} is undefined on this holdout, so at_least={rule.at_least:g} can't be judged.",
            )
        ]
    passed = value >= rule.at_least if metric.greater_is_better else value <= rule.at_least
    bound = "at least" if metric.greater_is_better else "at most"
    verb = "is" if passed else "is not"
    return [
        Check(
            "at least",
            passed,
            f"{metric.name} {number(value, 4)} {verb} {bound} the {rule.at_least:g} that the gate asks for.",
        )
    ]


def _slices(evaluation: Evaluation, rule: Gate) -> list[Check]:
    judged = [part for part in evaluation.slices if part.rows >= JUDGED_ROWS and part.p_worse is not None]
    if not evaluation.slices or evaluation.champion is None:
        return []
    if not judged:
        return [Check("slices", None, f"No slice has {JUDGED_ROWS} rows, so none is judged.")]
    adjusted = holm([part.p_worse if part.p_worse is not None else math.nan for part in judged])
    worse = [(part, p) for part, p in zip(judged, adjusted, strict=True) if p < rule.alpha]
    failed = [(part, p) for part, p in worse if _loss(evaluation, part) > _slice_margin(evaluation, rule, part)]
    checks = [Check(f"slice {part.column} = {part.value}", False, _worse(evaluation, part, p)) for part, p in failed]
    if failed:
        return checks
    within = f", or by no more than the margin ({count(len(worse), 'slice')})" if worse else ""
    lowest, part = min(zip(adjusted, judged, strict=True), key=lambda pair: pair[0])
    reason = (
        f"None of {count(len(judged), 'slice')} is shown worse than the champion{within}; "
        f"nearest is {part.column} = {part.value} (adjusted p = {number(lowest, 2)})."
    )
    return [Check("slices", True, reason)]


def _loss(evaluation: Evaluation, part: Slice) -> float:
    """How much worse than the champion the slice is."""
    before = part.champion_score if part.champion_score is not None else math.nan
    return before - part.score if primary(evaluation).greater_is_better else part.score - before


def _slice_margin(evaluation: Evaluation, rule: Gate, part: Slice) -> float:
    return margin(primary(evaluation), rule, part.champion_score or 0.0)


def _worse(evaluation: Evaluation, part: Slice, p: float) -> str:
    return (
        f"Where {part.column} is {part.value} ({count(part.rows, 'row')}), {evaluation.metric} is "
        f"{number(part.score, 4)} against the champion's {number(part.champion_score, 4)}: "
        f"shown worse (adjusted p = {number(p, 2)})."
    )


def _latency(evaluation: Evaluation, rule: Gate) -> list[Check]:
    if rule.max_latency is None:
        return []
    limit, p95 = 1000 * seconds(rule.max_latency), evaluation.latency_ms["p95"]
    passed = p95 <= limit
    verb = "within" if passed else "beyond"
    return [Check("latency", passed, f"One prediction takes {number(p95)} ms (p95), {verb} the limit of {limit:g} ms.")]


def _size(evaluation: Evaluation, rule: Gate) -> list[Check]:
    if rule.max_size is None:
        return []
    size = evaluation.bundle.size_bytes / 1e6
    passed = size <= rule.max_size
    verb = "within" if passed else "beyond"
    return [Check("size", passed, f"The bundle has {number(size)} MB, {verb} the limit of {rule.max_size:g} MB.")]


def _when_inconclusive(evaluation: Evaluation, rule: Gate, comparison: Comparison) -> tuple[Next, str]:
    if evaluation.champion_digest is None:
        return (
            "hold",
            "There is no champion to stand beside in a canary: the candidate waits for rows or `mainspring promote`.",
        )
    if rule.on_inconclusive is not None:
        return (
            rule.on_inconclusive,
            f"The gate is told to answer an inconclusive comparison with a {rule.on_inconclusive}.",
        )
    if comparison.no_worse:
        return (
            "canary",
            "The candidate doesn't look worse, so a canary gathers the evidence that the holdout can't give.",
        )
    return "hold", "Nothing says that the candidate is as good as the champion, so it is held."


def _verdict(
    evaluation: Evaluation, decision: Decision, then: Next, checks: Sequence[Check], comparison: Comparison | None
) -> Verdict:
    """The verdict; its reasons begin with what decided."""
    order = {"hold": (False, None, True), "inconclusive": (None, False, True), "promote": (True, None, False)}[decision]
    reasons = tuple(check.reason for state in order for check in checks if check.passed is state)
    figures = {name: value[0] for name, value in evaluation.metrics.items()}
    _, low, high = evaluation.metrics[evaluation.metric]
    figures |= {f"{evaluation.metric}_low": low, f"{evaluation.metric}_high": high}
    figures |= {f"champion_{name}": value[0] for name, value in evaluation.champion_metrics.items()}
    figures |= {"baseline": evaluation.baseline, "latency_p95_ms": evaluation.latency_ms.get("p95", math.nan)}
    figures |= {} if comparison is None else comparison.figures
    return Verdict(
        decision=decision,
        next=then,
        reasons=reasons,
        checks=tuple(checks),
        bundle=evaluation.bundle,
        champion_digest=evaluation.champion_digest,
        metrics={name: float(value) for name, value in figures.items() if math.isfinite(value)},
    )
