"""A fitted estimator as a file: skops with our own list of trusted types, a pickle of this installation as last resort.

skops takes seconds to import and loads only when a Python model is written or read.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import weakref
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from blake3 import blake3

from mainspring.core.errors import BundleChanged, BundleError, BundleUntrusted
from mainspring.core.quiet import heard
from mainspring.store.formats import Buffer, Unfit
from mainspring.store.onnx_graph import OnnxGraph
from mainspring.store.usercode import UserCode

Format = Literal["skops", "pickle", "onnx"]
References = Mapping[int, tuple[Any, str]]
"""The user's functions and classes inside a model, by id: the thing and its "module:qualname" in the packaged code."""

TRUSTED = (
    "collections.OrderedDict",
    "collections.defaultdict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "mainspring.store.lightgbm_text.LightgbmText",
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._ball_tree.BallTree64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neighbors._kd_tree.KDTree64",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
)
"""Types beyond skops' own list whose loading was reviewed: they hold arrays or text that their library parses, and no
hook runs code. skops leaves trees out because a crafted tree can crash the process; ours are signed."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_NPY = b"\x93NUMPY"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """*content* in *format*; user_types: the packaged names of the user's types in it; note: why it isn't skops."""

    format: Format
    content: bytes
    user_types: tuple[str, ...] = ()
    note: str = ""


def save(model: Any, code: UserCode, references: References) -> ModelFile:
    """*model* as a file, the same bytes for the same model. Raises BundleError when it can't be kept at all."""
    if isinstance(model, OnnxGraph):
        return ModelFile("onnx", model.content)
    kept = _written  # once: another thread may keep another model meanwhile
    if not references and kept is not None and kept[0]() is model:
        return ModelFile("skops", kept[1])
    try:
        content, types = _skops(model, code, references)
        return ModelFile("skops", content, types)
    except _NotSkops as problem:
        note = f"the Python model is a pickle, which loads on this installation only: {problem}"
        return ModelFile("pickle", _pickled(model, references), note=note)


def load(content: bytes, format: Format, code: UserCode, user_types: tuple[str, ...], *, signed_here: bool) -> Any:
    """The estimator in *content*; the bytes decide what it is, and a pickle needs this installation's own signature.

    Raises BundleUntrusted for a pickle of others or for types outside our list, BundleChanged for what is neither.
    """
    if format == "onnx":
        raise BundleError("the model came as ONNX; there is no Python model beside it")
    if format == "skops":
        if not zipfile.is_zipfile(io.BytesIO(content)):
            raise BundleChanged("the Python model isn't a skops file; package the model again")
        return _loaded(content, user_types)
    if not signed_here:
        raise BundleUntrusted("the Python model is a pickle, which only the installation that signed it may load")
    return _Unpickler(content, code).load()


def write(format: str, model: Any) -> bytes:
    """*model* as a skops file; raises Unfit for what skops, or our list of trusted types, doesn't hold."""
    global _written
    try:
        content = _skops(model, UserCode("", {}), {})[0]
    except _NotSkops as problem:
        raise Unfit(str(problem)) from problem
    with suppress(TypeError):  # a class of somebody's without weak references
        _written = weakref.ref(model, _let_go), content
    return content


_written: tuple[weakref.ref[Any], bytes] | None = None
"""The model that was kept last, and its file: the stage that packs it next need not write it again."""


def _let_go(model: weakref.ref[Any]) -> None:
    global _written
    if _written is not None and _written[0] is model:
        _written = None


def read(format: str, content: Buffer) -> Any:
    """The estimator that `write` kept."""
    return _loaded(bytes(content), ())


class _NotSkops(Exception):
    """Why skops can't keep a model."""


def _skops(model: Any, code: UserCode, references: References) -> tuple[bytes, tuple[str, ...]]:
    import skops.io

    try:
        with heard():
            content = skops.io.dumps(model)
    except Exception as error:  # skops raises what the model's own hooks raise
        raise _NotSkops(f"{type(error).__name__}: {str(error)[:120]}") from error
    renamed = {}
    for thing, reference in references.values():
        module, _, name = reference.partition(":")
        if not reference or "." in name:
            raise _NotSkops(f"{getattr(thing, '__qualname__', thing)} is not at the top level of its module")
        renamed[str(thing.__module__), str(thing.__name__)] = (f"{code.package}.{module}", name)
    ours = tuple(sorted(f"{module}.{name}" for module, name in renamed.values()))
    content = _normalised(content, renamed)
    unknown = set(skops.io.get_untrusted_types(data=content)) - set(TRUSTED) - set(ours)
    if unknown:
        raise _NotSkops(f"{', '.join(sorted(unknown))} isn't on the list of trusted types")
    return content, ours


