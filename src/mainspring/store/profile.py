"""The profile of a model's training rows: a histogram per raw input column, against which served rows are judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core import wording
from mainspring.core.schema import Column, Schema, Type

Counts = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BINS = 10
LEVELS = 30
KNOWN_LEVELS = 2_000
SHARED = 5
"""Where rows are about people: a text that at least so many rows have tells of none of them."""
OPEN_VOCABULARY = 0.01
"""A text column is open when a new row brings a level never seen with more than this chance (Good-Turing)."""
MARGIN = 0.1
"""How far beyond the training range, as a part of it, a number still counts as inside the training support."""
LARGEST = 1e150
"""Greater numbers, infinity among them, are errors of the source: counted, but no part of the training range."""
_ROWS_AT_ONCE = 65_536  # half a megabyte of float64: stays in the cache while it is compared with every edge


@dataclass(frozen=True, slots=True)
class Numbers:
    """A numeric column's training values.

    Bins: below *low*; one up to and with each of *edges*, the last of which is the greatest training value; above it;
    missing. *percentiles* are the 101 from the least to the greatest value: a small stand-in for the values themselves.
    """

    name: str
    low: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    percentiles: tuple[float, ...]
    mean: float
    deviation: float

    @property
    def high(self) -> float:
        return self.edges[-1]

    @property
    def bins(self) -> tuple[str, ...]:
        """What each count counts, for a reader."""
        upper = tuple(f"≤ {_short(edge)}" for edge in self.edges)
        return (f"< {_short(self.low)}", *upper, f"> {_short(self.high)}", "missing")

    @property
    def ordered(self) -> int:
        """How many bins, from the first on, go from low to high values."""
        return len(self.counts) - 1

    @property
    def judged(self) -> bool:
        """Whether values can be outside the training support; nothing was learnt from a constant column."""
        return self.high > self.low

    def count(self, values: pl.Series) -> Counts:
        """How many *values* fall in each bin."""
        return _binned(numbers(values), self.low, self.edges)

    def outside(self, values: pl.Series) -> Mask:
        """Which *values* lie beyond the training range by more than MARGIN of it."""
        margin = MARGIN * (self.high - self.low)
        array = numbers(values)
        beyond: Mask = (array < self.low - margin) | (array > self.high + margin)
        return beyond


@dataclass(frozen=True, slots=True)
class Levels:
    """A text or boolean column's training values. Bins: one per level of *levels*, the frequent ones; other; missing.

    *known* are all training levels, None where new ones are usual (names, serial numbers).
    """

    name: str
    levels: tuple[str, ...]
    known: tuple[str, ...] | None
    counts: tuple[int, ...]

    @property
    def bins(self) -> tuple[str, ...]:
        """What each count counts, for a reader."""
        return (*self.levels, "other", "missing")

    @property
    def ordered(self) -> int:
        """How many bins go from low to high values: none."""
        return 0

    @property
    def judged(self) -> bool:
        """Whether values can be outside the training support."""
        return self.known is not None

    def count(self, values: pl.Series) -> Counts:
        """How many *values* fall in each bin."""
        text = _text(values)
        other, missing = len(self.levels), len(self.levels) + 1
        levels = pl.Series(self.levels, dtype=pl.String)
        places = text.replace_strict(levels, np.arange(other), default=other, return_dtype=pl.Int64)
        counts: Counts = np.bincount(places.set(text.is_null(), missing).to_numpy(), minlength=missing + 1)
        return counts

    def outside(self, values: pl.Series) -> Mask:
        """Which *values* are levels that training never saw."""
        if self.known is None:
            return np.zeros(len(values), dtype=bool)
        text = _text(values)
        unseen: Mask = (text.is_not_null() & ~text.is_in(list(self.known))).fill_null(False).to_numpy()
        return unseen


Histogram = Numbers | Levels


@dataclass(frozen=True, slots=True)
class Outside:
    """How many of *rows* have a value outside the training support, and how many in which columns."""

    rows: int
    outside: int
    columns: Mapping[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        return self.outside / self.rows if self.rows else 0.0


@dataclass(frozen=True, slots=True)
class Profile:
    """The training rows' histograms, one per raw input column that can drift.

    Skipped are columns that move by themselves or name a row: dates and times, running numbers, nearly unique text.

    >>> schema = Schema((Column("age", Type.INTEGER), Column("city", Type.TEXT)))
    >>> profile = Profile.of(pl.DataFrame({"age": [20, 30, 30, None], "city": ["a", "b", "a", "a"]}), schema)
    >>> {name: counts.tolist() for name, counts in profile.counts(pl.DataFrame({"age": [99], "city": ["c"]})).items()}
    {'age': [0, 0, 0, 1, 0], 'city': [0, 0, 1, 0]}
    """

    rows: int
    columns: tuple[Histogram, ...]
    skipped: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, frame: pl.DataFrame, schema: Schema, exclude: tuple[str, ...] | frozenset[str] = (), shared: int = 1
    ) -> Profile:
        """The profile of the training rows *frame*, for the columns of *schema* that aren't in *exclude*.

        shared: how many rows a text must have to be told of.
        """
        found = [
            (column.name, _histogram(frame[column.name], column, shared))
            for column in schema if column.name not in exclude
        ]  # fmt: skip
        kept = tuple(histogram for _, histogram in found if histogram is not None)
        return cls(frame.height, kept, tuple(name for name, histogram in found if histogram is None))

    def __iter__(self) -> Iterator[Histogram]:
        return iter(self.columns)

    def __getitem__(self, name: str) -> Histogram:
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def probabilities(self) -> dict[str, npt.NDArray[np.float64]]:
        """Per column the share of the training rows in each bin."""
        return {column.name: np.array(column.counts, dtype=float) / max(self.rows, 1) for column in self.columns}

    def counts(self, frame: pl.DataFrame) -> dict[str, Counts]:
        """Per column how many rows of *frame* fall in each bin; a column that *frame* lacks is missing in every row."""
        return {column.name: column.count(_values(frame, column.name)) for column in self.columns}

    def outside(self, frame: pl.DataFrame) -> Outside:
        """The rows of *frame* with a value outside the training support: beyond the range, or a level never seen."""
        beyond = np.zeros(frame.height, dtype=bool)
        columns = {}
        for column in self.columns:
            if column.judged and column.name in frame.columns:
                mask = column.outside(frame[column.name])
                beyond |= mask
                columns[column.name] = int(mask.sum())
        return Outside(frame.height, int(beyond.sum()), {name: rows for name, rows in columns.items() if rows})

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "skipped": list(self.skipped),
            "columns": [{"kind": type(column).__name__.lower(), **asdict(column)} for column in self.columns],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Profile:
        return cls(data["rows"], tuple(_restored(column) for column in data["columns"]), tuple(data["skipped"]))


def numbers(values: pl.Series) -> npt.NDArray[np.float64]:
    """*values* as float64; what is missing or isn't a number is NaN."""
    return values.cast(pl.Float64, strict=False).to_numpy()


