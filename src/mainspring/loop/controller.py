"""Acts on what the loops' clock brings: release steps, reports, and the turns that the policy asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mainspring.core.declarations import Declaration, seconds
from mainspring.core.errors import Conflict, MainspringError, NotInStore
from mainspring.core.plain import plain
from mainspring.core.wording import one_line
from mainspring.loop import champion
from mainspring.loop.erasure import erase as erasing
from mainspring.loop.policy import Action, Policy
from mainspring.loop.turn import declare
from mainspring.loop.upkeep import Upkeep
from mainspring.loop.watch import EVIDENCE, Watch, headline, mark_trained, unmark_trained
from mainspring.release import release as releasing
from mainspring.serving import push
from mainspring.store.audit import Audit
from mainspring.store.deployments import ONSET, Deployments
from mainspring.store.history import History
from mainspring.store.home import Home
from mainspring.store.registry import Registry

TICK_SECONDS = 1.0
_TURN_LOOK_SECONDS = 0.2
RETRY = timedelta(seconds=30)
"""A loop without a champion whose turn failed tries again so much later: its source may have come."""
MOST_MISSED = 100
"""Reports made up for after a standstill; windows before them are told, not reported one by one."""
API = "the control API"
"""Who acts where a request with the home's token does."""
NEXT, PENDING = "next_report", "pending_turn"


@dataclass(frozen=True, slots=True)
class Turned:
    """How a turn ended."""

    run: str
    status: str
    model: str | None
    reasons: tuple[str, ...]
    error: str
    seconds: float


StartTurn = Callable[[str, datetime], Future[Turned]]


@dataclass(frozen=True, slots=True)
class _Running:
    """A turn that is under way, and the time of the loop's clock it was started for."""

    at: datetime
    future: Future[Turned]


