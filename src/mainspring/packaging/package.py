"""The stage package: a candidate becomes one signed folder that answers the same wherever it is loaded."""

from __future__ import annotations

import json
import math
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mainspring.core.errors import FeaturesError
from mainspring.core.protocols import Progress
from mainspring.core.values import Bundle, Candidate
from mainspring.packaging import mlmodel
from mainspring.packaging.onnx_model import Answers, answers, convert
from mainspring.pipeline.reach import Reach, locate, references
from mainspring.store import estimators
from mainspring.store.bundles import Bundles, Manifest, write_manifest
from mainspring.store.encoding import apply_features
from mainspring.store.estimators import ModelFile
from mainspring.store.home import Home
from mainspring.store.keys import Keys
from mainspring.store.usercode import UserCode, file_of

SAMPLE_ROWS = 20
"""How many rows with their answers a bundle carries: the runtime checks itself against them whenever it loads."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_NEEDED = ("mainspring", "numpy", "polars")


def package(
    train: Candidate,
    *,
    features: tuple[Any, ...],
    unit: str | None,
    loop: str,
    home: Home,
    code: Reach,
    lineage: Mapping[str, Any],
    keys: Keys | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Pack *train* with the user's *code*, sign it, and keep it under its digest.

    The bundle is served by ONNX where that answers like the Python model (see `onnx_model.convert`), else by
    scikit-learn. Raises FeaturesError when a features function can't be packaged or answers otherwise once it is.
    """
    tell = progress or _silent
    functions = [item for item in features if not hasattr(item, "fit")]
    usercode = UserCode.of(code.modules)
    tell("package: code", 0, 3)
    located = _located(functions, code)
    matrix = _matrix(train, functions, usercode, located)
    tell("package: ONNX", 1, 3)
    onnx, why = convert(train.model, matrix)
    tell("package: model", 2, 3)
    kept = estimators.save(train.model, usercode, references(train.model))
    notes = tuple(note for note in (*train.notes, why, kept.note, *code.widened) if note)
    said = answers(train.model, matrix[:SAMPLE_ROWS])
    manifest = Manifest(
        loop=loop,
        estimator=train.estimator,
        parameters=_json(train.parameters),
        task=train.task,
        classes=tuple(_json(label) for label in train.classes),
        codes=tuple(int(code) for code in getattr(train.model, "classes_", ())),
        inputs=train.inputs,
        roles=train.roles,
        metric=train.metric,
        score=_json(train.score),
        baseline=_json(train.baseline),
        unit=unit,
        runtime="onnx" if onnx else "scikit-learn",
        model_format=kept.format,
        features=located,
        code=usercode.package,
        user_types=kept.user_types,
        libraries=estimators.versions((*_NEEDED, *_libraries(onnx is not None, train.model), *code.libraries)),
        lineage=_json({"trained_on": {"dataset_version": train.dataset_version, "rows": train.train_rows}, **lineage}),
        notes=notes,
    )
    folder = home.folder("tmp") / f"bundle-{uuid.uuid4().hex}"
    bundles = Bundles(home, keys)
    try:
        _write(folder, manifest, train, code.modules, onnx, kept, said)
        digest = bundles.add(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    tell("package: signed", 3, 3)
    return Bundle(
        digest=digest,
        loop=loop,
        estimator=train.estimator,
        runtime=manifest.runtime,
        task=train.task,
        classes=manifest.classes,
        metric=train.metric,
        size_bytes=bundles.size_bytes(digest),
        notes=notes,
    )


def _silent(what: str, done: int, total: int) -> None:
    """Nobody waits."""


def _located(functions: Sequence[Any], code: Reach) -> tuple[str, ...]:
    """Where in *code* each features function is."""
    found = locate(functions)
    for function, reference in zip(functions, found, strict=True):
        if not reference or reference.partition(":")[0] not in code.modules:
            name = getattr(function, "__qualname__", type(function).__name__)
            why = next(
                (note for note in code.widened if note.startswith(name)), f"{name}: its source isn't the project's"
            )
            raise FeaturesError(f"features function {name!r} can't be packaged: {why}")
    return found


def _matrix(train: Candidate, functions: Sequence[Any], usercode: UserCode, located: Sequence[str]) -> Any:
    """What the model is given for the sample rows; the packaged functions must make the same of them as the user's do."""
    made = apply_features(functions, train.sample)
    packaged = apply_features([usercode.find(reference) for reference in located], train.sample)
    if not packaged.equals(made):
        differing = [
            name for name in made.columns if name not in packaged.columns or not packaged[name].equals(made[name])
        ]
        raise FeaturesError(
            f"features: the packaged code makes other values of {', '.join(map(repr, differing)) or 'the columns'} than the "
            f"code in memory; they must depend on the row and on the code alone (reload the module if it was edited)"
        )
    return train.encoding.transform(made)


def _libraries(onnx: bool, model: Any) -> tuple[str, ...]:
    """What answering needs beside the user's own imports."""
    module = type(model).__module__.partition(".")[0]
    return ("onnxruntime", "scikit-learn", "skops") if onnx else ("scikit-learn", "skops", module)


def _write(
    folder: Path,
    manifest: Manifest,
    train: Candidate,
    modules: Mapping[str, str],
    onnx: bytes | None,
    kept: ModelFile,
    said: Answers,
) -> None:
    folder.mkdir(parents=True)
    for name, source in modules.items():
        path = folder / "code" / file_of(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    if onnx:
        (folder / "model.onnx").write_bytes(onnx)
    (folder / f"model.{kept.format}").write_bytes(kept.content)
    _write_json(folder / "encoding.json", train.encoding.to_json())
    _write_json(folder / "profile.json", train.profile.to_json())
    rows: pl.DataFrame = train.sample.head(SAMPLE_ROWS)
    rows.write_ipc(folder / "sample.arrow", compression="uncompressed")
    _write_json(folder / "answers.json", _answers(said))
    for name, text in mlmodel.files(manifest).items():
        (folder / name).write_text(text, encoding="utf-8")
    write_manifest(folder, manifest)


def _answers(said: Answers) -> dict[str, Any]:
    parts = {"codes": said.codes, "probabilities": said.probabilities, "values": said.values}
    return {name: None if part is None else part.tolist() for name, part in parts.items()}


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8")


def _json(value: Any) -> Any:
    """*value* as JSON that says the same in every process: no addresses, no infinities."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return _ADDRESS.sub("", repr(value))
