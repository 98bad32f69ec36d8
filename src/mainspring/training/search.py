"""The search for the best estimator and its parameters. The only file that knows Optuna."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mainspring.core.declarations import Log, Search, seconds
from mainspring.core.errors import TrainingError
from mainspring.core.protocols import Progress
from mainspring.core.values import Trial
from mainspring.training.algorithms import Contender
from mainspring.training.folds import Folds
from mainspring.training.race import Clock, Entry, Race
from mainspring.training.space import Space, spaces

_BATCH = 10
"""About how many trials race against each other before the sampler learns from them."""
_IDLE_BATCHES = 3
"""A sampler that gave nothing new this often has tried all there is."""


@dataclass(frozen=True, slots=True)
class Found:
    """The best estimator and parameters. score: greater is better whatever the metric; None where none was needed."""

    contender: Contender
    parameters: Mapping[str, Any]
    score: float | None
    trials: tuple[Trial, ...]


def compare(contenders: Sequence[Contender], folds: Folds, *, progress: Progress | None = None) -> Found:
    """Which contender is best as it is declared: each one on every fold."""
    entries = [Entry(number, contender, {}) for number, contender in enumerate(contenders)]
    race = Race(folds, _Teller(progress, len(entries)))
    return _found(race.run(entries, halve=False), entries, folds)


def search(
    contenders: Sequence[Contender],
    folds: Folds,
    declared: Search,
    *,
    seed: int,
    progress: Progress | None = None,
    clock: Clock = time.monotonic,
) -> Found:
    """Which contender with which parameters is best.

    Each contender's own parameters are tried first, then what the sampler proposes, in batches that race. With a
    budget in trials the same seed gives the same result; with a budget in time, as many trials as fit.
    """
    limit = None if declared.time is None else clock() + seconds(declared.time)
    wanted = None if limit is not None else max(declared.trials, len(contenders))
    race = Race(folds, _Teller(progress, wanted or 0), clock, limit)
    proposals = _Proposals(contenders, spaces(declared.space, contenders), seed)
    entries: list[Entry] = []
    batch = [Entry(number, contender, {}) for number, contender in enumerate(contenders)]
    best, idle = None, 0
    for count in _batches(wanted):
        batch += proposals.ask(count - len(batch), [*entries, *batch])
        best = race.run(batch, best)
        proposals.tell(len(folds))
        entries += batch
        idle = 0 if batch else idle + 1
        batch = []
        if race.over or idle == _IDLE_BATCHES or not proposals.possible:
            break
    return _found(best, entries, folds)


def _batches(trials: int | None) -> Iterable[int]:
    """Batches of about equal size; without end where time is the budget.

    >>> _batches(25)
    [13, 12]
    """
    if trials is None:
        return itertools.repeat(_BATCH)
    count = max(1, round(trials / _BATCH))
    return [trials // count + (number < trials % count) for number in range(count)]


def _found(best: Entry | None, entries: Sequence[Entry], folds: Folds) -> Found:
    if best is None:
        failed = entries[0]
        how = f" with {dict(failed.parameters)}" if failed.parameters else ""
        tried, first = ("the only trial", "") if len(entries) == 1 else (f"all {len(entries)} trials", "; the first")
        raise TrainingError(
            f"{tried} failed{first}, {failed.contender.name}{how}: {failed.error}; mend its parameters or the features"
        )
    trials = tuple(entry.trial(len(folds)) for entry in entries)
    return Found(best.contender, best.parameters, best.score, trials)


class _Teller:
    """Counts the trials that ended, for the person who waits."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, entry: Entry) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress("train", self.done, self.total)


class _Proposals:
    """What Optuna's seeded sampler would try next, given how the trials so far went."""

    def __init__(self, contenders: Sequence[Contender], space: Mapping[str, Space], seed: int) -> None:
        import optuna  # a quarter of a second that only a search pays

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=seed)
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.pruned, self.failed = optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL
        self.contenders = [contender for contender in contenders if space[contender.name]]
        self.space = space
        self.open: list[tuple[Any, Entry]] = []

    @property
    def possible(self) -> bool:
        return bool(self.contenders)

    def ask(self, count: int, before: Sequence[Entry]) -> list[Entry]:
        """Up to *count* entries that aren't among those *before*; a proposal made twice shares its entry."""
        known = {_identity(entry.contender, entry.parameters): entry for entry in before}
        fresh: list[Entry] = []
        for _ in range(count if self.possible else 0):
            trial = self.study.ask()
            contender, parameters = self._suggested(trial)
            identity = _identity(contender, parameters)
            if identity not in known:
                known[identity] = Entry(len(before) + len(fresh), contender, parameters)
                fresh.append(known[identity])
            self.open.append((trial, known[identity]))
        return fresh

    def tell(self, folds: int) -> None:
        """How the open proposals went: the sampler learns from those that stopped early as well."""
        for trial, entry in self.open:
            for step in range(len(entry.scores)):
                trial.report(sum(entry.scores[: step + 1]) / (step + 1), step)
            if entry.error is not None or not entry.scores:
                self.study.tell(trial, state=self.failed)
            elif len(entry.scores) < folds:
                self.study.tell(trial, state=self.pruned)
            else:
                self.study.tell(trial, entry.score)
        self.open.clear()

    def _suggested(self, trial: Any) -> tuple[Contender, dict[str, Any]]:
        places = list(range(len(self.contenders)))
        place = trial.suggest_categorical("estimator", places) if len(places) > 1 else 0
        contender = self.contenders[place]
        space = self.space[contender.name]
        return contender, {key: _value(trial, f"{contender.name}.{key}", space[key]) for key in space}


def _identity(contender: Contender, parameters: Mapping[str, Any]) -> str:
    return f"{contender.name} {sorted(parameters.items())!r}"


def _value(trial: Any, name: str, values: Any) -> Any:
    if isinstance(values, list):
        return values[trial.suggest_categorical(name, list(range(len(values))))]  # any object may be a choice
    low, high = (values.low, values.high) if isinstance(values, Log) else values
    suggest = trial.suggest_int if isinstance(low, int) and isinstance(high, int) else trial.suggest_float
    return suggest(name, low, high, log=isinstance(values, Log))
