"""What one feature column becomes: a number, parts of a moment, a level's code or one-hot columns, or itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core.errors import FeaturesError
from mainspring.core.hiding import hidden

Array = npt.NDArray[np.float64]

LARGEST = float(np.finfo(np.float32).max)
"""Trees compare in float32; what is larger would be infinity to them."""
LEVELS = 200
ONE_HOT_LEVELS = 50
_FEW_ROWS = 128  # up to here a dictionary is quicker than a cast to polars' Enum
_NUMERIC = frozenset(
    (pl.Float64, pl.Float32, pl.Int64, pl.Int32, pl.Int16, pl.Int8, pl.UInt64, pl.UInt32, pl.UInt16, pl.UInt8)
)
_SPANS = {"hour": 2.0, "weekday": 14.0, "month": 330.0, "days": 730.0}
"""Days that training must span before a part is used: the part's whole cycle, or for days since 1970 two years.

A date over many years names an age or an era, and new rows fall mostly inside; a shorter one only tells later rows
from earlier ones, and no model can extrapolate that.
"""
_CYCLES = {"hour": 24.0, "weekday": 7.0, "month": 12.0}


@dataclass(frozen=True, slots=True)
class Output:
    """One column of the matrix: what stands in for a missing value, and how it is standardised."""

    name: str
    fill: float | None = None
    centre: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Number:
    """A number, a boolean or a duration. A second output marks what is missing."""

    name: str
    outputs: tuple[Output, ...]

    def write(self, values: pl.Series, block: Array) -> None:
        block[:, 0] = numbers(values)
        if len(self.outputs) == 2:
            block[:, 1] = np.isnan(block[:, 0])


@dataclass(frozen=True, slots=True)
class Moment:
    """A date or time stamp, as *parts*. Days since 1970 are held within the training range, *low* to *high*."""

    name: str
    parts: tuple[str, ...]
    low: float
    high: float
    outputs: tuple[Output, ...]

    def write(self, values: pl.Series, block: Array) -> None:
        moments = stamps(values, self.name)
        for place, part in enumerate(self.parts):
            block[:, place] = _part(moments, part)
            if part == "days":
                np.clip(block[:, place], self.low, self.high, out=block[:, place])
        if len(self.outputs) > len(self.parts):
            block[:, -1] = np.isnat(moments)


@dataclass(frozen=True)  # without slots, for the cached codes
class Levels:
    """Text with few levels, by falling frequency: a code, or with *one_hot* a column each (then other, then missing).

    unknown: the code of a level that isn't in *levels*. missing: the code of no value; None leaves it to `fill`.
    """

    name: str
    levels: tuple[str, ...]
    one_hot: bool
    unknown: float | None
    missing: float | None
    outputs: tuple[Output, ...]

    @cached_property
    def _codes(self) -> dict[str | None, float]:
        codes: dict[str | None, float] = {level: float(code) for code, level in enumerate(self.levels)}
        return {**codes, None: np.nan if self.missing is None else self.missing}

    def write(self, values: pl.Series, block: Array) -> None:
        codes = self._coded(_text(values))
        if self.one_hot:
            shown = np.flatnonzero(codes < len(self.outputs))  # not NaN: no value, and no column for that
            block[:] = 0.0
            block[shown, codes[shown].astype(np.intp)] = 1.0
        else:
            block[:, 0] = codes

    def _coded(self, text: pl.Series) -> Array:
        unknown = np.nan if self.unknown is None else self.unknown
        if len(text) <= _FEW_ROWS:
            return np.array([self._codes.get(level, unknown) for level in text.to_list()], dtype=np.float64)
        known = text.cast(pl.Enum(self.levels), strict=False).to_physical().cast(pl.Float64).to_numpy()
        return np.where(text.is_null().to_numpy(), self._codes[None], np.where(np.isnan(known), unknown, known))


@dataclass(frozen=True, slots=True)
class Named:
    """A column that is handed on by its name, as *type*: "number", "boolean", "text", "moment" or "other"."""

    name: str
    type: str
    outputs: tuple[Output, ...]

    def values(self, values: pl.Series) -> pl.Series:
        """*values*; a column of nothing but nulls gets its type back."""
        if values.dtype != pl.Null or self.type not in _EMPTY:
            return values
        return values.cast(_EMPTY[self.type])


Column = Number | Moment | Levels | Named
_EMPTY: dict[str, pl.DataType] = {
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "text": pl.String(),
    "moment": pl.Datetime("us"),
}


def column_to_json(column: Column) -> dict[str, Any]:
    return {"becomes": type(column).__name__.lower(), **asdict(column)}


def column_from_json(data: Mapping[str, Any]) -> Column:
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    fields["outputs"] = tuple(Output(**output) for output in data["outputs"])
    kinds: dict[str, type[Any]] = {"number": Number, "moment": Moment, "levels": Levels, "named": Named}
    column: Column = kinds[fields.pop("becomes")](**fields)
    return column


# --------------------------------------------------------------------------------------------------- reading values


def numbers(values: pl.Series) -> npt.NDArray[Any]:
    """*values* as an array of numbers with NaN for missing; raises FeaturesError for text."""
    if values.dtype not in _NUMERIC:
        if type_of(values.dtype) not in ("number", "boolean", "nothing"):
            raise FeaturesError(
                f"column {values.name!r} is {values.dtype}, but the model was trained on numbers; cast it in features"
            )
        values = values.cast(pl.Duration("us")) if values.dtype == pl.Duration else values
        values = values.cast(pl.Float64)
    return values.to_numpy()


def stamps(values: pl.Series, name: str) -> npt.NDArray[np.datetime64]:
    """*values* as local time stamps in microseconds; raises FeaturesError for what is no date or time."""
    if type_of(values.dtype) not in ("moment", "nothing"):
        raise FeaturesError(
            f"column {name!r} is {values.dtype}, but the model was trained on dates; parse it in features"
        )
    if isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is not None:
        values = values.dt.replace_time_zone(None)
    return values.cast(pl.Datetime("us")).to_numpy()


def _text(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        return values
    if type_of(values.dtype) not in ("text", "nothing"):
        raise FeaturesError(
            f"column {values.name!r} is {values.dtype}, but the model was trained on text; cast it in features"
        )
    return values.cast(pl.String)


def type_of(dtype: pl.DataType) -> str:
    """What a polars type is to an estimator."""
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_numeric() or dtype in (pl.Duration, pl.Time):
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    if dtype in (pl.Date, pl.Datetime):
        return "moment"
    return "nothing" if dtype == pl.Null else "other"


def _part(moments: npt.NDArray[np.datetime64], part: str) -> Array:
    cycle, _, wave = part.partition(" ")
    days = moments.astype("datetime64[D]")
    if cycle == "hour":
        found = (moments - days) / np.timedelta64(1, "h")
    elif cycle == "weekday":
        found = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday; Monday is 0
    elif cycle == "month":
        found = moments.astype("datetime64[M]").astype(np.int64) % 12 + 1
    else:
        found = (moments - np.datetime64(0, "us")) / np.timedelta64(1, "D")
    found = np.where(np.isnat(moments), np.nan, found)
    if not wave:
        return found
    angle = 2 * np.pi * found / _CYCLES[cycle]
    return np.sin(angle) if wave == "sine" else np.cos(angle)


# ---------------------------------------------------------------------------------------------------------- fitting


def fitted_column(values: pl.Series, kind: str) -> tuple[Column | None, list[str]]:
    """What the training *values* of a feature column become for estimators of *kind*, and what to say about it."""
    name, type_ = values.name, type_of(values.dtype)
    if kind == "named":
        return Named(name, type_, (Output(name),)), []
    if values.null_count() == len(values):
        return None, [f"column {name!r} is dropped: the training rows have no value in it"]
    if type_ in ("number", "boolean"):
        return _fitted_number(values, kind)
    if type_ == "text":
        return _fitted_levels(values, kind)
    if type_ == "moment":
        return _fitted_moment(values, kind)
    return None, [f"column {name!r} is dropped: {values.dtype} is no number, text or date; take it apart in features"]


def _fitted_number(values: pl.Series, kind: str) -> tuple[Column | None, list[str]]:
    name, array = values.name, np.asarray(numbers(values), dtype=np.float64)
    output = _output(name, array, kind)
    if output is None:
        return None, [f"column {name!r} is dropped: it has no number in the training rows"]
    if kind == "scaled" and output.scale == 0.0:
        return None, [f"column {name!r} is dropped: it is {output.centre:g} in all training rows"]
    missing = int(np.isnan(array).sum())
    if kind == "ordered" or not missing:
        return Number(name, (output,)), []
    said = f"column {name!r}: {missing:,} missing values are filled by the median ({output.fill:g}) and marked"
    return Number(name, (output, _mark(name, missing / len(array), kind))), [said]


def _output(name: str, array: Array, kind: str) -> Output | None:
    """How a numeric column is filled and standardised; scale 0 where it is constant; None where nothing is usable."""
    valid = array[~np.isnan(array)]
    valid = valid[np.abs(valid) <= LARGEST] if kind == "scaled" else np.clip(valid, -LARGEST, LARGEST)
    if not len(valid):
        return None
    if kind == "ordered":
        return Output(name)
    fill = float(np.median(valid))
    if kind == "filled":
        return Output(name, fill)
    filled = np.concatenate([valid, np.full(len(array) - len(valid), fill)])
    centre, scale = float(filled.mean()), float(filled.std())
    constant = scale <= 1e-12 * max(abs(centre), 1e-300)  # what is left is rounding
    return Output(name, fill, centre, 0.0 if constant else scale)


def _mark(name: str, share: float, kind: str) -> Output:
    if kind != "scaled":
        return Output(f"{name} is missing")
    return Output(f"{name} is missing", None, share, float(np.sqrt(share * (1 - share))) or 1.0)


def _fitted_moment(values: pl.Series, kind: str) -> tuple[Column | None, list[str]]:
    name, moments = values.name, stamps(values, values.name)
    days = _part(moments, "days")
    low, high = float(np.nanmin(days)), float(np.nanmax(days))
    parts = [part for part, least in _SPANS.items() if high - low >= least]
    if kind == "scaled":
        parts = [f"{part} {wave}" for part in parts if part in _CYCLES for wave in ("sine", "cosine")]
        parts += ["days"] * (high - low >= _SPANS["days"])
    outputs = [_output(f"{name} {part}", _part(moments, part), kind) for part in parts]
    kept = [(p, o) for p, o in zip(parts, outputs, strict=True) if o and o.scale and _varies(moments, p)]
    if not kept:
        why = f"its dates span {high - low:,.0f} days and have no part that new rows repeat"
        return None, [f"column {name!r} is dropped: {why}; derive what matters from it in features"]
    shown = dict.fromkeys(part.split()[0] for part, _ in kept)
    said = f"column {name!r} becomes {', '.join('days since 1970' if part == 'days' else part for part in shown)}"
    share = float(np.isnat(moments).mean())
    marks = (_mark(name, share, kind),) if share and kind != "ordered" else ()
    chosen = tuple(part for part, _ in kept)
    return Moment(name, chosen, low, high, (*(output for _, output in kept), *marks)), [said]


def _varies(moments: npt.NDArray[np.datetime64], part: str) -> bool:
    found = _part(moments, part)
    return bool(np.nanmax(found) > np.nanmin(found))


def _fitted_levels(values: pl.Series, kind: str) -> tuple[Column | None, list[str]]:
    name, text = values.name, _text(values).drop_nulls()
    table = text.rename("level").value_counts(name="rows").sort(["rows", "level"], descending=[True, False])
    enough = min(10, max(2, len(text) // 100))
    frequent = table.filter(pl.col("rows") >= enough).head(ONE_HOT_LEVELS if kind == "scaled" else LEVELS)
    covered = int(frequent["rows"].sum())
    if table.height == 1 and len(text) == len(values):
        return None, [f"column {name!r} is dropped: it is {hidden(repr(table['level'][0]))} in all training rows"]
    if table.height > max(10, len(text) // 2) or 2 * covered < len(text):
        why = f"it has {table.height:,} levels in {len(text):,} rows, as an id or free text"
        return None, [f"column {name!r} is dropped: {why}; derive something that repeats from it in features"]
    pooled = table.height - frequent.height
    if pooled == 1 and frequent.height < ONE_HOT_LEVELS:
        frequent, pooled = table, 0  # a pool of one level says no less than the level
    said = f"column {name!r}: {pooled:,} rare levels ({len(text) - covered:,} rows) are pooled as 'other'"
    levels = tuple(frequent["level"].to_list())
    return _levels(name, levels, bool(pooled), len(text) < len(values), kind), [said] if pooled else []


def _levels(name: str, levels: tuple[str, ...], pooled: bool, gaps: bool, kind: str) -> Levels:
    """As codes, an unknown level comes after the rarest. Missing is NaN, or -1, or unknown where training had none."""
    count = float(len(levels))
    if kind == "ordered":
        return Levels(name, levels, False, count, None, (Output(name),))
    if kind == "filled":
        return Levels(name, levels, False, count, -1.0 if gaps else count, (Output(name),))
    more = ["(other)"] * pooled + ["is missing"] * gaps
    outputs = tuple(Output(f"{name} {what}") for what in (*(f"= {level}" for level in levels), *more))
    return Levels(name, levels, True, count if pooled else None, count + pooled if gaps else None, outputs)
