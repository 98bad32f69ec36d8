"""A PyTorch module as an ONNX graph. To read it is to run its author's code: only a person's --trust comes here."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mainspring.core.errors import BundleError
from mainspring.core.quiet import heard
from mainspring.packaging.onnx_model import TOLERANCE
from mainspring.store.onnx_graph import OnnxGraph
from mainspring.store.own_code import OwnCode

Array = npt.NDArray[Any]

_FILES = ("model.pth", "model.pt2")
_SUM_TOLERANCE = 1e-4
_SEED, _ROWS, _BATCHES = 0, 256, (256, 1, 7)


def read(data: Path, code: Path | None, example: Array) -> tuple[OnnxGraph, str]:
    """The graph of the module that MLflow wrote into *data*, and what its answers were taken for.

    code: the folder with its modules. example: rows as it takes them. Raises BundleError for what has no such graph.
    """
    if (file := next((data / name for name in _FILES if (data / name).is_file()), None)) is None:
        raise BundleError(f"the pytorch model has neither {' nor '.join(_FILES)}; log it with mlflow.pytorch.log_model")
    try:
        import torch  # the extra's one door
    except ImportError as error:
        raise BundleError("a pytorch model needs the extra 'torch': pip install 'mainspring[torch]'") from error
    with OwnCode(code).at_hand(), heard(), torch.no_grad():
        module = _module(file)
        rows = _rows(example, _precision(module))
        answers = _answers(module, rows)
        probable, assumed = _meaning(answers[0])
        try:
            graph = OnnxGraph(_exported(module, rows, probable))
        except BundleError:
            raise
        except Exception as error:  # the exporter fails in its own ways on what it doesn't know
            raise BundleError(f"the pytorch module has no ONNX form ({_reason(error)}); export it yourself") from error
    _compare(graph, rows, answers)
    return graph, assumed


def _module(file: Path) -> Any:
    """The module, ready to answer. TorchScript and exported programs bring their code; a pickle only names it."""
    import torch

    try:
        if file.suffix == ".pt2":
            return torch.export.load(file).module()
        found = torch.load(file, map_location="cpu", weights_only=False)
    except Exception as error:  # a pickle raises what its code raises
        raise BundleError(
            f"the pytorch model can't be read ({_reason(error)}); log it with the code of its classes, "
            "code_paths=[...], and install what its requirements.txt names"
        ) from error
    if isinstance(found, Mapping):
        raise BundleError("the pytorch file holds weights only (a state dict); log the module that they belong to")
    if not isinstance(found, torch.nn.Module):
        raise BundleError(f"the pytorch file holds a {type(found).__name__}; log a torch.nn.Module")
    return found.eval()


def _precision(module: Any) -> Any:
    import torch

    return next((each.dtype for each in module.parameters() if each.is_floating_point()), torch.float32)


def _rows(example: Array, precision: Any) -> Any:
    """The example's rows, and as many made of them as are to be compared."""
    import torch

    draw = np.random.default_rng(_SEED)
    known = np.nan_to_num(np.asarray(example, dtype=np.float64))
    spread = known.std(axis=0) if len(known) > 1 else np.zeros(known.shape[1])
    made = draw.choice(known, _ROWS) if len(known) else np.zeros((_ROWS, known.shape[1]))
    made += draw.normal(size=made.shape) * np.where(spread > 0, spread, 1.0)
    return torch.from_numpy(np.concatenate([known, made])[:_ROWS]).to(precision)


def _answers(module: Any, rows: Any) -> list[Array]:
    """What *module* says of batches of several sizes, each one array, rows first."""
    answers = []
    for size in _BATCHES:
        try:
            said = module(rows[:size])
        except Exception as error:  # whatever the module's own code raises
            raise BundleError(
                f"the pytorch module can't answer {size} rows of {rows.shape[1]} numbers ({_reason(error)}); it must "
                "take one matrix, rows x columns, of any number of rows (log a .pt2 with an example of two or more)"
            ) from error
        if not hasattr(said, "detach"):
            raise BundleError(f"the pytorch module answers a {type(said).__name__}; one tensor is served")
        answers.append(said.detach().to("cpu").double().numpy())
    return answers


def _meaning(answers: Array) -> tuple[bool, str]:
    """Whether they are probabilities; told by what they are, for a module doesn't say it."""
    rows = len(answers) if answers.ndim else 0
    if rows and answers.size == rows:
        return False, "its one number a row is served as that number (two classes: end the module in a softmax of two)"
    width = answers.size // rows if rows else 0
    if answers.ndim == 2 and (answers >= 0).all() and (np.abs(answers.sum(axis=1) - 1) < _SUM_TOLERANCE).all():
        return True, f"its {width} numbers a row add up to 1 and are taken for the probabilities of classes 0, 1, ..."
    raise BundleError(
        f"the pytorch module answers {width} numbers a row that aren't probabilities (they don't add up to 1); log "
        "torch.nn.Sequential(module, torch.nn.Softmax(dim=1)), or one number a row"
    )


def _exported(module: Any, rows: Any, probable: bool) -> bytes:
    import torch
    from onnx import TensorProto, helper, load_from_string

    if isinstance(module, torch.fx.GraphModule):  # an exported program, which has no training mode to leave
        module = torch.jit.trace(module, rows, check_trace=False)
    file = io.BytesIO()
    torch.onnx.export(
        module, (rows,), file, dynamo=False, input_names=["rows"], output_names=["said"],
        dynamic_axes={"rows": {0: "count"}, "said": {0: "count"}},
    )  # fmt: skip
    if not probable:
        return file.getvalue()
    made = load_from_string(file.getvalue())
    made.graph.node.append(helper.make_node("ArgMax", ["said"], ["likeliest"], axis=1, keepdims=0))
    made.graph.output.append(helper.make_tensor_value_info("likeliest", TensorProto.INT64, [None]))
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def _compare(graph: OnnxGraph, rows: Any, answers: list[Array]) -> None:
    """Raises BundleError where the graph answers otherwise than the module."""
    matrix = rows.double().numpy()
    for size, expected in zip(_BATCHES, answers, strict=True):
        try:
            said = graph.predict_proba(matrix[:size]) if hasattr(graph, "classes_") else graph.predict(matrix[:size])
        except Exception as error:  # onnxruntime's errors share no base but Exception
            raise BundleError(f"the pytorch module's ONNX form can't answer {size} rows ({_reason(error)})") from error
        scale = max(float(np.abs(answers[0]).max()), 1.0)
        if said.size != expected.size or not (np.abs(said.ravel() - expected.ravel()) <= TOLERANCE * scale).all():
            raise BundleError(
                f"the pytorch module's ONNX form answers {size} rows otherwise than the module; make its forward a "
                "fixed chain of tensor operations, without branches on values, and log it again"
            )


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
