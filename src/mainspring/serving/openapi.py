"""The endpoint's OpenAPI document, with each served loop's real columns and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mainspring.core.schema import Column, Type
from mainspring.core.strategies import EVENT_PATTERN
from mainspring.serving.loaded import Loaded
from mainspring.serving.open_inference import metadata
from mainspring.serving.served import ServedLoop
from mainspring.serving.tensors import DATATYPES

_JSON_TYPES: dict[Type, dict[str, Any]] = {
    Type.INTEGER: {"type": "integer", "format": "int64"},
    Type.FLOAT: {"type": "number"},
    Type.BOOLEAN: {"type": "boolean"},
    Type.TEXT: {"type": "string"},
    Type.DATETIME: {"type": "string", "format": "date-time"},
    Type.DATE: {"type": "string", "format": "date"},
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
_IDS = {"type": "array", "items": {"type": "string"}}


def document(loops: Mapping[str, ServedLoop], max_rows: int) -> dict[str, Any]:
    """OpenAPI 3.1 for what is served now."""
    paths: dict[str, Any] = {
        "/healthz": {"get": _operation("Whether the process answers", {"type": "object"})},
        "/readyz": {"get": _operation("Whether every loop can answer", {"type": "object"}, refusals=("503",))},
        "/metrics": {"get": {"summary": "Prometheus metrics", "responses": {"200": {"description": "text format"}}}},
    }
    for name, served in sorted(loops.items()):
        if served.routing is not None:
            paths |= _paths(name, served.routing.champion, max_rows)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mainspring endpoint", "version": "1"},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }


def _paths(name: str, loaded: Loaded, max_rows: int) -> dict[str, Any]:
    row, label, example = _row(loaded), _label(loaded), _example_row(loaded)
    several = {"type": "array", "minItems": 1, "maxItems": max_rows, "items": row}
    rows = {"type": "object", "required": ["rows"], "properties": {"rows": several}}
    predict = _operation(
        f"Predict with {loaded.name}", _answer(loaded), {"oneOf": [rows, several, row]}, _REFUSALS, {"rows": [example]}
    )
    predict["parameters"] = [_UNIT, _STRICT, _EXPLAIN]
    feedback = {"oneOf": [_feedback(label), {"type": "array", "minItems": 1, "items": _feedback(label)}]}
    counts: dict[str, Any] = {name: {"type": "integer"} for name in ("new", "known", "corrected")}
    taken = {"type": "object", "properties": {"ids": _IDS, **counts, "refused": {"type": "array"}}}
    refusals = ("400", "404", "409", "413", "415", "422", "503")
    known = {"id": "the id of an answer", "label": _example_label(loaded)}
    return {
        f"/predict/{name}": {"post": predict},
        f"/feedback/{name}": {
            "post": _operation(
                "What a prediction should have said, or what happened after it", taken, feedback, refusals, known
            )
        },
        **_protocols(name, loaded, row, example),
    }


def _protocols(name: str, loaded: Loaded, row: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """The doors for clients of other servers."""
    said = {"type": "object", "properties": {"predictions": {"type": "array", "items": _label(loaded)}}}
    records, instances = (
        {"type": "object", "required": [form], "properties": {form: {"type": "array", "items": row}}}
        for form in ("dataframe_records", "instances")
    )
    mlflow = _operation("MLflow's scoring protocol", said, records, _REFUSALS, {"dataframe_records": [example]})
    kserve = _operation("KServe's V1 protocol", said, instances, _REFUSALS, {"instances": [example]})
    inference = _operation("Open Inference Protocol V2", {"type": "object"}, _TENSORS, (), _example_tensors(loaded))
    inference["responses"] |= {status: {"description": "refused"} for status in _REFUSALS}
    return {
        f"/loops/{name}/invocations": {"post": mlflow},
        f"/v1/models/{name}:predict": {"post": kserve},
        f"/v2/models/{name}": {"get": _operation("The tensors that go in and out", {"type": "object"})},
        f"/v2/models/{name}/infer": {"post": inference},
    }


def _example_row(loaded: Loaded) -> dict[str, Any]:
    """A row that fits; made of the contract, so that no real row is shown."""
    return {column.name: _example(column) for column in loaded.manifest.inputs}


def _example(column: Column) -> Any:
    low, high = column.low or 0.0, column.high or 1.0
    return {
        Type.INTEGER: int((low + high) // 2),
        Type.FLOAT: round((low + high) / 2, 3),
        Type.BOOLEAN: True,
        Type.TEXT: column.levels[0] if column.levels else "text",
        Type.DATETIME: "2026-01-01T12:00:00",
        Type.DATE: "2026-01-01",
    }[column.type]


def _example_label(loaded: Loaded) -> Any:
    return 1.0 if loaded.regression else loaded.classes[-1]


def _example_tensors(loaded: Loaded) -> dict[str, Any]:
    described = metadata("", loaded, [])["inputs"]
    row = _example_row(loaded)
    return {"inputs": [{**each, "shape": [1], "data": [row[each["name"]]]} for each in described]}


_REFUSALS = ("400", "413", "415", "422", "429", "500", "503")
_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"enum": list(DATATYPES)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
        "data": {"type": "array"},
    },
}
_TENSORS = {
    "type": "object",
    "required": ["inputs"],
    "properties": {"id": {"type": "string"}, "inputs": {"type": "array", "items": _TENSOR, "minItems": 1}},
}
_UNIT = {
    "name": "Mainspring-Unit",
    "in": "header",
    "schema": {"type": "string"},
    "description": "what a release sticks to",
}
_STRICT = {"name": "strict", "in": "query", "schema": {"type": "boolean"}, "description": "refuse unknown columns"}
_EXPLAIN = {
    "name": "explain",
    "in": "query",
    "schema": {"type": "boolean"},
    "description": "what each feature column adds, for linear models and boosters",
}


def _row(loaded: Loaded) -> dict[str, Any]:
    properties = {column.name: _column(column) for column in loaded.manifest.inputs}
    for name in (loaded.manifest.roles.key, loaded.manifest.roles.time):
        if name and name not in properties:
            properties[name] = {"type": ["string", "number", "boolean", "null"]}
    required = [name for name in properties if name in loaded.columns.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": True}


def _column(column: Column) -> dict[str, Any]:
    schema = dict(_JSON_TYPES[column.type])
    schema["type"] = [schema["type"], "null"]
    return schema


def _label(loaded: Loaded) -> dict[str, Any]:
    return {"type": "number"} if loaded.regression else {"enum": list(loaded.classes)}


def _answer(loaded: Loaded) -> dict[str, Any]:
    numbers = {"type": "array", "items": {"type": ["number", "null"]}}
    properties: dict[str, Any] = {
        "model": {"type": "string"},
        "ids": _IDS,
        "predictions": {"type": "array", "items": _label(loaded)},
    }
    if not loaded.regression:
        properties["explanations"] = {"type": "array", "items": {"type": "object"}}
        properties |= {"classes": {"const": list(loaded.classes)}, "probabilities": {"type": "array", "items": numbers}}
    return {"type": "object", "required": ["model", "ids", "predictions"], "properties": properties}


def _feedback(label: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "id": {"type": "string"},
        "key": {"type": ["string", "number", "boolean"]},
        "time": {"type": "string"},
        "label": label,
        "event": {"type": "string", "pattern": EVENT_PATTERN, "description": "a business event"},
        "at": {"type": "string", "format": "date-time"},
        "propensity": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    }
    return {
        "type": "object",
        "properties": properties,
        "anyOf": [{"required": ["label"]}, {"required": ["event"]}],
        "oneOf": [{"required": ["id"]}, {"required": ["key"]}],
    }


def _operation(
    summary: str,
    answer: dict[str, Any],
    body: dict[str, Any] | None = None,
    refusals: tuple[str, ...] = (),
    example: Any = None,
) -> dict[str, Any]:
    error = {
        "description": "refused",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "done", "content": {"application/json": {"schema": answer}}},
            **dict.fromkeys(refusals, error),
        },
    }
    if body is not None:
        content = {"schema": body} if example is None else {"schema": body, "example": example}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation
