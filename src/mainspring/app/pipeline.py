"""Pipeline: a declaration of steps. What runs it loads only then: a worker process declares and never runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mainspring.core.errors import DeclarationError
from mainspring.core.quantities import NAME
from mainspring.pipeline.graph import Graph
from mainspring.pipeline.step import Step, as_step

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    from mainspring.app.running import Run, Surroundings
    from mainspring.execution.planning import PlannedStep
    from mainspring.store.home import Home
    from mainspring.store.ledger import Durability


class Pipeline:
    """Steps that are plain functions: a step's name is its output, its parameters are its inputs.

    >>> def rows() -> list[int]:
    ...     return [1, 2, 3]
    >>> def total(rows: list[int], times: int = 1) -> int:
    ...     return sum(rows) * times
    >>> Pipeline("sums", [rows, total]).graph.names
    ('rows', 'total')
    """

    def __init__(self, name: str, steps: Sequence[Any]) -> None:
        if not NAME.fullmatch(name):
            raise DeclarationError(f"Pipeline name {name!r} must match {NAME.pattern}")
        self.name = name
        self.steps: tuple[Step, ...] = tuple(as_step(step) for step in steps)
        self.graph = Graph(self.steps)

    def run(
        self,
        *,
        home: Home | Path | str | None = None,
        executor: str | Executor | None = None,
        durability: Durability | None = None,
        **parameters: Any,
    ) -> Run:
        """Run what is stale; *parameters* are run parameters of the steps, by name. An error of a step is raised.

        executor: where steps run: "here" (this process, unless the settings say otherwise), "local", "process", "ray"
        or a standard Executor. durability: "durable" or "fast".
        """
        from mainspring.app import running  # here and below: a worker process, which only declares, needn't load it

        where = running.Surroundings.of(home, executor=executor, durability=durability)
        return running.raised(self.start(where, parameters))

    def plan(self, *, home: Home | Path | str | None = None, **parameters: Any) -> list[PlannedStep]:
        """What would run, and why, without running it."""
        from mainspring.app import running

        return self.foresee(running.Surroundings.of(home), parameters)

    def start(self, where: Surroundings, parameters: Mapping[str, Any]) -> Run:
        """Run in these surroundings; the steps' errors are in the Run."""
        from mainspring.app import running

        return running.pipeline(self.graph, self.name, where, parameters)

    def graph_in(self, where: Surroundings) -> Graph:
        """The steps as they run there."""
        return self.graph

    def foresee(self, where: Surroundings, parameters: Mapping[str, Any]) -> list[PlannedStep]:
        from mainspring.app import running

        return running.foresee(self.graph, self.name, where, parameters)
