"""A loop's declaration as a graph of stages: one turn, from ingest to release."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter
from typing import Any, Literal

from mainspring.core.declarations import Declaration, Privacy
from mainspring.core.values import Release, Verdict
from mainspring.pipeline.step import Step, as_step
from mainspring.store.deployments import DECLARED as DECLARED
from mainspring.store.deployments import ONSET, Deployments
from mainspring.store.home import Home

STAGES = ("ingest", "validate", "prepare", "split", "train", "package", "evaluate", "gate", "release")


def declare(home: Home, declaration: Declaration) -> None:
    """Keep what the commands that know only the loop's name must know: how it is watched, and FILE's folder."""
    rules = {name: getattr(declaration.monitor, name) for name in ("every", "label_delay", "arl", "tolerance")}
    retrain = None if declaration.retrain is None else asdict(declaration.retrain)
    roles = {name: getattr(declaration.roles, name) for name in ("target", "key", "time", "subject")}
    strategy = declaration.release
    released = {"kind": type(strategy).__name__, "arguments": asdict(strategy), "seed": declaration.seed}
    told = {
        "monitor": rules, "retrain": retrain, "folder": declaration.folder, "roles": roles, "release": released,
    }  # fmt: skip
    if declaration.privacy is not None:
        told["privacy"] = {"rules": declaration.privacy.rules, "retention": declaration.privacy.retention}
    Deployments(home).save_state(declaration.name, DECLARED, told)


def steps(declaration: Declaration) -> tuple[Step, ...]:
    """The stages of *declaration* in their order, with the user's own steps in place of or after ours."""
    own = [as_step(step) for step in declaration.steps]
    replaced = {step.name: step for step in own}
    stages = [replaced.get(stage.name, stage) for stage in _stages(declaration)]
    return (*stages, *(step for step in own if step.name not in STAGES))


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """What the ingest step's fingerprint knows of the world: where source and labelled records stand."""

    source: Any
    loop: str
    home: Home
    privacy: Privacy | None = None

    def __call__(self, outputs: Mapping[str, Any]) -> Any:
        return call("mainspring.data.ingest:position", self.source, self.home, self.loop, self.privacy)


@dataclass(frozen=True, slots=True)
class Rival:
    """Whom the gate judges a bundle against: part of the evaluation's fingerprint, for the champion changes outside."""

    home: Home

    def __call__(self, outputs: Mapping[str, Any]) -> Any:
        bundle = outputs["package"]
        return {"champion": call("mainspring.loop.champion:rival", self.home, bundle.loop, bundle.digest)}


@dataclass(frozen=True, slots=True)
class Worse:
    """Since when the champion's predictions are worse, as the reports have found it: the split is made by it."""

    home: Home
    loop: str

    def __call__(self, outputs: Mapping[str, Any]) -> Any:
        return {"onset": Deployments(self.home).load_state(self.loop, ONSET)}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a turn came to. held: the gate kept the candidate back; model: "name@version", None without a release."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    model: str | None = None
    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()
    held: bool = False


def summarise(outputs: Mapping[str, Any]) -> Summary:
    """The sum of a turn's *outputs*; of a part of a turn, what is there."""
    verdict, release = (outputs[name] if name in outputs else None for name in ("gate", "release"))  # noqa: SIM401
    if not isinstance(verdict, Verdict):
        return Summary()
    if not isinstance(release, Release):
        return Summary(verdict.metrics, None, verdict, verdict.reasons, verdict.next == "hold")
    name = f"{release.loop}@{release.version}"
    held = release.state == "held" or verdict.decision == "hold"  # of the champion too, such as by a new floor
    return Summary(verdict.metrics, name, verdict, release.reasons, held)


def conclude(outputs: Mapping[str, Any]) -> Literal["done", "held"]:
    """The status of a turn without failures."""
    return "held" if summarise(outputs).held else "done"


def call(reference: str, *arguments: Any, **keywords: Any) -> Any:
    """Call "module:function" or "module:Class.function"; the module, and the big libraries it needs, load only now."""
    module, _, name = reference.partition(":")
    return attrgetter(name)(importlib.import_module(module))(*arguments, **keywords)


