"""A pipeline in a unit test: its steps as plain calls in memory, and what a run would do."""

from __future__ import annotations

import random
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

from mainspring.core.errors import UsageError
from mainspring.execution.planning import PlannedStep, plan
from mainspring.execution.work import resolve
from mainspring.pipeline.graph import Graph, Node, nearest
from mainspring.store.home import Home

STALE = ("run", "maybe")


class Declared(Protocol):
    """What `mainspring.Pipeline` is."""

    name: str
    graph: Graph


def run(pipeline: Declared, /, until: str | None = None, **values: Any) -> dict[str, Any]:
    """The outputs of *pipeline*'s steps, by name, called in this process: no home, no cache, nothing written.

    values: by name a step's output (it then isn't called), a run parameter, or a service that a step asks for, such as
    `home`. until: stop after this step. A step whose condition doesn't hold has no output, nor have those behind it.
    An error comes as the step raised it; a step with `retries` is tried again without waiting.

    >>> import mainspring as ms
    >>> def rows() -> list[int]:
    ...     raise ConnectionError("no database in a unit test")
    >>> def total(rows: list[int], times: int = 1) -> int:
    ...     return sum(rows) * times
    >>> run(ms.Pipeline("sums", [rows, total]), rows=[1, 2], times=5)["total"]
    15
    """
    graph = _graph(pipeline)
    wanted = graph.upstream(_step(graph, until)) if until is not None else frozenset(graph.names)
    _check(graph, values)
    outputs: dict[str, Any] = {}
    needed = _needed(graph, wanted, values)
    for node in graph.nodes.values():
        if node.name in values:
            outputs[node.name] = values[node.name]
        elif node.name in needed and all(name in outputs for name in node.waits) and _holds(node, outputs):
            outputs[node.name] = _called(node, outputs, values)
    return outputs


def would_run(pipeline: Declared, /, *, home: Home | Path | str, **parameters: Any) -> dict[str, str]:
    """The steps that a run in *home* would run, or may have to, each with the reason."""
    return {
        step.name: "; ".join(map(str, step.reasons))
        for step in _plan(pipeline, home, parameters)
        if step.state in STALE
    }


def assert_runs(pipeline: Declared, steps: Collection[str], /, *, home: Home | Path | str, **parameters: Any) -> None:
    """Raise AssertionError, with the reasons, unless *steps* and no others would run in *home*.

    A step behind stale ones, which runs unless they give what they gave before, may be named or left out.
    """
    graph, found = _graph(pipeline), {step.name: step for step in _plan(pipeline, home, parameters)}
    for name in steps:
        _step(graph, name)
    more = [
        f"{name} would run ({'; '.join(map(str, step.reasons))})"
        for name, step in found.items()
        if step.state == "run" and name not in steps
    ]
    less = [f"{name} would not run" for name in graph.names if name in steps and found[name].state not in STALE]
    if more or less:
        raise AssertionError("; ".join([*more, *less]))


def _plan(pipeline: Declared, home: Home | Path | str, parameters: Mapping[str, Any]) -> list[PlannedStep]:
    opened = home if isinstance(home, Home) else Home.open(Path(home))
    return plan(_graph(pipeline), home=opened, pipeline=pipeline.name, parameters=parameters)


def _graph(pipeline: Any) -> Graph:
    graph = getattr(pipeline, "graph", None)
    if not isinstance(graph, Graph):
        raise UsageError(
            f"{pipeline!r} is no Pipeline; a Loop trains and releases, which needs a home: loop.run(home=tmp_path)"
        )
    return graph


def _check(graph: Graph, values: Mapping[str, Any]) -> None:
    services = {name for node in graph.nodes.values() for name in node.step.services}
    known = (*graph.names, *graph.parameters, *services)
    for name in values:
        if name not in known:
            raise UsageError(f"no step, run parameter or service {name!r}{nearest(name, known)}; there are "
                             f"{', '.join(known)}")  # fmt: skip


def _step(graph: Graph, name: str) -> str:
    if name not in graph.nodes:
        raise UsageError(f"no step {name!r}{nearest(name, graph.names)}; the steps are {', '.join(graph.names)}")
    return name


def _needed(graph: Graph, wanted: frozenset[str], values: Mapping[str, Any]) -> set[str]:
    """The steps to call: what is wanted, and behind it only what isn't given."""
    needed: set[str] = set()
    ahead = [name for name in wanted if not wanted.intersection(graph.dependants[name])]
    while ahead:
        name = ahead.pop()
        if name not in needed and name not in values:
            needed.add(name)
            ahead.extend(graph.nodes[name].waits)
    return needed


def _holds(node: Node, outputs: Mapping[str, Any]) -> bool:
    return node.step.when is None or node.step.when.refuses(outputs) is None


def _called(node: Node, outputs: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    step = node.step
    arguments = {**step.parameters, **node.parameters, **{name: outputs[name] for name in node.inputs}}
    arguments |= {name: values[name] for name in node.parameters if name in values}
    arguments |= {name: _service(step.name, name, values) for name in step.services}
    if node.element is None:
        return _tried(node, arguments)
    listed = step.each[node.element]
    elements = outputs.get(listed, arguments.get(listed)) if isinstance(listed, str) else listed
    return [_tried(node, {**arguments, node.element: element}) for element in elements or ()]


def _service(step: str, name: str, values: Mapping[str, Any]) -> Any:
    if name in values:
        return values[name]
    if name == "progress":
        return lambda what, done=0, of=0: None
    if name == "run":
        return "in-memory"
    raise UsageError(f"step {step!r} asks for the service {name!r}; give one: run(pipeline, {name}=...)")


def _tried(node: Node, arguments: Mapping[str, Any]) -> Any:
    for attempt in range(node.step.retries + 1):
        _sow(node.step.seed)
        try:
            return resolve(node.step.function)(**arguments)
        except Exception:
            if attempt == node.step.retries:
                raise
    raise AssertionError("unreachable")


def _sow(seed: int | None) -> None:
    if seed is None:
        return
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
