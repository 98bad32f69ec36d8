"""The bodies of MLflow's scoring protocol as rows: dataframe_split, dataframe_records, instances, inputs, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mainspring.core.errors import InvalidRequest, InvalidRows
from mainspring.core.schema import Schema, Type
from mainspring.serving.rows import Row

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def rows_of(body: Any, names: Sequence[str]) -> list[Row]:
    """The rows in a parsed JSON *body*; lists without column names take *names*, the loop's raw columns in order."""
    forms = [form for form in _FORMS if isinstance(body, dict) and form in body]
    if len(forms) != 1:
        raise InvalidRequest(f"the body must have exactly one of {', '.join(_FORMS)}")
    given = body[forms[0]]
    if forms[0] == "dataframe_split":
        return _split(given)
    if isinstance(given, dict):
        return _columns(given)
    if isinstance(given, list) and all(isinstance(row, list) for row in given):
        return _named(given, names)
    return _records(given, forms[0])


def rows_of_csv(text: str, inputs: Schema) -> list[Row]:
    """The rows of CSV with a header line; an empty field is missing."""
    try:
        table = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise InvalidRequest(f"the body is not CSV: {error}") from None
    table = [fields for fields in table if fields]
    if not table:
        raise InvalidRequest("the CSV body is empty; its first line must name the columns")
    if len(set(table[0])) < len(table[0]):
        raise InvalidRequest("the CSV header names a column twice; the columns must be distinct names")
    read = {column.name: _READ[column.type] for column in inputs}
    rows: list[Row] = []
    for fields in table[1:]:
        if len(fields) != len(table[0]):
            raise InvalidRows(f"row {len(rows)} has {len(fields)} fields, the header has {len(table[0])}")
        rows.append({name: _value(field, read.get(name)) for name, field in zip(table[0], fields, strict=True)})
    return rows


def _split(given: Any) -> list[Row]:
    columns, data = (given.get("columns"), given.get("data")) if isinstance(given, dict) else (None, None)
    if not isinstance(columns, list) or not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        raise InvalidRequest('dataframe_split must be {"columns": [...], "data": [[...]]}')
    if not all(isinstance(name, str) for name in columns) or len(set(columns)) < len(columns):
        raise InvalidRequest("dataframe_split: the columns must be distinct names")
    index = given.get("index")
    if index is not None and (not isinstance(index, list) or len(index) != len(data)):
        raise InvalidRows(f"dataframe_split: the index must be a list of {len(data)} values, one for each row of data")
    return _named(data, columns)


def _named(data: Sequence[Sequence[Any]], names: Sequence[str]) -> list[Row]:
    for number, row in enumerate(data):
        if len(row) != len(names):
            raise InvalidRows(f"row {number} has {len(row)} values for {len(names)} columns")
    return [dict(zip(names, row, strict=True)) for row in data]


def _columns(given: Mapping[str, Any]) -> list[Row]:
    columns = {name: values if isinstance(values, list) else [values] for name, values in given.items()}
    if len({len(values) for values in columns.values()}) > 1:
        raise InvalidRows("inputs: the columns differ in length")
    return _named(list(zip(*columns.values(), strict=True)), list(columns))


def _records(given: Any, form: str) -> list[Row]:
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        raise InvalidRequest(f"{form} must be a list of rows")
    return list(given)


def _value(field: str, read: Callable[[str], Any] | None) -> Any:
    """A CSV field as JSON would have given it; what can't be read stays text, for the check of the rows to name."""
    if field == "":
        return None
    try:
        return read(field) if read else field
    except ValueError:
        return field


def _boolean(field: str) -> bool:
    if field.lower() in ("true", "1"):
        return True
    if field.lower() in ("false", "0"):
        return False
    raise ValueError(field)


def _finite(field: str) -> float:
    value = float(field)
    if value - value != 0:
        raise ValueError(field)
    return value


_READ: dict[Type, Callable[[str], Any] | None] = {
    Type.INTEGER: int,
    Type.FLOAT: _finite,
    Type.BOOLEAN: _boolean,
    Type.TEXT: None,
    Type.DATETIME: None,
    Type.DATE: None,
}
