"""What a user declares: sources, roles, split, search, gate, release, monitor, retrain. Frozen values."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from mainspring.core.errors import DeclarationError
from mainspring.core.protocols import Named

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w|y)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B", re.IGNORECASE)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31557600.0}


def seconds(duration: str | float | timedelta) -> float:
    """The seconds in *duration*: a number of seconds, a timedelta, or text such as "5ms", "10m", "6h", "30d".

    >>> seconds("6h")
    21600.0
    """
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, int | float) and not isinstance(duration, bool) and duration >= 0:
        return float(duration)
    match = _DURATION.fullmatch(duration.strip()) if isinstance(duration, str) else None
    if match is None:
        raise DeclarationError(
            f"{duration!r} is not a duration; write a number and a unit, such as '5ms', '6h' or '30d'"
        )
    return float(match[1]) * _UNITS[match[2]]


def number_of_bytes(size: str | int) -> int:
    """The bytes in *size*: a whole number of bytes, or text such as "500MB", "2GB", "1.5GiB".

    >>> number_of_bytes("1.5GiB")
    1610612736
    """
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    match = _SIZE.fullmatch(size.strip()) if isinstance(size, str) else None
    if match is None:
        raise DeclarationError(f"{size!r} is not a size; write a number and a unit, such as '500MB' or '2GB'")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " KMGT".index(match[2].upper() or " "))


def _check_number(
    argument: str, value: Any, *, least: float = -math.inf, above: float = -math.inf, below: float = math.inf,
    whole: bool = False,
) -> None:  # fmt: skip
    """Raise DeclarationError unless *value* is a (*whole*) number, *least* or more, between *above* and *below*."""
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not (value >= least and above < value < below):
        kind = "a whole number" if whole else "a number"
        bounds = [f"{least:g} or more"] if least > -math.inf else []
        bounds += [f"above {above:g}"] if above > -math.inf else []
        bounds += [f"below {below:g}"] if below < math.inf else []
        raise DeclarationError(f"{argument}={value!r} must be {kind}{', ' if bounds else ''}{' and '.join(bounds)}")


# ---------------------------------------------------------------------------------------------------------- sources


@dataclass(frozen=True, slots=True)
class CsvSource:
    """Rows of one or several CSV files; *path* may be a glob."""

    path: str
    separator: str = ","
    encoding: str = "utf8"


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """Rows of one or several Parquet files; *path* may be a glob."""

    path: str


@dataclass(frozen=True, slots=True)
class SqlSource:
    """Rows of a query; *url* may be a reference such as "env:FLIGHTS_DB"; *cursor* names a growing column."""

    url: str
    query: str
    cursor: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FrameSource:
    """Rows of a polars, pandas or Arrow table in memory."""

    data: Any


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """Rows that a plain function returns: a frame, an Arrow table, a list of dicts, or an iterator of those."""

    function: Callable[[], Any]


AnySource = CsvSource | ParquetSource | SqlSource | FrameSource | FunctionSource


def csv(path: str, *, separator: str = ",", encoding: str = "utf8") -> CsvSource:
    """Rows of CSV files; *path* may be a glob such as "data/*.csv".

    A relative path is one from the folder of the FILE that the command line names, or else from the current folder.
    Whole numbers with leading zeros, such as zip codes, are text.
    """
    return CsvSource(str(path), separator, encoding)


def parquet(path: str) -> ParquetSource:
    """Rows of Parquet files; *path* may be a glob, and is looked for as `csv` does."""
    return ParquetSource(str(path))


def sql(url: str, query: str, *, cursor: str | None = None) -> SqlSource:
    """Rows of a query or a table.

    url: "sqlite:///file.db", a file's path, any SQLAlchemy URL, or a reference: "env:NAME", "file:PATH".
    cursor: a column that only grows (an id, a time stamp); the next run reads the rows beyond the last seen.
    """
    return SqlSource(str(url), query, cursor)


def frame(data: Any) -> FrameSource:
    """Rows of a polars, pandas or Arrow table that is already in memory."""
    return FrameSource(data)


def source(data: Any) -> Any:
    """*data* as a source: a source as it is, a function or a frame wrapped, a path by its suffix."""
    if isinstance(data, AnySource) or (hasattr(data, "read") and hasattr(data, "position")):
        return data
    if isinstance(data, str) and data.lower().endswith((".csv", ".csv.gz", ".csv.zip", ".tsv")):
        return csv(data)
    if isinstance(data, str) and data.lower().endswith((".parquet", ".pq")):
        return parquet(data)
    if hasattr(data, "columns") or hasattr(data, "column_names"):
        return FrameSource(data)
    if callable(data):
        return FunctionSource(data)
    raise DeclarationError(f"data={data!r} is no source; give ms.csv(path), ms.parquet, ms.sql, a frame or a function")


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

    @property
    def special(self) -> frozenset[str]:
        """Columns that aren't features by themselves (a features function may still use key, time and group)."""
        named = (self.target, self.key, self.time, self.group, self.weight, *self.ignore)
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
        _check_number("Search trials", self.trials, least=1, whole=True)
        _check_number("Search folds", self.folds, least=2, whole=True)
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


