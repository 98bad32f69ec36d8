"""An ONNX file of somebody else as an estimator: checked, and brought to the one shape of our ONNX models."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import BundleError, BundleUntrusted
from mainspring.store.onnx_names import CLASS, INPUT, PROBABILITY, VALUE


class OnnxGraph:
    """content: the graph, whose input is one matrix of float64, whose outputs are ours by name.

    classes_: positions of the classes; a number's graph has none.
    """

    def __init__(self, content: bytes) -> None:
        from onnx import ModelProto, TensorProto, checker, helper

        model = ModelProto.FromString(content)
        checker.check_model(model)
        _refuse_outside(model)
        graph = model.graph
        known = {part.name for part in graph.initializer}
        given = [each for each in graph.input if each.name not in known]
        if len(given) != 1 or len(given[0].type.tensor_type.shape.dim) != 2:
            raise BundleError(
                f"the ONNX graph has {len(given)} inputs; one matrix of numbers, rows x columns, is served"
            )
        columns = given[0].type.tensor_type.shape.dim[1].dim_value
        if not columns or given[0].type.tensor_type.elem_type not in (TensorProto.FLOAT, TensorProto.DOUBLE):
            raise BundleError("the ONNX graph's input must be floats with a fixed number of columns")
        self.n_features_in_ = int(columns)
        outputs = {output.name: output.type.tensor_type.elem_type for output in graph.output}
        names = _ours(outputs)
        graph.node.insert(0, helper.make_node("Cast", [INPUT], [given[0].name], to=given[0].type.tensor_type.elem_type))
        graph.input.remove(given[0])
        graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, [None, columns]))
        del graph.output[:]
        for theirs, ours in names.items():
            kind = TensorProto.INT64 if ours == CLASS else TensorProto.DOUBLE
            graph.node.append(helper.make_node("Cast", [theirs], [ours], to=kind))
            graph.output.append(helper.make_tensor_value_info(ours, kind, None))
        self.content = model.SerializeToString(deterministic=True)
        self._session: Any = None
        said = self._run(np.zeros((2, columns)))
        if PROBABILITY in said:
            self.classes_ = np.arange(said[PROBABILITY].reshape(2, -1).shape[1])
        elif said[VALUE].size != 2:
            raise BundleError(
                f"the ONNX graph answers {said[VALUE].size // 2} numbers a row; one is served, or a class and a matrix "
                "of probabilities"
            )

    def predict(self, matrix: Any) -> npt.NDArray[Any]:
        said = self._run(matrix)
        return said[VALUE if VALUE in said else CLASS].reshape(-1)

    def __getattr__(self, name: str) -> Any:
        """`predict_proba` is there for classes only, as in scikit-learn."""
        if name == "predict_proba" and "classes_" in self.__dict__:
            return lambda matrix: self._run(matrix)[PROBABILITY]
        raise AttributeError(name)

    def _run(self, matrix: Any) -> dict[str, npt.NDArray[Any]]:
        import onnxruntime

        if self._session is None:
            self._session = onnxruntime.InferenceSession(self.content, providers=["CPUExecutionProvider"])
        names = [output.name for output in self._session.get_outputs()]
        said = self._session.run(names, {INPUT: np.ascontiguousarray(matrix, dtype=np.float64)})
        return dict(zip(names, said, strict=True))


def _ours(outputs: dict[str, int]) -> dict[str, str]:
    """Which output is the class, which the probabilities; or the value, where there is but one."""
    from onnx import TensorProto

    floats = [name for name, kind in outputs.items() if kind in (TensorProto.FLOAT, TensorProto.DOUBLE)]
    whole = [name for name, kind in outputs.items() if kind in (TensorProto.INT64, TensorProto.INT32)]
    if len(outputs) == 1 and floats:
        return {floats[0]: VALUE}
    if len(outputs) == 2 and len(floats) == 1 and len(whole) == 1:
        return {whole[0]: CLASS, floats[0]: PROBABILITY}
    raise BundleError(
        "the ONNX graph's outputs must be one number, or a class (whole number) and a matrix of probabilities; "
        "convert with zipmap=False, and label classes 0, 1, ..."
    )


def _refuse_outside(model: Any) -> None:
    """Weights in other files would be read from wherever the graph says."""
    parts = [*model.graph.initializer]
    ahead = [model.graph, *model.functions]
    while ahead:
        for node in ahead.pop().node:
            for attribute in node.attribute:
                parts += [attribute.t, *attribute.tensors] if attribute.HasField("t") or attribute.tensors else []
                if attribute.HasField("g"):
                    ahead.append(attribute.g)
                    parts += attribute.g.initializer
                ahead += attribute.graphs
    if any(part.external_data for part in parts):
        raise BundleUntrusted("the ONNX graph keeps weights in other files, which aren't read; save it as one file")
