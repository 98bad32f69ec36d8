"""Nested values as columns, by one rule: an object's a: {b: 1} is column a_b; a list stays, as JSON text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import polars as pl

from mainspring.core.errors import SourceError
from mainspring.data.casting import exact

_LEAST, _MOST = -(2**63), 2**63 - 1


def frame_of(rows: Iterable[Mapping[str, Any]], name: str) -> pl.DataFrame:
    """A frame of JSON objects. A column of one kind has its type; of several kinds it is text, each as JSON writes it.

    Integers beyond 64 bits make their column text: as numbers they would lose digits, and so do those beside fractions
    that no float holds.
    """
    places: dict[tuple[str, ...], list[Any]] = {}
    height = 0
    for row in rows:
        for path, value in _leaves(row, ()):
            column = places.setdefault(path, [])
            column.extend([None] * (height - len(column)))
            column.append(value)
        height += 1
    _refuse_collisions(places, name)
    try:
        return pl.DataFrame([_series("_".join(path), values, height) for path, values in places.items()], height=height)
    except UnicodeEncodeError as error:
        raise SourceError(f"{name!r} holds {error.object[error.start]!a}, which is no character; mend it") from error


def flat(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """*frame* with its structs and lists made columns by the same rule."""
    if not any(dtype.is_nested() for dtype in frame.dtypes):
        return frame
    columns = [part for column in frame.iter_columns() for part in _flat(column)]
    _refuse_collisions([(part.name,) for part in columns], name)
    return pl.DataFrame(columns)


def _leaves(value: Mapping[str, Any], path: tuple[str, ...]) -> Iterable[tuple[tuple[str, ...], Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _leaves(inner, (*path, key))
        else:
            yield (*path, key), inner


def _refuse_collisions(paths: Iterable[tuple[str, ...]], name: str) -> None:
    seen: dict[str, tuple[str, ...]] = {}
    for path in paths:
        column = "_".join(path)
        if column in seen:
            raise SourceError(
                f"{name!r} has {'.'.join(seen[column])!r} and {'.'.join(path)!r}, which both make column {column!r}; "
                "rename one of them"
            )
        seen[column] = path


def _fits(value: Any) -> bool:
    """Whether a float holds *value*, or is written in its digits: JavaScript writes so up to 10^21."""
    return exact(value) or (abs(value) < 10**21 and Decimal(repr(float(value))) == value)


def _series(name: str, values: list[Any], height: int) -> pl.Series:
    values.extend([None] * (height - len(values)))
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return pl.Series(name, values, pl.Null)
    if kinds == {bool}:
        return pl.Series(name, values, pl.Boolean)
    if kinds == {int} and all(value is None or _LEAST <= value <= _MOST for value in values):
        return pl.Series(name, values, pl.Int64)
    if kinds <= {int, float} and float in kinds and all(map(_fits, values)):
        return pl.Series(name, [None if value is None else float(value) for value in values], pl.Float64)
    return pl.Series(name, [_text(value) for value in values], pl.String)


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _flat(column: pl.Series) -> Sequence[pl.Series]:
    if isinstance(column.dtype, pl.Struct):
        fields = column.struct.unnest()
        return [part for inner in fields.iter_columns() for part in _flat(inner.alias(f"{column.name}_{inner.name}"))]
    if column.dtype.is_nested():
        texts = [None if value is None else _listed(value) for value in column.to_list()]
        return [pl.Series(column.name, texts, pl.String)]
    return [column]


def _listed(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
