"""Decides on a running A/B test or bandit, purely: guardrails first, then the assignment, then the declared outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mainspring.core.declarations import ABTest, Bandit, Canary, seconds
from mainspring.core.wording import count, duration, listed, percent
from mainspring.release import ramp
from mainspring.release.evidence import Evidence
from mainspring.release.outcome import Compared, OutcomeEvidence, compare
from mainspring.release.ramp import Action, Decided
from mainspring.store.deployments import Route

_LEAST_SHIFT = 0.05


@dataclass(slots=True)
class Experiment:
    """All evidence on one A/B test or bandit: what guards it, and what it is about."""

    guard: Evidence
    outcome: OutcomeEvidence

    @property
    def version(self) -> int:
        return self.guard.version

    @property
    def folds(self) -> int:
        return self.guard.folds

    @classmethod
    def begin(
        cls, version: int, revision: int, declaration: ABTest | Bandit, positions: Mapping[str, Mapping[str, int]]
    ) -> Experiment:
        guard = Evidence.begin(version, revision, guarded(declaration), positions)
        return cls(guard, OutcomeEvidence.begin(positions, declaration))

    def to_json(self) -> dict[str, Any]:
        return {**self.guard.to_json(), "outcome": self.outcome.to_json()}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Experiment:
        return cls(Evidence.from_json(state), OutcomeEvidence.from_json(state["outcome"]))


def first_share(declaration: ABTest | Bandit) -> float:
    """The candidate's share when the trial begins."""
    return declaration.shares[1] / 100 if isinstance(declaration, ABTest) else 0.5


def guarded(declaration: ABTest | Bandit) -> Canary:
    """The guardrails of *declaration* in the words of a canary of one step."""
    return Canary(
        steps=(100 * first_share(declaration), 100),
        min_units=declaration.min_units,
        alpha=declaration.alpha,
        objective=declaration.objective,
        guardrails=declaration.guardrails,
        slow=declaration.slow,
    )


def decide(experiment: Experiment, declaration: ABTest | Bandit, route: Route, now: datetime) -> Action:
    """The next action; the outcome decides only between arms that can be compared."""
    compared = compare(experiment.outcome, declaration)
    kind, reason = _decide(experiment, compared, declaration, route, now)
    figures = ramp.figures(experiment.guard, guarded(declaration), route, _mismatch_bar(declaration, route))
    del figures["thresholds"]["cleared"]  # an experiment has no steps to leave
    return Action(kind, reason, {**figures, "outcome": compared.data, "said": compared.text})


def _decide(
    experiment: Experiment, compared: Compared, declaration: ABTest | Bandit, route: Route, now: datetime
) -> Decided:
    guard = experiment.guard
    against = ramp.stop(guard, guarded(declaration), route)
    if against:
        return "rollback", against
    if route.holding:
        return "wait", f"held; {compared.text}; approve, promote or reject by hand"
    mismatch = ramp.mismatch(guard, route, _mismatch_bar(declaration, route))
    if mismatch:
        return "hold", mismatch
    missing = _missing(experiment, declaration, route, now)
    if not missing and compared.better is not None and isinstance(declaration, ABTest):
        word = "better" if compared.better else "worse"
        return ("promote" if compared.better else "rollback"), f"the candidate is {word}: {compared.text}"
    waited = (now - route.started).total_seconds()
    if waited > seconds(declaration.deadline):
        ended = "a bandit earns and doesn't decide" if isinstance(declaration, Bandit) else "undecided"
        return "hold", f"{ended}, after {duration(waited)}: {compared.text}; promote or reject by hand"
    if isinstance(declaration, Bandit):
        share = next_share(experiment, declaration)
        moved = (now - route.step_started).total_seconds() >= seconds(declaration.every)
        if moved and abs(share - route.share) >= _LEAST_SHIFT:
            moving = f"the candidate's share goes from {percent(route.share)} to {percent(share)}"
            return "shift", f"{moving}: {compared.text}"
    word = "earning" if isinstance(declaration, Bandit) else "undecided"
    return "wait", f"{listed(missing)}; {compared.text}" if missing else f"{word}: {compared.text}"


def next_share(experiment: Experiment, declaration: Bandit) -> float:
    """The chance that the candidate is the better arm, as far as is known, within the floor (Thompson sampling)."""
    if min(experiment.outcome.units()) < declaration.min_units:
        return first_share(declaration)
    above = experiment.outcome.difference.chance_above()
    more = declaration.outcome != "error" and declaration.goal == "more"
    return min(max(above if more else 1 - above, declaration.floor), 1 - declaration.floor)


def _mismatch_bar(declaration: ABTest | Bandit, route: Route) -> float:
    """The k-th share of a bandit has 1/(k(k+1)) of the alpha: however many there are, they spend it once."""
    k = route.step + 1
    return (1 if isinstance(declaration, ABTest) else k * (k + 1)) / ramp.MISMATCH_ALPHA


def _missing(experiment: Experiment, declaration: ABTest | Bandit, route: Route, now: datetime) -> list[str]:
    missing = []
    for name, units in zip(("champion", "candidate"), experiment.outcome.units(), strict=True):
        if units < declaration.min_units:
            missing.append(f"{units} of {count(declaration.min_units, f'{name} unit')} with an outcome")
    waited = (now - route.started).total_seconds()
    least = seconds(declaration.min_time) if isinstance(declaration, ABTest) else 0.0
    if waited < least:
        missing.append(f"{duration(waited)} of at least {duration(least)}")
    return missing
