"""The Open Inference Protocol, version 2, as KServe and Triton speak it, with Triton's binary tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from mainspring.core.errors import InvalidRequest, InvalidRows, RequestError
from mainspring.core.schema import Schema, Type
from mainspring.serving import bodies, plain_tensors, tensors
from mainspring.serving.asked import Asked, Body, recorded
from mainspring.serving.bodies import Reply
from mainspring.serving.loaded import Loaded
from mainspring.serving.rows import Row
from mainspring.serving.served import Answer
from mainspring.serving.tensors import DATATYPES, Tensor

_HEADER_LENGTH = b"inference-header-content-length"
_DATATYPES: dict[Type, str] = {
    Type.INTEGER: "INT64",
    Type.FLOAT: "FP64",
    Type.BOOLEAN: "BOOL",
    Type.TEXT: "BYTES",
    Type.DATETIME: "BYTES",
    Type.DATE: "BYTES",
}
_MOST_AXES = 2


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The outputs that a request names (None: all), which of them in binary, and the request's own id."""

    names: tuple[str, ...] | None
    binary: frozenset[str]
    all_binary: bool
    id: str | None


def ask(body: Body, loaded: Loaded) -> Asked:
    """POST /v2/models/{loop}/infer: a tensor for each column, or one of two axes with the columns in their order."""
    inputs = loaded.manifest.inputs
    if not bodies.header(body.headers, _HEADER_LENGTH) and (plain := plain_tensors.read(body.as_json(), inputs)):
        rows, identity = plain
        return Asked(rows, partial(_tell, _Wanted(None, frozenset(), False, identity)))
    given, binary = _divided(body)
    if not isinstance(given, dict) or not isinstance(given.get("inputs"), list):
        raise InvalidRequest('the body must be {"inputs": [{"name": ..., "datatype": ..., "shape": ..., "data": ...}]}')
    parameters = _parameters(given, "the request")
    wanted = _wanted(given, parameters, [output["name"] for output in _described_outputs(loaded)])
    rows = rows_of(_tensors(given["inputs"], binary), inputs, parameters.get("missing"))
    unit = parameters.get("unit")
    return Asked(
        rows, partial(_tell, wanted), parameters.get("strict") is True, unit=None if unit is None else str(unit)
    )


def metadata(name: str, loaded: Loaded, versions: list[Loaded]) -> dict[str, Any]:
    """What GET /v2/models/{loop} says."""
    inputs = [
        {"name": column.name, "datatype": _DATATYPES[column.type], "shape": [-1]} for column in loaded.manifest.inputs
    ]
    numbers, outputs = [str(each.version.number) for each in versions], _described_outputs(loaded)
    return {"name": name, "versions": numbers, "platform": "mainspring", "inputs": inputs, "outputs": outputs}


def _described_outputs(loaded: Loaded) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = [{"name": "predictions", "datatype": _label_datatype(loaded), "shape": [-1]}]
    if loaded.probabilistic:
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": [-1, len(loaded.classes)]})
    return [*outputs, {"name": "ids", "datatype": "BYTES", "shape": [-1]}]


def refusal(error: RequestError) -> Reply:
    """A refused request; this protocol's clients look for a text under "error"."""
    return bodies.refusal(error, flat=True)


def rows_of(given: list[Tensor], inputs: Schema, missing: Any = None) -> list[Row]:
    """The rows that the tensors hold. missing: the text that stands for no value."""
    if not given:
        raise InvalidRequest("inputs is empty; give a tensor for each column")
    only = given[0]
    if len(given) == 1 and len(only.shape) == 2 and (only.shape[1] != 1 or only.name not in inputs):
        given = _columns(only, inputs)
    for tensor in given:
        if tensor.shape[1:] not in ((), (1,)):
            raise InvalidRows(
                f"input {tensor.name!r} has shape {list(tensor.shape)}; a column's is [{tensor.shape[0]}]"
            )
        if tensor.shape[0] != given[0].shape[0]:
            several = f"{given[0].name!r} has {given[0].shape[0]} rows, {tensor.name!r} {tensor.shape[0]}"
            raise InvalidRows(f"the inputs differ in length: {several}")
    kinds = {column.name: column.type for column in inputs}
    columns = [_values(tensor, kinds.get(tensor.name), missing) for tensor in given]
    names = [tensor.name for tensor in given]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _divided(body: Body) -> tuple[Any, memoryview]:
    """The JSON, and the binary data behind it."""
    length = bodies.header(body.headers, _HEADER_LENGTH)
    if not length:
        return body.json(nan=True), memoryview(b"")
    if not length.isdigit() or int(length) > len(body.content):
        said = length.decode("latin-1")[:40]
        raise InvalidRequest(f"Inference-Header-Content-Length is {said!r}, the body has {len(body.content)} bytes")
    return bodies.parse(body.content[: int(length)], nan=True), memoryview(body.content)[int(length) :]


def _tensors(inputs: list[Any], binary: memoryview) -> list[Tensor]:
    found: dict[str, Tensor] = {}
    at = 0
    for given in inputs:
        name, datatype, shape = _described(given)
        size = _parameters(given, f"input {name!r}").get("binary_data_size")
        if name in found:
            raise InvalidRequest(f"input {name!r} stands twice")
        if size is None:
            found[name] = tensors.from_json(name, datatype, shape, given.get("data"))
        elif type(size) is not int or not 0 <= size <= len(binary) - at or "data" in given:
            raise InvalidRequest(f"input {name!r}: binary_data_size {str(size)[:40]} doesn't fit the bytes that came")
        else:
            found[name] = tensors.from_binary(name, datatype, shape, binary[at : at + size])
            at += size
    if at != len(binary):
        raise InvalidRequest(f"{len(binary) - at} bytes of binary data belong to no input; give binary_data_size")
    return list(found.values())


