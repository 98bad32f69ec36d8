"""What a user declares: roles, split, search, gate, monitor, retrain. Frozen values; the words for sources stand in
`sources.py`, those for releases in `strategies.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mainspring.core.cleaning import Clean as Clean
from mainspring.core.errors import DeclarationError
from mainspring.core.joins import source as source
from mainspring.core.privacy import Privacy as Privacy
from mainspring.core.protocols import Named
from mainspring.core.quantities import NAME, check_number
from mainspring.core.quantities import seconds as seconds
from mainspring.core.sources import AnySource as AnySource
from mainspring.core.sources import CsvSource as CsvSource
from mainspring.core.sources import FrameSource as FrameSource
from mainspring.core.sources import FunctionSource as FunctionSource
from mainspring.core.sources import ParquetSource as ParquetSource
from mainspring.core.sources import SqlSource as SqlSource
from mainspring.core.sources import csv as csv
from mainspring.core.sources import frame as frame
from mainspring.core.sources import parquet as parquet
from mainspring.core.sources import sql as sql
from mainspring.core.strategies import ABTest as ABTest
from mainspring.core.strategies import Bandit as Bandit
from mainspring.core.strategies import Canary as Canary
from mainspring.core.strategies import Immediate as Immediate
from mainspring.core.strategies import Manual as Manual
from mainspring.core.strategies import Release as Release
from mainspring.core.strategies import Shadow as Shadow

# ------------------------------------------------------------------------------------------------- roles and split


@dataclass(frozen=True, slots=True)
class Roles:
    """What columns mean. (*key*, *time*) names a row; *ignore* are columns that aren't known when predicting."""

    target: str
    key: str | None = None
    time: str | None = None
    group: str | None = None
    weight: str | None = None
    positive: Any = None
    ignore: tuple[str, ...] = ()
    subject: str | None = None  # whom a row is about

    @property
    def special(self) -> frozenset[str]:
        """Columns that aren't features by themselves (a features function may still use key, time and group)."""
        named = (self.target, self.key, self.time, self.group, self.weight, self.subject, *self.ignore)
        return frozenset(name for name in named if name)

    @property
    def hidden(self) -> frozenset[str]:
        """Columns that no features function and no request sees."""
        return frozenset(name for name in (self.target, self.weight, *self.ignore) if name)


@dataclass(frozen=True, slots=True)
class Split:
    """How a holdout is kept apart.

    test: the holdout's share of the rows. by: "auto" takes time where there is a time column, else group, else the
    key's salted hash, else a seeded shuffle (the same rows as scikit-learn's train_test_split). stratify keeps the
    classes' shares where rows are shuffled.
    """

    test: float = 0.2
    by: Literal["auto", "time", "group", "random"] = "auto"
    stratify: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 < self.test < 1.0:
            raise DeclarationError(f"Split(test={self.test}) must lie between 0 and 1, such as 0.2")
        if self.by not in ("auto", "time", "group", "random"):
            raise DeclarationError(f"Split(by={self.by!r}) is unknown; choose auto, time, group or random")


# ---------------------------------------------------------------------------------------------------------- search


@dataclass(frozen=True, slots=True)
class Log:
    """A logarithmic range."""

    low: float
    high: float


def log(low: float, high: float) -> Log:
    """A logarithmic range of a search space: ms.log(0.01, 0.3)."""
    if not 0 < low < high:
        raise DeclarationError(f"ms.log({low}, {high}) needs 0 < low < high")
    return Log(low, high)


@dataclass(frozen=True, slots=True)
class Search:
    """What to try: a tuple is a range, `log` a logarithmic one, a list choices; a key is a parameter (of every
    estimator that has it) or "Estimator.parameter". Without a space the parameters that are usually tuned are, also
    where you gave them a value. The budget is in trials, or in time."""

    space: Mapping[str, Any] = field(default_factory=dict)
    trials: int = 20
    folds: int = 5
    time: str | float | None = None

    def __post_init__(self) -> None:
        check_number("Search trials", self.trials, least=1, whole=True)
        check_number("Search folds", self.folds, least=2, whole=True)
        for key, values in self.space.items():
            _check_space(key, values)


def _check_space(key: str, values: Any) -> None:
    if isinstance(values, Log) or (isinstance(values, list) and values):
        return
    if isinstance(values, tuple) and len(values) == 2 and values[0] < values[1]:
        return
    raise DeclarationError(
        f"Search space {key!r}: {values!r} is neither (low, high), ms.log(low, high) nor a list of choices"
    )


# ------------------------------------------------------------------------------------------------------------ gate


