"""The stages that need to know who is champion: they look it up in the home and hand it to the room that works."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mainspring.core.declarations import Clean, Gate, Privacy, Roles, Search
from mainspring.core.errors import DeclarationError, TrainingError
from mainspring.core.protocols import Clock, Model, Named, Progress
from mainspring.core.schema import Column, Schema
from mainspring.core.values import Bundle, Candidate, Dataset, Evaluation, Frame, Onset, Release, Split, Verdict
from mainspring.data import prepare as preparing
from mainspring.data import split as splitting
from mainspring.evaluation import card_page
from mainspring.evaluation import evaluate as evaluation
from mainspring.evaluation import gate as gating
from mainspring.loop.champion import announcer, rival
from mainspring.loop.watch import mark_trained
from mainspring.packaging import package as packaging
from mainspring.pipeline.reach import reach
from mainspring.release import release as releasing
from mainspring.serving import runtime
from mainspring.statistics import metrics
from mainspring.store import durable
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import ONSET, Deployments
from mainspring.store.home import Home
from mainspring.store.journal import Journal
from mainspring.store.profile import SHARED
from mainspring.store.registry import Registry
from mainspring.store.tables import digest
from mainspring.training import train as training
from mainspring.training.recent import recent_alone

_TRIAL = ("number", "estimator", "parameters", "score", "fold_scores", "seconds", "stopped_early")


def prepare(
    validate: Dataset,
    *,
    roles: Roles,
    features: tuple[Any, ...],
    task: Any,
    window: Any,
    clean: tuple[Clean, ...],
    columns: Mapping[str, str],
    counted: tuple[str, ...],
    metric: str | Named | None,
    floor: float | None,
    home: Home,
    privacy: Privacy | None = None,
) -> Frame:
    """The training frame, if it has what later stages and the release will ask for: told before hours of training."""
    frame = preparing.prepare(
        validate, roles=roles, features=features, task=task, window=window, clean=clean, home=home
    )
    for where, name in columns.items():
        if name not in frame.inputs:
            near = get_close_matches(name, frame.inputs.names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the columns are {', '.join(frame.inputs.names)}"
            raise DeclarationError(f"{where} names {name!r}, which no request carries; {hint}")
    _refuse_counted(frame.task, counted)
    _refuse_floor(metrics.default_metric(frame.task) if metric is None else metrics.metric(metric, frame.task), floor)
    return frame if privacy is None else replace(frame, inputs=_protected(frame, privacy))


def _refuse_counted(task: str, counted: tuple[str, ...]) -> None:
    """Raise where the release counts what this task's answers can't be."""
    if task == "regression" and "wrong" in counted:
        raise DeclarationError(
            "Canary(guardrails=...) counts 'wrong', but a predicted number is never exactly right; leave it out"
        )
    fitting = {"value", "error"} if task == "regression" else {"right", "event", "value"}
    for outcome in {"right", "event", "value", "error"} & set(counted) - fitting:
        raise DeclarationError(f"outcome={outcome!r} doesn't fit a {task} target; choose from {sorted(fitting)}")


def _protected(frame: Frame, privacy: Privacy) -> Schema:
    """What a request must carry, with what becomes of it on the way in: the same as of a row of the source. Where rows
    are about people only levels are told that several of them share."""
    columns = [replace(column, private=privacy.rules.get(column.name)) for column in frame.inputs]
    if privacy.subject is not None:
        columns = [replace(column, levels=_shared(frame, column)) for column in columns]
    return replace(frame.inputs, columns=tuple(columns))


def _shared(frame: Frame, column: Column) -> tuple[str, ...] | None:
    if column.levels is None:
        return None
    counted = frame.data[column.name].value_counts()
    shared = set(counted.filter(counted["count"] >= SHARED)[column.name])
    return tuple(level for level in column.levels if level in shared)


def _refuse_floor(metric: metrics.Metric, floor: float | None) -> None:
    """Raise where no model could reach what the gate asks for."""
    sign = 1.0 if metric.greater_is_better else -1.0
    if floor is not None and metric.best is not None and sign * floor > sign * metric.best:
        beyond = "above 1" if metric.greater_is_better else "below 0"
        raise DeclarationError(f"Gate(at_least={floor:g}) can't be reached: {metric.name} is never {beyond}; mend it")


def split(
    prepare: Frame,
    *,
    rule: Any,
    seed: int,
    loop: str,
    home: Home,
    features: tuple[Any, ...] = (),
    models: Any = None,
    metric: str | Named | None = None,
    clean: tuple[Clean, ...] = (),
) -> Split:
    """Training rows and holdout; after a decay both from the rows since then, where *models* show these to be better
    than all rows."""
    kept = Deployments(home).load_state(loop, ONSET)
    plain = splitting.split(prepare, rule=rule, seed=seed, loop=loop)
    if kept is None:
        return plain
    since = splitting.split(prepare, rule=rule, seed=seed, loop=loop, onset=Onset(**kept))
    better, note = recent_alone(prepare, since, features=features, models=models, metric=metric, seed=seed, clean=clean)
    chosen = since if better else plain
    return chosen if note is None else replace(chosen, train=replace(chosen.train, notes=(*chosen.train.notes, note)))


def train(
    split: Any,
    *,
    features: tuple[Any, ...],
    models: Any,
    search: Search | None,
    metric: str | Named | None,
    rule: Any,
    seed: int,
    clean: tuple[Clean, ...] = (),
    progress: Progress | None = None,
) -> Candidate:
    """The candidate of the training rows, whoever divided them."""
    return training.train(
        divided(split),
        features=features,
        models=models,
        search=search,
        metric=metric,
        rule=rule,
        seed=seed,
        clean=clean,
        progress=progress,
    )


def divided(split: Any) -> Split:
    """What a split stage gave: ours as it is; of a person's any object whose train and holdout are two Frames."""
    if isinstance(split, Split):
        return split
    both = split if isinstance(split, tuple) else (getattr(split, "train", None), getattr(split, "holdout", None))
    if len(both) != 2 or not all(isinstance(side, Frame) for side in both):
        raise DeclarationError(
            f"step 'split' gave {type(split).__name__}; return an object with train and holdout, each of them "
            "dataclasses.replace(prepare, data=...) with its part of prepare.data"
        )
    sizes = f"{both[0].data.height:,} rows train, {both[1].data.height:,} are the holdout"
    return Split(both[0], both[1], f"the loop's own split step: {sizes}", digest(both[1].data))


