"""What differs between two runs: parameters, the steps' states and fingerprints, their outputs, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mainspring.core.errors import MainspringError
from mainspring.core.values import Verdict
from mainspring.pipeline.fingerprint import Parts, Reason, telling
from mainspring.store.catalog import Catalog
from mainspring.store.home import Home
from mainspring.store.journal import Journal, StepRecord


@dataclass(frozen=True, slots=True)
class Change:
    """A value that is another in the second run; None: it has none."""

    name: str
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class StepChange:
    """A step that differs. reasons: what its fingerprint is made of that differs; digests of its outputs."""

    name: str
    old_status: str | None
    new_status: str | None
    reasons: tuple[Reason, ...]
    old_digest: str | None
    new_digest: str | None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": {"old": self.old_status, "new": self.new_status},
            "reasons": [reason.to_json() for reason in self.reasons],
            "digest": {"old": self.old_digest, "new": self.new_digest},
        }


@dataclass(frozen=True, slots=True)
class Differences:
    """What a run did otherwise than another one."""

    run: str
    other: str
    parameters: tuple[Change, ...]
    steps: tuple[StepChange, ...]
    metrics: tuple[Change, ...]


def between(home: Home, other: str, run: str) -> Differences:
    """How *run* differs from *other*."""
    journal, catalog = Journal(home), Catalog(home)
    old, new = ({step.name: step for step in journal.steps(each)} for each in (other, run))
    parameters = _changes(journal.run(other).parameters, journal.run(run).parameters)
    steps = [_step(name, old.get(name), new.get(name)) for name in dict.fromkeys([*new, *old])]
    metrics = _changes(_metrics(catalog, old), _metrics(catalog, new))
    return Differences(run, other, parameters, tuple(step for step in steps if step is not None), metrics)


def _step(name: str, old: StepRecord | None, new: StepRecord | None) -> StepChange | None:
    before, after = (None if step is None or step.parts is None else Parts.from_json(step.parts) for step in (old, new))
    kept = tuple(telling(name, after.differences(before))) if before is not None and after is not None else ()
    states = [None if step is None else "done" if step.status == "cached" else step.status for step in (old, new)]
    digests = [None if step is None or step.output is None else step.output.digest for step in (old, new)]
    if not kept and states[0] == states[1] and digests[0] == digests[1]:
        return None
    told = [None if step is None else step.status for step in (old, new)]
    return StepChange(name, told[0], told[1], kept, digests[0], digests[1])


def _metrics(catalog: Catalog, steps: Mapping[str, StepRecord]) -> dict[str, float]:
    """The numbers among the outputs, and those of a verdict."""
    found: dict[str, float] = {}
    for name, step in steps.items():
        if step.output is None or step.output.content is None:
            continue
        try:
            value = catalog.load(step.output)
        except MainspringError:  # it was freed, or is damaged: `show` tells what was, not what is
            continue
        if isinstance(value, Verdict):
            found |= {metric: float(figure) for metric, figure in value.metrics.items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    return found


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    names = dict.fromkeys([*new, *old])
    return tuple(Change(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name))
