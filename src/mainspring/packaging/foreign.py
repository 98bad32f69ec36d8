"""A model that somebody else saved with MLflow, read without running its code: the bytes decide what it is."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mainspring.core.errors import BundleError, BundleUntrusted
from mainspring.core.quiet import heard
from mainspring.core.schema import Column, Schema, Type
from mainspring.packaging import torch_module
from mainspring.store import estimators
from mainspring.store.lightgbm_text import LightgbmText
from mainspring.store.mlflow_pyfunc import MlflowPyfunc
from mainspring.store.onnx_graph import OnnxGraph

_READ = ("onnx", "lightgbm", "xgboost", "sklearn", "pytorch", "python_function")
"""The flavours that are read, the safest first. The last two run their author's code."""
_FILES = {"onnx": "data", "lightgbm": "data", "xgboost": "data", "sklearn": "pickled_model"}
_TYPES = {
    "integer": Type.INTEGER, "long": Type.INTEGER, "float": Type.FLOAT, "double": Type.FLOAT, "boolean": Type.BOOLEAN,
    "string": Type.TEXT, "datetime": Type.DATETIME, "any": Type.FLOAT,
}  # fmt: skip
_LARGEST_MLMODEL = 4_000_000


@dataclass(frozen=True, slots=True)
class Foreign:
    """*model*: an estimator. inputs: its columns in its order; None where it doesn't say them. example: a few rows as
    the model's author logged them, or none. form: what the file was found to be. trusted: it was a pickle."""

    model: Any
    flavour: str
    form: str
    inputs: Schema | None
    example: list[dict[str, Any]]
    target: str | None
    trusted: bool
    assumed: str = ""


def read(folder: Path, *, trust: bool) -> Foreign:
    """The model in the MLflow *folder*.

    trust: its author's code may run. Raises BundleUntrusted where it may not, BundleError for what can't be read.
    """
    _refuse_links(folder)
    mlmodel = _mlmodel(folder)
    flavours = mlmodel.get("flavors")
    flavours = flavours if isinstance(flavours, dict) else {}
    flavour = next((name for name in _READ if isinstance(flavours.get(name), dict)), None)
    if flavour is None:
        known = ", ".join(sorted(flavours)) or "none"
        raise BundleError(f"the model's flavours ({known}) aren't read; log it as {', '.join(_READ)}")
    if flavour not in _FILES:
        return _of_code(folder, mlmodel, flavour, trust)
    content = _content(folder, str(flavours[flavour].get(_FILES[flavour]) or _FILES[flavour]))
    form = form_of(content)
    if form == "pickle" and not trust:
        raise BundleUntrusted(
            f"the {flavour} model is a pickle, which can run any code when it is read; log it with "
            "serialization_format='skops', as ONNX or as a native booster, or say --trust if you know who made it"
        )
    model = _loaded(content, form)
    signature = _signature(mlmodel)
    inputs = _inputs(_told(signature.get("inputs")), model)
    return Foreign(
        model, flavour, form, inputs, _example(folder, mlmodel, inputs), _target(signature), form == "pickle"
    )


def _of_code(folder: Path, mlmodel: Mapping[str, Any], flavour: str, trust: bool) -> Foreign:
    """A model that can't be read without its author's code: a PyTorch module, or whatever MLflow's pyfunc loads."""
    if not trust:
        raise BundleUntrusted(
            f"the {flavour} model is code of its author's, which runs when it is read; log it as one of "
            f"{', '.join(_FILES)}, or say --trust if you know who made it"
        )
    config, told = mlmodel["flavors"][flavour], _told(_signature(mlmodel).get("inputs"))
    inputs = _inputs(told, None)
    if inputs is None:
        raise BundleError(f"the {flavour} model doesn't say its columns; log it with a signature of plain columns")
    example = _example(folder, mlmodel, inputs)
    code = _folder(folder, config["code"]) if config.get("code") else None
    model: Any
    if flavour == "pytorch":
        data = _folder(folder, config.get("model_data") or "data")
        model, assumed = torch_module.read(data, code, _matrix(example, inputs))
        form = "exported to ONNX"
    else:
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        model = MlflowPyfunc(files, config.get("code"), _pyfunc_types(told))
        model.load()
        form, assumed = str(config.get("loader_module")), "its author's code runs whenever it answers"
    return Foreign(model, flavour, form, inputs, example, _target(_signature(mlmodel)), True, assumed)