def _loaded(content: bytes, user_types: tuple[str, ...]) -> Any:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(content, trusted=[*TRUSTED, *user_types])
    except UntrustedTypesFoundException as error:
        raise BundleUntrusted(f"the Python model holds types outside the trusted list: {str(error)[:200]}") from error
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise BundleChanged(f"the Python model can't be read ({type(error).__name__}: {str(error)[:120]})") from error


def _normalised(content: bytes, renamed: Mapping[tuple[str, str], tuple[str, str]]) -> bytes:
    """A skops file without what differs from one writing to the next: addresses, times, which parts are one object.

    Arrays are named by their content, and the user's types get their packaged names.
    """
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(result, "w") as target:
        names: dict[str, str] = {}
        parts: dict[str, bytes] = {}
        for name in sorted(set(archive.namelist()) - {"schema.json"}):
            part = _without_padding(archive.read(name))
            names[name] = f"{blake3(part).hexdigest(length=16)}{name[name.rfind('.') :]}"
            parts[names[name]] = part
        for name, part in sorted(parts.items()):
            target.writestr(zipfile.ZipInfo(name, _EPOCH), part)
        schema = _rewritten(json.loads(archive.read("schema.json")), names, renamed)
        target.writestr(zipfile.ZipInfo("schema.json", _EPOCH), json.dumps(schema))
    return result.getvalue()


def _without_padding(part: bytes) -> bytes:
    """An array of records with zeros between their fields; a tree's nodes hold there what was in memory before."""
    if not part.startswith(_NPY) or b"'|V" not in part[:4096]:
        return part
    records = np.load(io.BytesIO(part), allow_pickle=False)
    clean = np.zeros(records.shape, records.dtype)
    for name in records.dtype.names or ():
        clean[name] = records[name]
    target = io.BytesIO()
    np.save(target, clean, allow_pickle=False)
    return target.getvalue()


def _rewritten(node: Any, files: Mapping[str, str], renamed: Mapping[tuple[str, str], tuple[str, str]]) -> Any:
    if isinstance(node, list):
        return [_rewritten(item, files, renamed) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: _rewritten(value, files, renamed) for key, value in node.items()}
    if "__loader__" not in made:
        return made  # a mapping of the model's own, not one of skops' nodes
    made.pop("__id__", None)
    if made.get("file") in files:
        made["file"] = files[made["file"]]
    found = renamed.get((str(made.get("__module__")), str(made.get("__class__"))))
    if found is not None:
        made["__module__"], made["__class__"] = found
    return made


class _Pickler(pickle.Pickler):
    """Writes the user's functions and classes as references into the packaged code, not by their module's name."""

    def __init__(self, file: io.BytesIO, references: References) -> None:
        super().__init__(file, protocol=5)
        self.references = references

    def persistent_id(self, thing: Any) -> str | None:
        found = self.references.get(id(thing))
        return found[1] if found is not None and found[0] is thing and found[1] else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, code: UserCode) -> None:
        super().__init__(io.BytesIO(content))
        self.code = code

    def persistent_load(self, reference: Any) -> Any:
        return self.code.find(str(reference))


def _pickled(model: Any, references: References) -> bytes:
    file = io.BytesIO()
    try:
        _Pickler(file, references).dump(model)
    except Exception as error:  # any object may refuse to be pickled, in any way
        raise BundleError(
            f"{type(model).__name__} can't be kept ({type(error).__name__}: {str(error)[:160]}); "
            "define its functions and classes at the top level of a module, and keep files and connections out of it"
        ) from error
    return file.getvalue()


@functools.cache
def versions(names: tuple[str, ...]) -> dict[str, str]:
    """The installed version of each distribution or import package of *names* that there is."""
    import importlib.metadata

    found = {}
    for name in names:
        distribution = _DISTRIBUTIONS.get(name, name)
        try:
            found[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            for other in importlib.metadata.packages_distributions().get(name, []):
                found[other] = importlib.metadata.version(other)
    return dict(sorted(found.items()))


_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "yaml": "PyYAML",
    "dateutil": "python-dateutil",
    "xgboost": "xgboost-cpu",
}
