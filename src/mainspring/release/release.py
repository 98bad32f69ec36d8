"""The release stage: a judged bundle becomes a version and gets its traffic; then its trial, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, Protocol

from mainspring.core.declarations import ABTest, Bandit, Canary, Immediate, Manual, Shadow
from mainspring.core.declarations import Release as Strategy
from mainspring.core.errors import RouteChanged
from mainspring.core.quantities import seconds
from mainspring.core.values import Release, Verdict
from mainspring.core.wording import percent
from mainspring.release import experiment, exposures, ramp, rewards, shadowing
from mainspring.release.desk import ENDED, EVIDENCE, Announce, Desk
from mainspring.release.evidence import Evidence
from mainspring.release.experiment import Experiment
from mainspring.release.ramp import Action
from mainspring.release.shadowing import ShadowEvidence
from mainspring.store.deployments import Deployments, Route, Trial, Version
from mainspring.store.home import Home
from mainspring.store.records import Records
from mainspring.store.shadows import Shadows

State = Literal["champion", "canary", "shadow", "waiting", "held"]
TRIALS: Mapping[type, Trial] = {Canary: "canary", Shadow: "shadow", ABTest: "A/B test", Bandit: "bandit"}

Positions = Mapping[str, Mapping[str, int]]


class _Tried(Protocol):
    """The evidence on a running trial."""

    @property
    def version(self) -> int: ...

    @property
    def folds(self) -> int: ...

    def to_json(self) -> dict[str, Any]: ...


def release(
    gate: Verdict,
    *,
    strategy: Strategy,
    loop: str,
    home: Home,
    run: str,
    now: datetime,
    seed: int = 0,
    announce: Announce | None = None,
) -> Release:
    """Register the bundle and do what the verdict and *strategy* say; all of it is one transaction.

    The first version takes all traffic at once. A bundle that is released already, was rolled back or rejected, stays
    so. seed: the loop's, from which a trial's salt derives: which units meet it is as repeatable as the rest.
    """
    deployments = Deployments(home)
    begun = beginning(home, loop)
    with deployments.transaction():
        number = deployments.register(
            loop, gate.bundle, run=run, champion_digest=gate.champion_digest, metrics=gate.metrics, at=now
        )
        version, route = deployments.version(loop, number), deployments.route(loop)
        state, reason = _place(gate, strategy, version, route)
        if version.state not in ("champion", "canary", "shadow") and not _told(deployments, version, run):
            deployments.decide(
                loop, at=now, kind="gate", decision=gate.decision, version=number,
                reason=" ".join(gate.reasons), data={"run": run, "next": gate.next},
            )  # fmt: skip
            desk = Desk(deployments, loop, now, announce)
            put(desk, version, route, state, reason, strategy, begun, seed)
        after = deployments.route(loop)
    share = 1.0 if state == "champion" else after.share if after is not None and after.canary == number else 0.0
    return Release(loop, number, gate.bundle, state, share, (*gate.reasons, reason))


def step(
    deployments: Deployments,
    records: Records,
    loop: str,
    declaration: Strategy,
    now: datetime,
    announce: Announce | None = None,
    seed: int = 0,
) -> Action:
    """One tick of a running trial: read the new evidence, decide, act. What was read is saved with what was done."""
    route = deployments.route(loop)
    if route is None or route.canary is None:
        return Action("wait", f"no {'canary' if route is None else route.strategy} is running")
    if isinstance(declaration, Shadow) and declaration.then is not None and route.strategy == "canary":
        declaration = declaration.then
    if TRIALS.get(type(declaration)) != route.strategy:
        return Action("wait", f"the loop declares {declaration}; promote or roll back version {route.canary} by hand")
    tried, folds, news, action = _look(deployments, records, route, declaration, now)
    if action.kind == "wait" and not news:
        return action
    try:
        with deployments.transaction():
            _still(deployments, loop, route, folds)
            desk = Desk(deployments, loop, now, announce)
            desk.look(route, action.data)
            if action.kind == "canary":
                _go_on(desk, action, route, declaration, records, seed)
            else:
                _act(desk, action, route, declaration, tried)
    except RouteChanged as change:
        return Action("wait", str(change))
    return action


def beginning(home: Home, loop: str) -> Positions:
    """Where a trial's evidence begins to read."""
    return {**exposures.beginning(Records(home, loop)), "shadows": Shadows(home, loop).end()}


