"""The files by which MLflow knows a bundle as one of its models: MLmodel, its signature and its requirements."""

from __future__ import annotations

import json
import platform
from typing import Any

from mainspring.core.schema import Column, Type
from mainspring.store.bundles import Manifest

_TYPES = {
    Type.INTEGER: "long",
    Type.FLOAT: "double",
    Type.BOOLEAN: "boolean",
    Type.TEXT: "string",
    Type.DATETIME: "datetime",
    Type.DATE: "datetime",
}
_METHODS = [{"name": "method", "type": "string", "default": "predict", "shape": None}]


def files(manifest: Manifest) -> dict[str, str]:
    """File name -> text. MLflow infers nothing: its own inference of requirements takes most of a minute."""
    requirements = [f"{name}=={version}" for name, version in manifest.libraries.items()]
    return {
        "MLmodel": _mlmodel(manifest),
        "requirements.txt": "".join(f"{line}\n" for line in requirements),
        "python_env.yaml": _yaml({"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}),
    }


def _mlmodel(manifest: Manifest) -> str:
    flavor: dict[str, Any] = {
        "loader_module": "mainspring.serving.pyfunc",
        "python_version": platform.python_version(),
        "env": {"virtualenv": "python_env.yaml"},
    }
    signature = {
        "inputs": json.dumps([_input(column, column.name not in manifest.optional) for column in manifest.inputs]),
        "outputs": json.dumps([{"type": "tensor", "tensor-spec": {"dtype": _output(manifest), "shape": [-1]}}]),
        "params": json.dumps(_METHODS) if manifest.classes else None,
    }
    return _yaml({"flavors": {"python_function": flavor}, "signature": signature})


def _input(column: Column, required: bool) -> dict[str, Any]:
    """Whole numbers and truth values that may be missing are floats or objects in pandas: our own check takes both."""
    either = column.nullable and column.type in (Type.INTEGER, Type.BOOLEAN)
    return {"type": "any" if either else _TYPES[column.type], "name": column.name, "required": required}


def _output(manifest: Manifest) -> str:
    if not manifest.classes:
        return "float64"
    kinds = {type(label) for label in manifest.classes}
    return {bool: "bool", int: "int64", float: "float64"}.get(kinds.pop(), "str") if len(kinds) == 1 else "object"


def _yaml(content: dict[str, Any], depth: int = 0) -> str:
    """Mappings, lists of text and scalars as YAML; scalars are JSON, which YAML takes as they are."""
    lines = []
    for key, value in content.items():
        indent = "  " * depth
        if isinstance(value, dict):
            lines.append(f"{indent}{key}:\n{_yaml(value, depth + 1)}")
        elif isinstance(value, list):
            lines.append(f"{indent}{key}:\n" + "".join(f"{indent}- {json.dumps(item)}\n" for item in value))
        else:
            lines.append(f"{indent}{key}: {json.dumps(value)}\n")
    return "".join(lines)