def _matrix(example: list[dict[str, Any]], inputs: Schema) -> np.ndarray[Any, Any]:
    """The example's rows for a module that takes numbers only."""
    if other := [column.name for column in inputs if column.type not in (Type.INTEGER, Type.FLOAT, Type.BOOLEAN)]:
        raise BundleError(f"the pytorch model's column {other[0]!r} is no number; a module of numbers only is served")
    rows = [[row.get(name) for name in inputs.names] for row in example]
    return np.array(rows, dtype=np.float64).reshape(-1, len(inputs.names))


def _pyfunc_types(told: list[dict[str, Any]]) -> dict[str, str] | str:
    tensor = told[0].get("tensor-spec")
    return str(tensor["dtype"]) if tensor else {str(each["name"]): str(each["type"]) for each in told}


def form_of(content: bytes) -> str:
    """What a model file is, whatever it is called. What isn't known to be harmless is a pickle, or refused."""
    if zipfile.is_zipfile(file := io.BytesIO(content)):
        with zipfile.ZipFile(file) as archive:
            if "schema.json" in archive.namelist():
                return "skops"
        raise BundleError("the model file is a zip archive that isn't skops'; log it with serialization_format='skops'")
    if content.startswith(b"tree\n"):
        return "lightgbm"
    if content.startswith((b"{L", b'{"learner"', b'{"version"')):
        return "xgboost"
    if content.startswith(b"\x80") or _is_old_pickle(content):
        return "pickle"
    if content[:1] in (b"\x08", b"\x12", b"\x3a", b"\x42"):  # the first field of an ONNX ModelProto
        return "onnx"
    raise BundleError(
        "the model file is neither skops, ONNX, LightGBM text, XGBoost JSON or UBJ; log it as one of them"
    )


def _is_old_pickle(content: bytes) -> bool:
    """Protocols 0 and 1 have no mark at their start; they end like all pickles."""
    return content.endswith(b".") and content[:1] in b"(c]}lditpIFSVLNK"


def _loaded(content: bytes, form: str) -> Any:
    try:
        with heard():
            model = _LOADERS[form](content)
            _refuse_unsound_trees(model)
    except BundleError:
        raise
    except Exception as error:  # each library fails in its own ways on a file that it can't read
        reason = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise BundleError(f"the {form} model can't be read ({type(error).__name__}: {reason})") from error
    if not hasattr(model, "predict"):
        raise BundleError(f"the {form} model is a {type(model).__name__}, which predicts nothing")
    return model


def _xgboost(content: bytes) -> Any:
    import xgboost

    booster = xgboost.Booster(model_file=bytearray(content))
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    classifies = objective.startswith(("binary:", "multi:"))
    model = xgboost.XGBClassifier() if classifies else xgboost.XGBRegressor()
    model.load_model(bytearray(content))
    return model


def _lightgbm(content: bytes) -> Any:
    return LightgbmText(content.decode("utf-8"))


_LOADERS: dict[str, Callable[[bytes], Any]] = {
    "skops": lambda content: estimators.read("skops", content),
    "onnx": OnnxGraph,
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "pickle": lambda content: pickle.loads(content),  # only a person's --trust comes here
}


def _refuse_unsound_trees(model: Any) -> None:
    """A crafted tree, unlike a fitted one, may send its library to memory that isn't its own."""
    for tree in _trees(model):
        count, features = tree.node_count, tree.n_features
        inner = tree.children_left != -1
        for side in (tree.children_left, tree.children_right):
            if ((side[inner] <= 0) | (side[inner] >= count)).any():
                raise BundleUntrusted("a tree of the model points outside itself; it is not what scikit-learn wrote")
        if ((tree.feature[inner] < 0) | (tree.feature[inner] >= features)).any():
            raise BundleUntrusted("a tree of the model reads columns that it doesn't have; scikit-learn wrote no such")


