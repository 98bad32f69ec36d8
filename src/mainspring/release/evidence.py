"""What a running release has shown: prediction records and matured labels, folded into bets that survive a restart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

from mainspring.core.declarations import Canary, seconds
from mainspring.core.strategies import GuardrailName as GuardrailName
from mainspring.statistics.arm_bet import ArmBet, RateBet, SampleRatio
from mainspring.store.records import Arm

HARD_STOP_RATE = 0.2
"""A canary that fails for more than this share of its units is stopped, whatever the stable arm does."""
_SLOW_SHARE = 0.10  # by definition 5 % of the units are slower than the champion's p95; twice that isn't healthy
_LATENCIES = 200
_LEAST_OF_A_BIN = 20  # of two units one arm may have none, which compares nobody
_LONGEST_BIN = 60  # minutes
_MOST_SEEN = 50_000
_MOST_MET = 20_000


@dataclass(frozen=True, slots=True)
class Exposure:
    """One unit that met one arm: what happened to it. *arm_bin* is told by minute and revision of the route."""

    at: datetime
    revision: int
    arm: Arm
    unit: str
    bad: frozenset[GuardrailName] = frozenset()


@dataclass(slots=True)
class OpenBin:
    """Minutes of few units, which are one bin together: within a revision of the route the share is the same."""

    revision: int
    minute: int
    exposed: dict[Arm, set[int]]
    hit: dict[Arm, set[int]]

    def closed(self, revision: int, minute: int) -> bool:
        """Whether what happened in *minute* by *revision* belongs to another bin."""
        enough = sum(map(len, self.exposed.values())) >= _LEAST_OF_A_BIN
        return enough or revision != self.revision or minute - self.minute >= _LONGEST_BIN

    def counts(self) -> tuple[int, int, float]:
        """The units hit in the canary and in the stable arm, and the canary's share of those exposed."""
        canary, champion = len(self.exposed["canary"]), len(self.exposed["champion"])
        share = canary / (canary + champion) if canary or champion else 0.0
        return len(self.hit["canary"]), len(self.hit["champion"]), share

    def to_json(self) -> list[Any]:
        units = [sorted(units[arm]) for units in (self.exposed, self.hit) for arm in ("canary", "champion")]
        return [self.revision, self.minute, *units]

    @classmethod
    def from_json(cls, state: list[Any]) -> OpenBin:
        exposed: dict[Arm, set[int]] = {"canary": set(state[2]), "champion": set(state[3])}
        return cls(state[0], state[1], exposed, {"canary": set(state[4]), "champion": set(state[5])})


