"""Records as polars frames: raw rows with their labels, to learn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import polars as pl

from mainspring.core.instants import moment
from mainspring.core.schema import Schema, Type
from mainspring.store.records import FeedbackRecord, PredictionRecord, latest
from mainspring.store.segments import Frame, Position

ID, AT = "mainspring_id", "mainspring_at"
"""The columns that `labelled` adds: the prediction's id, and when its label became known."""


class Answers(Protocol):
    """What is read here of `records.Records`."""

    def prediction_batches(self, after: Position | None = None) -> Iterable[tuple[Frame, list[PredictionRecord]]]: ...

    def feedback(self, after: Position | None = None) -> tuple[list[FeedbackRecord], dict[str, int]]: ...


def labelled(records: Answers, target: str, inputs: Schema | None = None) -> pl.DataFrame:
    """The raw rows whose label has come, in the order of their prediction, with the label as column *target*.

    inputs: the contract of the raw columns; times and dates then come back as such, numbers as its types.
    """
    labels = latest(records.feedback()[0])
    found: list[PredictionRecord] = []
    for _, batch in records.prediction_batches():
        found += [record for record in batch if record.id in labels]
    frame = raw_rows(found, inputs)
    return frame.with_columns(
        pl.Series(target, [labels[record.id].label for record in found], strict=False),
        pl.Series(ID, [record.id for record in found], dtype=pl.String),
        pl.Series(AT, [labels[record.id].at for record in found], dtype=pl.Datetime("us", "UTC")),
    )


def raw_rows(records: Sequence[PredictionRecord], inputs: Schema | None = None) -> pl.DataFrame:
    """The raw columns of *records* as a frame, of the types that *inputs* says where it is given."""
    rows = [record.row for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row)) if inputs is None else list(inputs.names)
    columns = {name: pl.Series(name, [row.get(name) for row in rows], strict=False) for name in names}
    if inputs is not None:
        columns = {column.name: _typed(columns[column.name], column.type) for column in inputs}
    return pl.DataFrame(columns)


def _typed(series: pl.Series, kind: Type) -> pl.Series:
    if kind is Type.DATETIME:
        return times(series)
    if kind is Type.DATE:
        return series.cast(pl.String).str.to_date(strict=False)
    return series.cast(_TYPES[kind], strict=False)


def times(texts: pl.Series) -> pl.Series:
    """ISO texts as naive datetimes; one with a zone is moved to UTC, and one that is no time is null.

    >>> times(pl.Series(["2013-07-01T12:00:00+02:00", "2013-07-01 10:00"])).dt.hour().to_list()
    [10, 10]
    """
    parsed = [None if text is None else moment(text) for text in texts.cast(pl.String).to_list()]
    return pl.Series(texts.name, parsed, dtype=pl.Datetime("us"))


_TYPES = {Type.INTEGER: pl.Int64, Type.FLOAT: pl.Float64, Type.BOOLEAN: pl.Boolean, Type.TEXT: pl.String}