def put(
    desk: Desk,
    version: Version,
    route: Route | None,
    state: State,
    reason: str,
    strategy: Strategy,
    begun: Positions,
    seed: int,
) -> None:
    """Give *version* the place that was chosen for it."""
    if state == "champion":
        desk.crown(version, route, reason)
    elif state in ("canary", "shadow"):
        assert route is not None
        begin = _beginner(version, strategy, begun)
        mirrored = strategy.share if isinstance(strategy, Shadow) else 0.0
        desk.begin(version, route, TRIALS[type(strategy)], first_share(strategy), reason, begin, seed, mirrored)
    else:
        desk.settle(version, state, reason)


def first_share(strategy: Strategy) -> float:
    """Of the units, to the candidate when its trial begins; a shadow answers nobody."""
    if isinstance(strategy, Canary):
        return strategy.steps[0] / 100
    return experiment.first_share(strategy) if isinstance(strategy, ABTest | Bandit) else 0.0


def _told(deployments: Deployments, version: Version, run: str) -> bool:
    """This run has released the version already, and was killed before it could say so."""
    decisions = deployments.decisions(version.loop)
    return any(each.kind == "gate" and each.version == version.number and each.data["run"] == run for each in decisions)


def _place(gate: Verdict, strategy: Strategy, version: Version, route: Route | None) -> tuple[State, str]:
    """The state the version should have, and why; pure."""
    name = f"version {version.number}"
    if version.state == "champion" or version.state == "canary" or version.state == "shadow":
        return version.state, f"{name} is {version.state} already"
    if version.state in ENDED:
        return "held", f"{name} was {version.state} before; `mainspring promote` releases it all the same"
    if gate.next == "hold":
        return "held", f"the gate holds {name} back; `mainspring approve {version.name}` releases it all the same"
    if gate.next == "ask":
        return "waiting", f"the gate asks for a person: {name} waits for `mainspring approve {version.name}`"
    return placed(strategy, version, route, sure=gate.next == "release")


def placed(strategy: Strategy, version: Version, route: Route | None, *, sure: bool = True) -> tuple[State, str]:
    """Where *strategy* puts a version that may be released; *sure*: the holdout could tell."""
    name = f"version {version.number}"
    if route is None or route.champion is None:
        return "champion", f"{name} is the first of this loop and takes all traffic"
    if isinstance(strategy, Manual):
        return "waiting", f"{name} waits for `mainspring promote {version.loop}`"
    if isinstance(strategy, Immediate):
        if not sure:
            return "waiting", f"the holdout can't tell and no canary is declared; {name} waits for `mainspring promote`"
        return "champion", f"{name} takes all traffic at once"
    if isinstance(strategy, Shadow):
        return "shadow", f"{name} shadows version {route.champion}: it sees each request and answers none"
    word = {Canary: "begins as canary", ABTest: "begins its A/B test", Bandit: "begins as a bandit's arm"}[
        type(strategy)
    ]
    return "canary", f"{name} {word} with {percent(first_share(strategy))} of the units"


def _beginner(version: Version, strategy: Strategy, begun: Positions) -> Callable[[int], _Tried]:
    """Makes the empty evidence of a trial, once the route's revision is known."""
    number = version.number
    if isinstance(strategy, Canary):
        return lambda revision: Evidence.begin(number, revision, strategy, begun)
    if isinstance(strategy, ABTest | Bandit):
        return lambda revision: Experiment.begin(number, revision, strategy, begun)
    assert isinstance(strategy, Shadow)
    regression = version.bundle.task == "regression"
    return lambda revision: ShadowEvidence.begin(number, revision, strategy, regression, begun)


def _look(
    deployments: Deployments, records: Records, route: Route, declaration: Strategy, now: datetime
) -> tuple[_Tried, int, bool, Action]:
    """The evidence with what is new, how often it was folded before, whether there is news, and what to do."""
    if isinstance(declaration, Shadow):
        shadow = _saved_shadow(deployments, records, route, declaration)
        folds = shadow.folds
        news = shadowing.read(Shadows(deployments.home, route.loop), records, shadow, declaration, now)
        return shadow, folds, news, shadowing.decide(shadow, declaration, route, now)
    if isinstance(declaration, ABTest | Bandit):
        trial = _saved_experiment(deployments, records, route, declaration)
        folds, classes = trial.folds, deployments.version(route.loop, trial.version).bundle.classes
        news = exposures.read(records, trial.guard, now, seconds(declaration.window))
        news |= rewards.read(
            records, trial.outcome, declaration, version=trial.version, revision=trial.guard.revision,
            positive=classes[-1] if classes else None, now=now,
        )  # fmt: skip
        return trial, folds, news, experiment.decide(trial, declaration, route, now)
    assert isinstance(declaration, Canary)
    evidence, folds = _evidence(deployments, records, route, declaration)
    news = exposures.read(records, evidence, now, seconds(declaration.min_time))
    return evidence, folds, news, ramp.decide(evidence, declaration, route, now)


