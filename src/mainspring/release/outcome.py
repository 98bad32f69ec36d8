"""What an A/B test or a bandit has earned in each arm: each unit once, when its window for a label is closed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mainspring.core.declarations import ABTest, Bandit
from mainspring.core.strategies import business_event
from mainspring.core.wording import count, evidence, number, percent
from mainspring.release.evidence import short
from mainspring.statistics.mean_sequence import Difference
from mainspring.statistics.ratio_sequence import RatioSequence

_MOST_UNITS = 50_000
_LEAST_EVENTS = 20
_LEAST_OF_A_BIN = 20  # of two units one arm may have none, which compares nobody
_NO_BIN = (0, 0, 0, 0, 0)
_POWER = 0.8416
"""Standard errors that a true effect must lie beyond the bar, to be found with 80 % chance."""


@dataclass(slots=True)
class Units:
    """Units that have been met, in bounded memory: when there are too many, a fixed part of all units goes on counting.

    Which part is told by the unit's own hash, so it says nothing of the arm.
    """

    known: set[int] = field(default_factory=set)
    keep: float = 1.0

    def counts(self, unit: str) -> bool:
        """Whether *unit* is of the part that goes on counting."""
        return short(unit) < self.keep * 2**64

    def new(self, unit: str) -> bool:
        """Whether *unit* is met for the first time, and counts."""
        named = short(unit)
        if named >= self.keep * 2**64 or named in self.known:
            return False
        self.known.add(named)
        if len(self.known) > _MOST_UNITS:
            self.keep /= 2
            self.known = {each for each in self.known if each < self.keep * 2**64}
        return True

    def to_json(self) -> dict[str, Any]:
        return {"known": sorted(self.known), "keep": self.keep}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Units:
        return cls(set(state["known"]), state["keep"])


@dataclass(frozen=True, slots=True)
class Reward:
    """What a unit brought: *arm* 1 is the candidate's; *propensity*: the chance with which it met its arm."""

    arm: int
    value: float
    propensity: float


@dataclass(frozen=True, slots=True)
class Compared:
    """What the outcome says of the candidate. better: None while neither is shown; text: the figures in words."""

    better: bool | None
    text: str
    data: dict[str, Any]