class Controller:
    """Keeps loops going: one tick looks at each, decides what is due, writes it down, and does it.

    turn: starts a turn of a loop at a time of its clock, elsewhere. changed: whether a loop's declaration or code
    differs from its last turn's. Everything it must remember is in the home, so that another controller goes on where
    this one was killed.
    """

    def __init__(
        self,
        home: Home,
        declarations: Mapping[str, Declaration],
        *,
        turn: StartTurn,
        changed: Callable[[str], bool],
        manual: bool,
        endpoint: str,
        mlflow: str | None = None,
        say: Callable[[str], None] = lambda text: print(text, flush=True),
    ) -> None:
        self.home = home
        self.declarations = dict(declarations)
        self.manual = manual
        self.endpoint = endpoint
        self.mlflow = mlflow
        self._turn = turn
        self._changed = changed
        self._say = say
        self._deployments = Deployments(home)
        self._upkeep = Upkeep(home, say=say)
        self._lock = threading.RLock()
        self._running: dict[str, _Running] = {}
        self._told: dict[str, str] = {}
        self._stopping = threading.Event()

    # ---------------------------------------------------------------------------------------------------- the works

    def work(self) -> None:
        """Tick until stopped; with a manual clock the ticks come by `advance`."""
        self._guarded(self.start)
        while not self._stopping.wait(TICK_SECONDS):
            if not self.manual:
                self._guarded(lambda: self.tick(datetime.now(UTC)))

    def once(self) -> int:
        """One turn and one report of each loop; the exit code."""
        now = self._now()
        self._begin(now, always=True)
        turned = [self._finish(loop) for loop in self.declarations]
        for loop in self.declarations:
            if self._has_champion(loop):
                self._watch(loop, now)
        return max((1 if each.error else 3 if each.status == "held" else 0) for each in turned)

    def start(self) -> None:
        """A turn of each loop that had none yet, was left in the middle of one, or has another declaration now."""
        with self._lock:
            self._begin(self._now())
            if self.manual:
                self._settle()

    def stop(self) -> None:
        self._stopping.set()

    def tick(self, now: datetime) -> None:
        """Whatever is due by *now*: finished turns, release steps, reports, retraining. By the system's clock a loop
        that fails is told, and the next tick tries it again: the others go on."""
        with self._lock:
            for loop in self.declarations:
                try:
                    self._look_at(loop, now)
                    self._told.pop(loop, None)
                except Exception as error:
                    if self.manual:
                        raise
                    self._tell_once(loop, f"{loop}: {type(error).__name__}: {one_line(error)}; it is tried again")

    def _look_at(self, loop: str, now: datetime) -> None:
        self._collect(loop)
        if not self._has_champion(loop):
            self._try_again(loop, now)
            return
        declared = self.declarations[loop]
        if loop not in self._running:
            self._upkeep.look_up(declared, at_once=self.manual)
        for due in self._due(loop, now):
            self._release(loop, due)
            self._watch(loop, due)
            self._resume(loop)
            if self.manual:
                self._settle()
        self._release(loop, now)
        self._resume(loop)
        self._upkeep.compact(loop)
        if loop not in self._running:
            self._upkeep.retain(declared, now)

    # ---------------------------------------------------------------------------------------- what the API asks for

    def advance(self, now: datetime) -> dict[str, Any]:
        """Move the manual clock to *now* and do everything due by then. Raises Conflict for a clock of another kind."""
        if not self.manual:
            raise Conflict("the clock is the system's; start with `mainspring up --clock manual` to move it by hand")
        with self._lock:
            before = self._now()
            if now < before:
                raise Conflict(
                    f"the clock stands at {before.isoformat()} and only moves forward, not to {now.isoformat()}"
                )
            self._deployments.set_clock(now)
            push.notify(self.home)
            known = {loop: self._last_decision(loop) for loop in self.declarations}
            self.tick(now)
            self._settle()
            new = {loop: self.decisions(loop, after=known[loop]) for loop in self.declarations}
        return {"now": now.isoformat(), "decisions": new}

    def status(self) -> dict[str, Any]:
        routes = {loop: self._deployments.route(loop) for loop in self.declarations}
        return {
            "now": self._now().isoformat(),
            "clock": "manual" if self.manual else "system",
            "endpoint": self.endpoint,
            "loops": {
                loop: {
                    "route": None if route is None else plain(route),
                    "turning": loop in self._running,
                    "next_report": self._deployments.load_state(loop, NEXT),
                }
                for loop, route in routes.items()
            },
        }

    def decisions(self, loop: str, *, after: int = 0) -> list[dict[str, Any]]:
        self._known(loop)
        return [plain(record) for record in self._deployments.decisions(loop, after=after)]

    def models(self, loop: str) -> list[dict[str, Any]]:
        self._known(loop)
        return [plain(version) for version in self._deployments.versions(loop)]

    def audit(self) -> list[dict[str, Any]]:
        return [plain(entry) for entry in Audit(self.home).entries()]

    def promote(self, loop: str, version: int | None, reason: str) -> dict[str, Any]:
        self._known(loop)
        with self._lock:
            told: dict[str, Any] = {"reason": reason, "mlflow": self.mlflow, "now": self._now(), "by": API}
            return {"reason": champion.promote(self.home, loop, version, **told)}

    def rollback(self, loop: str, reason: str) -> dict[str, Any]:
        self._known(loop)
        with self._lock:
            told: dict[str, Any] = {"reason": reason, "mlflow": self.mlflow, "now": self._now(), "by": API}
            return {"reason": champion.rollback(self.home, loop, **told)}

    def erase(self, subject: str, loop: str | None) -> dict[str, Any]:
        """Erase *subject* as soon as no turn is under way; the endpoint, which goes on, forgets the keys too."""
        while True:
            with self._lock:
                for each in self.declarations:
                    self._collect(each)
                if not self._running:
                    done = erasing(self.home, subject, loop, self._now(), API)
                    break
            if self._stopping.wait(_TURN_LOOK_SECONDS):
                raise Conflict("the service ends; erase when it has, or runs again")
        push.notify(self.home)
        return {"loops": [plain(each) for each in done]}

    def decide(self, verb: str, loop: str, version: int | None, reason: str) -> dict[str, Any]:
        """What a person decides of a trial or of a version that waits: *verb* is hold, approve or reject."""
        self._known(loop)
        told: dict[str, Any] = {"reason": reason, "by": API, "now": self._now()}
        with self._lock:
            if verb == "hold":
                return {"reason": champion.hold(self.home, loop, version, **told)}
            act = {"approve": champion.approve, "reject": champion.reject}[verb]
            return {"reason": act(self.home, loop, version, mlflow=self.mlflow, **told)}

    def turn(self, loop: str, reason: str) -> dict[str, Any]:
        """Ask for a turn by hand; it starts at once, or after the one that runs."""
        self._known(loop)
        with self._lock:
            now = self._now()
            self._ask(loop, now, "by hand", reason)
            self._resume(loop)
            if self.manual:
                self._settle()
        return {"asked": now.isoformat()}

    # -------------------------------------------------------------------------------------------------- the parts

    def _begin(self, now: datetime, *, always: bool = False) -> None:
        for loop, declaration in self.declarations.items():
            declare(self.home, declaration)
            if self._deployments.load_state(loop, PENDING) is not None:
                self._resume(loop)
            elif always or not self._has_champion(loop):
                self._start(loop, now)
            elif self._changed(loop):
                self._ask(
                    loop, now, "changed", "the declaration, or code that it reaches, has changed since its last turn"
                )
                self._resume(loop)

    def _start(self, loop: str, at: datetime) -> None:
        if loop not in self._running:
            self._say(f"{loop}: a turn begins ({at:%Y-%m-%d %H:%M})")
            self._running[loop] = _Running(at, self._turn(loop, at))

    def _collect(self, loop: str) -> None:
        if loop in self._running and self._running[loop].future.done():
            self._finish(loop)

    def _settle(self) -> None:
        """Wait until no turn runs and none is asked for."""
        while self._running:
            for loop in list(self._running):
                self._finish(loop)
                self._resume(loop)

    def _finish(self, loop: str) -> Turned:
        running = self._running.pop(loop)
        try:
            turned = running.future.result()
        except BrokenProcessPool:
            turned = _failed("the step process died (out of memory?); the next turn goes on from its last step")
        except Exception as error:  # an edge: whatever ended the turn is written down
            turned = _failed(
                one_line(error if isinstance(error, MainspringError) else f"{type(error).__name__}: {error}")
            )
        self._write_down(loop, running.at, turned)
        push.notify(self.home)
        what = turned.error or f"{turned.status}, {turned.model or 'no model'}"
        self._say(f"{loop}: the turn ended after {turned.seconds:.1f} s: {what}")
        for reason in turned.reasons:
            self._say(f"{loop}:   {reason}")
        return turned

    def _write_down(self, loop: str, at: datetime, turned: Turned) -> None:
        """The turn of *at* is over; what was asked for meanwhile stays. One that failed has learnt nothing: the labels
        for which it was asked are still new."""
        now = self._now()
        with self._deployments.transaction():
            asked = self._deployments.load_state(loop, PENDING)
            answered = asked is not None and asked["at"] == at.isoformat()
            if answered:
                self._deployments.save_state(loop, PENDING, None)
            if turned.error and not self._has_champion(loop):
                self._deployments.save_state(loop, NEXT, (now + min(RETRY, self._every(loop))).isoformat())
            elif self._deployments.load_state(loop, NEXT) is None:
                self._deployments.save_state(loop, NEXT, (now + self._every(loop)).isoformat())
            reason = f"the turn failed: {turned.error}"
            if turned.error and reason != self._last_reason(loop):  # tried again and again, it is told once
                self._decide(loop, now, "failed", None, reason, {"cause": "failed", "run": turned.run})
            if turned.error and answered:
                unmark_trained(self.home, loop, asked.get("labels", 0))

    def _try_again(self, loop: str, now: datetime) -> None:
        """Without a champion there is nothing to watch: a turn is tried again; what is unchanged is cached."""
        due = self._deployments.load_state(loop, NEXT)
        if loop in self._running or due is None or now < datetime.fromisoformat(due):
            return
        self._deployments.save_state(loop, NEXT, (now + self._every(loop)).isoformat())
        self._start(loop, now)
        if self.manual:
            self._settle()

    def _release(self, loop: str, now: datetime) -> None:
        declaration = self.declarations[loop]
        records = History(self.home, loop)
        registry = Registry(self.home, self.mlflow)
        announce = champion.announcer(registry)
        action = releasing.step(self._deployments, records, loop, declaration.release, now, announce, declaration.seed)
        if action.kind != "wait":
            push.notify(self.home)
            registry.drain()
            self._say(f"{loop}: {action.kind}: {action.reason}")

    def _due(self, loop: str, now: datetime) -> list[datetime]:
        """The reports' times until *now*, the oldest first."""
        text = self._deployments.load_state(loop, NEXT)
        every = self._every(loop)
        if text is None:  # its champion was made by `mainspring run`
            self._deployments.save_state(loop, NEXT, (now + every).isoformat())
            return []
        due = datetime.fromisoformat(text)
        missed = max(0, int((now - due) / every) + 1 - MOST_MISSED)
        if missed:
            self._say(f"{loop}: {missed} reports fell into a standstill and are left out")
        times = []
        moment = due + missed * every
        while moment <= now:
            times.append(moment)
            moment += every
        return times

    def _watch(self, loop: str, at: datetime) -> None:
        """The report at *at*, the decision on retraining, and the turn it asks for: one transaction, so one of each."""
        declaration = self.declarations[loop]
        report, evidence = Watch.of(self.home, declaration).report(at)
        decision = Policy(declaration.retrain).decide(report)
        with self._deployments.transaction():
            self._deployments.save_state(loop, EVIDENCE, evidence)
            if report.onset is not None:
                self._deployments.save_state(loop, ONSET, plain(report.onset))
            self._deployments.save_state(loop, NEXT, (at + self._every(loop)).isoformat())
            self._deployments.decide(
                loop,
                at=at,
                kind="monitor",
                decision="alarm" if report.drift.alarm or report.faults else "report",
                version=report.version,
                reason=headline(report),
                data=report.to_json(),
            )
            if decision.action is Action.RETRAIN:
                self._ask(loop, at, decision.cause, decision.reason, report.version)
            else:
                self._decide(loop, at, str(decision.action), report.version, decision.reason, {"cause": decision.cause})

    def _ask(self, loop: str, at: datetime, cause: str, reason: str, version: int | None = None) -> None:
        """Ask for a turn, with a written reason; what is asked for survives a kill."""
        with self._deployments.transaction():
            before = mark_trained(self.home, loop, at)
            pending = {"at": at.isoformat(), "cause": cause, "reason": reason, "labels": before}
            self._deployments.save_state(loop, PENDING, pending)
            self._decide(loop, at, str(Action.RETRAIN), version, reason, {"cause": cause})
        self._say(f"{loop}: retrain ({cause}): {reason}")

    def _decide(self, loop: str, at: datetime, decision: str, version: int | None, reason: str, data: Any) -> None:
        self._deployments.decide(
            loop, at=at, kind="retrain", decision=decision, version=version, reason=reason, data=data
        )

    def _resume(self, loop: str) -> None:
        pending = self._deployments.load_state(loop, PENDING)
        if pending is not None and loop not in self._running:
            self._start(loop, datetime.fromisoformat(pending["at"]))

    # -------------------------------------------------------------------------------------------------- small words

    def _every(self, loop: str) -> timedelta:
        return timedelta(seconds=seconds(self.declarations[loop].monitor.every))

    def _has_champion(self, loop: str) -> bool:
        route = self._deployments.route(loop)
        return route is not None and route.champion is not None

    def _now(self) -> datetime:
        return self._deployments.now() if self.manual else datetime.now(UTC)

    def _last_decision(self, loop: str) -> int:
        found = self._deployments.decisions(loop)
        return found[-1].number if found else 0

    def _last_reason(self, loop: str) -> str:
        found = self._deployments.decisions(loop)
        return found[-1].reason if found else ""

    def _known(self, loop: str) -> None:
        if loop not in self.declarations:
            raise NotInStore(f"no loop {loop!r} here; there are {', '.join(self.declarations)}")

    def _tell_once(self, loop: str, text: str) -> None:
        if self._told.get(loop) != text:
            self._told[loop] = text
            self._say(text)

    def _guarded(self, act: Callable[[], None]) -> None:
        """The works must outlive a failure of one tick; it is told, and the next tick tries again."""
        try:
            act()
        except Exception as error:
            self._say(f"mainspring: {type(error).__name__}: {error}")
            time.sleep(TICK_SECONDS)


def _failed(error: str) -> Turned:
    return Turned("", "failed", None, (), error, 0.0)