@dataclass(slots=True)
class Guardrail:
    """The bets on one kind of bad event.

    worse: since the release began. not_worse, healthy: of this step. affected: units that have had their first event,
    which count no more. open: the minutes that aren't a bin yet. seen, ill: the canary's units of this step, each a
    trial of *healthy* once, and those of them with an event in this step, also where they had one before: who fails in
    every step fails in this one.
    """

    worse: ArmBet
    not_worse: ArmBet
    healthy: RateBet
    affected: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    ill: set[int] = field(default_factory=set)
    canary: int = 0
    champion: int = 0
    open: OpenBin | None = None

    @classmethod
    def begin(cls, margin: float, objective: float) -> Guardrail:
        return cls(ArmBet.worse(), ArmBet.not_worse_than(margin), RateBet.below(objective))

    def next_step(self, margin: float) -> None:
        """Each step is left by its own evidence; what speaks against the canary is kept."""
        if self.open is not None:
            self._close(self.open)
        self.not_worse, self.healthy = ArmBet.not_worse_than(margin), RateBet.below(self.healthy.bound)
        self.seen, self.ill = set(), set()

    def fold(
        self, exposed: Mapping[Arm, set[int]], hit: Mapping[Arm, set[int]], *, revision: int = 0, minute: int = 0
    ) -> None:
        """Take in one minute: the units *exposed* to each arm, and those of them with a bad event."""
        if self.open is not None and self.open.closed(revision, minute):
            self._close(self.open)
        if self.open is None:
            self.open = OpenBin(revision, minute, arms(), arms())
        for arm in ("canary", "champion"):
            self.open.exposed[arm] |= exposed[arm] - self.affected
            self.open.hit[arm] |= hit[arm] - self.affected
        if self.open.closed(revision, minute):
            self._close(self.open)
        self._count(exposed["canary"], hit)

    def happen(self, hit: Mapping[Arm, set[int]], share: float) -> None:
        """Take in the units *hit* by an event that came long after the predictions: who is exposed by then says nothing
        of whom it could hit, so the canary's part of them is the *share* with which they met it."""
        x1, x0 = (len(hit[arm] - self.affected) for arm in ("canary", "champion"))
        self.worse, self.not_worse = self.worse.update(x1, x0, share), self.not_worse.update(x1, x0, share)
        self._count(set(), hit)

    def spare(self, canary: set[int]) -> None:
        """Units of the canary whose time for an event is over."""
        self._count(canary, arms())

    def _count(self, canary: set[int], hit: Mapping[Arm, set[int]]) -> None:
        new, fell_ill = _trials(canary, hit["canary"], self.seen, self.ill)
        self.healthy = self.healthy.update(len(fell_ill), len(fell_ill) + len(new))
        self.seen |= new | fell_ill
        self.ill |= fell_ill
        bad, stable_bad = hit["canary"] - self.affected, hit["champion"] - self.affected
        self.affected |= bad | stable_bad
        self.canary += len(bad)
        self.champion += len(stable_bad)

    def _close(self, bin: OpenBin) -> None:
        self.worse, self.not_worse = self.worse.update(*bin.counts()), self.not_worse.update(*bin.counts())
        self.open = None

    def to_json(self) -> dict[str, Any]:
        return {
            "worse": self.worse.to_list(),
            "not_worse": self.not_worse.to_list(),
            "healthy": self.healthy.to_list(),
            "affected": sorted(self.affected),
            "seen": sorted(self.seen),
            "ill": sorted(self.ill),
            "canary": self.canary,
            "champion": self.champion,
            "open": None if self.open is None else self.open.to_json(),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Guardrail:
        return cls(
            ArmBet.from_list(state["worse"]),
            ArmBet.from_list(state["not_worse"]),
            RateBet.from_list(state["healthy"]),
            set(state["affected"]),
            set(state["seen"]),
            set(state.get("ill", ())),
            state["canary"],
            state["champion"],
            OpenBin.from_json(state["open"]) if state.get("open") else None,
        )


@dataclass(slots=True)
class Evidence:
    """All evidence on one release.

    version: the canary's. revision: the route's when the release began; records of earlier revisions don't count.
    crashed: the bet behind the hard stop, on each of the canary's *tried* units once, and once more when it *failed*
    first. ratio: the bet that this step's units don't meet the arms by the planned
    shares, each of *met* once; step_revision: the route's when the step began. slow_ms: what counts as slow; None until
    enough of the champion's latencies are known. positions: how far the records are folded, saved with the bets, so
    that nothing counts twice.
    """

    version: int
    revision: int
    step: int
    guardrails: dict[GuardrailName, Guardrail]
    crashed: RateBet
    ratio: SampleRatio
    step_revision: int
    slow_ms: float | None
    since: dict[str, int]
    positions: dict[str, dict[str, int]]
    latencies: list[float] = field(default_factory=list)
    units: set[int] = field(default_factory=set)
    met: set[int] = field(default_factory=set)
    tried: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    folds: int = 0

    @classmethod
    def begin(
        cls, version: int, revision: int, declaration: Canary, positions: Mapping[str, Mapping[str, int]]
    ) -> Evidence:
        """No evidence yet on *version*, whose canary began with *revision* of the route."""
        slow = None if declaration.slow is None else 1000 * seconds(declaration.slow)
        by_p95 = slow is None
        guardrails: dict[GuardrailName, Guardrail] = {
            name: Guardrail.begin(
                margin(declaration.steps[0] / 100),
                max(declaration.objective, _SLOW_SHARE) if name == "latency" and by_p95 else declaration.objective,
            )
            for name in declaration.guardrails
        }
        copies = {kind: dict(position) for kind, position in positions.items()}
        return cls(
            version,
            revision,
            0,
            guardrails,
            RateBet.above(HARD_STOP_RATE),
            _planned(declaration.steps[0] / 100),
            revision,
            slow,
            dict(copies.get("predictions", {})),
            copies,
        )

    def next_step(self, step: int, share: float, revision: int) -> None:
        """Begin *step* of the ramp, which gives the canary *share* of the units from *revision* of the route on."""
        self.step, self.step_revision, self.units = step, revision, set()
        self.ratio, self.met = _planned(share), set()
        for guardrail in self.guardrails.values():
            guardrail.next_step(margin(share))

    def fold(self, exposures: Iterable[Exposure], names: Iterable[GuardrailName]) -> None:
        """Take in what happened, bin by bin (minute and revision), to the guardrails *names*."""
        watched = [
            name for name in names if name in self.guardrails and (name != "latency" or self.slow_ms is not None)
        ]
        for minute, revision, exposed, hit in _bins(exposures):
            for name in watched:
                self.guardrails[name].fold(exposed, hit[name], revision=revision, minute=minute)
            if "errors" in names:
                self._count(exposed["canary"], hit["errors"]["canary"])
                if revision >= self.step_revision:
                    self._meet(exposed)

    def _count(self, canary: set[int], crashed: set[int]) -> None:
        """Units of the step, and the hard stop's bet, whether errors are a guardrail or not."""
        new, failed = _trials(canary, crashed, self.tried, self.failed)
        self.crashed = self.crashed.update(len(failed), len(failed) + len(new))
        self.failed |= failed
        self.tried |= new | failed
        if len(self.units) < _MOST_SEEN:
            self.units |= canary

    def _meet(self, exposed: Mapping[Arm, set[int]]) -> None:
        """Each unit's first meeting in the step; a unit that comes often says no more about the assignment."""
        if len(self.met) < _MOST_MET:
            canary, champion = exposed["canary"] - self.met, exposed["champion"] - self.met
            self.ratio = self.ratio.update((len(canary), len(champion)))
            self.met |= canary | champion

    def sample_latency(self, latency_ms: float) -> None:
        """A latency of the champion; from enough of them the p95 is frozen as what counts as slow."""
        if self.slow_ms is None:
            self.latencies.append(latency_ms)
            if len(self.latencies) >= _LATENCIES:
                self.slow_ms = sorted(self.latencies)[int(0.95 * _LATENCIES)]
                self.latencies = []

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` gives the same evidence back."""
        return {
            "version": self.version,
            "revision": self.revision,
            "step": self.step,
            "guardrails": {name: guardrail.to_json() for name, guardrail in self.guardrails.items()},
            "crashed": self.crashed.to_list(),
            "ratio": self.ratio.to_list(),
            "step_revision": self.step_revision,
            "slow_ms": self.slow_ms,
            "since": self.since,
            "positions": self.positions,
            "latencies": self.latencies,
            "units": sorted(self.units),
            "met": sorted(self.met),
            "tried": sorted(self.tried),
            "failed": sorted(self.failed),
            "folds": self.folds,
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Evidence:
        guardrails = {name: Guardrail.from_json(each) for name, each in state["guardrails"].items()}
        bets = {"crashed": RateBet.from_list(state["crashed"]), "ratio": SampleRatio.from_list(state["ratio"])}
        units = {name: set(state.get(name, ())) for name in ("units", "met", "tried", "failed")}
        known = {name: value for name, value in state.items() if name in cls.__slots__}
        return cls(**{**known, "guardrails": guardrails, **bets, **units})


def _trials(exposed: set[int], hit: set[int], seen: set[int], ill: set[int]) -> tuple[set[int], set[int]]:
    """The units that are well at their first trial, and those that fall ill for the first time.

    Once as many have been *seen* as are kept, only they are looked at: the ill of all against the well of some isn't
    a rate.
    """
    if len(seen) >= _MOST_SEEN:
        return set(), (hit & seen) - ill
    return exposed - hit - seen, hit - ill


def margin(share: float) -> float:
    """How many times the stable arm's rate is ruled out before a step with *share* of the traffic is left.

    >>> [margin(share) for share in (0.01, 0.05, 0.25, 0.5)]
    [2.0, 1.5, 1.5, 1.25]
    """
    if share < 0.05:
        return 2.0
    return 1.5 if share < 0.5 else 1.25


Hits = Mapping[GuardrailName, Mapping[Arm, set[int]]]


def _planned(share: float) -> SampleRatio:
    return SampleRatio.start((share, 1 - share))


def arms() -> dict[Arm, set[int]]:
    """No unit in either arm."""
    return {"champion": set(), "canary": set()}


def _bins(exposures: Iterable[Exposure]) -> Iterable[tuple[int, int, Mapping[Arm, set[int]], Hits]]:
    """The minute, the revision and the distinct units of each bin, in the order in which the bins begin."""
    bins: dict[tuple[int, int], tuple[dict[Arm, set[int]], dict[GuardrailName, dict[Arm, set[int]]]]] = {}
    for exposure in exposures:
        place = (int(exposure.at.timestamp() // 60), exposure.revision)
        if place not in bins:
            bins[place] = (arms(), {"errors": arms(), "latency": arms(), "wrong": arms()})
        exposed, hit = bins[place]
        unit = short(exposure.unit)
        exposed[exposure.arm].add(unit)
        for name in exposure.bad:
            hit[name][exposure.arm].add(unit)
    return ((*place, exposed, hit) for place, (exposed, hit) in bins.items())


def short(unit: str) -> int:
    """64 bits instead of the unit's name: the state stays small and names nobody."""
    return int.from_bytes(blake2b(unit.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
