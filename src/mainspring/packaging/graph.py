"""The one shape of our ONNX models: which inputs and outputs they have, whoever wrote the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import ModelProto, TensorProto, helper

from mainspring.store.onnx_names import CLASS, INPUT, PROBABILITY, VALUE

__all__ = ["CLASS", "INPUT", "PROBABILITY", "VALUE", "NotConvertible", "assemble", "standard"]

_OPSET, _IR = 21, 10


class NotConvertible(Exception):
    """Why an estimator has no exact ONNX form; the Python model serves then."""


def assemble(
    nodes: Sequence[Any], columns: int, outputs: Mapping[str, int], constants: Sequence[Any], ml_opset: int = 5
) -> bytes:
    """The model that runs *nodes* on a float64 matrix of *columns* columns."""
    given = helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, columns])
    shapes = {PROBABILITY: [None, None]}
    results = [helper.make_tensor_value_info(name, kind, shapes.get(name, [None])) for name, kind in outputs.items()]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        list(nodes), "mainspring", [given], results, [constant for constant in constants if constant.name in used]
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", ml_opset)]
    return serialized(helper.make_model(graph, opset_imports=opsets, ir_version=_IR, producer_name="mainspring"))


def standard(model: ModelProto, renamed: Mapping[str, str]) -> bytes:
    """*model* of another converter with our names for its input and for the outputs in *renamed* (theirs -> ours)."""
    graph = model.graph
    (given,) = graph.input
    kind = given.type.tensor_type.elem_type
    graph.node.insert(0, helper.make_node("Cast", [INPUT], [given.name], to=kind))
    columns = given.type.tensor_type.shape.dim[1].dim_value
    graph.input.remove(given)
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, columns]))
    del graph.output[:]
    for theirs, ours in renamed.items():
        number = TensorProto.INT64 if ours == CLASS else TensorProto.DOUBLE
        graph.node.append(helper.make_node("Cast", [theirs], [ours], to=number))
        graph.output.append(helper.make_tensor_value_info(ours, number, [None, None] if ours == PROBABILITY else None))
    return serialized(model)


def serialized(model: ModelProto) -> bytes:
    """The same bytes for the same model."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content
