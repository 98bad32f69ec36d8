"""The plan: which steps would run and why, told without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mainspring.core import collector
from mainspring.core.errors import MainspringError
from mainspring.execution.freshness import CodeOf, Freshness
from mainspring.execution.outcome import Outputs
from mainspring.pipeline.fingerprint import Reason
from mainspring.pipeline.graph import Graph, Node, Selection
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.home import Home
from mainspring.store.journal import Journal

PlanState = Literal["cached", "run", "maybe", "skip"]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What would become of a step.

    maybe: it runs unless the stale steps before it give what they gave before; skip: its condition doesn't hold.
    seconds: how long it took last time; None when unknown or cached. widened: where its code couldn't be followed, so
    that more counts than may be needed."""

    name: str
    state: PlanState
    reasons: tuple[Reason, ...]
    seconds: float | None
    widened: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        reasons = [reason.to_json() for reason in self.reasons]
        told = {"name": self.name, "state": self.state, "reasons": reasons, "seconds": self.seconds}
        return {**told, "widened": list(self.widened)} if self.widened else told


def plan(
    graph: Graph,
    *,
    home: Home,
    pipeline: str,
    parameters: Mapping[str, Any] | None = None,
    selection: Selection = Selection(),  # noqa: B008  frozen
    code: CodeOf | None = None,
) -> list[PlannedStep]:
    """What a run of *pipeline* would do now, step by step; steps that aren't selected are left out."""
    journal, catalog = Journal(home), Catalog(home)
    chosen = graph.select(selection)
    freshness = Freshness(graph, journal, catalog, pipeline, parameters or {}, selection.force, code)
    expected = journal.expected_seconds(pipeline)
    ahead = _Ahead(freshness, catalog, {}, set())
    planned = []
    with collector.paused():
        for node in graph.nodes.values():
            if node.name not in chosen:
                ahead.take(node)
                continue
            state, reasons = ahead.judge(node)
            seconds = expected.get(node.name) if state in ("run", "maybe") else None
            widened = () if state == "skip" else _widened(freshness, node)
            planned.append(PlannedStep(node.name, state, tuple(reasons), seconds, widened))
    return planned


def _widened(freshness: Freshness, node: Node) -> tuple[str, ...]:
    try:
        return freshness.widened(node)
    except MainspringError:  # the reason of the step says it already
        return ()


@dataclass(slots=True)
class _Ahead:
    """What is known of the outputs while the plan walks down the graph."""

    freshness: Freshness
    catalog: Catalog
    known: dict[str, Artifact]
    skipped: set[str]

    def take(self, node: Node) -> None:
        """A step that isn't selected counts as it last was."""
        record = self.freshness.latest.get(node.name)
        if record is not None and record.output is not None:
            self.known[node.name] = record.output

    def judge(self, node: Node) -> tuple[PlanState, list[Reason]]:
        """The state of *node*; its output is known from here on when it is cached."""
        without = next((name for name in node.waits if name in self.skipped), None)
        if without is not None:
            return self._skip(node, f"{without} is skipped")
        unknown = [name for name in node.waits if name not in self.known]
        if unknown:
            return self._behind(node, unknown)
        try:
            return self._ready(node)
        except MainspringError as error:
            return "run", [Reason("unknown", new=str(error))]

    def _ready(self, node: Node) -> tuple[PlanState, list[Reason]]:
        """A step whose inputs are all known."""
        outputs = Outputs(self.catalog, self.known, {})
        refused = node.step.when.refuses(outputs) if node.step.when else None
        if refused is not None:
            return self._skip(node, refused)
        inputs = {name: self.known[name] for name in node.waits if taken(node, name)}
        parts = self.freshness.parts(node, inputs, outputs)
        hit, reasons = self.freshness.hit(node, parts, None)
        if hit is None:
            return "run", reasons
        self.known[node.name] = hit.output
        return "cached", []

    def _skip(self, node: Node, reason: str) -> tuple[PlanState, list[Reason]]:
        self.skipped.add(node.name)
        return "skip", [Reason("condition", new=reason)]

    def _behind(self, node: Node, unknown: list[str]) -> tuple[PlanState, list[Reason]]:
        """A step behind stale ones surely runs when something of its own has changed, and no condition is asked; else
        perhaps."""
        upstream = [Reason("upstream", name) for name in unknown]
        state, reasons = self._by_itself(node, upstream)
        if state == "run" and node.step.when:
            return "maybe", [*reasons, *upstream]
        return state, reasons

    def _by_itself(self, node: Node, upstream: list[Reason]) -> tuple[PlanState, list[Reason]]:
        before = self.freshness.before(node)
        if before is None:
            return "run", [Reason("new")]
        if node.name in self.freshness.force:
            return "run", [Reason("forced")]
        if not node.step.cache:
            return "run", [Reason("uncached")]
        try:
            own = self.freshness.reasons(node, self.freshness.own_parts(node, before))
        except MainspringError as error:
            return "run", [Reason("unknown", new=str(error))]
        changed = [reason for reason in own if reason.kind != "lost"]
        return ("run", changed) if changed else ("maybe", upstream)


def taken(node: Node, name: str) -> bool:
    """Whether *node* uses the value of *name*, beyond asking it for its condition."""
    return name in node.inputs or name in node.step.each.values()
