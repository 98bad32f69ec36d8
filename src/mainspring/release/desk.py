"""Where a release's changes are made: route, states and the written decision, all within the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal

from mainspring.store.audit import Audit
from mainspring.store.deployments import TRIAL, Deployments, Look, Route, Trial, Version, VersionState

EVIDENCE = "evidence"
"""The small state with all evidence on the running trial."""

Announce = Callable[[str, Version], None]
"""Tells the registry, in the decision's transaction, that an alias ("champion", "candidate") moved to a version."""

ENDED = frozenset({"rolled back", "rejected"})
"""Versions that only a person releases again."""


@dataclass(frozen=True, slots=True)
class ByHand:
    """What a person asked for, and why."""

    act: Literal["promote", "rollback", "hold", "approve", "reject"]
    by: str | None
    reason: str


class Desk:
    """Changes route and states and writes the decision down. hand: whose act it is, where it is a person's."""

    def __init__(
        self,
        deployments: Deployments,
        loop: str,
        now: datetime,
        announce: Announce | None = None,
        hand: ByHand | None = None,
    ) -> None:
        self.deployments, self.loop, self.now = deployments, loop, now
        self._announce, self._hand = announce or (lambda alias, version: None), hand

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

    def begin(
        self, version: Version, route: Route, strategy: Trial, share: float, reason: str, evidence: Any, seed: int,
        mirrored: float = 0.0,
    ) -> None:  # fmt: skip
        """*version* is tried by *strategy*; a trial that still ran is replaced. *evidence*: revision -> its state."""
        if route.canary not in (None, version.number):
            self.deployments.set_state(self.loop, route.canary, "retired")
            reason = f"{reason}, in place of version {route.canary}"
        named = f"{seed}:{self.loop}:{version.number}:{route.revision}"
        salt = blake2b(named.encode(), digest_size=8).hexdigest()
        new = replace(
            route, canary=version.number, share=share, step=0, step_started=self.now, started=self.now, salt=salt,
            holding=False, strategy=strategy, mirrored=mirrored,
        )  # fmt: skip
        self.deployments.set_state(self.loop, version.number, "shadow" if strategy == "shadow" else "canary")
        revision = self.move(new, strategy, version.number, reason)
        self.deployments.save_state(self.loop, EVIDENCE, evidence(revision).to_json())
        self.tell_trial(new, reason, None)
        self._announce("candidate", version)

    def end(
        self, route: Route, reason: str, data: Any = None, state: Literal["rolled back", "rejected"] = "rolled back"
    ) -> None:
        """The trial is over and the champion has all traffic again."""
        assert route.canary is not None
        self.deployments.set_state(self.loop, route.canary, state)
        decision = "rollback" if state == "rolled back" else "reject"
        self.move(self._without_canary(route), decision, route.canary, reason, data)

    def back(self, route: Route, reason: str) -> None:
        """The previous champion serves again."""
        assert route.champion is not None and route.previous is not None
        self.deployments.set_state(self.loop, route.champion, "rolled back")
        self.deployments.set_state(self.loop, route.previous, "champion")
        self.move(
            self._without_canary(route, champion=route.previous, previous=None), "rollback", route.champion, reason
        )
        self._announce("champion", self.deployments.version(self.loop, route.previous))

    def settle(self, version: Version, state: VersionState, reason: str) -> None:
        """*version* gets no traffic now."""
        if version.state not in ENDED:
            self.deployments.set_state(self.loop, version.number, state)
        self.tell({"held": "hold", "rejected": "reject"}.get(state, "wait"), version.number, reason)
        self._announce("candidate", version)

    def move(self, route: Route, decision: str, version: int, reason: str, data: Any = None) -> int:
        """Write the changed route and its decision; the route's new revision."""
        written = self.deployments.change_route(route, expected=route.revision)
        figures = {"share": route.share, "champion": route.champion, "canary": route.canary, "evidence": data}
        self.tell(decision, version, reason, figures)
        return written.revision

    def tell(self, decision: str, version: int, reason: str, data: Any = None) -> None:
        """Write a decision down; one of a person with who made it, in the audit log too."""
        if (hand := self._hand) is not None:
            data = {**(data or {}), "by": hand.by}
            audit = Audit(self.deployments.home)
            audit.add(hand.act, self.loop, version, by=hand.by or "unknown", reason=hand.reason)
        self.deployments.decide(
            self.loop, at=self.now, kind="release", decision=decision, version=version, reason=reason, data=data
        )

    def look(self, route: Route, data: Any) -> None:
        """Keep the evidence of this moment for the release's page."""
        assert route.canary is not None
        plotted = {name: value for name, value in data.items() if name not in ("slices", "said")}
        look = Look(route.canary, self.now, route.strategy, route.share, plotted)
        self.deployments.add_look(self.loop, look)

    def tell_trial(self, route: Route, reason: str, data: Any) -> None:
        """What the running trial has come to, for `status`."""
        told = {"version": route.canary, "strategy": route.strategy, "reason": reason, "evidence": data}
        self.deployments.save_state(self.loop, TRIAL, told)

    def _without_canary(self, route: Route, **changes: Any) -> Route:
        """The route without a trial."""
        self.deployments.save_state(self.loop, TRIAL, None)
        plain = replace(
            route, canary=None, share=0.0, step=0, holding=False, started=self.now, step_started=self.now,
            strategy="canary", mirrored=0.0,
        )  # fmt: skip
        return replace(plain, **changes)
