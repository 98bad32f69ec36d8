"""Decides on a running canary, purely: the same evidence always gives the same action, with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from mainspring.core.declarations import Canary, seconds
from mainspring.core.strategies import business_event
from mainspring.core.wording import count, duration, listed, number, percent
from mainspring.core.wording import evidence as shown
from mainspring.release.evidence import HARD_STOP_RATE, Evidence, Guardrail, margin
from mainspring.store.deployments import Route

ENOUGH = 20.0
"""The e-value at which a step may be left: a wrong "not worse" has a chance of 1 in 20."""
_HARD_STOP_UNITS = 20
MISMATCH_ALPHA = 0.01
"""The chance that a release whose units are assigned as planned is held for a sample-ratio mismatch."""


Kind = Literal["wait", "advance", "shift", "canary", "promote", "rollback", "hold"]


@dataclass(frozen=True, slots=True)
class Action:
    """What to do with the version on trial now, why, and the figures behind it; "canary": a shadow becomes one."""

    kind: Kind
    reason: str
    data: dict[str, Any] = field(default_factory=dict)


def decide(evidence: Evidence, declaration: Canary, route: Route, now: datetime) -> Action:
    """The next action for the canary of *route*; silence never promotes."""
    kind, reason = _decide(evidence, declaration, route, now)
    return Action(kind, reason, figures(evidence, declaration, route, len(declaration.steps) / MISMATCH_ALPHA))


Decided = tuple[Kind, str]


def _decide(evidence: Evidence, declaration: Canary, route: Route, now: datetime) -> Decided:
    against = stop(evidence, declaration, route)
    if against:
        return "rollback", against
    if route.holding:
        return "wait", f"the ramp is held at {percent(route.share)}; promote or roll back by hand"
    found = mismatch(evidence, route, len(declaration.steps) / MISMATCH_ALPHA)
    if found:
        return "hold", found
    missing = _missing(evidence, declaration, route, now)
    if not missing:
        return _leave(evidence, declaration, route)
    waited = (now - route.step_started).total_seconds()
    if waited > seconds(declaration.deadline):
        return "hold", (
            f"the step at {percent(route.share)} has lasted {duration(waited)} without enough evidence: "
            f"{listed(missing)}; promote or roll back by hand"
        )
    return "wait", f"at {percent(route.share)} of the units: {listed(missing)}"


def stop(evidence: Evidence, declaration: Canary, route: Route) -> str | None:
    """Why the canary must go; None while nothing speaks against it."""
    bar = len(evidence.guardrails) / declaration.alpha
    for name, guardrail in evidence.guardrails.items():
        if guardrail.worse.e_value >= bar:
            return (
                f"{_named(name)}: {_affected(guardrail)} at {percent(route.share)} of the units; "
                f"e-value {shown(guardrail.worse.e_value)} that the canary is worse, {number(bar)} stop it"
            )
    if len(evidence.tried) >= _HARD_STOP_UNITS and evidence.crashed.e_value >= 1 / declaration.alpha:
        return (
            f"hard stop: {len(evidence.failed):,} of {count(len(evidence.tried), 'canary unit')} failed; "
            f"e-value {shown(evidence.crashed.e_value)} that more than {percent(HARD_STOP_RATE)} of the units fail"
        )
    return None


def mismatch(evidence: Evidence, route: Route, bar: float) -> str | None:
    """Why the arms can't be compared: units meet them otherwise than planned. Each step has its part of the alpha."""
    if evidence.ratio.e_value < bar:
        return None
    canary, champion = map(int, evidence.ratio.counts)
    return (
        f"sample-ratio mismatch: {canary:,} of {count(canary + champion, 'unit')} met the canary, "
        f"{percent(route.share)} were planned (e-value {shown(evidence.ratio.e_value)}, {number(bar)} hold the ramp); "
        "see by `mainspring doctor` whether the canary can be loaded, then promote or roll back by hand"
    )


def _missing(evidence: Evidence, declaration: Canary, route: Route, now: datetime) -> list[str]:
    """What the step still lacks before it may be left."""
    missing = []
    if len(evidence.units) < declaration.min_units:
        missing.append(f"{len(evidence.units)} of {count(declaration.min_units, 'canary unit')}")
    waited, minimum = (now - route.step_started).total_seconds(), seconds(declaration.min_time)
    if waited < minimum:
        missing.append(f"{duration(waited)} of at least {duration(minimum)}")
    for name, guardrail in evidence.guardrails.items():
        if not _cleared(guardrail):
            missing.append(f"{_named(name)} not cleared yet ({_clearance(guardrail)}; {number(ENOUGH)} are needed)")
    return missing


def _leave(evidence: Evidence, declaration: Canary, route: Route) -> Decided:
    proof = "; ".join(
        f"{_named(name)}: {_clearance(each)}, {_affected(each)}" for name, each in evidence.guardrails.items()
    )
    seen = f"after {count(len(evidence.units), 'canary unit')} at {percent(route.share)}: {proof}"
    following = route.step + 1
    if following >= len(declaration.steps) or declaration.steps[following] >= 100:
        return "promote", seen
    return "advance", f"to {percent(declaration.steps[following] / 100)} {seen}"


def _named(guardrail: str) -> str:
    """A business event by its name alone."""
    return business_event(guardrail) or guardrail


def _cleared(guardrail: Guardrail) -> bool:
    return guardrail.not_worse.e_value >= ENOUGH or guardrail.healthy.e_value >= ENOUGH


def _clearance(guardrail: Guardrail) -> str:
    """The stronger of the two ways out of a step."""
    not_worse, healthy = guardrail.not_worse, guardrail.healthy
    if not_worse.e_value >= healthy.e_value:
        return f"e-value {shown(not_worse.e_value)} of less than {not_worse.tolerated:g} times the champion's rate"
    return f"e-value {shown(healthy.e_value)} of a rate below {percent(healthy.bound)}"


def _affected(guardrail: Guardrail) -> str:
    return f"{count(guardrail.canary, 'canary unit')} and {count(guardrail.champion, 'champion unit')} affected"


def figures(evidence: Evidence, declaration: Canary, route: Route, mismatch_bar: float) -> dict[str, Any]:
    """What the release's page shows; thresholds: the e-values at which each of the bets acts."""
    return {
        "share": route.share,
        "step": route.step,
        "margin": margin(route.share),
        "units": len(evidence.units),
        "guardrails": {
            name: {
                "worse": each.worse.e_value,
                "not_worse": each.not_worse.e_value,
                "healthy": each.healthy.e_value,
                "canary_affected": each.canary,
                "champion_affected": each.champion,
            }
            for name, each in evidence.guardrails.items()
        },
        "thresholds": {
            "worse": len(evidence.guardrails) / declaration.alpha,
            "cleared": ENOUGH,
            "hard_stop": 1 / declaration.alpha,
            "sample_ratio": mismatch_bar,
        },
        "hard_stop": evidence.crashed.e_value,
        "sample_ratio": evidence.ratio.e_value,
        "slow_ms": evidence.slow_ms,
    }