@dataclass(slots=True)
class OutcomeEvidence:
    """Rewards by arm. ratio: for events, the rates' ratio; difference: of the means, by propensity.

    read: how far predictions are folded; minute: until which one they have been. labels: before which feedback can't
    belong to a prediction still open. open: the bin under way: revision, candidate's units, all units, candidate's
    events, all events.
    """

    read: dict[str, int]
    labels: dict[str, int]
    difference: Difference
    ratio: RatioSequence = field(default_factory=RatioSequence.start)
    met: Units = field(default_factory=Units)
    minute: int = 0
    open: tuple[int, int, int, int, int] = _NO_BIN

    @classmethod
    def begin(cls, positions: Mapping[str, Mapping[str, int]], declaration: ABTest | Bandit) -> OutcomeEvidence:
        read, labels = (dict(positions.get(kind, {})) for kind in ("predictions", "feedback"))
        return cls(read, labels, Difference.start(tuned=10.0 * declaration.min_units))

    def fold(self, rewards: Sequence[Reward], *, event: float | None, revision: int = 0) -> None:
        """Take in one minute; *event*: the value that makes a unit one with the event, where there are events."""
        arms = [reward.arm for reward in rewards]
        values = [reward.value for reward in rewards]
        self.difference = self.difference.update(arms, values, [reward.propensity for reward in rewards])
        if event is not None:
            hit = [reward.arm for reward in rewards if reward.value == event]
            self._count((revision, sum(arms), len(arms), sum(hit), len(hit)))

    def _count(self, minute: tuple[int, int, int, int, int]) -> None:
        """Minutes of few units are one bin together, while the route, and so the share, is the same."""
        if self.open[0] != minute[0]:
            self._close()
        _, *held = self.open
        revision, *new = minute
        candidate, units, x1, events = map(sum, zip(held, new, strict=True))
        self.open = (revision, candidate, units, x1, events)
        if self.open[2] >= _LEAST_OF_A_BIN:
            self._close()

    def _close(self) -> None:
        _, candidate, units, x1, events = self.open
        if units:
            self.ratio = self.ratio.update(x1, events - x1, candidate / units)
        self.open = _NO_BIN

    def units(self) -> tuple[int, int]:
        """Counted units of the champion's and of the candidate's arm."""
        return int(self.difference.counts[0]), int(self.difference.counts[1])

    def to_json(self) -> dict[str, Any]:
        return {
            "read": self.read,
            "labels": self.labels,
            "difference": self.difference.to_list(),
            "ratio": self.ratio.to_list(),
            "met": self.met.to_json(),
            "minute": self.minute,
            "open": list(self.open),
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> OutcomeEvidence:
        return cls(
            dict(state["read"]),
            dict(state["labels"]),
            Difference.from_list(state["difference"]),
            RatioSequence.from_list(state["ratio"]),
            Units.from_json(state["met"]),
            state["minute"],
            tuple(state.get("open", _NO_BIN)),
        )


def compare(found: OutcomeEvidence, declaration: ABTest | Bandit) -> Compared:
    """Whether the candidate is shown to be better, or worse, with the interval behind it.

    Events at fixed shares are compared by their ratio (the arm bet), whatever else by the difference of the means.
    """
    if isinstance(declaration, ABTest) and counted_event(declaration) is not None:
        return _by_ratio(found, declaration)
    return _by_difference(found, declaration)


def counted_event(declaration: ABTest | Bandit) -> float | None:
    """The value of a unit with the event whose rates are compared: of right predictions, the rarer wrong ones."""
    if declaration.outcome == "right":
        return 0.0
    return 1.0 if declaration.outcome == "event" or business_event(declaration.outcome) is not None else None


def _by_ratio(found: OutcomeEvidence, declaration: ABTest) -> Compared:
    low, high = found.ratio.interval(declaration.alpha)
    more = declaration.outcome != "right" and declaration.goal == "more"
    apart = low >= 1.0 or high <= 1.0
    better = (low >= 1.0) == more if apart else None
    what = "wrong predictions" if declaration.outcome == "right" else business_event(declaration.outcome) or "events"
    units = found.units()
    hits = found.difference.totals
    if declaration.outcome == "right":
        hits = (units[0] - hits[0], units[1] - hits[1])
    rates = [hit / max(of, 1) for hit, of in zip(hits, units, strict=True)]
    events = [rate * of for rate, of in zip(rates, units, strict=True)]
    ratio = rates[1] / rates[0] if rates[0] else None
    detectable = None
    if min(events) > 0:
        detectable = math.sqrt(high / low) * math.exp(_POWER * math.sqrt(1 / events[0] + 1 / events[1]))
    told = "" if ratio is None else f"ratio {number(ratio)}, "
    text = (
        f"{what}: {percent(rates[1])} of {count(units[1], 'candidate unit')} against {percent(rates[0])} of "
        f"{count(units[0], 'champion unit')}; {told}interval {number(low)} to {number(high)} at "
        f"{percent(1 - declaration.alpha)}, e-value {evidence(found.ratio.e_value)} against equal rates"
    )
    if detectable is not None:
        text += f"; a ratio of {number(detectable)} would by now be found with 80 % chance"
    data = {"rates": rates, "units": units, "ratio": ratio, "low": low, "high": high, "detectable": detectable,
            "e_value": found.ratio.e_value}  # fmt: skip
    return Compared(better, text, data)


def _enough(found: OutcomeEvidence, declaration: ABTest | Bandit) -> bool:
    """Whether the interval, which holds for large numbers, may decide: of events some must have come, and some not."""
    if counted_event(declaration) is None:
        return min(found.units()) >= declaration.min_units
    pairs = zip(found.difference.totals, found.difference.counts, strict=True)
    return min(min(total, units - total) for total, units in pairs) >= _LEAST_EVENTS


def _by_difference(found: OutcomeEvidence, declaration: ABTest | Bandit) -> Compared:
    difference, units = found.difference, found.units()
    low, high = difference.interval(declaration.alpha)
    more = declaration.outcome != "error" and declaration.goal == "more"
    apart = _enough(found, declaration) and (low > 0 or high < 0)
    better = (low > 0) == more if apart else None
    means = [found.difference.mean(arm) for arm in (0, 1)]
    known = 0 < difference.error < math.inf  # while nothing has come, or all is alike, there is no spread to tell it by
    what = business_event(declaration.outcome) or declaration.outcome
    detectable = (high - low) / 2 + _POWER * difference.error if known else None
    text = (
        f"{what}: mean {number(means[1])} of {count(units[1], 'candidate unit')} against "
        f"{number(means[0])} of {count(units[0], 'champion unit')}"
    )
    if known:
        text += (
            f"; difference by propensity {number(difference.estimate)}, interval {number(low)} to {number(high)} at "
            f"{percent(1 - declaration.alpha)}; a difference of {number(detectable or 0.0)} would by now be found with "
            "80 % chance"
        )
    data = {"means": means, "units": units, "difference": difference.estimate if known else None,
            "low": low if known else None, "high": high if known else None, "detectable": detectable}  # fmt: skip
    return Compared(better, text, data)