# ------------------------------------------------------------------------------------------------ gate and release


@dataclass(frozen=True, slots=True)
class Gate:
    """When a candidate may be released.

    metric: a name, or one of your own (`statistics.metrics.register`); None takes the task's default. margin: how much
    worse than the champion is still as good. alpha: the chance of promoting a model that is worse by more than the
    margin. slices: columns whose groups must not get worse. max_latency: of one row, p95, such as "5ms". max_size: of
    the bundle, in megabytes. on_inconclusive: what to do when the holdout is too small to tell (None: canary when the
    point estimate isn't worse, else hold). at_least: a floor for the metric, whatever the champion does.
    """

    metric: str | Named | None = None
    margin: float = 0.01
    alpha: float = 0.05
    slices: Sequence[str] = ()
    max_latency: str | float | None = None
    max_size: float | None = None
    on_inconclusive: Literal["hold", "canary"] | None = None
    at_least: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(getattr(self.metric, "name", self.metric), str | None):
            raise DeclarationError(
                f"Gate(metric={self.metric!r}) must be a name, such as 'roc_auc', or a registered Metric"
            )
        _check_number("Gate margin", self.margin, least=0)
        _check_number("Gate alpha", self.alpha, above=0, below=1)
        if self.max_size is not None:
            _check_number("Gate max_size", self.max_size, above=0)
        if self.at_least is not None:
            _check_number("Gate at_least", self.at_least)
        if isinstance(self.slices, str):
            raise DeclarationError(f"Gate(slices={self.slices!r}) must be a list: slices=[{self.slices!r}]")
        if self.on_inconclusive not in (None, "hold", "canary"):
            raise DeclarationError(f"Gate(on_inconclusive={self.on_inconclusive!r}) must be 'hold' or 'canary'")
        if self.max_latency is not None:
            seconds(self.max_latency)


@dataclass(frozen=True, slots=True)
class Canary:
    """Release step by step; each step is left by evidence (`statistics.arm_bet`), never by silence.

    steps: traffic shares in percent. min_units: of the canary, in each step. min_time: in each step, on the loop's
    clock. deadline: of one step; then the release holds and asks. alpha: the chance that a healthy release is rolled
    back. objective: the rate of bad events below which a version is healthy whatever the other arm does.
    guardrails: which bad events count: "errors" (answers >= 500), "latency" (slower than the champion's frozen p95
    objective, or *slow*), "wrong" (predictions that a matured label contradicts).
    """

    steps: Sequence[float] = (1, 5, 25, 50, 100)
    min_units: int = 100
    min_time: str | float = "10m"
    deadline: str | float = "7d"
    alpha: float = 0.05
    objective: float = 0.01
    guardrails: Sequence[Literal["errors", "latency", "wrong"]] = ("errors", "latency")
    slow: str | float | None = None

    def __post_init__(self) -> None:
        steps = tuple(self.steps)
        if not steps or steps[-1] != 100 or list(steps) != sorted(set(steps)) or steps[0] <= 0:
            raise DeclarationError(f"Canary(steps={steps}) must grow and end with 100, such as (1, 5, 25, 50, 100)")
        unknown = set(self.guardrails) - {"errors", "latency", "wrong"}
        if unknown or not self.guardrails:
            raise DeclarationError(f"Canary(guardrails={tuple(self.guardrails)}) knows errors, latency and wrong")
        _check_number("Canary min_units", self.min_units, least=1, whole=True)
        _check_number("Canary alpha", self.alpha, above=0, below=1)
        _check_number("Canary objective", self.objective, above=0, below=1)
        for duration in (self.min_time, self.deadline, *([] if self.slow is None else [self.slow])):
            seconds(duration)


@dataclass(frozen=True, slots=True)
class Immediate:
    """A promoted candidate takes all traffic at once."""


@dataclass(frozen=True, slots=True)
class Manual:
    """A promoted candidate waits for `mainspring promote`."""


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
    the training support), and every so often; over the last *window* of rows; at most once per *cooldown*.

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
        _check_number("Retrain min_labels", self.min_labels, least=0, whole=True)
        _check_number("Retrain tolerance", self.tolerance, least=0)
        for duration in (self.every, self.window, self.cooldown):
            if duration is not None:
                seconds(duration)


Release = Canary | Immediate | Manual


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

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise DeclarationError(
                f"name {self.name!r} must match {NAME.pattern}: lower case letters, digits, '.', '_', '-'"
            )