def _evidence(deployments: Deployments, records: Records, route: Route, declaration: Canary) -> tuple[Evidence, int]:
    """The saved evidence on the running canary and how often it was folded; begun anew when it is about another."""
    assert route.canary is not None
    state = deployments.load_state(route.loop, EVIDENCE)
    known = Evidence.from_json(state) if state and state["version"] == route.canary else None
    if known is None or set(known.guardrails) != set(declaration.guardrails):
        known = Evidence.begin(route.canary, route.revision, declaration, exposures.beginning(records))
        known.next_step(route.step, route.share, route.revision)
    return known, known.folds


def _saved_experiment(
    deployments: Deployments, records: Records, route: Route, declaration: ABTest | Bandit
) -> Experiment:
    assert route.canary is not None
    state = deployments.load_state(route.loop, EVIDENCE)
    known = Experiment.from_json(state) if state and state["version"] == route.canary else None
    if known is None or set(known.guard.guardrails) != set(declaration.guardrails):
        known = Experiment.begin(route.canary, route.revision, declaration, exposures.beginning(records))
        known.guard.next_step(route.step, route.share, route.revision)
    return known


def _saved_shadow(deployments: Deployments, records: Records, route: Route, declaration: Shadow) -> ShadowEvidence:
    assert route.canary is not None
    state = deployments.load_state(route.loop, EVIDENCE)
    if state and state["version"] == route.canary:
        return ShadowEvidence.from_json(state)
    regression = deployments.version(route.loop, route.canary).bundle.task == "regression"
    begun = beginning(deployments.home, route.loop)
    return ShadowEvidence.begin(route.canary, route.revision, declaration, regression, begun)


def _still(deployments: Deployments, loop: str, route: Route, folds: int) -> None:
    """Nobody changed the route or folded the same records meanwhile."""
    current, state = deployments.route(loop), deployments.load_state(loop, EVIDENCE)
    saved = state["folds"] if state and state["version"] == route.canary else 0
    if current is None or current.revision != route.revision or saved != folds:
        raise RouteChanged(f"the route of {loop} was changed meanwhile; the evidence is read again at the next tick")


def _act(desk: Desk, action: Action, route: Route, declaration: Strategy, tried: _Tried) -> None:
    assert route.canary is not None
    if action.kind in ("wait", "advance", "shift", "hold"):
        desk.tell_trial(route, action.reason, action.data)
    if action.kind == "advance":
        assert isinstance(declaration, Canary) and isinstance(tried, Evidence)
        share = declaration.steps[route.step + 1] / 100
        tried.next_step(route.step + 1, share, _move(desk, action, route, share))
    elif action.kind == "shift":
        assert isinstance(declaration, Bandit) and isinstance(tried, Experiment)
        share = experiment.next_share(tried, declaration)
        tried.guard.next_step(route.step + 1, share, _move(desk, action, route, share))
    elif action.kind == "promote":
        desk.crown(desk.deployments.version(route.loop, route.canary), route, action.reason, action.data)
    elif action.kind == "rollback":
        desk.end(route, action.reason, action.data)
    elif action.kind == "hold":
        desk.move(replace(route, holding=True), "hold", route.canary, action.reason, action.data)
    desk.deployments.save_state(route.loop, EVIDENCE, tried.to_json())


def _go_on(desk: Desk, action: Action, route: Route, declaration: Strategy, records: Records, seed: int) -> None:
    """The shadow's candidate begins to answer, as a canary with evidence of its own."""
    assert isinstance(declaration, Shadow) and declaration.then is not None and route.canary is not None
    version = desk.deployments.version(route.loop, route.canary)
    desk.tell("pass", version.number, action.reason, {"evidence": action.data})
    _, reason = placed(declaration.then, version, route)
    put(desk, version, route, "canary", reason, declaration.then, exposures.beginning(records), seed)


def _move(desk: Desk, action: Action, route: Route, share: float) -> int:
    """The candidate's next share; the route's new revision."""
    assert route.canary is not None
    new = replace(route, step=route.step + 1, share=share, step_started=desk.now)
    return desk.move(new, action.kind, route.canary, action.reason, action.data)
