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


@dataclass(frozen=True, slots=True)
class Failure:
    """How a task failed at its last attempt."""

    error: BaseException
    trace: str = ""
    seconds: float = 0.0
    attempt: int = 1


@dataclass(slots=True, eq=False)
class Fan:
    """A step that runs once per element; equal elements run once. failure: of the element that failed first; named:
    the data files that elements named as they ran."""

    parts: Parts
    outputs: list[Artifact | None]
    seconds: float = 0.0
    failure: Failure | None = None
    named: dict[str, None] = field(default_factory=dict)
    _same: dict[str, list[int]] = field(default_factory=dict)
    _open: set[str] = field(default_factory=set)

    def add(self, index: int, parts: Parts) -> bool:
        """Whether the element at *index* is the first with these parts."""
        places = self._same.setdefault(parts.fingerprint, [])
        places.append(index)
        self._open.add(parts.fingerprint)
        return len(places) == 1

    def fill(self, parts: Parts, output: Artifact) -> None:
        for index in self._same.get(parts.fingerprint, ()):
            self.outputs[index] = output
        self._open.discard(parts.fingerprint)

    def fail(self, parts: Parts, failure: Failure) -> None:
        self.failure = self.failure or failure
        self._open.discard(parts.fingerprint)

    @property
    def over(self) -> bool:
        """Whether every element is done or has failed."""
        return not self._open


def elements(node: Node, values: Any) -> list[Any]:
    """What *node* runs over."""
    if not isinstance(values, list | tuple):
        raise StepFailed(
            f"step {node.name!r} runs over each {node.element!r} of {node.step.each[node.element or '']!r}, "
            f"which is {brief(values)}; give a list"
        )
    return list(values)
