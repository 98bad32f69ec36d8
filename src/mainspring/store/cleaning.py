"""Feature columns cleaned as declared: learnt from training rows, kept in the bundle's encoding, run on each request.

numpy and polars only. Every operation looks at one value at a time, so a row alone is cleaned as it was in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core.cleaning import STATISTICS, Clean
from mainspring.core.errors import DeclarationError
from mainspring.core.wording import count, listed, number

OTHER = "other"
_SKEWED = 1.0
_BENDS = np.linspace(-2.0, 2.0, 81)
_SAMPLE = 10_000
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Alike:
    """Text whose blanks, case and width of letters are made alike; nothing but blanks is missing."""

    column: str

    def apply(self, values: pl.Series) -> list[pl.Series]:
        text = values.cast(pl.String).str.normalize("NFKC").str.strip_chars().str.replace_all(r"\s+", " ")
        text = text.str.to_lowercase()
        return [text.set((text == "").fill_null(False), None)]


@dataclass(frozen=True, slots=True)
class Pooled:
    """Text whose rare levels are one: "other"."""

    column: str
    levels: tuple[str, ...]

    def apply(self, values: pl.Series) -> list[pl.Series]:
        text = values.cast(pl.String)
        return [text.set(~text.is_in(pl.Series(self.levels, dtype=pl.String).implode()).fill_null(True), OTHER)]


@dataclass(frozen=True, slots=True)
class Parted:
    """A moment as its parts."""

    column: str
    parts: tuple[str, ...]

    def apply(self, values: pl.Series) -> list[pl.Series]:
        moments = values.cast(pl.Datetime("us"))
        return [_part(moments, part).cast(pl.Float64).alias(f"{self.column} {part}") for part in self.parts]


@dataclass(frozen=True, slots=True)
class Bounded:
    """A number held between two bounds, or marked in a column beside where it is beyond them."""

    column: str
    low: float
    high: float
    clip: bool

    def apply(self, values: pl.Series) -> list[pl.Series]:
        numbers = _numbers(values)
        if self.clip:
            return [numbers.clip(self.low, self.high)]
        beyond = ((numbers < self.low) | (numbers > self.high)).fill_null(False)
        return [values, beyond.alias(f"{self.column} is an outlier")]


@dataclass(frozen=True, slots=True)
class Bent:
    """A number bent towards symmetry by Yeo and Johnson's power (Biometrika 87, 2000)."""

    column: str
    power: float

    def apply(self, values: pl.Series) -> list[pl.Series]:
        bent = pl.Series(values.name, _bent(_numbers(values).to_numpy(), self.power))
        return [bent.fill_nan(None)]


@dataclass(frozen=True, slots=True)
class Filled:
    """A column whose gaps are filled, and with *marked* told in a column beside."""

    column: str
    value: Any
    marked: bool

    def apply(self, values: pl.Series) -> list[pl.Series]:
        values = values.fill_nan(None) if values.dtype.is_float() else values
        missing = values.is_null()
        if isinstance(self.value, float):
            filled = _numbers(values).fill_null(self.value)
        elif isinstance(self.value, bool):
            filled = values.cast(pl.Boolean).fill_null(self.value)
        else:
            filled = values.cast(pl.String).fill_null(self.value)
        return [filled, *([missing.alias(f"{self.column} is missing")] if self.marked else [])]


Operation = Alike | Pooled | Parted | Bounded | Bent | Filled
_OPERATIONS: Mapping[str, type[Any]] = {
    kind.__name__.lower(): kind for kind in (Alike, Pooled, Parted, Bounded, Bent, Filled)
}
_WANTED: Mapping[type[Any], tuple[str, ...]] = {
    Alike: ("text",), Pooled: ("text",), Parted: ("moment",), Bounded: ("number",), Bent: ("number",),
    Filled: ("number", "text", "boolean"),
}  # fmt: skip
_KINDS: Mapping[str, str] = {
    "number": "a number", "text": "text", "moment": "a date or time", "boolean": "yes or no", "other": "none of these",
}  # fmt: skip
_MENDS: Mapping[tuple[str, str], str] = {
    (
        "moment",
        "text",
    ): "say how its dates are written, such as ms.csv(..., dates={{{name!r}: '%d.%m.%Y'}}), convert it "
    "in features=, or ",
    ("number", "text"): "convert it in features=, or ",
    ("number", "boolean"): "cast it to a number in features=, or ",
}


