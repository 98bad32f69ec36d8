"""The engine: runs what is stale in a graph, keeps what it gives, and can be killed at any point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from mainspring.core.errors import MainspringError
from mainspring.execution import logs
from mainspring.execution.crew import Crew
from mainspring.execution.elsewhere import Setup
from mainspring.execution.freshness import CodeOf, Freshness
from mainspring.execution.outcome import Event, Outcome, Outputs, Report, StepResult
from mainspring.execution.walk import Walk
from mainspring.execution.work import Bench
from mainspring.pipeline import altered
from mainspring.pipeline.fingerprint import digest
from mainspring.pipeline.graph import Graph, Selection
from mainspring.store.catalog import Catalog
from mainspring.store.home import Home
from mainspring.store.journal import Claim, Journal, RunStatus
from mainspring.store.ledger import Durability, Ledger

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
    load: tuple[str, str] | None = None,
    durability: Durability = "durable",
    conclude: Callable[[Mapping[str, Any]], RunStatus] | None = None,
) -> Outcome:
    """Run what is stale in *graph*; a run of the same that was interrupted is gone on with.

    services: what steps may ask for by name; the engine adds home, run (the id) and progress. code: a step's code for
    its fingerprint, `Codes()` unless told. executor: where steps run; unless told a lone step runs in this thread,
    branches in a few others, and steps with a timeout or a memory limit in worker processes. load: what another
    process calls before its first step, ("module:function", argument). durability: "durable" survives a loss of power,
    "fast" the death of the process. conclude: the status of a run without failures, from its outputs ("done" unless
    told). A step's error is in the outcome. The first Ctrl-C lets what is at work end, the second doesn't; both leave
    the run interrupted and go on to the caller as KeyboardInterrupt.
    """
    chosen = graph.select(selection)
    journal, catalog = Journal(home), Catalog(home)
    freshness = Freshness(graph, journal, catalog, pipeline, parameters or {}, selection.force, code)
    catalog.files.sweep()
    asked, part = _asked(parameters or {}, catalog), selection.to_json()
    file = "" if load is None else load[1]
    claim = journal.resume(pipeline, asked, part, file) or journal.begin(pipeline, asked, part, file)
    ledger = Ledger(home, claim, durability)
    given = {**(services or {}), "home": home, "run": claim.run}
    bench = Bench(catalog, lambda *told: walk.said_here(*told))
    walk = Walk(graph, chosen, home, journal, claim, ledger, freshness, bench, given, report)
    crew = Crew(bench, executor, Setup.here(home, load), walk.said, walk.printed, wide=graph.wide)
    walk.tell("resumed" if claim.resumed else "begun")
    try:
        with logs.watching(), _draining(walk):
            freshness.follow(chosen)
            return _run(walk, crew, journal, claim, conclude)
    finally:
        crew.close()
        ledger.close()
        altered.settle()
        journal.release(claim)


def _run(
    walk: Walk,
    crew: Crew,
    journal: Journal,
    claim: Claim,
    conclude: Callable[[Mapping[str, Any]], RunStatus] | None,
) -> Outcome:
    try:
        walk.run(crew)
        if walk.stopping:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        walk.stopping = walk.cancelled = True  # the latter stops steps that go on in threads of this process
        crew.dismiss(abandon=True)
        walk.drain(crew)
        journal.end(claim, "interrupted", "interrupted from the keyboard")
        raise
    outputs = walk.outputs()
    status: RunStatus = "done"
    if walk.error is not None:
        status = "failed"
    elif walk.cancelled:
        status = "cancelled"
    elif conclude is not None:
        status = conclude(outputs)
    error = walk.error if status == "failed" else None
    journal.end(claim, status, None if error is None else _words(error))
    return Outcome(claim.run, status, outputs, walk.results(), error, claim.resumed)


@contextmanager
def _draining(walk: Walk) -> Iterator[None]:
    """In the block the first Ctrl-C only asks the run to stop; a second one acts as ever."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def ask(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        walk.stopping = True  # nothing else: a signal comes in the middle of anything

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _asked(parameters: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """The run parameters for the journal: plain values as they are, others by digest."""
    plain = (bool, int, float, str, type(None))
    return {
        name: value if isinstance(value, plain) else {"digest": digest(value, other=catalog.digest)}
        for name, value in parameters.items()
    }


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, MainspringError) else f"{type(error).__name__}: {error}"
