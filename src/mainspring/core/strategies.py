"""How a judged bundle gets its traffic: the strategies that a user declares as `release=`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mainspring.core.errors import DeclarationError
from mainspring.core.quantities import check_number, seconds

GuardrailName = str
"""errors, latency, wrong, or event:NAME."""
Outcome = str
"""right, event, value, error, or event:NAME."""
_GUARDRAILS = frozenset({"errors", "latency", "wrong"})
_OUTCOMES = frozenset({"right", "event", "value", "error"})
_EVENT = "event:"
EVENT_PATTERN = "^[A-Za-z][A-Za-z0-9_.-]{0,59}$"
EVENT_NAMES = "a letter, then letters, digits, '_', '.' or '-', at most 60"
"""What the name of a business event is made of."""


def is_event_name(name: object) -> bool:
    """Whether *name* may be that of a business event, such as "complaint"."""
    return isinstance(name, str) and re.fullmatch(EVENT_PATTERN[1:-1], name) is not None


def business_event(counted: str) -> str | None:
    """The business event that a guardrail or an outcome counts; None where it counts something else.

    >>> business_event("event:complaint"), business_event("errors")
    ('complaint', None)
    """
    name = counted.removeprefix(_EVENT)
    return name if name != counted and is_event_name(name) else None


@dataclass(frozen=True, slots=True)
class Canary:
    """Release step by step; each step is left by evidence (`statistics.arm_bet`), never by silence.

    steps: traffic shares in percent. min_units: of the canary, in each step. min_time: in each step, on the loop's
    clock. deadline: of one step; then the release holds and asks. alpha: the chance that a healthy release is rolled
    back. objective: the rate of bad events below which a version is healthy whatever the other arm does.
    guardrails: which bad events count: "errors" (answers >= 500), "latency" (slower than the champion's frozen p95
    objective, or *slow*), "wrong" (predictions that a matured label contradicts), "event:NAME" (units of which feedback
    told the business event NAME, such as "event:complaint"; without it for *min_time* counts as healthy).
    """

    steps: Sequence[float] = (1, 5, 25, 50, 100)
    min_units: int = 100
    min_time: str | float = "10m"
    deadline: str | float = "7d"
    alpha: float = 0.05
    objective: float = 0.01
    guardrails: Sequence[GuardrailName] = ("errors", "latency")
    slow: str | float | None = None

    def __post_init__(self) -> None:
        steps = tuple(self.steps)
        if not steps or steps[-1] != 100 or list(steps) != sorted(set(steps)) or steps[0] <= 0:
            raise DeclarationError(f"Canary(steps={steps}) must grow and end with 100, such as (1, 5, 25, 50, 100)")
        _check_watch("Canary", self)


@dataclass(frozen=True, slots=True)
class Immediate:
    """A promoted candidate takes all traffic at once."""


@dataclass(frozen=True, slots=True)
class Manual:
    """A promoted candidate waits for `mainspring promote`."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """The candidate gets a copy of each request and never answers one; what it would have said is compared.

    share: of the units whose requests are copied. promote: "by hand"; by "labels": once both versions' predictions can
    be judged by labels, by a paired confidence sequence at *alpha*; the candidate goes on when it is worse by less than
    *margin*, and is ended when it is worse by more; by "health": once its failures are shown to be rarer than
    *objective*, which says nothing of its answers. then: the canary with which it goes on; without one "labels"
    promotes it to all traffic, and "health" is refused. margin: in the share of right predictions; in a regression, a
    part of the champion's mean absolute error. slices: columns by which the disagreement is told (None: the gate's).
    window: how long after its prediction a label may come. min_units, min_time: before anything is decided; deadline:
    then it holds and asks.
    """

    share: float = 1.0
    promote: Literal["by hand", "labels", "health"] = "by hand"
    then: Canary | None = None
    objective: float = 0.01
    slices: Sequence[str] | None = None
    margin: float = 0.01
    alpha: float = 0.05
    window: str | float = "1d"
    min_units: int = 100
    min_time: str | float = "1d"
    deadline: str | float = "30d"

    def __post_init__(self) -> None:
        if self.promote not in ("by hand", "labels", "health"):
            raise DeclarationError(f"Shadow(promote={self.promote!r}) must be 'by hand', 'labels' or 'health'")
        if self.promote == "health" and self.then is None:
            raise DeclarationError("Shadow(promote='health') says nothing of the answers; add then=Canary(...)")
        if self.then is not None and (self.promote == "by hand" or not isinstance(self.then, Canary)):
            raise DeclarationError(
                f"Shadow(then={self.then!r}) must be a Canary(...), and needs promote='labels' or promote='health'"
            )
        if not 0 < self.share <= 1:
            raise DeclarationError(f"Shadow(share={self.share!r}) must be above 0 and at most 1")
        check_number("Shadow objective", self.objective, above=0, below=1)
        if isinstance(self.slices, str):
            raise DeclarationError(f"Shadow(slices={self.slices!r}) must be a list: slices=[{self.slices!r}]")
        check_number("Shadow margin", self.margin, above=0)
        check_number("Shadow alpha", self.alpha, above=0, below=1)
        check_number("Shadow min_units", self.min_units, least=1, whole=True)
        for duration in (self.window, self.min_time, self.deadline):
            seconds(duration)


@dataclass(frozen=True, slots=True)
class ABTest:
    """Champion and candidate by fixed shares until one is shown to be better at *outcome*; units stick to their arm.

    outcome: of a unit's first prediction, known *window* after it: "right" (a label agrees with it), "event" (feedback
    of the positive class has come; silence is none), "event:NAME" (feedback has told the business event NAME, such as
    "event:purchase"), "value" (the label's number), "error" (how far a predicted number was off). goal: whether events
    and "value" should be "more" or "less". shares: the champion's and the candidate's,
    in percent. alpha: the chance that equals are told apart, however often it is looked at; and, for the guardrails,
    that a healthy candidate is rolled back. min_units: in each arm; min_time: a whole cycle of the users;
    deadline: then it holds and asks. guardrails, objective, slow: as in Canary.
    """

    outcome: Outcome
    shares: Sequence[float] = (50, 50)
    goal: Literal["more", "less"] = "more"
    window: str | float = "1d"
    alpha: float = 0.05
    min_units: int = 100
    min_time: str | float = "1d"
    deadline: str | float = "30d"
    guardrails: Sequence[GuardrailName] = ("errors", "latency")
    objective: float = 0.01
    slow: str | float | None = None

    def __post_init__(self) -> None:
        shares = tuple(self.shares)
        if len(shares) != 2 or min(shares) <= 0 or abs(sum(shares) - 100) > 1e-9:
            raise DeclarationError(
                f"ABTest(shares={shares}) must be the champion's and the candidate's, which make 100, such as (50, 50)"
            )
        _check_outcome("ABTest", self)
        _check_watch("ABTest", self)


@dataclass(frozen=True, slots=True)
class Bandit:
    """Champion and candidate by shares that follow what is earned (Thompson sampling). It earns and doesn't decide:
    at the deadline it holds and asks; only the guardrails end it by themselves.

    floor: the least share of each arm. every: how often the shares may move. Shares that move with the outcome spoil a
    plain comparison, so each prediction keeps its propensity, by which the difference is told (AIPW, confidence
    sequence at *alpha*). min_units: in each arm, before the shares move. The other arguments are those of ABTest.
    """

    outcome: Outcome
    floor: float = 0.05
    every: str | float = "10m"
    goal: Literal["more", "less"] = "more"
    window: str | float = "1d"
    alpha: float = 0.05
    min_units: int = 100
    deadline: str | float = "30d"
    guardrails: Sequence[GuardrailName] = ("errors", "latency")
    objective: float = 0.01
    slow: str | float | None = None

    def __post_init__(self) -> None:
        check_number("Bandit floor", self.floor, above=0, below=0.5)
        seconds(self.every)
        _check_outcome("Bandit", self)
        _check_watch("Bandit", self)


Release = Canary | Shadow | ABTest | Bandit | Immediate | Manual


def _check_outcome(name: str, declared: ABTest | Bandit) -> None:
    if declared.outcome not in _OUTCOMES and business_event(declared.outcome) is None:
        raise DeclarationError(
            f"{name}(outcome={declared.outcome!r}) must be 'right', 'event', 'value', 'error', or 'event:NAME' of a "
            f"business event (NAME: {EVENT_NAMES})"
        )
    if declared.goal not in ("more", "less"):
        raise DeclarationError(f"{name}(goal={declared.goal!r}) must be 'more' or 'less'")
    if declared.goal == "less" and declared.outcome in ("right", "error"):
        raise DeclarationError(f"{name}(outcome={declared.outcome!r}) has its goal already; leave goal= out")
    if seconds(declared.window) <= 0:
        raise DeclarationError(f"{name}(window={declared.window!r}) must be longer than 0: outcomes need time to come")
    if seconds(declared.deadline) <= seconds(declared.window):
        raise DeclarationError(
            f"{name}(deadline={declared.deadline!r}) ends before any outcome is known, {declared.window!r} after its "
            "prediction; make it longer than window="
        )


def _check_watch(name: str, declared: Canary | ABTest | Bandit) -> None:
    unknown = [each for each in declared.guardrails if each not in _GUARDRAILS and business_event(each) is None]
    if unknown or not declared.guardrails:
        raise DeclarationError(
            f"{name}(guardrails={tuple(declared.guardrails)}) knows errors, latency, wrong, and event:NAME of a "
            f"business event (NAME: {EVENT_NAMES})"
        )
    check_number(f"{name} min_units", declared.min_units, least=1, whole=True)
    check_number(f"{name} alpha", declared.alpha, above=0, below=1)
    check_number(f"{name} objective", declared.objective, above=0, below=1)
    times = [] if isinstance(declared, Bandit) else [declared.min_time]
    for duration in (*times, declared.deadline, *([] if declared.slow is None else [declared.slow])):
        seconds(duration)