@dataclass(frozen=True, slots=True)
class Cleaning:
    """Fitted operations in their order.

    >>> rows = pl.DataFrame({"fare": [1.0, 2.0, None, 3.0]})
    >>> Cleaning.fit(rows, [Clean(missing="median")]).apply(pl.DataFrame({"fare": [None]})).rows()
    [(2.0, True)]
    """

    operations: tuple[Operation, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def fit(cls, features: pl.DataFrame, rules: Iterable[Clean]) -> Cleaning:
        """What *rules* come to for *features*, the training rows' feature columns.

        Raises DeclarationError where one has nothing to do, or names a column that it isn't for.
        """
        operations: list[Operation] = []
        notes: list[str] = []
        raw = features
        for rule in rules:
            _refuse_unfit(raw, rule)
            for name in _chosen(features, rule):
                for fit in (_alike, _parted, _bounded, _pooled, _filled, _unskewed):
                    if name not in features.columns:
                        break  # a date whose parts took its place
                    operation, note = fit(features[name], rule)
                    if operation is not None:
                        features = _applied(operation, features)
                        operations.append(operation)
                        notes += [note] if note else []
        return cls(tuple(operations), tuple(notes))

    def apply(self, features: pl.DataFrame) -> pl.DataFrame:
        """*features*, cleaned."""
        for operation in self.operations:
            features = _applied(operation, features)
        return features

    def origins(self) -> dict[str, str]:
        """Of each column that cleaning makes or changes, the feature column that it comes from."""
        found: dict[str, str] = {}
        for operation in self.operations:
            origin = found.get(operation.column, operation.column)
            found |= dict.fromkeys(_made(operation), origin)
        return found

    def to_json(self) -> list[dict[str, Any]]:
        return [{"does": type(operation).__name__.lower(), **asdict(operation)} for operation in self.operations]

    @classmethod
    def from_json(cls, kept: Sequence[Mapping[str, Any]]) -> Cleaning:
        return cls(tuple(_operation(dict(fields)) for fields in kept))


NOTHING = Cleaning()
"""Where no cleaning was declared."""


def _operation(fields: dict[str, Any]) -> Operation:
    kind = _OPERATIONS[fields.pop("does")]
    made: Operation = kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    )
    return made


def _made(operation: Operation) -> list[str]:
    match operation:
        case Parted(column, parts):
            return [f"{column} {part}" for part in parts]
        case Bounded(column, clip=False):
            return [f"{column} is an outlier"]
        case Filled(column, marked=True):
            return [column, f"{column} is missing"]
        case _:
            return [operation.column]


def _applied(operation: Operation, features: pl.DataFrame) -> pl.DataFrame:
    """*features* with the column's new values in its place; what isn't there or isn't what it was is left alone."""
    if operation.column not in features.columns:
        return features
    values = features[operation.column]
    if _kind(values.dtype) not in (*_WANTED[type(operation)], "nothing"):
        return features  # the encoding says what is wrong
    made = operation.apply(values)
    if made[0].name == operation.column:
        return features.with_columns(made)
    place = features.columns.index(operation.column)
    columns = features.get_columns()
    return pl.DataFrame([*columns[:place], *made, *columns[place + 1 :]])


