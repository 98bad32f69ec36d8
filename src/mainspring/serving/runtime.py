"""A bundle loaded to answer: evaluation measures it, the endpoint and MLflow serve it, always the same code."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core.errors import BundleError, NotExplained
from mainspring.core.quiet import heard
from mainspring.serving.direct import direct
from mainspring.serving.explanation import Explainer, explainer
from mainspring.serving.inputs import conform
from mainspring.serving.rows import Row
from mainspring.statistics.metrics import Predictions
from mainspring.store import estimators
from mainspring.store.bundles import Manifest, Sealed, unseal
from mainspring.store.encoding import Encoding, apply_features
from mainspring.store.keys import Keys
from mainspring.store.onnx_names import CLASS, INPUT, PROBABILITY, VALUE
from mainspring.store.usercode import UserCode, module_of

Array = npt.NDArray[Any]
Said = tuple[Array | None, Array | None, Array | None]
"""The predicted classes' columns, the probabilities, the values; what a model doesn't give is None."""
Answer = Callable[[Any], Said]

_TOLERANCE = 1e-5
_PART_ROWS = 2_000
_LOOKED_AT_ROWS, _WORTH = 500, 0.8


class Runtime:
    """A verified bundle that answers rows. Thread-safe; one-row answers are those of the whole table.

    >>> load(folder).predict(rows).labels                                                       # doctest: +SKIP
    array([False, True])
    """

    def __init__(
        self,
        sealed: Sealed,
        encoding: Encoding,
        functions: Sequence[Any],
        answer: Answer,
        estimator: Callable[[], Any] | None = None,
    ) -> None:
        self.digest, self._estimator = sealed.digest, estimator
        self.manifest: Manifest = sealed.manifest
        self._encoding = encoding
        self._functions = tuple(functions)
        self._answer = answer
        self._labels = _label_array(self.manifest.classes)
        identity = tuple(range(len(self.manifest.classes)))
        self._codes = None if self.manifest.codes == identity else np.array(self.manifest.codes, dtype=np.intp)

    @property
    def unread(self) -> frozenset[str]:
        """The input columns that change nothing in any answer."""
        return frozenset() if self._functions else frozenset(self.manifest.inputs.names) - set(self._encoding.inputs)

    def predict(self, rows: pl.DataFrame) -> Predictions:
        """What the model says of *rows*, raw input columns; raises InvalidRows for a missing or an ill-typed column."""
        rows = conform(rows, self.manifest.inputs, fractions=not self._functions)
        return self._said(self._matrix(rows)) if rows.height else self._empty()

    @cached_property
    def predict_typed(self) -> Callable[[Sequence[Row]], Predictions] | None:
        """The same of rows whose values have the columns' types; None where a frame must be made of them anyway."""
        way = None if self._functions else direct(self._encoding, self.manifest.inputs)
        return None if way is None else lambda rows: self._said(way.matrix(rows))

    def _said(self, matrix: Any) -> Predictions:
        codes, probabilities, values = self._answer(matrix)
        if codes is None:
            return Predictions(values=values)
        if self._codes is not None:
            codes, probabilities = self._codes[codes], _spread(probabilities, self._codes, len(self._labels))
        return Predictions(labels=self._labels[codes], probabilities=probabilities, classes=self.manifest.classes)

    def explain(self, rows: pl.DataFrame) -> list[dict[str, Any]]:
        """What each feature column adds to the answer, row by row; raises NotExplained where the model can't tell."""
        rows = conform(rows, self.manifest.inputs, fractions=not self._functions)
        with heard():
            return self._explainer.explain(self._matrix(rows))

    @cached_property
    def _explainer(self) -> Explainer:
        """It needs the Python model, which a process that answers by ONNX has not loaded."""
        if self._estimator is None:
            raise NotExplained("explain=true is not available for this model; leave it out")
        classes = self.manifest.classes
        return explainer(self._estimator(), self._encoding, [classes[code] for code in self.manifest.codes])

    def _matrix(self, rows: pl.DataFrame) -> Any:
        return self._encoding.transform(apply_features(self._functions, rows) if self._functions else rows)

    def _empty(self) -> Predictions:
        if not self.manifest.classes:
            return Predictions(values=np.empty(0))
        return Predictions(self._labels[:0], np.empty((0, len(self._labels))), classes=self.manifest.classes)


def load(folder: Path, *, keys: Keys | None = None, measured: bool = False) -> Runtime:
    """The runtime of the bundle in *folder*, after its signature, its bytes and its own sample rows were checked.

    measured: large predictions take a thread for each core, where that is measured to be quicker. Raises
    BundleChanged, BundleUntrusted, or BundleError when it doesn't answer its sample rows as when it was packaged.
    """
    sealed = unseal(folder, Keys() if keys is None else keys)
    manifest = sealed.manifest
    code = UserCode.of(_modules(sealed))
    if code.package != manifest.code:
        raise BundleError(f"bundle {folder}: its code isn't the one in the manifest; package the model again")
    encoding = Encoding.from_json(json.loads(sealed.read("encoding.json")))
    functions = [code.find(reference) for reference in manifest.features]
    answer = _onnx(sealed.read("model.onnx"), measured) if manifest.runtime == "onnx" else _python(sealed, code)
    runtime = Runtime(sealed, encoding, functions, answer, partial(_estimator, sealed, code))
    check(runtime, sealed)
    return runtime


