"""Rows as a person gives them to `predict`: JSON, a file, standard input or a table in memory."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from mainspring.core import declarations
from mainspring.core.errors import InvalidRequest, InvalidRows, UsageError
from mainspring.core.schema import Column, Schema, Type
from mainspring.data import casting, sources
from mainspring.serving import bodies
from mainspring.serving.loaded import needless
from mainspring.serving.rows import Columns
from mainspring.store.protection import protection_of

_TABLES = (".csv", ".csv.gz", ".csv.zip", ".tsv", ".parquet", ".pq")


def frame(rows: str, model: Any, sample: pl.DataFrame) -> pl.DataFrame:
    """The rows as the model sees them; JSON is checked as the endpoint checks it.

    rows: JSON text, the path of a JSON, CSV or Parquet file, or "-" for JSON or CSV on standard input.
    """
    manifest = model.manifest
    if rows.lower().endswith(_TABLES):
        return _table(_read(rows, manifest.inputs), model, sample)
    content = _content(rows)
    if rows == "-" and content.strip() and not content.lstrip().startswith((b"{", b"[")):
        return _table(_csv(content, manifest.inputs), model, sample)
    columns = Columns(manifest.inputs, manifest.roles, needless(model, manifest, sample))
    return columns.frame(columns.read(_json_rows(content, rows)).typed)


def _table(rows: pl.DataFrame, model: Any, sample: pl.DataFrame) -> pl.DataFrame:
    if not rows.height:
        raise InvalidRows(f"there are no rows, only a header: {', '.join(rows.columns)}; give some")
    return completed(as_ingested(rows, model.manifest.inputs), model, sample)


def _csv(content: bytes, inputs: Schema) -> pl.DataFrame:
    """CSV rows, read as a file of them is."""
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(content)
        file.flush()
        return _read(file.name, inputs)


def _read(path: str, inputs: Schema) -> pl.DataFrame:
    texts = tuple(column.name for column in inputs if column.type is Type.TEXT)
    parts = [part for part, _ in sources.reader(declarations.source(path), texts).read(None)]
    return pl.concat(parts, how="diagonal_relaxed")


def as_ingested(rows: pl.DataFrame, inputs: Schema) -> pl.DataFrame:
    """*rows* with the types that their table's got: lengths of time as seconds, clock times as text, and the like.

    Numbers where the table had text, such as a batch without any of its words, become text as a file would write them.
    """
    plain = casting.plain(protection_of(inputs).frame(rows))[0]
    numbers = [column for column in inputs if column.type is Type.TEXT and column.name in plain.columns
               and plain[column.name].dtype in (pl.Int64, pl.Float64)]  # fmt: skip
    return plain.with_columns(_as_text(plain[column.name], column) for column in numbers)


def _as_text(numbers: pl.Series, column: Column) -> pl.Series:
    text = numbers.cast(pl.String)
    whole = casting.integers(numbers)
    if whole.null_count() > numbers.null_count() or set(text.drop_nulls()) & set(column.levels or ()):
        return text
    return whole.cast(pl.String)  # pandas makes whole numbers floats where one is missing


def _content(rows: str) -> bytes:
    if rows == "-":
        return sys.stdin.read().encode()
    if rows.lstrip().startswith(("{", "[")):
        return rows.encode()
    if Path(rows).is_file():
        return Path(rows).read_bytes()
    raise UsageError(f"{rows!r} is neither JSON rows nor a file; give '{{\"column\": 1}}', rows.json, rows.csv or -")


def _json_rows(content: bytes, named: str) -> list[dict[str, Any]]:
    try:
        given = bodies.parse(content)
    except InvalidRequest as error:
        if named == "-" or named.lstrip().startswith(("{", "[")):
            raise InvalidRows(str(error).replace("the body is", "the rows are", 1)) from error
        raise InvalidRows(f"{named} is not valid JSON; give a .json file of rows, or {', '.join(_TABLES)}") from error
    rows = given.get("rows", [given]) if isinstance(given, dict) else given
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InvalidRows('give one row as an object, or several as {"rows": [{...}, ...]}')
    return rows


def completed(rows: pl.DataFrame, model: Any, sample: pl.DataFrame) -> pl.DataFrame:
    """As over HTTP, *rows* may lack the columns that change nothing in what the model says."""
    absent = set(model.manifest.inputs.names) - set(rows.columns)
    if not absent:
        return rows
    return rows.with_columns(pl.lit(None).alias(name) for name in absent & needless(model, model.manifest, sample))