def _chosen(features: pl.DataFrame, rule: Clean) -> list[str]:
    if rule.columns is None:
        return features.columns
    if unknown := [name for name in rule.columns if name not in features.columns]:
        raise DeclarationError(
            f"Clean(columns=[{unknown[0]!r}]) is no feature column; they are {listed(features.columns, 20)}"
        )
    return list(rule.columns)


def _refuse_unfit(features: pl.DataFrame, rule: Clean) -> None:
    kinds = {name: _kind(features[name].dtype) for name in features.columns}
    for asked, wanted in _asked(rule):
        unfit = [name for name in kinds if kinds[name] not in (*wanted, "nothing")]
        named = [name for name in rule.columns or () if name in unfit]
        if not named and (rule.columns is not None or len(unfit) < len(kinds)):
            continue
        name = (named or [name for name in unfit if kinds[name] == "text"] or unfit)[0]
        where = f"column {name!r}" if named or len(unfit) == 1 else f"no feature column is one: {name!r}, for one,"
        mend = _MENDS.get((wanted[0], kinds[name]), "")
        left = "leave it out of Clean(columns=[...])" if named else f"leave {asked.partition('=')[0]}= out"
        raise DeclarationError(
            f"Clean({asked}) is for {listed([_KINDS[kind] for kind in wanted])}, but {where} is {_KINDS[kinds[name]]}; "
            f"{mend.format(name=name)}{left}"
        )


def _asked(rule: Clean) -> Iterable[tuple[str, tuple[str, ...]]]:
    """What *rule* does, as it was written, and the kinds of columns that this is for."""
    if rule.text:
        yield "text=True", _WANTED[Alike]
    if rule.dates:
        yield f"dates={list(rule.dates)}", _WANTED[Parted]
    if rule.outliers is not None:
        yield f"outliers={rule.outliers!r}", _WANTED[Bounded]
    if rule.rare is not None:
        yield f"rare={rule.rare!r}", _WANTED[Pooled]
    if rule.missing is not None:
        own = ("text",) if isinstance(rule.missing, str) and rule.missing not in STATISTICS else ("number",)
        yield f"missing={rule.missing!r}", _WANTED[Filled] if rule.missing == "most frequent" else own
    if rule.skew:
        yield "skew=True", _WANTED[Bent]


def _kind(dtype: pl.DataType) -> str:
    if dtype == pl.Boolean:
        return "boolean"
    if dtype == pl.Null:
        return "nothing"
    if dtype.is_numeric():
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    return "moment" if dtype == pl.Date or isinstance(dtype, pl.Datetime) else "other"


# ------------------------------------------------------------------------------------------------------- fitting

Fitted = tuple[Operation | None, str]
_NOTHING: Fitted = (None, "")


def _alike(values: pl.Series, rule: Clean) -> Fitted:
    return (Alike(values.name), "") if rule.text and _kind(values.dtype) == "text" else _NOTHING


def _parted(values: pl.Series, rule: Clean) -> Fitted:
    if not rule.dates or _kind(values.dtype) != "moment":
        return _NOTHING
    return Parted(values.name, tuple(rule.dates)), f"column {values.name!r} becomes its {listed(list(rule.dates))}"


def _bounded(values: pl.Series, rule: Clean) -> Fitted:
    known = _known(values)
    if rule.outliers is None or len(known) < 2:
        return _NOTHING
    first, third = np.quantile(known, [0.25, 0.75])
    if first == third:  # most values are one: any other would be an outlier
        return _NOTHING
    reach = rule.beyond * (third - first)
    low, high = float(first - reach), float(third + reach)
    beyond = int(((known < low) | (known > high)).sum())
    done = "clipped" if rule.outliers == "clip" else "flagged"
    note = f"column {values.name!r}: {count(beyond, 'value')} beyond {number(low)} to {number(high)} {done}"
    return Bounded(values.name, low, high, rule.outliers == "clip"), note if beyond else ""


