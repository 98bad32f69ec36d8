"""A model of MLflow's registry under a loop: read safely, packed and signed here, released as every other version."""

from __future__ import annotations

import io
import json
import shutil
import uuid
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from mainspring.core import declarations
from mainspring.core.declarations import Manual, Roles
from mainspring.core.errors import BundleError, MainspringError, NotInStore, UsageError
from mainspring.core.quiet import heard
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.values import Candidate, Release, Task, Verdict
from mainspring.data.sources import reader
from mainspring.loop import given
from mainspring.loop.champion import announcer, current
from mainspring.packaging import foreign
from mainspring.packaging.foreign import Foreign
from mainspring.packaging.package import package
from mainspring.pipeline.reach import reach
from mainspring.release import release as releasing
from mainspring.serving import push
from mainspring.serving.inputs import conform
from mainspring.statistics import metrics
from mainspring.store.audit import Audit
from mainspring.store.bundles import Bundles, Sealed
from mainspring.store.deployments import Deployments
from mainspring.store.encoded_columns import Named, Number, Output
from mainspring.store.encoding import Encoding
from mainspring.store.home import Home
from mainspring.store.mlflow_pyfunc import MlflowPyfunc
from mainspring.store.profile import Profile
from mainspring.store.registry import Registry

REFERENCE_ROWS = 20_000
"""So many reference rows are read: the profile's, and those on which ONNX must agree."""
_NAMED = {Type.TEXT: "text", Type.BOOLEAN: "boolean", Type.DATETIME: "moment", Type.DATE: "moment"}


def bring(
    home: Home,
    uri: str,
    loop: str,
    *,
    rows: str | None,
    target: str | None,
    key: str | None,
    trust: bool,
    mlflow: str | None,
    now: datetime | None = None,
    by: str = "unknown",
) -> Release:
    """The model at *uri* as the next version of *loop*: its first takes all traffic, another waits for `promote`.

    rows: rows of its inputs, against which drift is judged. target, key: their columns where the loop is new. trust:
    the model's own code may run. What an existing loop's requests carry stays as it is.
    """
    registry, deployments = Registry(home, mlflow), Deployments(home)
    folder = home.folder("tmp") / f"import-{uuid.uuid4().hex}"
    try:
        found = foreign.read(registry.fetch(uri, folder), trust=trust)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    champion = _champion(home, loop)
    if champion is not None and (target or key):
        raise UsageError(f"{loop} has its target and its key already; leave out --target and --key")
    candidate, notes = _candidate(found, champion, rows, target or found.target or "target", key)
    run, at = f"import-{uuid.uuid4().hex[:12]}", now or deployments.now()
    told = f"imported from {uri} ({found.flavour}, {found.form}); no holdout has judged it"
    trust_given = "its author's code was run at a person's word (--trust)" if found.trusted else ""
    trusted = tuple(reason for reason in (trust_given, found.assumed) if reason)
    bundle = package(
        replace(candidate, notes=(told, *trusted, *notes)),
        features=(), unit=None if champion is None else champion.manifest.unit, loop=loop, home=home,
        code=reach([candidate.model]), lineage={"imported": uri, "flavour": found.flavour, "form": found.form},
    )  # fmt: skip
    rival = None if champion is None else champion.digest
    verdict = Verdict("inconclusive", "release", (told, *trusted), (), bundle, rival)
    with deployments.transaction():
        registry.enqueue("run", f"run:{run}", {
            "loop": loop, "run": run, "status": "done", "started": at.isoformat(), "ended": at.isoformat(),
            "params": {"imported": uri, "flavour": found.flavour, "form": found.form}, "metrics": {},
        })  # fmt: skip
        released = releasing.release(
            verdict, strategy=Manual(), loop=loop, home=home, run=run, now=at, announce=announcer(registry)
        )
        reason = "; ".join((told, *trusted))
        Audit(home).add("import", loop, released.version, by=by, reason=reason)
    Audit(home).witness()
    push.notify(home)
    registry.drain()
    return released


def _champion(home: Home, loop: str) -> Sealed | None:
    try:
        return Bundles(home).open(current(home, loop).digest)
    except NotInStore:
        return None