def bind(stages: tuple[Step, ...], declaration: Declaration, home: Home) -> tuple[Step, ...]:
    """*stages* with what their fingerprints must know of *home* and of the source."""
    watched: dict[str, Any] = {"split": Worse(home, declaration.name), "evaluate": Rival(home)}
    if declaration.data_version is None:
        watched["ingest"] = SourcePosition(declaration.source, declaration.name, home, declaration.privacy)
    ours = {stage.name: stage.function for stage in _stages(declaration)}
    if Deployments(home).load_state(declaration.name, ONSET) is not None:
        stages = tuple(_trying(step, declaration) if step.function == ours["split"] else step for step in stages)
    return tuple(
        step.with_state(watched[step.name]) if step.name in watched and step.function == ours[step.name] else step
        for step in stages
    )


def _trying(split: Step, declaration: Declaration) -> Step:
    """After a decay the split step tries on which rows the models are better: only then it depends on them."""
    told = {"features": declaration.features, "models": declaration.models, "metric": declaration.gate.metric}
    return replace(split, parameters={**split.parameters, **told, "clean": declaration.clean})


def _columns(declaration: Declaration) -> dict[str, str]:
    """The columns that later stages and the release will ask for: where they are named -> the column."""
    slices = {f"Gate(slices=[...]) entry {number}": name for number, name in enumerate(declaration.gate.slices)}
    shadowed = getattr(declaration.release, "slices", None) or ()
    slices |= {f"Shadow(slices=[...]) entry {number}": name for number, name in enumerate(shadowed)}
    return slices if declaration.unit is None else {**slices, "unit=": declaration.unit}


def _counted(declaration: Declaration) -> tuple[str, ...]:
    """What the release counts, which the task must be able to tell."""
    strategy = declaration.release
    outcome, then = getattr(strategy, "outcome", None), getattr(strategy, "then", None) or strategy
    return (*getattr(then, "guardrails", ()), *([] if outcome is None else [outcome]))


def _stages(declaration: Declaration) -> list[Step]:
    metric, retrain = declaration.gate.metric, declaration.retrain
    name, roles, seed = declaration.name, declaration.roles, declaration.seed

    pinned = {} if declaration.data_version is None else {"version": declaration.data_version}
    private = {} if declaration.privacy is None else {"privacy": declaration.privacy}

    def stage(name: str, function: str, inputs: tuple[str, ...], services: tuple[str, ...], **parameters: Any) -> Step:
        return Step(name, function, inputs=inputs, parameters=parameters, services=services, effects=name == "release")

    return [
        stage("ingest", "mainspring.data.ingest:ingest", (), ("home", "progress", "run"),
              source=declaration.source, roles=roles, loop=name, max_bad=declaration.max_bad, **pinned, **private),
        stage("validate", "mainspring.data.validate:validate", ("ingest",), ("home",), roles=roles),
        stage("prepare", "mainspring.loop.stages:prepare", ("validate",), ("home",),
              roles=roles, features=declaration.features, task=declaration.task,
              window=None if retrain is None else retrain.window,
              clean=declaration.clean, columns=_columns(declaration),
              counted=_counted(declaration), metric=metric,
              floor=declaration.gate.at_least, **private),
        stage("split", "mainspring.loop.stages:split", ("prepare",), ("home",),
              rule=declaration.split, seed=seed, loop=name),
        stage("train", "mainspring.loop.stages:train", ("split",), ("progress",),
              features=declaration.features, models=declaration.models, search=declaration.search, metric=metric,
              rule=declaration.split, seed=seed, clean=declaration.clean),
        stage("package", "mainspring.loop.stages:package", ("train",), ("home", "progress"),
              features=declaration.features, unit=declaration.unit, loop=name),
        stage("evaluate", "mainspring.loop.stages:evaluate", ("package", "split"), ("home", "progress"),
              rule=declaration.gate, seed=seed),
        stage("gate", "mainspring.loop.stages:gate", ("evaluate",), ("home",), rule=declaration.gate),
        stage("release", "mainspring.loop.stages:release", ("gate", "train", "evaluate"),
              ("home", "run", "clock", "mlflow"), strategy=declaration.release, seed=seed, loop=name),
    ]  # fmt: skip