def _described(given: Any) -> tuple[str, str, tuple[int, ...]]:
    name = given.get("name") if isinstance(given, dict) else None
    if not isinstance(name, str):
        raise InvalidRequest("each input needs name, datatype, shape and data")
    datatype, shape = given.get("datatype"), given.get("shape")
    if datatype not in DATATYPES:
        raise InvalidRequest(f"input {name!r}: datatype {str(datatype)[:40]!r} is none of {', '.join(DATATYPES)}")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**40 for size in shape):
        raise InvalidRequest(f"input {name!r}: shape must be a list of whole numbers")
    if not 1 <= len(shape) <= _MOST_AXES:
        raise InvalidRequest(f"input {name!r} has {len(shape)} axes; rows and columns have 1 or {_MOST_AXES}")
    return name, datatype, tuple(shape)


def _parameters(given: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    parameters = given.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"parameters of {what} must be an object")
    if any(name.startswith("shared_memory_") for name in parameters):
        raise InvalidRequest(f"{what} is in shared memory, which is not read here; send its data")
    return parameters


def _wanted(given: Mapping[str, Any], parameters: Mapping[str, Any], known: list[str]) -> _Wanted:
    outputs, identity = given.get("outputs"), given.get("id")
    if identity is not None and not isinstance(identity, str):
        raise InvalidRequest(f"id {str(identity)[:40]!r} is not text")
    every = parameters.get("binary_data_output") is True
    if outputs is None or outputs == []:
        return _Wanted(None, frozenset(), every, identity)
    if not isinstance(outputs, list) or not all(isinstance(each, dict) and "name" in each for each in outputs):
        raise InvalidRequest('outputs must be a list of {"name": ...}')
    unknown = [str(each["name"])[:60] for each in outputs if each["name"] not in known]
    if unknown:
        raise InvalidRequest(f"output {unknown[0]!r} is unknown; there are {', '.join(known)}")
    asked = {str(each["name"]): _parameters(each, "an output") for each in outputs}
    if any("classification" in each for each in asked.values()):
        raise InvalidRequest("outputs aren't given as Triton's classification; ask for probabilities")
    binary = {name: each.get("binary_data", every) is True for name, each in asked.items()}
    return _Wanted(tuple(binary), frozenset(name for name, is_binary in binary.items() if is_binary), False, identity)


def _columns(matrix: Tensor, inputs: Schema) -> list[Tensor]:
    rows, width = matrix.shape
    if width != len(inputs.names):
        names = ", ".join(inputs.names)
        raise InvalidRows(f"input {matrix.name!r} has {width} columns, the loop has {len(inputs.names)}: {names}")
    return [
        Tensor(name, matrix.datatype, (rows,), matrix.values[place::width]) for place, name in enumerate(inputs.names)
    ]


def _values(tensor: Tensor, kind: Type | None, missing: Any) -> list[Any]:
    """A column as JSON would have given it: a truth value sent as a number is one, as in a tensor of all columns."""
    if kind is Type.BOOLEAN and tensor.datatype not in ("BOOL", "BYTES"):
        truths = {0: False, 1: True}
        return [truths.get(value, value) for value in tensor.values]
    if isinstance(missing, str) and tensor.datatype == "BYTES":
        return [None if value == missing else value for value in tensor.values]
    return tensor.values


# ------------------------------------------------------------------------------------------------------ the answer


def _tell(wanted: _Wanted, answer: Answer) -> Reply:
    made = {tensor.name: tensor for tensor in _outputs(answer)}
    names = [name for name in wanted.names or made if name in made]  # a canary may say less than the champion
    told: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for name in names:
        tensor = made[name]
        one: dict[str, Any] = {"name": name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if wanted.all_binary or name in wanted.binary:
            chunks.append(tensors.to_binary(tensor.datatype, tensor.values))
            one["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            one["data"] = tensor.values
        told.append(one)
    said: dict[str, Any] = {
        "model_name": answer.loaded.version.loop,
        "model_version": str(answer.loaded.version.number),
        "outputs": told,
    }
    if wanted.id is not None:
        said["id"] = wanted.id
    return _reply(bodies.encode(said), chunks, answer)


def _reply(said: bytes, chunks: list[bytes], answer: Answer) -> Reply:
    if not chunks:
        return Reply(said, headers=recorded(answer))
    headers = [(_HEADER_LENGTH, str(len(said)).encode()), *recorded(answer)]
    return Reply(b"".join((said, *chunks)), headers=headers, content_type=b"application/octet-stream")


def _outputs(answer: Answer) -> list[Tensor]:
    rows, said = len(answer.ids), answer.said
    datatype = _label_datatype(answer.loaded)
    labels = [_label(label) for label in said.labels] if datatype == "BYTES" else said.labels
    made = [Tensor("predictions", datatype, (rows,), labels)]
    if said.probabilities is not None:
        shares = list(chain.from_iterable(said.probabilities))
        made.append(Tensor("probabilities", "FP64", (rows, len(answer.loaded.classes)), shares))
    return [*made, Tensor("ids", "BYTES", (rows,), answer.ids)]


def _label_datatype(loaded: Loaded) -> str:
    """The datatype that holds all labels; labels of mixed kinds are told as text."""
    if loaded.regression:
        return "FP64"
    kinds = {type(label) for label in loaded.classes}
    return {bool: "BOOL", int: "INT64", float: "FP64"}.get(kinds.pop(), "BYTES") if len(kinds) == 1 else "BYTES"


def _label(label: Any) -> str:
    return label if isinstance(label, str) else bodies.encode(label).decode()