def _candidate(
    found: Foreign, champion: Sealed | None, rows: str | None, target: str, key: str | None
) -> tuple[Candidate, tuple[str, ...]]:
    inputs = _contract(found, champion, key)
    reference = _reference(found, champion, rows, inputs)
    model, used = found.model, found.inputs or inputs
    encoding = _encoding(model, used, reference)
    if isinstance(model, MlflowPyfunc):
        known = () if champion is None else champion.manifest.classes
        model.learn_classes(encoding.transform(reference), known)
    classes = _classes(model, champion)
    task: Task = {0: "regression", 2: "binary"}.get(len(classes), "multiclass")  # type: ignore[assignment]
    if champion is not None and task != champion.manifest.task:
        raise BundleError(
            f"the model is for {task}, the loop for {champion.manifest.task}; import it into another loop"
        )
    roles = Roles(target, key) if champion is None else champion.manifest.roles
    same = champion is not None and rows is None
    few = () if same or reference.height > 1000 else (f"drift is judged against {reference.height:,} rows only",)
    candidate = Candidate(
        model=model, encoding=encoding, estimator=_name(model), parameters={}, task=task, classes=classes,
        inputs=inputs, roles=roles, score=None, baseline=float("nan"), trials=(),
        metric=metrics.default_metric(task).name if champion is None else champion.manifest.metric,
        profile=_profile(champion) if same else Profile.of(reference, inputs, roles.special),
        sample=reference, train_rows=0, dataset_version=0, holdout_id="",
    )  # fmt: skip
    return candidate, few


def _contract(found: Foreign, champion: Sealed | None, key: str | None) -> Schema:
    """What a request must carry: the loop's columns where there is a loop, else the model's own."""
    if champion is None:
        if found.inputs is None:
            raise BundleError("the model doesn't say its columns; log it with a signature")
        extra = () if key is None or key in found.inputs.names else (Column(key, Type.TEXT),)
        return Schema((*extra, *found.inputs))
    known = champion.manifest.inputs
    if missing := [name for name in (found.inputs or known).names if name not in known.names]:
        raise BundleError(
            f"the model takes {', '.join(missing[:5])}, which requests to {champion.manifest.loop} don't carry; "
            "import it into a loop of its own, with another --loop"
        )
    return known


def _reference(found: Foreign, champion: Sealed | None, rows: str | None, inputs: Schema) -> pl.DataFrame:
    """Rows such as the model will meet: the person's, the champion's sample, or the example that was logged."""
    if rows is not None:
        texts = tuple(column.name for column in inputs if column.type is Type.TEXT)
        parts, count = [], 0
        for part, _ in reader(declarations.source(rows), texts).read(None):
            parts.append(part)
            if (count := count + part.height) >= REFERENCE_ROWS:
                break
        table = given.as_ingested(pl.concat(parts, how="diagonal_relaxed").head(REFERENCE_ROWS), inputs)
        return conform(table, inputs, fractions=True)
    if champion is not None:
        return pl.read_ipc(io.BytesIO(champion.read("sample.arrow")))
    if not found.example:
        raise UsageError("the model was logged without an input example; give rows of its inputs with --rows FILE")
    table = pl.DataFrame(found.example, infer_schema_length=None, strict=False)
    absent = set(inputs.names) - set(table.columns)
    return conform(table.with_columns(pl.lit(None).alias(name) for name in absent), inputs, fractions=True)


def _encoding(model: Any, used: Schema, rows: pl.DataFrame) -> Encoding:
    """Columns as they are, in the model's order: a matrix of numbers where the model takes one, or a frame."""
    numbers = Encoding("ordered", tuple(Number(name, (Output(name),)) for name in used.names))
    reasons = []
    if all(column.type in (Type.INTEGER, Type.FLOAT) for column in used):
        try:
            _try(model, numbers, rows)
            return numbers
        except Exception as error:  # a pipeline that picks its columns by their names
            reasons.append(error)
    named = Encoding("named", tuple(Named(c.name, _NAMED.get(c.type, "number"), (Output(c.name),)) for c in used))
    try:
        _try(model, named, rows)
    except MainspringError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise BundleError(f"the model can't answer the rows ({type(error).__name__}: {reason}); see --rows") from error
    return named


def _try(model: Any, encoding: Encoding, rows: pl.DataFrame) -> None:
    with heard():
        model.predict(encoding.transform(rows.head(20)))


def _classes(model: Any, champion: Sealed | None) -> tuple[Any, ...]:
    """The labels in the order of the model's probabilities; a loop's own where the model says their positions."""
    own = np.asarray(getattr(model, "classes_", ())).tolist()
    if champion is None or not own:
        return tuple(own)
    known = champion.manifest.classes
    if own == list(known) or own == list(range(len(known))):
        return known
    raise BundleError(
        f"the model's classes are {own[:10]}, the loop's {list(known)[:10]} in this order; they must agree"
    )


def _profile(champion: Sealed | None) -> Profile:
    assert champion is not None
    return Profile.from_json(json.loads(champion.read("profile.json")))


def _name(model: Any) -> str:
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    return type(last).__name__
