"""One call of a step's function: where it runs, with what, what it gives; and the words for its failure."""

from __future__ import annotations

import importlib
import random
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from mainspring.core.errors import HomeDamaged, MainspringError, NotInStore, StepFailed, StoreError, UsageError
from mainspring.core.hiding import hidden
from mainspring.core.wording import one_line, place
from mainspring.pipeline.datafiles import naming
from mainspring.pipeline.step import Step
from mainspring.store.catalog import Artifact, Catalog

_LONGEST = 400
_UNALTERABLE = frozenset([type(None), bool, int, float, str])
_CLONED = frozenset(["frame", "series", "arrow-frame", "arrow-series"])


class Stopped(BaseException):
    """The run is being stopped. No `except Exception` of a user's swallows it."""


@dataclass(frozen=True, slots=True)
class Input:
    """A kept value that a call takes. last: no other call needs it, so the object in memory may be handed over."""

    name: str
    artifact: Artifact
    last: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a step's function, as it travels to where it runs. It is pickled where that is another process.

    arguments: those at hand; inputs: parameter -> the kept value it takes; element: the parameters whose values an
    error names beside the inputs. progress: it takes a function that tells how far it is. log: the file for what it
    prints. attempt: which of the step's tries this is. later: the digests of values that stages still take after it.
    """

    task: str
    function: Callable[..., Any] | str
    arguments: Mapping[str, Any]
    inputs: Mapping[str, Input]
    log: str
    element: tuple[str, ...] = ()
    progress: bool = False
    seed: int | None = None
    attempt: int = 1
    later: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Done:
    """What a step gave: where it is kept, the objects that it needs there, and how long the call took. named: the paths
    that `mainspring.file` gave it."""

    artifact: Artifact
    objects: list[str]
    seconds: float
    named: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A call's error. given: its inputs in words; where: the place in the user's code; again: another try may help."""

    error: BaseException | None
    words: str
    given: str = ""
    where: str = ""
    trace: str = ""
    seconds: float = 0.0
    again: bool = True


@dataclass(frozen=True, slots=True)
class Lost:
    """An input that was kept can't be read any more; the step that gives it must run again."""

    name: str
    error: MainspringError


Result = Done | Failed | Lost


@dataclass(slots=True)
class Bench:
    """A place in a process where steps are called: the store, and the values that are still in memory, by digest.

    said: takes (task, what, done, of) of a step that tells how far it is; it raises `Stopped` when the run is to stop.
    """

    catalog: Catalog
    said: Callable[[str, str, int, int], None]
    values: dict[str, Any] = field(default_factory=dict)

    def do(self, call: Call) -> Result:
        """Make *call* and keep what it gives. Whatever the step raises is in the result."""
        inputs: dict[str, Any] = {}
        ours = isinstance(call.function, str)
        for parameter, given in call.inputs.items():
            try:
                inputs[parameter] = self.value(given.artifact, last=given.last, ours=ours)
            except (HomeDamaged, NotInStore) as error:
                return Lost(given.name, error)
        began = time.perf_counter()
        try:
            if call.seed is not None:
                _sow(call.seed)
            with naming() as named:
                value = resolve(call.function)(**call.arguments, **self._services(call), **inputs)
                artifact, objects = self._written(call, value)
        except (KeyboardInterrupt, Stopped):
            raise
        except BaseException as error:  # also what says that a test failed, or that a coroutine was cancelled
            shown = {**inputs, **{name: call.arguments[name] for name in call.element}}
            return _failed(error, shown, time.perf_counter() - began)
        if artifact.content is None or type(value) in _UNALTERABLE:
            self.values[artifact.digest] = value
        return Done(artifact, objects, time.perf_counter() - began, tuple(named))

    def _written(self, call: Call, value: Any) -> tuple[Artifact, Any]:
        try:
            return self.catalog.write(value, warn=not isinstance(call.function, str))
        except StoreError as error:
            raise type(error)(f"step {call.task!r}: {error}") from error

    def _services(self, call: Call) -> dict[str, Any]:
        def progress(what: str, done: int = 0, of: int = 0) -> None:
            self.said(call.task, what, done, of)

        return {"progress": progress} if call.progress else {}

    def value(self, artifact: Artifact, *, last: bool, ours: bool = False) -> Any:
        """The value of *artifact*, of which nobody sees what another does to it: the object in memory, which is then
        let go, for its *last* user; that object also for a stage of *ours*, which changes nothing that it is given; of
        a polars frame a clone, which shares the columns; else a copy from the store."""
        if (last or ours) and artifact.digest in self.values:
            return self.values.pop(artifact.digest) if last else self.values[artifact.digest]
        if artifact.format not in _CLONED or artifact.content is not None:
            return self.catalog.load(artifact)
        if artifact.digest not in self.values:
            self.values[artifact.digest] = self.catalog.load(artifact)
        return self.values[artifact.digest].clone()


def resolve(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """The callable that "module:function" names; its module, and the libraries it needs, load only now."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def explained(step: Step, name: str, attempt: int, failed: Failed) -> BaseException:
    """The error to show: a mainspring error as it is, any other with the step, its inputs, the place and the mend."""
    if failed.error is not None and failed.error.__traceback__ is None and failed.trace:
        failed.error.add_note(failed.trace)  # it came from another process
    if isinstance(failed.error, MainspringError):
        return failed.error
    tried = f" at attempt {attempt} of {step.retries + 1}" if step.retries else ""
    given = f" with {failed.given}" if failed.given else ""
    where = f" ({failed.where})" if failed.where else ""
    error = StepFailed(
        f"step {name!r} failed{tried}{given}: {failed.words}{where}; "
        f"mend it and run again: finished steps aren't repeated"
    )
    error.__cause__ = failed.error
    return error


def sentence(error: BaseException) -> str:
    """*error* on one line."""
    text = one_line(error)
    text = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shape(value: Any) -> str:
    """What *value* is, in few words: `DataFrame 100 x 3`, `list of 5`, `0.25`."""
    name = type(value).__name__
    size = getattr(value, "shape", None)
    if isinstance(size, tuple) and size:
        return f"{name} {' x '.join(map(str, size))}"
    if isinstance(value, list | tuple | dict | set):
        return f"{name} of {len(value)}"
    text = " ".join(repr(value).split()) if isinstance(value, str | int | float | bool | None) else name
    return text if len(text) <= 40 else f"{text[:37]}..."


def _failed(error: BaseException, inputs: Mapping[str, Any], seconds: float) -> Failed:
    error = _without_ours(error)
    return Failed(
        error,
        hidden(sentence(error)),
        hidden(", ".join(f"{name}: {shape(value)}" for name, value in inputs.items())),
        place(error),
        hidden("".join(traceback.format_exception(error))),
        seconds,
        again=not isinstance(error, UsageError),
    )


def _without_ours(error: BaseException) -> BaseException:
    """*error* whose traceback begins in the step, not in the engine."""
    trace: TracebackType | None = error.__traceback__
    return error.with_traceback(trace.tb_next if trace is not None and trace.tb_next is not None else trace)


def _sow(seed: int) -> None:
    """The same random numbers at every call: Python's and numpy's global ones."""
    import numpy  # only here: a step with a seed needs it

    random.seed(seed)
    numpy.random.seed(seed % 2**32)
