"""The engine: runs what is stale in a graph, keeps what it gives, and can be killed at any point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any

from mainspring.core.errors import MainspringError
from mainspring.execution.freshness import CodeOf, Freshness
from mainspring.execution.outcome import Event, Outcome, Outputs, Report, StepResult
from mainspring.execution.turn import Turn
from mainspring.pipeline.fingerprint import digest
from mainspring.pipeline.graph import Graph, Selection
from mainspring.store.catalog import Catalog
from mainspring.store.home import Home
from mainspring.store.journal import Claim, Journal, RunStatus

__all__ = ["Event", "Outcome", "Outputs", "StepResult", "execute"]


def execute(
    graph: Graph,
    *,
    home: Home,
    pipeline: str,
    services: Mapping[str, Any] | None = None,
    parameters: Mapping[str, Any] | None = None,
    selection: Selection = Selection(),  # noqa: B008  frozen
    code: CodeOf | None = None,
    report: Report | None = None,
    executor: Executor | None = None,
    conclude: Callable[[Mapping[str, Any]], RunStatus] | None = None,
) -> Outcome:
    """Run what is stale in *graph*; a run of the same that was interrupted is gone on with.

    services: what steps may ask for by name; the engine adds home, run (the id) and progress. code: a step's code for
    its fingerprint, `Codes()` unless told. executor: where steps run; unless told a lone step runs in this thread and
    branches in a few others. conclude: the status of a run without failures, from its outputs ("done" unless told).
    A step's error is in the outcome; KeyboardInterrupt marks the run interrupted and goes on to the caller.
    """
    chosen = graph.select(selection)
    journal, catalog = Journal(home), Catalog(home)
    freshness = Freshness(graph, journal, catalog, pipeline, parameters or {}, selection.force, code)
    catalog.files.sweep()
    asked, part = _asked(parameters or {}, catalog), selection.to_json()
    claim = journal.resume(pipeline, asked, part) or journal.begin(pipeline, asked, part)
    given = {**(services or {}), "home": home, "run": claim.run}
    turn = Turn(graph, chosen, journal, catalog, freshness, claim, given, report or _silent, executor)
    turn.tell("resumed" if claim.resumed else "begun")
    try:
        outcome = _run(turn, journal, claim, conclude)
    finally:
        turn.close()
        journal.release(claim)
    return outcome


def _run(
    turn: Turn, journal: Journal, claim: Claim, conclude: Callable[[Mapping[str, Any]], RunStatus] | None
) -> Outcome:
    try:
        turn.run()
    except KeyboardInterrupt:
        turn.drain()
        journal.end(claim, "interrupted", "interrupted from the keyboard")
        raise
    outputs = turn.outputs()
    status: RunStatus = "done"
    if turn.error is not None:
        status = "failed"
    elif turn.cancelled:
        status = "cancelled"
    elif conclude is not None:
        status = conclude(outputs)
    error = turn.error if status == "failed" else None
    journal.end(claim, status, None if error is None else _words(error))
    return Outcome(claim.run, status, outputs, turn.results(), error, claim.resumed)


def _asked(parameters: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """The run parameters for the journal: plain values as they are, others by digest."""
    plain = (bool, int, float, str, type(None))
    return {
        name: value if isinstance(value, plain) else {"digest": digest(value, other=catalog.digest)}
        for name, value in parameters.items()
    }


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, MainspringError) else f"{type(error).__name__}: {error}"


def _silent(event: Event) -> None:
    """Nobody listens."""
