"""A run in which nothing is stale, as it would be kept: each step with its fingerprint and kept output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mainspring.core.errors import MainspringError
from mainspring.execution.code import Codes
from mainspring.execution.freshness import Freshness
from mainspring.execution.outcome import Outputs
from mainspring.pipeline.codebase import Codebase
from mainspring.pipeline.fingerprint import Parts
from mainspring.pipeline.graph import Graph
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.home import Home
from mainspring.store.journal import Hit, Journal


@dataclass(frozen=True, slots=True)
class KeptStep:
    """A step that needn't run. widened: where its code couldn't be followed."""

    name: str
    parts: Parts
    hit: Hit
    widened: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """All steps of a pipeline, none of which needs to run, and the code that was looked at to tell."""

    steps: tuple[KeptStep, ...]
    codebase: Codebase


def unchanged(graph: Graph, *, home: Home, pipeline: str, parameters: Mapping[str, Any]) -> Kept | None:
    """Every step of *graph* with its kept output; None when one of them would run, or only running can tell."""
    journal, catalog, codes = Journal(home), Catalog(home), Codes()
    freshness = Freshness(graph, journal, catalog, pipeline, parameters, (), codes)
    known: dict[str, Artifact] = {}
    steps = []
    for node in graph.nodes.values():
        if not node.step.cache or node.step.when is not None:
            return None
        outputs = Outputs(catalog, known, {})
        try:
            parts = freshness.parts(node, {name: known[name] for name in node.waits}, outputs)
        except MainspringError:
            return None
        hit, _ = freshness.hit(node, parts, None)
        if hit is None:
            return None
        known[node.name] = hit.output
        steps.append(KeptStep(node.name, parts, hit, freshness.widened(node)))
    return Kept(tuple(steps), codes.project)
