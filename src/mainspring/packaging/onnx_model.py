"""The ONNX form of a fitted model, kept only where it answers as the Python model does (parity)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from mainspring.core.quiet import heard
from mainspring.packaging import trees
from mainspring.packaging.graph import NotConvertible, standard
from mainspring.store.mlflow_pyfunc import MlflowPyfunc
from mainspring.store.onnx_graph import OnnxGraph
from mainspring.store.onnx_names import CLASS, INPUT, PROBABILITY, VALUE

Array = npt.NDArray[Any]

TOLERANCE = 1e-5
"""How far probabilities, and values relative to their spread, may lie apart."""
_PERTURBED_ROWS = 4_000
_SLOW_OR_WRONG = frozenset(
    {"QuantileTransformer", "SplineTransformer", "RadiusNeighborsClassifier", "RadiusNeighborsRegressor"}
)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a fitted model says of a matrix: *codes* are columns of *probabilities*; both None for regression."""

    codes: Array | None
    probabilities: Array | None
    values: Array | None


def answers(model: Any, matrix: Any) -> Answers:
    """What the Python *model* says."""
    with heard():  # feature names, which our matrix doesn't carry
        said = np.asarray(model.predict(matrix)).reshape(-1)
        if not hasattr(model, "classes_"):
            return Answers(None, None, said.astype(np.float64))
        codes = np.searchsorted(model.classes_, said)
        probabilities = np.asarray(model.predict_proba(matrix)) if hasattr(model, "predict_proba") else None
    return Answers(codes, probabilities, None)


def convert(model: Any, matrix: Any, seed: int = 0, named: Sequence[Any] = ()) -> tuple[bytes | None, str]:
    """The ONNX form of *model* if it answers like it on *matrix* and thousands of rows made from it; else why not.

    named: what the rows of *matrix* are called where some are answered otherwise (else by their number from 1).
    """
    if isinstance(model, OnnxGraph):
        return model.content, ""
    if isinstance(model, MlflowPyfunc):
        return None, "served by MLflow's pyfunc, which runs the model's own code"
    if not isinstance(matrix, np.ndarray):
        return None, "served by scikit-learn: the model takes a named frame"
    rows = np.concatenate([matrix, *_perturbed(matrix, np.random.default_rng(seed))])
    expected, reason = answers(model, rows), ""
    for content, problem in _attempts(model, matrix.shape[1]):
        reason = (
            problem if content is None else _difference(expected, content, rows, named or range(1, len(matrix) + 1))
        )
        if content is not None and not reason:
            return content, ""
    return None, f"served by scikit-learn: {reason}"


def _attempts(model: Any, columns: int) -> Iterator[tuple[bytes | None, str]]:
    """Our own exact graph for trees; else the converters', in float64 and, where that has no operators, in float32."""
    try:
        exact = trees.convert(model, columns)
    except NotConvertible as problem:
        yield None, str(problem)
        return
    if exact is not None:
        yield exact, ""
        return
    for precision in ("DoubleTensorType", "FloatTensorType"):
        try:
            with heard():  # of the converter about its own libraries
                made = _converted(model, columns, precision)
            yield made, ""
        except Exception as error:  # a converter fails in its own ways on what it doesn't know
            yield None, _first_line(error)


def _converted(model: Any, columns: int, precision: str) -> bytes:
    """What skl2onnx makes of *model*; it takes half a second to import, so it loads only here."""
    import skl2onnx
    from skl2onnx.common import data_types

    model = _numbered(model)
    steps = [step for _, step in model.steps] if hasattr(model, "steps") else [model]
    bad = [type(step).__name__ for step in steps if type(step).__name__ in _SLOW_OR_WRONG]
    if bad:
        raise NotConvertible(f"{bad[0]} has no sound ONNX form")
    probable = hasattr(model, "predict_proba")
    made = skl2onnx.to_onnx(
        model,
        initial_types=[("X", getattr(data_types, precision)([None, columns]))],
        options={id(steps[-1]): {"zipmap": False}} if probable else None,
    )
    given = [output.name for output in made.graph.output]
    if not hasattr(model, "classes_"):
        return standard(made, {given[0]: VALUE})
    return standard(made, {given[0]: CLASS, given[1]: PROBABILITY} if probable else {given[0]: CLASS})