def _unskewed(values: pl.Series, rule: Clean) -> Fitted:
    known = _known(values)
    if not rule.skew or len(np.unique(known)) < 3 or abs(_skewness(known)) < _SKEWED:
        return _NOTHING
    sample = known[:: max(1, len(known) // _SAMPLE)]
    likely = [_likelihood(sample, power) for power in _BENDS]
    power = float(_BENDS[int(np.argmax(likely))])
    return Bent(values.name, power), f"column {values.name!r} is skewed: it is bent by the power {power:.2f}"


def _pooled(values: pl.Series, rule: Clean) -> Fitted:
    if rule.rare is None or _kind(values.dtype) != "text":
        return _NOTHING
    shares = values.drop_nulls().cast(pl.String).value_counts(sort=True)
    often = shares.filter(pl.col("count") >= rule.rare * len(values))[values.name].sort().to_list()
    few = shares.height - len(often)
    note = f"column {values.name!r}: {count(few, 'rare level')} pooled as {OTHER!r}"
    return Pooled(values.name, tuple(often)), note if few else ""


def _filled(values: pl.Series, rule: Clean) -> Fitted:
    kind = _kind(values.dtype)
    known = (values.fill_nan(None) if values.dtype.is_float() else values).drop_nulls()
    if rule.missing is None or kind not in _WANTED[Filled] or not len(known):
        return _NOTHING
    value = _filling(known, kind, rule.missing)
    if value is None:
        return _NOTHING
    gaps = len(values) - len(known)
    shown = number(value) if isinstance(value, float) else repr(value)
    note = f"column {values.name!r}: {count(gaps, 'missing value')} filled with {shown}"
    return Filled(values.name, value, rule.indicator and gaps > 0), note if gaps else ""


def _filling(known: pl.Series, kind: str, rule: str | float) -> Any:
    """What a gap is filled with; None where the rule isn't one for such columns."""
    if rule == "most frequent":
        value = known.mode().sort()[0]
        return float(value) if kind == "number" else value if kind == "boolean" else str(value)
    if rule in STATISTICS:
        values = known.cast(pl.Float64).to_numpy() if kind == "number" else None
        return None if values is None else float(np.median(values) if rule == "median" else np.mean(values))
    if isinstance(rule, str):
        return rule if kind == "text" else None
    return float(rule) if kind == "number" else None


def _known(values: pl.Series) -> Array:
    """The finite numbers of a column; none where it holds something else."""
    if _kind(values.dtype) != "number":
        return np.empty(0)
    found: Array = values.cast(pl.Float64).drop_nulls().to_numpy()
    return found[np.isfinite(found)]


def _skewness(values: Array) -> float:
    spread = values.std()
    return float(np.mean(((values - values.mean()) / spread) ** 3)) if spread > 0 else 0.0


def _likelihood(values: Array, power: float) -> float:
    """The logarithm of how likely *values* are, if bent by *power* they are normal."""
    spread = _bent(values, power).var()
    if not np.isfinite(spread) or spread <= 0:
        return -np.inf
    return float(-len(values) / 2 * np.log(spread) + (power - 1) * np.sum(np.sign(values) * np.log1p(np.abs(values))))


# ------------------------------------------------------------------------------------------------------- applying


def _numbers(values: pl.Series) -> pl.Series:
    return values.cast(pl.Float64).fill_nan(None)


def _bent(values: Array, power: float) -> Array:
    size = np.abs(values)
    with np.errstate(over="ignore", invalid="ignore"):
        up = np.log1p(size) if power == 0 else ((size + 1) ** power - 1) / power
        down = -np.log1p(size) if power == 2 else -((size + 1) ** (2 - power) - 1) / (2 - power)
    return np.where(np.isnan(values), np.nan, np.where(values >= 0, up, down))


def _part(moments: pl.Series, part: str) -> pl.Series:
    if part == "days":
        return moments.dt.epoch("us").cast(pl.Float64) / 86_400e6
    return getattr(moments.dt, part)()  # type: ignore[no-any-return]
