"""What a run tells: events on the way, an outcome at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mainspring.core.errors import NotInStore
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.journal import RunStatus

StepState = Literal["cached", "run", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run.

    kind: "begun", "resumed" and "stopping" (the run); "started", "progress", "output", "retry", and "run", "cached",
    "skipped" or "failed" at the end of a step, once that is durable. step: "" for the run; message: the reason, the
    error, what was printed, or what is being done: *done* of *of*.
    """

    kind: str
    run: str
    step: str = ""
    message: str = ""
    done: int = 0
    of: int = 0
    seconds: float = 0.0


Report = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of one step. reason: why it ran, was skipped or failed; for a cached one the run it comes from."""

    name: str
    state: StepState
    seconds: float
    reason: str


class Outputs(Mapping[str, Any]):
    """The outputs of a run by step, each read when it is first asked for."""

    def __init__(self, catalog: Catalog, artifacts: Mapping[str, Artifact], values: Mapping[str, Any]) -> None:
        self._catalog = catalog
        self._artifacts = dict(artifacts)
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            self._values[name] = self._catalog.load(self.artifact(name))
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._artifacts)

    def __len__(self) -> int:
        return len(self._artifacts)

    def __contains__(self, name: object) -> bool:
        return name in self._artifacts

    def numbers(self) -> dict[str, float]:
        """The plain numbers among them: what a free-form pipeline's metrics are."""
        small = {name: self[name] for name in self if self.artifact(name).content is not None}
        return {
            name: value
            for name, value in small.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    def artifact(self, name: str) -> Artifact:
        """Where the output of *name* is kept, and its digest."""
        if name not in self._artifacts:
            raise NotInStore(
                f"step {name!r} has no output in this run; there are {', '.join(self._artifacts) or 'none'}"
            )
        return self._artifacts[name]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. error: of the first step that failed."""

    run_id: str
    status: RunStatus
    outputs: Outputs
    steps: tuple[StepResult, ...]
    error: BaseException | None = None
    resumed: bool = False
