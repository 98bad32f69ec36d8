"""A declaration is run: where and how, what the run did, and what stays to be told to MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from mainspring.app import config
from mainspring.core.declarations import Declaration
from mainspring.core.errors import DeclarationError
from mainspring.core.protocols import Clock
from mainspring.core.values import Verdict
from mainspring.execution import engine, executors, planning
from mainspring.execution.planning import PlannedStep
from mainspring.loop import turn
from mainspring.pipeline.graph import Graph, Selection
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.journal import RunStatus
from mainspring.store.ledger import Durability
from mainspring.store.registry import Registry

Report = Callable[[Any], None]
SERVER_SECONDS, OWN_SECONDS = 10.0, 60.0
"""How long a run waits until MLflow has been told everything: a server that doesn't answer, the home's own database."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run did. outputs: step name -> value, read when asked for; model: "name@version" or None."""

    id: str
    status: RunStatus
    outputs: Mapping[str, Any] = field(repr=False)
    metrics: Mapping[str, float]
    model: str | None
    verdict: Verdict | None = field(repr=False)
    reasons: tuple[str, ...]
    steps: tuple[Any, ...] = field(default=(), repr=False)
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where and how something runs, as opposed to what: never part of a fingerprint.

    executor: where steps run, by name or a standard Executor; None: in this process. load: what another process calls
    before its first step, so that it knows the modules of this one.
    """

    home: Home
    mlflow: str | None = None
    clock: Clock = lambda: datetime.now(UTC)
    report: Report | None = None
    selection: Selection = field(default_factory=Selection)
    executor: str | Executor | None = None
    durability: Durability = "durable"
    load: tuple[str, str] | None = None

    @classmethod
    def of(cls, home: Home | Path | str | None, **changes: Any) -> Surroundings:
        """The surroundings that the settings of the current folder describe; *home* overrides its home."""
        if isinstance(home, Home):
            settings = config.read(home=home.path)
        else:
            settings = config.read(home=home)
            home = Home.open(settings.home)
        given = {name: value for name, value in changes.items() if value is not None}
        told = {"executor": settings.executor, "durability": settings.durability, **given}
        if told["durability"] not in get_args(Durability):
            raise DeclarationError(f"durability={told['durability']!r} is unknown; choose durable or fast")
        return replace(cls(home, mlflow=settings.mlflow, clock=Deployments(home).now), **told)


def pipeline(graph: Graph, name: str, where: Surroundings, parameters: Mapping[str, Any]) -> Run:
    """Run the steps of a Pipeline in these surroundings; their errors are in the Run."""
    outcome = _execute(graph, name, where, parameters, None)
    metrics = outcome.outputs.numbers()
    reasons, steps = _reasons(outcome), tuple(outcome.steps)
    return Run(outcome.run_id, outcome.status, outcome.outputs, metrics, None, None, reasons, steps, outcome.error)


def loop(declaration: Declaration, where: Surroundings, parameters: Mapping[str, Any]) -> Run:
    """One turn of a Loop in these surroundings; the stages' errors are in the Run."""
    turn.declare(where.home, declaration)
    registry = Registry(where.home, where.mlflow)
    told = replace(where, report=_warming(registry, where.report))
    graph = stages(declaration, where)
    outcome = _execute(graph, declaration.name, told, parameters, turn.conclude)
    summary = turn.summarise(outcome.outputs)
    untold = registry.drain(SERVER_SECONDS if where.mlflow else OWN_SECONDS)
    return Run(
        outcome.run_id,
        outcome.status,
        outcome.outputs,
        summary.metrics,
        summary.model,
        summary.verdict,
        (*summary.reasons, *_reasons(outcome), *_untold(registry, untold)),
        tuple(outcome.steps),
        outcome.error,
    )


def stages(declaration: Declaration, where: Surroundings) -> Graph:
    """The stages of a Loop as they run there."""
    return Graph(turn.bind(turn.steps(declaration), declaration, where.home))


def foresee(graph: Graph, name: str, where: Surroundings, parameters: Mapping[str, Any]) -> list[PlannedStep]:
    """What would run there, and why."""
    return planning.plan(graph, home=where.home, pipeline=name, parameters=parameters, selection=where.selection)


def _execute(
    graph: Graph, name: str, where: Surroundings, parameters: Mapping[str, Any], conclude: Any
) -> engine.Outcome:
    with executors.opened(where.executor) as executor:
        executors.warmed(executor, where.load, processes=2 if graph.wide else 1)
        return engine.execute(
            graph,
            home=where.home,
            pipeline=name,
            services={"clock": where.clock, "mlflow": where.mlflow},
            parameters=parameters,
            selection=where.selection,
            report=where.report,
            executor=executor,
            load=where.load,
            durability=where.durability,
            conclude=conclude,
        )


def _warming(registry: Registry, report: Report | None) -> Report:
    """MLflow takes seconds to import: that is over before training, which uses every core, as the stages before it use
    one; where training is older than this run, package begins it."""
    warmed = False

    def tell(event: Any) -> None:
        nonlocal warmed
        if event.kind == "started" and event.step in ("prepare", "package") and not warmed:
            warmed = True
            registry.warm()
        if report is not None:
            report(event)

    return tell


def raised(run: Run) -> Run:
    if run.error is not None:
        raise run.error
    return run


def _reasons(outcome: engine.Outcome) -> tuple[str, ...]:
    return tuple(f"{step.name}: {step.reason}" for step in outcome.steps if step.state == "skipped")


def _untold(registry: Registry, pending: int) -> tuple[str, ...]:
    if not pending:
        return ()
    why = registry.pending()[0].error or "it doesn't answer"
    return (f"MLflow at {registry.tracking_uri} wasn't told all ({pending} pending: {why}); the next run tries again",)
