"""Successive halving over shared folds: who is behind after a fold doesn't run the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mainspring.core.values import Trial
from mainspring.training.algorithms import Contender
from mainspring.training.folds import Folds

Clock = Callable[[], float]


@dataclass(slots=True, eq=False)
class Entry:
    """A contender with parameters in the race, and what it has shown so far."""

    number: int
    contender: Contender
    parameters: Mapping[str, Any]
    scores: list[float] = field(default_factory=list)
    seconds: float = 0.0
    error: str | None = None

    @property
    def score(self) -> float:
        """The mean over the folds it ran; nan before the first and after an error."""
        return float(np.mean(self.scores)) if self.scores and self.error is None else float("nan")

    def trial(self, folds: int) -> Trial:
        return Trial(
            self.number,
            self.contender.name,
            dict(self.parameters),
            self.score,
            tuple(self.scores),
            self.seconds,
            stopped_early=self.error is None and len(self.scores) < folds,
            error=self.error,
        )


@dataclass(frozen=True, slots=True)
class Race:
    """How entries are run over *folds*: all see the first, the better half goes on to the next (eta 2), and so on.

    The folds are the same for every entry, so that a fold's own difficulty cancels. tell: is called with each entry
    that ends. deadline: by *clock*; then it stops, as soon as one entry has a score.
    """

    folds: Folds
    tell: Callable[[Entry], None]
    clock: Clock = time.monotonic
    deadline: float | None = None

    @property
    def over(self) -> bool:
        return self.deadline is not None and self.clock() >= self.deadline

    def run(self, entries: Sequence[Entry], best: Entry | None = None, *, halve: bool = True) -> Entry | None:
        """The best of *entries* and *best* after the race; without *halve* each entry runs every fold."""
        alive = list(entries)
        for fold in range(len(self.folds)):
            for entry in alive:
                if not (self.over and (best or any(other.scores for other in entries))):
                    self._try(entry, fold)
            running = [entry for entry in alive if len(entry.scores) > fold]
            kept = running if not halve or fold + 1 == len(self.folds) else _better_half(running, best)
            self._tell(alive, kept if fold + 1 < len(self.folds) else [])
            alive = kept
        return leader([*entries, *([best] if best else [])])

    def _try(self, entry: Entry, fold: int) -> None:
        started = time.perf_counter()
        try:
            entry.scores.append(self.folds.score(entry.contender, entry.parameters, fold))
        except Exception as error:  # a trial that fails loses; the search reports it
            lines = str(error).strip().splitlines()
            entry.error = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        entry.seconds += time.perf_counter() - started

    def _tell(self, before: list[Entry], after: list[Entry]) -> None:
        for entry in before:
            if entry not in after:
                self.tell(entry)


def leader(entries: Sequence[Entry]) -> Entry | None:
    """Who is best: among those that ran the most folds, the greatest mean; the first of equals."""
    sound = [entry for entry in entries if entry.scores and entry.error is None]
    return max(sound, key=lambda entry: (len(entry.scores), entry.score, -entry.number), default=None)


def _better_half(running: Sequence[Entry], best: Entry | None) -> list[Entry]:
    """The better half; of it, once two folds are run, only who isn't behind the best so far on the same folds."""
    ranked = sorted(running, key=lambda entry: (-entry.score, entry.number))[: (len(running) + 1) // 2]
    done = len(ranked[0].scores) if ranked else 0
    if best is None or done < 2:
        return ranked
    return [entry for entry in ranked if entry.score >= float(np.mean(best.scores[:done]))]
