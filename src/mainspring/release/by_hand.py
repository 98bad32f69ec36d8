"""What a person decides about a release: promote, roll back, hold, approve, reject; each with who and why.

Each is one transaction and may be repeated: what is so already stays so, and is not written down again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from mainspring.core.declarations import Manual
from mainspring.core.declarations import Release as Strategy
from mainspring.core.errors import NotInStore
from mainspring.core.wording import percent
from mainspring.release.desk import ENDED, Announce, ByHand, Desk
from mainspring.release.release import beginning, placed, put
from mainspring.store.deployments import Deployments, Route, Version


def promote(
    deployments: Deployments,
    loop: str,
    version: int | None = None,
    *,
    now: datetime,
    reason: str = "by hand",
    announce: Announce | None = None,
    by: str | None = None,
) -> Version:
    """Give *version* (None: the running canary, else the newest that waits) all traffic, which ends a trial of another;
    raises NotInStore."""
    with deployments.transaction():
        route = deployments.route(loop)
        chosen = deployments.version(loop, _promotable(deployments, loop, route) if version is None else version)
        if route is None or route.champion != chosen.number:
            Desk(deployments, loop, now, announce, ByHand("promote", by, reason)).crown(chosen, route, reason)
        elif route.canary is not None:
            Desk(deployments, loop, now, announce, ByHand("rollback", by, reason)).end(route, reason)
    return deployments.version(loop, chosen.number)


def rollback(
    deployments: Deployments,
    loop: str,
    *,
    now: datetime,
    reason: str = "by hand",
    announce: Announce | None = None,
    by: str | None = None,
) -> Version:
    """End the running canary; without one, give the traffic back to the previous champion. Who serves after it."""
    with deployments.transaction():
        route = deployments.route(loop)
        if route is None:
            raise NotInStore(f"{loop} serves no version, so there is nothing to roll back; `mainspring models {loop}`")
        desk = Desk(deployments, loop, now, announce, ByHand("rollback", by, reason))
        if route.canary is not None:
            desk.end(route, reason)
        elif route.previous is not None:
            desk.back(route, reason)
        else:
            raise NotInStore(
                f"{loop} has neither a canary nor a previous champion; `mainspring models {loop}` lists all"
            )
        after = deployments.route(loop)
        assert after is not None and after.champion is not None
        return deployments.version(loop, after.champion)


def hold(
    deployments: Deployments,
    loop: str,
    version: int | None = None,
    *,
    now: datetime,
    reason: str = "by hand",
    by: str | None = None,
) -> str:
    """Stop the running trial where it is, or keep a waiting version from being promoted; what was done."""
    with deployments.transaction():
        route = deployments.route(loop)
        desk = Desk(deployments, loop, now, hand=ByHand("hold", by, reason))
        if route is not None and route.canary is not None and version in (None, route.canary):
            name = f"{loop}@{route.canary}"
            if route.holding:
                return f"the {route.strategy} of {name} is held already"
            desk.move(replace(route, holding=True), "hold", route.canary, reason)
            at = "" if route.strategy == "shadow" else f" at {percent(route.share)}"
            return f"the {route.strategy} of {name} is held{at}; approve, promote or reject it"
        chosen = _asking(deployments, loop, version, "hold")
        if chosen.state != "held":
            desk.settle(chosen, "held", reason)
        return f"{chosen.name} is held; approve, promote or reject it"


def approve(
    deployments: Deployments,
    loop: str,
    version: int | None = None,
    *,
    strategy: Strategy | None,
    now: datetime,
    reason: str = "by hand",
    announce: Announce | None = None,
    by: str | None = None,
    seed: int = 0,
) -> str:
    """Let a held trial go on, or release a version that the gate held back or that waits; what was done.

    strategy: how the loop releases; where that is by hand, or isn't known, the version takes all traffic.
    """
    begun = beginning(deployments.home, loop)
    with deployments.transaction():
        route = deployments.route(loop)
        desk = Desk(deployments, loop, now, announce, ByHand("approve", by, reason))
        if route is not None and route.canary is not None and version in (None, route.canary):
            return _go_on(desk, route, reason)
        if version is not None and deployments.version(loop, version).state == "champion":
            return f"{loop}@{version} is champion already"
        chosen = _asking(deployments, loop, version, "approve")
        if strategy is None or isinstance(strategy, Manual):
            desk.crown(chosen, route, f"approved: {reason}")
            return f"{chosen.name} has all traffic"
        state, why = placed(strategy, chosen, route)
        put(desk, chosen, route, state, f"approved: {reason}; {why}", strategy, begun, seed)
        return why


def reject(
    deployments: Deployments,
    loop: str,
    version: int | None = None,
    *,
    now: datetime,
    reason: str = "by hand",
    announce: Announce | None = None,
    by: str | None = None,
) -> str:
    """End the running trial, or refuse a version that is held or waits, for good; what was done."""
    with deployments.transaction():
        route = deployments.route(loop)
        desk = Desk(deployments, loop, now, announce, ByHand("reject", by, reason))
        if route is not None and route.canary is not None and version in (None, route.canary):
            desk.end(route, reason, state="rejected")
            return f"{loop}@{route.canary} is rejected; {loop}@{route.champion} has all traffic"
        if version is not None and deployments.version(loop, version).state == "rejected":
            return f"{loop}@{version} is rejected already"
        chosen = _asking(deployments, loop, version, "reject")
        desk.settle(chosen, "rejected", reason)
        return f"{chosen.name} is rejected"


def _go_on(desk: Desk, route: Route, reason: str) -> str:
    """The held trial goes on; its deadline begins anew."""
    assert route.canary is not None
    name = f"{route.loop}@{route.canary}"
    if not route.holding:
        return f"the {route.strategy} of {name} is running already"
    started = route.started if route.strategy == "canary" else desk.now
    desk.move(replace(route, holding=False, started=started, step_started=desk.now), "approve", route.canary, reason)
    return f"the {route.strategy} of {name} goes on"


def _asking(deployments: Deployments, loop: str, version: int | None, verb: str) -> Version:
    """The version that waits for a person: *version*, or the newest; raises NotInStore."""
    if version is None:
        asking = [each for each in deployments.versions(loop) if each.state in ("waiting", "held")]
        if not asking:
            raise NotInStore(f"{loop} has no trial and no version that waits or is held; `mainspring models {loop}`")
        return asking[-1]
    chosen = deployments.version(loop, version)
    if chosen.state in ("waiting", "held", "registered"):
        return chosen
    hint = "`mainspring promote` releases it all the same" if chosen.state in (*ENDED, "retired") else "roll it back"
    raise NotInStore(f"{chosen.name} is {chosen.state}, so there is nothing to {verb}; {hint}")


def _promotable(deployments: Deployments, loop: str, route: Route | None) -> int:
    if route is not None and route.canary is not None:
        return route.canary
    waiting = [version.number for version in deployments.versions(loop) if version.state == "waiting"]
    if not waiting:
        raise NotInStore(f"{loop} has no canary and no waiting version; name one: mainspring promote {loop}@VERSION")
    return waiting[-1]