@dataclass(frozen=True, slots=True)
class Gate:
    """When a candidate may be released.

    metric: a name, or one of your own (`statistics.metrics.register`); None takes the task's default. margin: how much
    worse than the champion is still as good. alpha: the chance of promoting a model that is worse by more than the
    margin. slices: columns whose groups must not get worse. max_latency: of one row, p95, such as "5ms". max_size: of
    the bundle, in megabytes. on_inconclusive: what to do when the holdout is too small to tell (None: canary when the
    point estimate isn't worse, else hold). at_least: a floor for the metric, whatever the champion does. approval: what
    passes waits for a person, `mainspring approve`.
    """

    metric: str | Named | None = None
    margin: float = 0.01
    alpha: float = 0.05
    slices: Sequence[str] = ()
    max_latency: str | float | None = None
    max_size: float | None = None
    on_inconclusive: Literal["hold", "canary"] | None = None
    at_least: float | None = None
    approval: bool = False

    def __post_init__(self) -> None:
        if not isinstance(getattr(self.metric, "name", self.metric), str | None):
            raise DeclarationError(
                f"Gate(metric={self.metric!r}) must be a name, such as 'roc_auc', or a registered Metric"
            )
        check_number("Gate margin", self.margin, least=0)
        check_number("Gate alpha", self.alpha, above=0, below=1)
        if self.max_size is not None:
            check_number("Gate max_size", self.max_size, above=0)
        if self.at_least is not None:
            check_number("Gate at_least", self.at_least)
        if isinstance(self.slices, str):
            raise DeclarationError(f"Gate(slices={self.slices!r}) must be a list: slices=[{self.slices!r}]")
        if self.on_inconclusive not in (None, "hold", "canary"):
            raise DeclarationError(f"Gate(on_inconclusive={self.on_inconclusive!r}) must be 'hold' or 'canary'")
        if self.max_latency is not None:
            seconds(self.max_latency)


# ----------------------------------------------------------------------------------------------- monitor and retrain


@dataclass(frozen=True, slots=True)
class Monitor:
    """How the loop watches: every so often, with labels counted as matured *label_delay* after their prediction.

    arl: mean number of windows between false drift alarms. tolerance: how far a feature may move, in standard
    deviations, before that counts as drift. tests: more columns for the drift report, functions
    (reference, current) -> `monitoring.drift.Drift` of the training's and the window's numbers.
    """

    every: str | float = "1d"
    label_delay: str | float = 0
    arl: float = 1000.0
    tolerance: float = 0.0
    tests: Sequence[Callable[[Any, Any], Any]] = ()

    def __post_init__(self) -> None:
        if seconds(self.every) <= 0:
            raise DeclarationError(f"Monitor(every={self.every!r}) must be longer than 0")
        seconds(self.label_delay)
        if self.arl <= 1:
            raise DeclarationError(f"Monitor(arl={self.arl}) must be more than 1 window, such as 1000")
        if self.tolerance < 0:
            raise DeclarationError(f"Monitor(tolerance={self.tolerance}) must be 0 or more standard deviations")


@dataclass(frozen=True, slots=True)
class Retrain:
    """When to train again: on "decay" (matured labels show a loss beyond *tolerance*), on "drift" (inputs outside
    the training support), and every so often; over the last *window* of rows, by time=; at most once per *cooldown*.
    After a decay rows from before it are left out where models of the newer rows alone are shown to be better.

    tolerance: in points of the metric; for an error in the target's unit (rmse, mae, median_ae), a share of it.
    """

    on: Sequence[Literal["decay", "drift"]] = ("decay", "drift")
    every: str | float | None = None
    window: str | float | None = None
    cooldown: str | float = "1d"
    min_labels: int = 500
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        if isinstance(self.on, str) or set(self.on) - {"decay", "drift"}:
            raise DeclarationError(f"Retrain(on={self.on!r}) must be a list of 'decay' and 'drift'")
        check_number("Retrain min_labels", self.min_labels, least=0, whole=True)
        check_number("Retrain tolerance", self.tolerance, least=0)
        for duration in (self.every, self.window, self.cooldown):
            if duration is not None:
                seconds(duration)


@dataclass(frozen=True, slots=True)
class Declaration:
    """A whole loop as it was declared; each room reads its own part."""

    name: str
    source: Any
    roles: Roles
    split: Any
    features: tuple[Any, ...]
    models: Any
    task: Literal["auto", "binary", "multiclass", "regression"]
    search: Search | None
    gate: Gate
    release: Release
    unit: str | None
    monitor: Monitor
    retrain: Retrain | None
    seed: int
    steps: tuple[Any, ...] = ()
    max_bad: float = 0.05
    folder: str | None = None  # FILE's, where a person's contract is looked for
    clean: tuple[Clean, ...] = ()
    privacy: Privacy | None = None
    data_version: int | None = None  # the rows of this older version, whatever the source has by now

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise DeclarationError(
                f"name {self.name!r} must match {NAME.pattern}: lower case letters, digits, '.', '_', '-'"
            )
