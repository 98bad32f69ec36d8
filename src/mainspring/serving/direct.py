"""The way of rows into the matrix of a model without a frame: for models that see raw columns as they come."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from struct import error as PackError
from struct import pack_into
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec.structs import astuple

from mainspring.core.schema import Schema
from mainspring.serving.inputs import DTYPES
from mainspring.serving.rows import Row
from mainspring.serving.typed_rows import TypedRow
from mainspring.store.encoded_columns import Number
from mainspring.store.encoding import Encoding

_DICT = {dict}


class Direct:
    """What `Encoding.transform` makes of a frame, made of rows whose values have the types of *inputs*.

    >>> from mainspring.core.schema import Column, Type
    >>> frame = pl.DataFrame({"age": [20.0, None], "paid": [True, False]})
    >>> inputs = Schema((Column("age", Type.FLOAT), Column("paid", Type.BOOLEAN)))
    >>> Direct(Encoding.fit(frame, "ordered"), inputs).matrix(frame.to_dicts()).tolist()
    [[20.0, 1.0], [nan, 0.0]]
    """

    def __init__(self, encoding: Encoding, inputs: Schema) -> None:
        self._encoding, self._width = encoding, len(encoding.names)
        self._numbers: list[str] = []
        self._others: list[tuple[Any, pl.DataType, slice]] = []
        places: list[int] = []
        gaps: list[tuple[int, int]] = []
        at = 0
        for column in encoding.columns:
            after = at + len(column.outputs)
            if isinstance(column, Number):
                self._numbers.append(column.name)
                places.append(at)
                gaps += [(at + 1, at)] if after == at + 2 else []
            else:
                self._others.append((column, DTYPES[inputs[column.name].type], slice(at, after)))
            at = after
        self._places: Any = slice(None) if places == list(range(self._width)) else places
        self._marks, self._marked = [mark for mark, _ in gaps], [marked for _, marked in gaps]
        self._only_numbers = bool(places) and places == list(range(self._width))
        self._values = itemgetter(*self._numbers) if len(self._numbers) > 1 else None

    def matrix(self, rows: Sequence[Row]) -> npt.NDArray[np.float64]:
        """The model's matrix."""
        if self._only_numbers:
            return self._encoding.finished(np.asfortranarray(self._packed(self._listed(rows))))
        matrix = np.empty((len(rows), self._width), dtype=np.float64, order="F")
        if self._numbers:
            matrix[:, self._places] = self._packed(self._listed(rows))
        if self._marks:
            matrix[:, self._marks] = np.isnan(matrix[:, self._marked])
        for column, dtype, places in self._others:
            values = pl.Series(column.name, [row.get(column.name) for row in rows], dtype=dtype)
            column.write(values, matrix[:, places])
        return self._encoding.finished(matrix)

    def _packed(self, values: Sequence[Sequence[Any]]) -> npt.NDArray[np.float64]:
        size = len(values) * len(self._numbers)
        buffer = bytearray(8 * size)
        try:
            pack_into(f"{size}d", buffer, 0, *chain.from_iterable(values))
        except PackError:  # None, which becomes NaN
            return np.array(values, dtype=np.float64)
        return np.frombuffer(buffer).reshape(len(values), len(self._numbers))

    def _listed(self, rows: Sequence[Row]) -> Sequence[Sequence[Any]]:
        kinds = set(map(type, rows))
        if kinds == _DICT and self._values is not None:
            with suppress(KeyError):  # a column that may be left out
                return list(map(self._values, rows))
        elif len(kinds) == 1 and issubclass(kind := kinds.pop(), TypedRow):
            return self._fields(kind, rows)
        return [[row.get(name) for name in self._numbers] for row in rows]

    def _fields(self, kind: type[TypedRow], rows: Sequence[Any]) -> Sequence[Sequence[Any]]:
        names, values = kind.__struct_encode_fields__, list(map(astuple, rows))
        if list(names) == self._numbers:
            return values
        at = {name: place for place, name in enumerate(names)}
        places = [at[name] for name in self._numbers]
        return list(map(itemgetter(*places), values)) if len(places) > 1 else [(row[places[0]],) for row in values]


def direct(encoding: Encoding, inputs: Schema) -> Direct | None:
    """The direct way, where there is one: nothing is cleaned, and the model takes a matrix, not a frame."""
    if encoding.kind == "named" or encoding.cleaning.operations:
        return None
    return Direct(encoding, inputs) if all(column.name in inputs for column in encoding.columns) else None
