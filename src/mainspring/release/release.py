"""The release stage: a judged bundle becomes a version and gets its traffic; then the ramp, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal

from mainspring.core.declarations import Canary, Immediate, Manual
from mainspring.core.declarations import Release as Strategy
from mainspring.core.errors import NotInStore, RouteChanged
from mainspring.core.values import Release, Verdict
from mainspring.core.wording import percent
from mainspring.release import exposures
from mainspring.release.evidence import Evidence
from mainspring.release.ramp import Action, decide
from mainspring.store.deployments import Deployments, Route, Version
from mainspring.store.home import Home
from mainspring.store.records import Records

EVIDENCE = "evidence"

Announce = Callable[[str, Version], None]
"""Tells the registry, in the decision's transaction, that an alias ("champion", "candidate") moved to a version."""

State = Literal["champion", "canary", "waiting", "held"]


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

    The first version takes all traffic at once. A bundle that is released already, or was rolled back, stays so.
    seed: the loop's, from which a canary's salt derives: which units meet it is as repeatable as the rest.
    """
    deployments = Deployments(home)
    begun = exposures.beginning(Records(home, loop))
    with deployments.transaction():
        number = deployments.register(
            loop, gate.bundle, run=run, champion_digest=gate.champion_digest, metrics=gate.metrics, at=now
        )
        version, route = deployments.version(loop, number), deployments.route(loop)
        state, reason = _place(gate, strategy, version, route)
        if version.state not in ("champion", "canary") and not _told(deployments, version, run):
            deployments.decide(
                loop, at=now, kind="gate", decision=gate.decision, version=number,
                reason=" ".join(gate.reasons), data={"run": run, "next": gate.next},
            )  # fmt: skip
            desk = _Desk(deployments, loop, now, announce)
            _put(desk, version, route, state, reason, strategy, begun, seed)
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
) -> Action:
    """One tick of a running canary: read the new evidence, decide, act. What was read is saved with what was done."""
    route = deployments.route(loop)
    if route is None or route.canary is None:
        return Action("wait", "no canary is running")
    if not isinstance(declaration, Canary):
        return Action("wait", f"the loop declares {declaration}; promote or roll back version {route.canary} by hand")
    evidence, folds = _evidence(deployments, records, route, declaration)
    news = exposures.read(records, evidence, now)
    action = decide(evidence, declaration, route, now)
    if action.kind == "wait" and not news:
        return action
    try:
        with deployments.transaction():
            _still(deployments, loop, route, folds)
            _act(_Desk(deployments, loop, now, announce), action, route, declaration, evidence)
    except RouteChanged as change:
        return Action("wait", str(change))
    return action


def promote(
    deployments: Deployments,
    loop: str,
    version: int | None = None,
    *,
    now: datetime,
    reason: str = "by hand",
    announce: Announce | None = None,
) -> Version:
    """Give *version* (None: the running canary, else the newest that waits) all traffic; raises NotInStore."""
    with deployments.transaction():
        route = deployments.route(loop)
        chosen = deployments.version(loop, _promotable(deployments, loop, route) if version is None else version)
        if route is None or route.champion != chosen.number:
            _Desk(deployments, loop, now, announce).crown(chosen, route, reason)
    return deployments.version(loop, chosen.number)


def rollback(
    deployments: Deployments,
    loop: str,
    *,
    now: datetime,
    reason: str = "by hand",
    announce: Announce | None = None,
) -> Version:
    """End the running canary; without one, give the traffic back to the previous champion. Who serves after it."""
    with deployments.transaction():
        route = deployments.route(loop)
        if route is None:
            raise NotInStore(f"{loop} serves no version, so there is nothing to roll back; `mainspring models {loop}`")
        desk = _Desk(deployments, loop, now, announce)
        if route.canary is not None:
            desk.end_canary(route, reason)
        elif route.previous is not None:
            desk.back(route, reason)
        else:
            raise NotInStore(
                f"{loop} has neither a canary nor a previous champion; `mainspring models {loop}` lists all"
            )
        after = deployments.route(loop)
        assert after is not None and after.champion is not None
        return deployments.version(loop, after.champion)


def _told(deployments: Deployments, version: Version, run: str) -> bool:
    """This run has released the version already, and was killed before it could say so."""
    decisions = deployments.decisions(version.loop)
    return any(each.kind == "gate" and each.version == version.number and each.data["run"] == run for each in decisions)


def _put(
    desk: _Desk,
    version: Version,
    route: Route | None,
    state: State,
    reason: str,
    strategy: Strategy,
    begun: Any,
    seed: int,
) -> None:
    if state == "champion":
        desk.crown(version, route, reason)
    elif state == "canary":
        assert isinstance(strategy, Canary) and route is not None
        desk.begin_canary(version, route, strategy, reason, begun, seed)
    else:
        desk.settle(version, state, reason)


def _place(gate: Verdict, strategy: Strategy, version: Version, route: Route | None) -> tuple[State, str]:
    """The state the version should have, and why; pure."""
    name = f"version {version.number}"
    if version.state == "champion" or version.state == "canary":
        return version.state, f"{name} is {version.state} already"
    if version.state == "rolled back":
        return "held", f"{name} was rolled back before; `mainspring promote` releases it all the same"
    if gate.next == "hold":
        return "held", f"the gate holds {name} back"
    if route is None or route.champion is None:
        return "champion", f"{name} is the first of this loop and takes all traffic"
    if isinstance(strategy, Manual):
        return "waiting", f"{name} waits for `mainspring promote {version.loop}`"
    if isinstance(strategy, Immediate):
        if gate.next == "canary":
            return "waiting", f"the holdout can't tell and no canary is declared; {name} waits for `mainspring promote`"
        return "champion", f"{name} takes all traffic at once"
    return "canary", f"{name} begins as canary with {percent(strategy.steps[0] / 100)} of the units"


def _promotable(deployments: Deployments, loop: str, route: Route | None) -> int:
    if route is not None and route.canary is not None:
        return route.canary
    waiting = [version.number for version in deployments.versions(loop) if version.state == "waiting"]
    if not waiting:
        raise NotInStore(f"{loop} has no canary and no waiting version; name one: mainspring promote {loop}@VERSION")
    return waiting[-1]


def _evidence(deployments: Deployments, records: Records, route: Route, declaration: Canary) -> tuple[Evidence, int]:
    """The saved evidence on the running canary and how often it was folded; begun anew when it is about another."""
    assert route.canary is not None
    state = deployments.load_state(route.loop, EVIDENCE)
    known = Evidence.from_json(state) if state and state["version"] == route.canary else None
    if known is None or set(known.guardrails) != set(declaration.guardrails):
        known = Evidence.begin(route.canary, route.revision, declaration, exposures.beginning(records))
        known.next_step(route.step, route.share, route.revision)
    return known, known.folds


def _still(deployments: Deployments, loop: str, route: Route, folds: int) -> None:
    """Nobody changed the route or folded the same records meanwhile."""
    current, state = deployments.route(loop), deployments.load_state(loop, EVIDENCE)
    saved = state["folds"] if state and state["version"] == route.canary else 0
    if current is None or current.revision != route.revision or saved != folds:
        raise RouteChanged(f"the route of {loop} was changed meanwhile; the evidence is read again at the next tick")


def _act(desk: _Desk, action: Action, route: Route, declaration: Canary, evidence: Evidence) -> None:
    assert route.canary is not None
    if action.kind == "advance":
        following = route.step + 1
        share = declaration.steps[following] / 100
        revision = desk.move(
            replace(route, step=following, share=share, step_started=desk.now),
            "advance", route.canary, action.reason, action.data,
        )  # fmt: skip
        evidence.next_step(following, share, revision)
    elif action.kind == "promote":
        desk.crown(desk.deployments.version(route.loop, route.canary), route, action.reason, action.data)
    elif action.kind == "rollback":
        desk.end_canary(route, action.reason, action.data)
    elif action.kind == "hold":
        desk.move(replace(route, holding=True), "hold", route.canary, action.reason, action.data)
    desk.deployments.save_state(route.loop, EVIDENCE, evidence.to_json())


class _Desk:
    """Changes route and states and writes the decision down, within the caller's transaction."""

    def __init__(self, deployments: Deployments, loop: str, now: datetime, announce: Announce | None) -> None:
        self.deployments, self.loop, self.now = deployments, loop, now
        self._announce = announce or (lambda alias, version: None)

    def crown(self, version: Version, route: Route | None, reason: str, data: Any = None) -> None:
        """*version* takes all traffic; the champion before it is kept warm as the previous one."""
        number, before = version.number, None if route is None else route.champion
        if route is None:
            new = Route(self.loop, 0, number, None, None, 0.0, 0, self.now, self.now, "", False)
        else:
            if route.canary not in (None, number):
                self.deployments.set_state(self.loop, route.canary, "retired")
            new = self._without_canary(route, champion=number, previous=before)
        if before is not None:
            self.deployments.set_state(self.loop, before, "retired")
        self.deployments.set_state(self.loop, number, "champion")
        self.move(new, "promote", number, reason, data)
        self._announce("champion", version)

    def begin_canary(
        self, version: Version, route: Route, declaration: Canary, reason: str, begun: Any, seed: int
    ) -> None:
        """*version* gets the first step's share; a canary that still ran is replaced."""
        if route.canary is not None:
            self.deployments.set_state(self.loop, route.canary, "retired")
            reason = f"{reason}, in place of version {route.canary}"
        share = declaration.steps[0] / 100
        named = f"{seed}:{self.loop}:{version.number}:{route.revision}"
        salt = blake2b(named.encode(), digest_size=8).hexdigest()
        new = replace(
            route, canary=version.number, share=share, step=0, step_started=self.now, started=self.now, salt=salt,
            holding=False,
        )  # fmt: skip
        self.deployments.set_state(self.loop, version.number, "canary")
        revision = self.move(new, "canary", version.number, reason)
        evidence = Evidence.begin(version.number, revision, declaration, begun)
        self.deployments.save_state(self.loop, EVIDENCE, evidence.to_json())
        self._announce("candidate", version)

    def end_canary(self, route: Route, reason: str, data: Any = None) -> None:
        """The champion has all traffic again."""
        assert route.canary is not None
        self.deployments.set_state(self.loop, route.canary, "rolled back")
        self.move(self._without_canary(route), "rollback", route.canary, reason, data)

    def back(self, route: Route, reason: str) -> None:
        """The previous champion serves again."""
        assert route.champion is not None and route.previous is not None
        self.deployments.set_state(self.loop, route.champion, "rolled back")
        self.deployments.set_state(self.loop, route.previous, "champion")
        self.move(
            self._without_canary(route, champion=route.previous, previous=None), "rollback", route.champion, reason
        )
        self._announce("champion", self.deployments.version(self.loop, route.previous))

    def settle(self, version: Version, state: State, reason: str) -> None:
        """*version* gets no traffic now."""
        if version.state != "rolled back":
            self.deployments.set_state(self.loop, version.number, state)
        word = "hold" if state == "held" else "wait"
        self.deployments.decide(
            self.loop, at=self.now, kind="release", decision=word, version=version.number, reason=reason
        )
        self._announce("candidate", version)

    def move(self, route: Route, decision: str, version: int, reason: str, data: Any = None) -> int:
        """Write the changed route and its decision; the route's new revision."""
        written = self.deployments.change_route(route, expected=route.revision)
        self.deployments.decide(
            self.loop, at=self.now, kind="release", decision=decision, version=version, reason=reason,
            data={"share": route.share, "champion": route.champion, "canary": route.canary, "evidence": data},
        )  # fmt: skip
        return written.revision

    def _without_canary(self, route: Route, **changes: Any) -> Route:
        """The route without a canary."""
        plain = replace(route, canary=None, share=0.0, step=0, holding=False, started=self.now, step_started=self.now)
        return replace(plain, **changes)