def _trees(model: Any) -> Iterator[Any]:
    ahead, seen = [model], set[int]()
    while ahead:
        at = ahead.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        if type(at).__name__ == "Tree" and type(at).__module__ == "sklearn.tree._tree":
            yield at
        elif isinstance(at, np.ndarray) and at.dtype == object:
            ahead += at.tolist()
        elif isinstance(at, list | tuple):
            ahead += at
        elif isinstance(at, dict):
            ahead += at.values()
        elif type(at).__module__.startswith("sklearn."):
            ahead += getattr(at, "__dict__", {}).values()


# ---------------------------------------------------------------------------------------------------------- the folder


def _refuse_links(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise BundleUntrusted(f"{path} is a link; a model's folder holds plain files only")


def _mlmodel(folder: Path) -> Mapping[str, Any]:
    import yaml

    path = folder / "MLmodel"
    if not path.is_file() or path.stat().st_size > _LARGEST_MLMODEL:
        raise BundleError(f"{folder} is no MLflow model: it has no file MLmodel")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0]
        raise BundleUntrusted(f"{path} can't be read safely ({type(error).__name__}: {reason[:160]})") from error
    if not isinstance(found, dict):
        raise BundleError(f"{path} says nothing of a model")
    return found


def _content(folder: Path, name: str) -> bytes:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BundleUntrusted(f"MLmodel names {name!r}, a file outside of the model's folder")
    if not path.is_file():
        raise BundleError(f"MLmodel names {name!r}, which isn't there as a file")
    return path.read_bytes()


def _folder(folder: Path, name: Any) -> Path:
    path = (folder / str(name)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise BundleUntrusted(f"MLmodel names {name!r}, a folder outside of the model's")
    return path


def _signature(mlmodel: Mapping[str, Any]) -> Mapping[str, Any]:
    found = mlmodel.get("signature")
    return found if isinstance(found, dict) else {}


def _told(text: Any) -> list[dict[str, Any]]:
    """What a signature tells of each column, or of the one matrix."""
    try:
        told = json.loads(text) if isinstance(text, str) else []
    except ValueError as error:
        raise BundleError("the model's signature isn't JSON; log the model again") from error
    return [each if isinstance(each, dict) else {} for each in told] if isinstance(told, list) else []


def _inputs(told: list[dict[str, Any]], model: Any) -> Schema | None:
    """The model's columns, by its signature or by the names it was fitted with."""
    columns = [each for each in told if each.get("name") and str(each.get("type")) in _TYPES]
    if columns and len(columns) == len(told):
        return Schema(tuple(Column(str(each["name"]), _TYPES[each["type"]]) for each in columns))
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        count = getattr(model, "n_features_in_", _width(told))
        names = None if count is None else [f"x{place}" for place in range(int(count))]
    return None if names is None else Schema(tuple(Column(str(name), Type.FLOAT) for name in names))


def _width(told: list[dict[str, Any]]) -> int | None:
    """How many columns the one matrix has that a signature tells of."""
    spec = told[0].get("tensor-spec") if len(told) == 1 else None
    shape = spec.get("shape") if isinstance(spec, dict) else None
    return shape[1] if isinstance(shape, list) and len(shape) == 2 and type(shape[1]) is int and shape[1] > 0 else None


def _target(signature: Mapping[str, Any]) -> str | None:
    try:
        told = json.loads(signature.get("outputs") or "[]")
    except (ValueError, TypeError):
        return None
    return str(told[0]["name"]) if len(told) == 1 and isinstance(told[0], dict) and told[0].get("name") else None


def _example(folder: Path, mlmodel: Mapping[str, Any], inputs: Schema | None) -> list[dict[str, Any]]:
    """The rows of the logged input example; none where there is no table that fits."""
    told = mlmodel.get("saved_input_example_info")
    if inputs is None or not isinstance(told, dict) or not told.get("artifact_path"):
        return []
    try:
        found = json.loads(_content(folder, str(told["artifact_path"])))
    except ValueError:
        return []
    rows = found.get("data", found.get("inputs")) if isinstance(found, dict) else found
    names = found.get("columns", inputs.names) if isinstance(found, dict) else inputs.names
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return []
    return [dict(zip(map(str, names), row, strict=True)) for row in rows]
