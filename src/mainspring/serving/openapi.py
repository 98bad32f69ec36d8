"""The endpoint's OpenAPI document, with each served loop's real columns and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mainspring.core.schema import Column, Type
from mainspring.serving.loaded import Loaded
from mainspring.serving.served import ServedLoop

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
    row = _row(loaded)
    several = {"type": "array", "minItems": 1, "maxItems": max_rows, "items": row}
    rows = {"type": "object", "required": ["rows"], "properties": {"rows": several}}
    predict = _operation(f"Predict with {loaded.name}", _answer(loaded), {"oneOf": [rows, several, row]}, _REFUSALS)
    predict["parameters"] = [_UNIT, _STRICT]
    label = _label(loaded)
    feedback = {"oneOf": [_feedback(label), {"type": "array", "minItems": 1, "items": _feedback(label)}]}
    taken = {"type": "object", "properties": {"ids": _IDS, "new": {"type": "integer"}, "known": {"type": "integer"}}}
    refusals = ("400", "404", "409", "413", "422", "503")
    mlflow = {"type": "object", "properties": {"dataframe_records": {"type": "array", "items": row}}}
    said = {"type": "object", "properties": {"predictions": {"type": "array", "items": label}}}
    return {
        f"/predict/{name}": {"post": predict},
        f"/feedback/{name}": {"post": _operation("What a prediction should have said", taken, feedback, refusals)},
        f"/loops/{name}/invocations": {"post": _operation("MLflow's scoring protocol", said, mlflow, _REFUSALS)},
    }


_REFUSALS = ("400", "413", "422", "500", "503")
_UNIT = {
    "name": "Mainspring-Unit",
    "in": "header",
    "schema": {"type": "string"},
    "description": "what a release sticks to",
}
_STRICT = {"name": "strict", "in": "query", "schema": {"type": "boolean"}, "description": "refuse unknown columns"}


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
        properties |= {"classes": {"const": list(loaded.classes)}, "probabilities": {"type": "array", "items": numbers}}
    return {"type": "object", "required": ["model", "ids", "predictions"], "properties": properties}


def _feedback(label: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "id": {"type": "string"},
        "key": {"type": ["string", "number", "boolean"]},
        "time": {"type": "string"},
        "label": label,
        "at": {"type": "string", "format": "date-time"},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": ["label"],
        "oneOf": [{"required": ["id"]}, {"required": ["key"]}],
    }


def _operation(
    summary: str, answer: dict[str, Any], body: dict[str, Any] | None = None, refusals: tuple[str, ...] = ()
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
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation
