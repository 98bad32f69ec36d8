"""Whether the user's features functions keep their promise: row by row, the same rows, blind to the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from mainspring.core.errors import FeaturesError
from mainspring.core.wording import listed
from mainspring.store.encoding import apply_features

SAMPLE_ROWS = 1_000
TOLERANCE = 1e-9
"""By so much, relatively, sums may differ where a processor adds them in another order."""


def checked_features(
    functions: Sequence[Any], rows: pl.DataFrame, hidden: frozenset[str], seed: int = 0
) -> pl.DataFrame:
    """The columns that *functions* make of *rows*, without the *hidden* ones, which no function may see.

    Raises FeaturesError where a function asks for those, or where a row's features change with the rows beside it:
    a sample is computed whole, shuffled, in halves and one row alone.
    """
    given = rows.drop(hidden, strict=False)
    made = _blind(functions, given, hidden)
    if any(not hasattr(function, "fit") for function in functions):
        _refuse_unstable(functions, given.sample(min(SAMPLE_ROWS, given.height), seed=seed), seed)
    return made


def _blind(functions: Sequence[Any], given: pl.DataFrame, hidden: frozenset[str]) -> pl.DataFrame:
    try:
        return apply_features(functions, given)
    except FeaturesError as error:
        cause = error.__cause__
        missing = str(cause) if isinstance(cause, pl.exceptions.ColumnNotFoundError | KeyError) else ""
        asked = sorted(name for name in hidden if _names(missing, name))
        if not asked:
            raise
        raise FeaturesError(
            f"features ask for column {listed([repr(name) for name in asked])}, which no request carries (the target, "
            "the weight or an ignored column); take it out of the features function"
        ) from cause


def _names(message: str, name: str) -> bool:
    """Whether the error *message* is about column *name*; polars writes it plain, in quotes, or first of a line."""
    return name == message.partition("\n")[0].strip().strip("'\"") or f'"{name}"' in message or f"'{name}'" in message


def _refuse_unstable(functions: Sequence[Any], sample: pl.DataFrame, seed: int) -> None:
    whole = apply_features(functions, sample)
    _compare(functions, whole, apply_features(functions, sample), sample, "when it is computed again")
    order = pl.int_range(sample.height, eager=True).shuffle(seed=seed)
    mixed = apply_features(functions, sample[order])
    _compare(functions, whole, _sorted_by(mixed, order), sample, "when the rows are in another order")
    half = sample.height // 2
    parts = [apply_features(functions, part) for part in (sample.head(half), sample.slice(half)) if part.height]
    _compare(functions, whole, pl.concat(parts, how="diagonal_relaxed"), sample, "when other rows are beside it")
    _compare(functions, whole.head(1), apply_features(functions, sample.head(1)), sample, "when it stands alone")


def _sorted_by(frame: pl.DataFrame, order: pl.Series) -> pl.DataFrame:
    return frame[order.arg_sort()]


def _compare(functions: Sequence[Any], one: pl.DataFrame, two: pl.DataFrame, rows: pl.DataFrame, when: str) -> None:
    names = ", ".join(repr(getattr(f, "__name__", type(f).__name__)) for f in functions if not hasattr(f, "fit"))
    if one.columns != two.columns:
        differing = listed(sorted(set(one.columns) ^ set(two.columns))) or "their order"
        raise FeaturesError(f"features function {names} makes other columns {when}: {differing}; always make the same")
    for column in one.iter_columns():
        differs = _differs(column, two[column.name])
        if differs.any():
            row = differs.arg_true()[0]
            raise FeaturesError(
                f"features function {names} isn't row-wise: column {column.name!r} of a row is {column[row]!r}, and "
                f"{two[column.name][row]!r} {when}; use only the row's own values, and put what must be learnt from "
                "all rows into a scikit-learn transformer in features=[...]"
            )


def _differs(one: pl.Series, two: pl.Series) -> pl.Series:
    if one.dtype != two.dtype:
        if pl.Null not in (one.dtype, two.dtype) and not (one.dtype.is_numeric() and two.dtype.is_numeric()):
            return pl.Series([True] * len(one))
        two = two.cast(one.dtype if one.dtype != pl.Null else two.dtype, strict=False)
    if one.dtype.is_float():
        close = ((one - two).abs() <= TOLERANCE * one.abs().clip(lower_bound=1.0)).fill_null(False)
        return ~(close | one.eq_missing(two))
    return one.ne_missing(two)
