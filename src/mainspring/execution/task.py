"""A task: one call of a step's function. A fan-out: the tasks of one step, and their outputs in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mainspring.core.errors import StepFailed
from mainspring.core.wording import brief
from mainspring.pipeline.fingerprint import Parts
from mainspring.pipeline.graph import Node
from mainspring.store.catalog import Artifact


@dataclass(slots=True, eq=False)
class Task:
    """The whole step, or one *element* of its fan-out. attempt: the tries so far, the one at work included; since: how
    many steps had been made again when it was last begun."""

    node: Node
    name: str
    parts: Parts
    reason: str
    index: int | None = None
    element: Any = None
    attempt: int = 0
    since: int = 0


@dataclass(slots=True, eq=False)
class Fan:
    """A step that runs once per element; equal elements run once."""

    parts: Parts
    outputs: list[Artifact | None]
    seconds: float = 0.0
    _same: dict[str, list[int]] = field(default_factory=dict)

    def add(self, index: int, parts: Parts) -> bool:
        """Whether the element at *index* is the first with these parts."""
        places = self._same.setdefault(parts.fingerprint, [])
        places.append(index)
        return len(places) == 1

    def fill(self, parts: Parts, output: Artifact) -> None:
        for index in self._same.get(parts.fingerprint, ()):
            self.outputs[index] = output

    @property
    def full(self) -> bool:
        return all(output is not None for output in self.outputs)


def elements(node: Node, values: Any) -> list[Any]:
    """What *node* runs over."""
    if not isinstance(values, list | tuple):
        raise StepFailed(
            f"step {node.name!r} runs over each {node.element!r} of {node.step.each[node.element or '']!r}, "
            f"which is {brief(values)}; give a list"
        )
    return list(values)
