"""How feature columns become the matrix that an estimator sees. Fitted on training rows, shipped inside the bundle.

numpy and polars only: this runs on each served request. What a column becomes is in `encoded_columns`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl

from mainspring.core.cleaning import Clean
from mainspring.core.errors import FeaturesError
from mainspring.core.wording import place
from mainspring.store.cleaning import NOTHING, Cleaning
from mainspring.store.encoded_columns import (
    LARGEST,
    Array,
    Column,
    Levels,
    Named,
    Output,
    column_from_json,
    column_to_json,
    fitted_column,
)

Kind = Literal["ordered", "filled", "scaled", "named"]


def apply_features(functions: Iterable[Any], rows: pl.DataFrame) -> pl.DataFrame:
    """The columns that the user's *functions*, run in order, make of *rows*.

    Scikit-learn transformers among them are passed over: they live inside the model. Raises FeaturesError when a
    function raises, returns no polars frame, or changes the number of rows.
    """
    for function in functions:
        if not hasattr(function, "fit"):
            rows = _applied(function, rows)
    return rows


def _applied(function: Any, rows: pl.DataFrame) -> pl.DataFrame:
    name = getattr(function, "__name__", type(function).__name__)
    try:
        made = function(rows.clone())  # who changes a frame in its place changes this one
        if isinstance(made, pl.LazyFrame):
            made = made.collect()
    except Exception as error:
        reason = f"{type(error).__name__}: {_first_line(error)}"
        where = f" ({found})" if (found := place(error)) else ""
        given = f"it is given {', '.join(rows.columns)} (never the target, weight or ignored columns)"
        raise FeaturesError(f"features function {name!r} raised {reason}{where}; {given}") from error
    if not isinstance(made, pl.DataFrame):
        raise FeaturesError(
            f"features function {name!r} returned {type(made).__name__}, not a polars frame; "
            "return the frame (from pandas: polars.from_pandas(frame))"
        )
    if odd := [column for column, dtype in made.schema.items() if dtype == pl.Object]:
        raise FeaturesError(
            f"features function {name!r} made column {odd[0]!r} of Python objects; make it numbers, text or dates"
        )
    if not made.width:
        raise FeaturesError(f"features function {name!r} returned a frame without columns; return what the model needs")
    if made.height != rows.height:
        raise FeaturesError(
            f"features function {name!r} made {made.height:,} rows of {rows.height:,}; "
            "return one row per row: leave filters and joins that multiply rows to the source's query"
        )
    return made


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"


@dataclass(frozen=True)  # without slots, for the cached arrays
class Encoding:
    """The way from feature columns to an estimator's matrix.

    kind: what the estimator needs. "ordered" (boosting): categories as codes, missing stays NaN. "filled" (trees,
    forests): codes, missing filled by the median and marked where training had it. "scaled" (linear models and
    anything else): one column per level, filled, standardised. "named": the columns as they are, as a pandas frame.
    cleaning: what the user declared, done before.
    Numbers that need nothing stay bit for bit what they were, in column order.

    >>> encoding = Encoding.fit(pl.DataFrame({"age": [20.0, None, 40.0], "paid": [True, False, True]}), "filled")
    >>> encoding.names
    ('age', 'age is missing', 'paid')
    >>> encoding.transform(pl.DataFrame({"paid": [True], "age": [None]})).tolist()
    [[30.0, 1.0, 1.0]]
    """

    kind: Kind
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()
    cleaning: Cleaning = NOTHING

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        return tuple(output for column in self.columns for output in column.outputs)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the matrix's columns."""
        return tuple(output.name for output in self.outputs)

    @cached_property
    def _finish(self) -> tuple[Any, Array, Array, Array]:
        """Which columns of the matrix are filled and standardised (one-hot ones never), and with what."""
        one_hot = [isinstance(column, Levels) and column.one_hot for column in self.columns for _ in column.outputs]
        places = np.flatnonzero(~np.array(one_hot, dtype=bool)) if any(one_hot) else slice(None)
        outputs = [output for output, never in zip(self.outputs, one_hot, strict=True) if not never]
        fills = np.array([np.nan if output.fill is None else output.fill for output in outputs])
        return places, fills, np.array([o.centre for o in outputs]), np.array([o.scale for o in outputs])

    @classmethod
    def fit(cls, features: pl.DataFrame, kind: Kind, clean: Iterable[Clean] = ()) -> Encoding:
        """The encoding of *features*, the training rows' feature columns, for estimators of *kind*."""
        cleaning = Cleaning.fit(features, clean)
        columns: list[Column] = []
        notes: list[str] = list(cleaning.notes)
        for values in cleaning.apply(features).iter_columns():
            column, said = fitted_column(values, kind)
            columns += [] if column is None else [column]
            notes += said
        return cls(kind, tuple(columns), tuple(notes), replace(cleaning, notes=()))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The feature columns that the model uses."""
        origins = self.cleaning.origins()
        return tuple(dict.fromkeys(origins.get(column.name, column.name) for column in self.columns))

    def transform(self, features: pl.DataFrame) -> Any:
        """The float64 matrix (rows x names) of *features*; of kind "named" a pandas frame.

        Raises FeaturesError when a column is missing or isn't what it was in training.
        """
        features = self.cleaning.apply(features)
        if self.kind == "named":
            named = [column for column in self.columns if isinstance(column, Named)]
            return pl.DataFrame([column.values(_values(features, column.name)) for column in named]).to_pandas()
        matrix = np.empty((features.height, len(self.names)), dtype=np.float64, order="F")
        at = 0
        for column in self.columns:
            if not isinstance(column, Named):
                after = at + len(column.outputs)
                column.write(_values(features, column.name), matrix[:, at:after])
                at = after
        return self.finished(matrix)

    def finished(self, matrix: Array) -> Array:
        """*matrix*, as the columns wrote it, with gaps filled and numbers standardised as the kind asks; in place."""
        if self.kind != "scaled":
            np.clip(matrix, -LARGEST, LARGEST, out=matrix)  # estimators refuse infinity; the order stays
        if self.kind == "ordered":
            return matrix
        places, fills, centres, scales = self._finish
        part, plain = matrix[:, places], False
        if self.kind == "scaled":
            sizes = np.abs(part)  # one look is cheaper, where all is plain
            plain = sizes.size > 0 and bool(np.maximum.reduce(sizes, axis=None) <= LARGEST)
            if not plain:
                part[sizes > LARGEST] = np.nan  # an infinite mean would be of no use to anybody
        if not plain:
            gaps = np.isnan(part)
            if gaps.any():
                np.copyto(part, fills, where=gaps)
        if self.kind == "scaled":
            part -= centres
            part /= scales
            if not isinstance(places, slice):  # of a slice it is a view
                matrix[:, places] = part
        return matrix

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "columns": [column_to_json(column) for column in self.columns],
            "notes": list(self.notes),
            **({"cleaning": self.cleaning.to_json()} if self.cleaning.operations else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Encoding:
        columns = tuple(map(column_from_json, data["columns"]))
        return cls(data["kind"], columns, tuple(data["notes"]), Cleaning.from_json(data.get("cleaning", ())))


def _values(features: pl.DataFrame, name: str) -> pl.Series:
    try:
        return features.get_column(name)
    except pl.exceptions.ColumnNotFoundError:
        given = ", ".join(features.columns)
        raise FeaturesError(
            f"the features have no column {name!r}, which the model was trained on; they have {given}"
        ) from None
