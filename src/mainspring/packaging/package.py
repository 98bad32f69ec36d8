"""The stage package: a candidate becomes one signed folder that answers the same wherever it is loaded."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from mainspring.core.errors import FeaturesError
from mainspring.core.protocols import Progress
from mainspring.core.values import Bundle, Candidate
from mainspring.packaging import mlmodel
from mainspring.packaging.onnx_model import answers, convert
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
    onnx, why = convert(train.model, matrix, named=_names(train))
    tell("package: model", 2, 3)
    reached = references(train.model)
    for reference in sorted({reference for _, reference in reached.values() if reference}):
        usercode.find(reference)  # what couldn't be imported when it serves is told now
    kept = estimators.save(train.model, usercode, reached)
    notes = tuple(note for note in (*train.notes, why, kept.note, *code.widened) if note)
    manifest = _manifest(
        train, loop, unit, "onnx" if onnx else "scikit-learn", kept, located, usercode, code, lineage, notes
    )
    contents = {"model.onnx": onnx} if onnx else {}
    contents |= {f"model.{kept.format}": kept.content, **_samples(train, matrix)}
    contents |= {f"code/{file_of(name)}": source.encode() for name, source in code.modules.items()}
    bundles = Bundles(home, keys)
    digest = _sealed(bundles, manifest, contents)
    tell("package: signed", 3, 3)
    size = bundles.size_bytes(digest)
    return Bundle(
        digest, loop, train.estimator, manifest.runtime, train.task, manifest.classes, train.metric, size, notes
    )


def _names(train: Candidate) -> list[Any]:
    """What the sample's rows are called in a note: by their key, unless that tells of a person."""
    shown = {column.name for column in train.inputs if not column.personal} & set(train.sample.columns)
    return train.sample[train.roles.key].to_list() if train.roles.key in shown else []


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
    """What the model is given for the sample rows, of which the packaged functions must make what the user's do."""
    made = apply_features(functions, train.sample)
    packaged = apply_features([usercode.find(reference) for reference in located], train.sample)
    if not packaged.equals(made):
        columns = [
            name for name in made.columns if name not in packaged.columns or not packaged[name].equals(made[name])
        ]
        raise FeaturesError(
            f"features: the packaged code makes other values of {', '.join(columns) or 'the columns'} than the code in "
            "memory; they must depend on the row and on the code alone (reload the module if it was edited)"
        )
    return train.encoding.transform(made)


def _libraries(runtime: str, model: Any) -> tuple[str, ...]:
    """What answering needs beside the user's own imports."""
    module = type(model).__module__.partition(".")[0]
    return ("onnxruntime", "scikit-learn", "skops") if runtime == "onnx" else ("scikit-learn", "skops", module)


def _manifest(
    train: Candidate,
    loop: str,
    unit: str | None,
    runtime: Literal["onnx", "scikit-learn"],
    kept: ModelFile,
    located: tuple[str, ...],
    usercode: UserCode,
    code: Reach,
    lineage: Mapping[str, Any],
    notes: tuple[str, ...],
) -> Manifest:
    trained_on = {"dataset_version": train.dataset_version, "rows": train.train_rows, "holdout": train.holdout_id}
    return Manifest(
        loop=loop,
        estimator=train.estimator,
        parameters=_json(train.parameters),
        task=train.task,
        classes=tuple(_json(label) for label in train.classes),
        codes=_codes(train),
        inputs=train.inputs,
        roles=train.roles,
        metric=train.metric,
        score=_json(train.score),
        baseline=_json(train.baseline),
        unit=unit,
        runtime=runtime,
        model_format=kept.format,
        features=located,
        code=usercode.package,
        user_types=kept.user_types,
        libraries=estimators.versions((*_NEEDED, *_libraries(runtime, train.model), *code.libraries)),
        lineage=_json({"trained_on": trained_on, "code": code.digest, **lineage}),
        notes=notes,
    )


def _codes(train: Candidate) -> tuple[int, ...]:
    """The model's classes as positions among the candidate's: it says positions, or, trained elsewhere, the labels."""
    known = np.asarray(getattr(train.model, "classes_", ())).tolist()
    return tuple(range(len(known))) if tuple(known) == train.classes else tuple(int(code) for code in known)


def _samples(train: Candidate, matrix: Any) -> dict[str, bytes]:
    """The encoding, the training rows' profile, and some rows, from the first to the last, with their answers."""
    rows, count = io.BytesIO(), train.sample.height
    places = np.unique(np.linspace(0, max(count - 1, 0), min(count, SAMPLE_ROWS), dtype=np.intp))
    train.sample[places].write_ipc(rows, compression="uncompressed")
    said = answers(train.model, matrix.iloc[places] if hasattr(matrix, "iloc") else matrix[places])
    parts = {"codes": said.codes, "probabilities": said.probabilities, "values": said.values}
    known = {name: None if part is None else part.tolist() for name, part in parts.items()}
    return {
        "encoding.json": _written(train.encoding.to_json()),
        "profile.json": _written(train.profile.to_json()),
        "sample.arrow": rows.getvalue(),
        "answers.json": _written(known),
    }


def _sealed(bundles: Bundles, manifest: Manifest, contents: Mapping[str, bytes]) -> str:
    """Write the files into a folder of their own, and give it to *bundles*."""
    folder = bundles.home.folder("tmp") / f"bundle-{uuid.uuid4().hex}"
    texts = {name: text.encode() for name, text in mlmodel.files(manifest).items()}
    try:
        for name, content in {**contents, **texts}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        write_manifest(folder, manifest)
        return bundles.add(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _written(content: Any) -> bytes:
    return (json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n").encode()


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
