"""One step at work: called, tried again, its result kept; and the words for its failure."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event as Flag
from types import TracebackType
from typing import Any

from mainspring.core.errors import MainspringError, StepFailed, UsageError
from mainspring.core.wording import one_line, place
from mainspring.pipeline.step import Step
from mainspring.store.catalog import Artifact, Catalog

_LONGEST = 400


class Stopped(BaseException):
    """The run is being stopped. No `except Exception` of a user's swallows it."""


@dataclass(frozen=True, slots=True)
class Done:
    """A step's value, where it is kept, and what it took."""

    value: Any
    artifact: Artifact
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A step's last error, and what it took."""

    error: BaseException
    attempt: int
    seconds: float

    @property
    def trace(self) -> str:
        return "".join(traceback.format_exception(self.error))


def work(
    step: Step, arguments: Mapping[str, Any], catalog: Catalog, stop: Flag, retried: Callable[[int, str], None]
) -> Done | Failed:
    """Call *step* until it succeeds or has no attempt left, and keep what it gives."""
    began = time.perf_counter()
    attempt = 0
    while True:
        attempt += 1
        try:
            value = resolve(step.function)(**arguments)
            return Done(value, catalog.save(value), attempt, time.perf_counter() - began)
        except (Exception, SystemExit) as error:
            if attempt > step.retries or isinstance(error, UsageError):
                return Failed(_without_ours(error), attempt, time.perf_counter() - began)
            retried(attempt, sentence(error))
        if stop.wait(step.backoff * 2 ** (attempt - 1)):
            raise Stopped


def resolve(function: Callable[..., Any] | str) -> Callable[..., Any]:
    """The callable that "module:function" names; its module, and the libraries it needs, load only now."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def explained(step: Step, name: str, inputs: Mapping[str, Any], failed: Failed) -> BaseException:
    """The error to show: a mainspring error as it is, any other with the step, its inputs, the place and the mend."""
    if isinstance(failed.error, MainspringError):
        return failed.error
    tried = f" at attempt {failed.attempt} of {step.retries + 1}" if step.retries else ""
    given = f" with {', '.join(f'{name}: {shape(value)}' for name, value in inputs.items())}" if inputs else ""
    where = place(failed.error)
    error = StepFailed(
        f"step {name!r} failed{tried}{given}: {sentence(failed.error)}{f' ({where})' if where else ''}; "
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


def _without_ours(error: BaseException) -> BaseException:
    """*error* whose traceback begins in the step, not in the engine."""
    trace: TracebackType | None = error.__traceback__
    return error.with_traceback(trace.tb_next if trace is not None and trace.tb_next is not None else trace)
