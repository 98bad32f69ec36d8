"""The stage evaluate: what the bundle, run by the runtime that will serve it, does on rows that no fit has seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.declarations import Gate
from mainspring.core.errors import TargetUnusable
from mainspring.core.plain import plain
from mainspring.core.protocols import Model, Progress
from mainspring.core.values import Bundle, Evaluation, Frame, Split
from mainspring.evaluation import slices
from mainspring.evaluation.card import card
from mainspring.evaluation.holdout import Labels, as_stored, dummy, labels
from mainspring.evaluation.importance import importance
from mainspring.evaluation.latency import latency
from mainspring.evaluation.scores import scores
from mainspring.statistics.intervals import Calibration, calibration
from mainspring.statistics.metrics import Metric, Predictions, default_metric, metric


def evaluate(
    package: Bundle,
    split: Split,
    *,
    gate: Gate,
    champion_digest: str | None,
    load: Callable[[str], Model],
    seed: int,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures the bundle and the champion's on the same holdout rows, given to both as a caller would give them.

    load: a bundle's runtime by its digest. The target is never among the columns that a model sees.
    """
    holdout = split.holdout
    _check(holdout, gate)
    tell = progress or (lambda what, done, total: None)
    primary = metric(gate.metric, package.task) if gate.metric else _declared(package)
    known = labels(holdout)
    model = load(package.digest)
    rows = holdout.data.select(holdout.inputs.names)
    tell("predictions of the holdout", 0, rows.height)
    said = as_stored(model.predict(rows), package.classes)
    tell("predictions of the holdout", rows.height, rows.height)
    before, fault = _champion(champion_digest, package, holdout, load, said)
    models = [said] if before is None or before is said else [said, before]
    measured = scores(primary, package.task, known, models, seed)
    found = Evaluation(
        bundle=package,
        champion_digest=champion_digest,
        metric=primary.name,
        metrics=measured[0],
        champion_metrics=measured[-1] if before is not None else {},
        baseline=known.weighing(primary).function(known.target, dummy(split.train, rows.height)),
        slices=slices.slices(holdout.data, gate.slices, primary, known, said, before, seed=seed, progress=progress),
        calibration=_calibration(package.task, known, said),
        importance=importance(model, rows, known, primary, seed=seed, progress=progress),
        latency_ms=latency(model, rows, seed=seed),
        rows=rows.height,
        holdout_id=split.holdout_id,
        target=known.target,
        weight=known.weight,
        clusters=known.clusters,
        candidate=said,
        champion=before,
        notes=_notes(known, said, primary, fault),
        facts=_facts(split, model, fault),
    )
    return replace(found, card=card(found))


def _check(holdout: Frame, gate: Gate) -> None:
    slices.check(gate.slices, [name for name in holdout.data.columns if name != holdout.roles.target])
    if holdout.data.height == 0:
        raise TargetUnusable(
            "the holdout has no rows, so nothing can be measured; give more data or a larger Split(test=...)"
        )


def _declared(package: Bundle) -> Metric:
    return metric(package.metric, package.task) if package.metric else default_metric(package.task)


def _champion(
    digest: str | None, package: Bundle, holdout: Frame, load: Callable[[str], Model], candidate: Predictions
) -> tuple[Predictions | None, str]:
    """What the champion says about the same rows; None and why where it can't say anything."""
    if digest is None:
        return None, ""
    if digest == package.digest:
        return candidate, ""
    try:
        model = load(digest)
        wanted = _inputs(model) or holdout.inputs.names
        gone = [name for name in wanted if name not in holdout.inputs]
        if gone:
            return None, f"the champion needs {_columns(gone)}, which the data no longer gives"
        said = model.predict(holdout.data.select(wanted))
    except (
        Exception
    ) as error:  # the champion runs its own code; whatever it does is reported, in the card and by the gate
        return None, f"the champion can't be run: {error}"
    answered: Predictions = as_stored(said, package.classes)
    return _same_question(answered, package)


def _same_question(said: Predictions, package: Bundle) -> tuple[Predictions | None, str]:
    if (said.values is None) != (package.task != "regression"):
        return None, f"the champion answers another question: this candidate's task is {package.task}"
    if package.task == "binary" and said.classes != package.classes:
        return None, f"the champion knows the classes {list(said.classes)}, the candidate {list(package.classes)}"
    return said, ""


def _inputs(model: Model) -> tuple[str, ...]:
    """The raw columns that a bundle was packaged with."""
    manifest = getattr(model, "manifest", None)
    return () if manifest is None else tuple(manifest.inputs.names)


def _columns(names: list[str]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}"


def _calibration(task: str, known: Labels, said: Predictions) -> Calibration | None:
    """Of the positive class's probability; with more classes, of the likeliest class's."""
    if said.probabilities is None or task == "regression":
        return None
    if task == "binary":
        return calibration(said.codes(known.target) == 1, said.scores())
    likeliest = np.argmax(said.probabilities, axis=1)
    return calibration(said.codes(known.target) == likeliest, said.probabilities.max(axis=1))


def _notes(known: Labels, said: Predictions, primary: Metric, fault: str) -> tuple[str, ...]:
    notes = [fault] if fault else []
    if said.classes:
        unknown = int((said.codes(known.target) == len(said.classes)).sum())
        if unknown:
            notes.append(f"{unknown:,} holdout rows have a class that the model doesn't know; they count as wrong")
    if known.clusters is not None:
        clusters = len(np.unique(known.clusters))
        notes.append(f"rows repeat entities: intervals are over {clusters:,} entities, not {len(known):,} rows")
    if np.isnan(known.weighing(primary).function(known.target, said)):
        notes.append(f"{primary.name} is undefined on this holdout; it may hold one class only")
    return tuple(notes)


def _facts(split: Split, model: Model, fault: str) -> dict[str, Any]:
    """What the card says beside the figures, as plain JSON."""
    train, manifest = split.train, getattr(model, "manifest", None)
    inputs = [{"name": each.name, "type": each.type.value} for each in train.inputs]
    facts = {
        "train_rows": train.data.height,
        "dataset_version": train.dataset_version,
        "split": split.rule,
        "target": train.roles.target,
        "ignored": sorted(train.roles.ignore),
        "inputs": inputs,
        "parameters": plain(getattr(manifest, "parameters", {})),
        "libraries": plain(getattr(manifest, "libraries", {})),
        "features": plain(getattr(manifest, "features", ())),
        "quality": dict(train.quality),
    }
    if train.roles.time:
        facts["train_period"] = _period(train.data[train.roles.time])
        facts["holdout_period"] = _period(split.holdout.data[train.roles.time])
    return {**facts, "champion_fault": fault} if fault else facts


def _period(times: pl.Series) -> list[str]:
    return [str(times.min()), str(times.max())]