def _short(edge: float) -> str:
    shown = wording.number(edge, 4)
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _text(values: pl.Series) -> pl.Series:
    return values if values.dtype == pl.String else values.cast(pl.String, strict=False)


def _values(frame: pl.DataFrame, name: str) -> pl.Series:
    return frame[name] if name in frame.columns else pl.Series(name, [None] * frame.height, dtype=pl.Null)


def _histogram(values: pl.Series, column: Column, shared: int = 1) -> Histogram | None:
    if column.type in (Type.INTEGER, Type.FLOAT):
        return None if _running_number(values, column.type) else _numeric(column.name, values)
    if column.type in (Type.TEXT, Type.BOOLEAN):
        return _level(column.name, _text(values), shared)
    return None


def _running_number(values: pl.Series, kind: Type) -> bool:
    """An undeclared id: whole numbers, each once, with hardly a gap."""
    if kind != Type.INTEGER or len(values) < 50 or values.null_count():
        return False
    reach = float(values.max()) - float(values.min())  # type: ignore[arg-type]
    return reach < 1.2 * len(values) and values.n_unique() == len(values)


def _numeric(name: str, values: pl.Series) -> Numbers:
    array = numbers(values)
    finite = np.sort(array[np.abs(array) <= LARGEST])
    if not len(finite):
        finite = np.zeros(1)
    edges = _edges(finite)
    counts = tuple(int(count) for count in _binned(array, float(finite[0]), edges))
    percentiles = tuple(float(value) for value in np.quantile(finite, np.linspace(0, 1, 101), method="inverted_cdf"))
    return Numbers(name, float(finite[0]), edges, counts, percentiles, float(finite.mean()), float(finite.std()))


def _edges(ordered: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """The upper ends of the bins: each value where there are few, else values at even ranks (a heavy one only once)."""
    distinct = np.unique(ordered)
    if len(distinct) > BINS:
        places = np.ceil(np.arange(1, BINS + 1) * len(ordered) / BINS).astype(int) - 1
        distinct = np.unique(ordered[places])
    return tuple(float(edge) for edge in distinct)


def _binned(array: npt.NDArray[np.float64], low: float, edges: tuple[float, ...]) -> Counts:
    """Counts per bin of `Numbers`; each block of rows is compared with every edge, quicker than a search per row."""
    below, upto, valid = 0, np.zeros(len(edges), dtype=np.int64), 0
    for start in range(0, len(array), _ROWS_AT_ONCE):
        block = array[start : start + _ROWS_AT_ONCE]
        valid += int(np.count_nonzero(block == block))  # NaN differs from itself
        below += int(np.count_nonzero(block < low))
        upto += [np.count_nonzero(block <= edge) for edge in edges]
    inside = np.diff(upto, prepend=below)
    return np.concatenate([[below], inside, [valid - upto[-1], len(array) - valid]])


def _level(name: str, text: pl.Series, shared: int = 1) -> Levels | None:
    table = text.rename("level").drop_nulls().value_counts(sort=False, name="rows")
    seen = len(text) - text.null_count()
    if table.height > LEVELS and table.height > seen / 2:
        return None
    unseen_rate = table.filter(pl.col("rows") == 1).height / max(seen, 1)
    told = table.filter(pl.col("rows") >= shared)
    ordered = told.sort(["rows", "level"], descending=[True, False])["level"].to_list()
    closed = len(ordered) <= KNOWN_LEVELS and unseen_rate <= OPEN_VOCABULARY and told.height == table.height
    levels, known = tuple(ordered[:LEVELS]), tuple(sorted(ordered)) if closed else None
    empty = Levels(name, levels, known, ())
    return Levels(name, levels, known, tuple(int(count) for count in empty.count(text)))


def _restored(data: Mapping[str, Any]) -> Histogram:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    kind = fields.pop("kind")
    return Numbers(**fields) if kind == "numbers" else Levels(**fields)