def _numbered(model: Any) -> Any:
    """*model* with its classes called by the numbers of their columns, as our graphs call them; no text is cast."""
    classes = getattr(model, "classes_", None)
    if classes is None or (classes.dtype.kind in "iu" and np.array_equal(classes, np.arange(len(classes)))):
        return model
    numbered = copy(model)
    if hasattr(model, "steps"):
        *before, (name, last) = model.steps
        numbered.steps = [*before, (name, _numbered(last))]
    else:
        numbered.classes_ = np.arange(len(classes))
    return numbered


def _difference(expected: Answers, content: bytes, rows: Array, named: Sequence[Any]) -> str:
    """In what the ONNX model *content* answers otherwise than expected, and on which of the *named* rows, which come
    before those that were made of them; empty when in nothing."""
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        said = dict(zip(names, session.run(names, {INPUT: rows}), strict=True))
    except Exception as error:  # onnxruntime's errors share no base but Exception
        return f"onnxruntime can't run it ({_first_line(error)})"
    if expected.values is not None:
        spread = max(float(np.std(expected.values)), 1e-12)
        return _far(np.abs(said[VALUE].reshape(-1) - expected.values) / spread, "value", named)
    if expected.probabilities is not None:
        far = _far(np.abs(said[PROBABILITY] - expected.probabilities).max(axis=1), "probability", named)
        if far:
            return far
    differ = np.flatnonzero(said[CLASS].reshape(-1) != expected.codes)
    if len(differ):
        which = _which(differ, named)
        return f"the ONNX form predicts another class on {len(differ)} of {len(rows)} rows{which}"
    return ""


def _far(distance: Array, what: str, named: Sequence[Any]) -> str:
    far = np.flatnonzero(~(distance <= TOLERANCE))
    if not len(far):
        return ""
    which, most = _which(far, named), np.nanmax(distance)
    return f"the ONNX form's {what} is off by up to {most:.2g} on {len(far)} of {len(distance)} rows{which}"


def _which(places: Array, named: Sequence[Any]) -> str:
    """The first training rows among *places*, by name; the rest are rows that were made of them."""
    real = [str(named[place]) for place in places.tolist() if place < len(named)]
    if not real:
        return " (made of training rows)"
    return f" (training rows {', '.join(real[:5])}{f' and {len(real) - 5} more' if len(real) > 5 else ''})"


def _perturbed(matrix: Array, random: np.random.Generator) -> Iterator[Array]:
    """Rows like those of *matrix* that training didn't see: values of other rows, noise, edges, and gaps."""
    if not matrix.size:
        return
    count, columns = _PERTURBED_ROWS // 4, range(matrix.shape[1])
    mixed = np.column_stack([random.choice(matrix[:, column], count) for column in columns])
    yield mixed
    noisy = matrix[random.integers(0, len(matrix), count)]
    whole = np.array([_is_whole(matrix[:, column]) for column in columns])
    spread = np.where(whole, 0.0, _spread(matrix))
    yield noisy + random.normal(size=noisy.shape) * spread
    yield np.where(random.random(noisy.shape) < 0.2, noisy + random.normal(size=noisy.shape) * 10 * spread, noisy)
    yield mixed.astype(np.float32).astype(np.float64)
    if np.isnan(matrix).any():
        gaps = np.isnan(matrix).any(axis=0) & (random.random(mixed.shape) < 0.2)
        yield np.where(gaps, np.nan, mixed)


def _is_whole(values: Array) -> bool:
    known = values[~np.isnan(values)]
    return bool((known == np.round(known)).all())


def _spread(matrix: Array) -> Array:
    with heard():  # a column that is missing in every row
        spread: Array = np.nan_to_num(np.nanstd(matrix, axis=0))
    return spread


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:160]}" if text else type(error).__name__