def package(
    train: Candidate,
    *,
    features: tuple[Any, ...],
    unit: str | None,
    loop: str,
    home: Home,
    progress: Progress | None = None,
) -> Bundle:
    """Pack the candidate with the user's code that its features and estimator reach."""
    if train.classes and not hasattr(train.model, "classes_"):
        raise TrainingError(
            f"{train.estimator} has no classes_ after fit; set self.classes_ = numpy.unique(y) in fit, where predict "
            "takes its classes from"
        )
    lineage = {"dataset_version": train.dataset_version, "holdout": train.holdout_id, "train_rows": train.train_rows}
    code = reach((*features, train.model))
    return packaging.package(
        train, features=features, unit=unit, loop=loop, home=home, code=code, lineage=lineage, progress=progress
    )


def loader(home: Home) -> Callable[[str], Model]:
    """Loads a bundle by its digest with the runtime that serves it."""
    bundles = Bundles(home)
    return lambda digest: runtime.load(bundles.path(digest))


def evaluate(
    package: Bundle, split: Any, *, rule: Gate, seed: int, home: Home, progress: Progress | None = None
) -> Evaluation:
    """Judge the bundle and its rival on the same holdout."""
    return evaluation.evaluate(
        package,
        divided(split),
        gate=rule,
        champion_digest=rival(home, package.loop, package.digest),
        load=loader(home),
        seed=seed,
        progress=progress,
    )


def gate(evaluate: Evaluation, *, rule: Gate, home: Home) -> Verdict:
    """The verdict; this use of the holdout is counted, once per bundle."""
    bundle = evaluate.bundle
    uses = Deployments(home).holdout_use(bundle.loop, evaluate.holdout_id, bundle.digest)
    return gating.gate(evaluate, rule=rule, uses=uses)


def release(
    gate: Verdict,
    train: Candidate,
    evaluate: Evaluation,
    *,
    strategy: Any,
    seed: int,
    loop: str,
    home: Home,
    run: str,
    clock: Clock,
    mlflow: str | None = None,
) -> Release:
    """Register the version and give it its traffic; what MLflow is told of it is written in the same transaction."""
    deployments, registry, now = Deployments(home), Registry(home, mlflow), clock()
    markdown, html = evaluate.card, card_page.card_html(evaluate)
    with deployments.transaction():
        mark_trained(home, loop, now)
        registry.enqueue("run", f"run:{run}", _run_told(home, run, loop, gate, train, markdown))
        released = releasing.release(
            gate, strategy=strategy, seed=seed, loop=loop, home=home, run=run, now=now, announce=announcer(registry)
        )
    _write_cards(home, released, markdown, html)
    return released


def card_paths(home: Home, loop: str, version: int) -> tuple[Path, Path]:
    """Where the model card of a version lies, as Markdown and as HTML."""
    folder = home.path / "cards"
    return folder / f"{loop}@{version}.md", folder / f"{loop}@{version}.html"


def _write_cards(home: Home, released: Release, markdown: str, html: str) -> None:
    paths = card_paths(home, released.loop, released.version)
    paths[0].parent.mkdir(exist_ok=True)
    for path, text in zip(paths, (markdown, html), strict=True):
        durable.write(path, text.encode())
    Bundles(home).add_card(released.bundle.digest, html.encode())


def _run_told(home: Home, run: str, loop: str, gate: Verdict, train: Candidate, card: str) -> dict[str, Any]:
    """The run as MLflow shows it: what was tried, what came of it, in real time."""
    trials = [{name: getattr(trial, name) for name in _TRIAL} for trial in train.trials]
    return {
        "loop": loop,
        "run": run,
        "started": Journal(home).run(run).created.isoformat(),
        "ended": datetime.now(UTC).isoformat(),
        "params": {"estimator": train.estimator, "train_rows": train.train_rows, **train.parameters},
        "metrics": dict(gate.metrics),
        "tags": {
            "mainspring.verdict": gate.decision,
            "mainspring.bundle": gate.bundle.digest,
            "mainspring.dataset_version": train.dataset_version,
        },
        "trials": [{**trial, "parameters": dict(trial["parameters"])} for trial in trials],
        "artifacts": {"model_card.md": card},
    }