def check(runtime: Runtime, sealed: Sealed) -> None:
    """Raises BundleError when *runtime* answers the bundle's own sample rows otherwise than when it was packaged."""
    rows = pl.read_ipc(io.BytesIO(sealed.read("sample.arrow")))
    if not rows.height:
        return
    expected = json.loads(sealed.read("answers.json"))
    codes, probabilities, values = runtime._answer(runtime._matrix(conform(rows, runtime.manifest.inputs)))
    wrong = np.zeros(rows.height, dtype=bool)
    if expected["codes"] is not None:
        wrong |= np.asarray(codes) != np.array(expected["codes"])
    if expected["probabilities"] is not None and probabilities is not None:
        wrong |= ~np.isclose(probabilities, expected["probabilities"], rtol=0, atol=_TOLERANCE).all(axis=1)
    if expected["values"] is not None and values is not None:
        known = np.array(expected["values"], dtype=np.float64)
        wrong |= ~(np.abs(values - known) <= _TOLERANCE * max(float(np.std(known)), float(np.abs(known).max()), 1e-12))
    if wrong.any():
        made_with = ", ".join(f"{name} {version}" for name, version in sealed.manifest.libraries.items())
        raise BundleError(
            f"bundle {sealed.folder}: {int(wrong.sum())} of its {rows.height} sample rows are answered otherwise than "
            f"when it was packaged; install what it was made with ({made_with})"
        )


def _modules(sealed: Sealed) -> dict[str, str]:
    names = [name for name in sealed.manifest.files if name.startswith("code/") and name.endswith(".py")]
    return {module_of(name.removeprefix("code/")): sealed.read(name).decode("utf-8") for name in names}


def _onnx(content: bytes, measured: bool) -> Answer:
    """The ONNX model's answers; neither scikit-learn nor pandas is imported for them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(matrix: Any) -> list[Any]:
        return list(session.run(names, {INPUT: matrix}))

    pool = _pool(run, session.get_inputs()[0]) if measured else None

    def answer(matrix: Any) -> Said:
        matrix = np.ascontiguousarray(matrix)
        if len(matrix) <= _PART_ROWS:
            parts = [run(matrix)]
        else:  # parts that stay in the processor's cache; onnxruntime's own threads are slower on trees
            pieces = [matrix[at : at + _PART_ROWS] for at in range(0, len(matrix), _PART_ROWS)]
            parts = list(map(run, pieces) if pool is None else pool.map(run, pieces))
        columns = parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]
        said = dict(zip(names, columns, strict=True))
        if VALUE in said:
            return None, None, said[VALUE].reshape(-1)
        return said[CLASS].reshape(-1), said.get(PROBABILITY), None

    return answer


def _pool(run: Callable[[Any], Any], taken: Any) -> ThreadPoolExecutor | None:
    """A thread for each core, where they answer parts of a matrix that is *taken* quicker together than one alone."""
    cores, width = len(os.sched_getaffinity(0)), taken.shape[-1]
    if cores == 1 or not isinstance(width, int):
        return None
    pool = ThreadPoolExecutor(cores, "onnx")
    kind = np.float64 if taken.type == "tensor(double)" else np.float32
    rows = np.sin(np.arange(_LOOKED_AT_ROWS * width)).reshape(-1, width)  # equal rows would take one path of a tree
    parts = [rows.astype(kind)] * cores
    seconds: dict[Any, list[float]] = {pool.map: [], map: []}
    for together in (pool.map, map) * 3:  # the first also starts the threads; another process may hold a core for once
        began = time.perf_counter()
        list(together(run, parts))
        seconds[together].append(time.perf_counter() - began)
    if min(seconds[pool.map]) < _WORTH * min(seconds[map]):
        return pool
    pool.shutdown(wait=False)
    return None


def _python(sealed: Sealed, code: UserCode) -> Answer:
    """The Python model's answers."""
    manifest = sealed.manifest
    model = _estimator(sealed, code)

    def answer(matrix: Any) -> Said:
        with heard():  # "X does not have valid feature names"
            said = np.asarray(model.predict(matrix)).reshape(-1)
            if not manifest.classes:
                return None, None, said.astype(np.float64)
            probabilities = np.asarray(model.predict_proba(matrix)) if hasattr(model, "predict_proba") else None
        return np.searchsorted(model.classes_, said), probabilities, None

    return answer


def _estimator(sealed: Sealed, code: UserCode) -> Any:
    manifest = sealed.manifest
    content = sealed.read(f"model.{manifest.model_format}")
    return estimators.load(content, manifest.model_format, code, manifest.user_types, signed_here=sealed.signed_here)


def _label_array(classes: Sequence[Any]) -> Array:
    """The classes as an array of their own type (whole numbers stay whole, mixed kinds stay objects)."""
    if len({type(label) for label in classes}) == 1:
        return np.array(classes)
    labels = np.empty(len(classes), dtype=object)
    labels[:] = classes
    return labels


def _spread(probabilities: Array | None, codes: Array, classes: int) -> Array | None:
    """Probabilities of the classes that the model knows, in their places among all."""
    if probabilities is None:
        return None
    full = np.zeros((len(probabilities), classes))
    full[:, codes] = probabilities
    return full
