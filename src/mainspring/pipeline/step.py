"""A step: a plain function whose name is its output and whose parameters are its inputs, and how it is to be run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, TypeVar, overload

from mainspring.core.declarations import seconds
from mainspring.core.errors import DeclarationError

Function = TypeVar("Function", bound=Callable[..., Any])
State = Callable[[Mapping[str, Any]], Any]

_MARK = "__mainspring_step__"
_LATER = {
    "timeout": "a thread can't be stopped; bound the work inside the function, or use `mainspring cancel`",
    "cpus": "all steps of a run share its worker threads",
    "memory": "a step shares its process's memory",
    "priority": "steps run in the order of the pipeline",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A value of another step that must reach a bound."""

    step: str
    least: float

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.step,)

    def refuses(self, outputs: Mapping[str, Any]) -> str | None:
        """Why the step isn't run, or None when the condition holds."""
        value = outputs[self.step]
        try:
            holds = bool(value >= self.least)
        except (TypeError, ValueError) as error:
            raise DeclarationError(
                f"at_least({self.step!r}, {self.least}) needs a number, but {self.step!r} gave {_brief(value)}; "
                f"let a step return the number"
            ) from error
        return None if holds else f"{self.step} is {_brief(value)}, at least {self.least} is asked"


def at_least(step: str, least: float) -> Condition:
    """A condition: the value of *step* is *least* or more.

    >>> at_least("accuracy", 0.8).refuses({"accuracy": 0.75})
    'accuracy is 0.75, at least 0.8 is asked'
    """
    if not isinstance(step, str) or isinstance(least, bool) or not isinstance(least, int | float):
        raise DeclarationError(
            f"at_least({step!r}, {least!r}) needs a step's name and a number, such as at_least('accuracy', 0.8)"
        )
    return Condition(step, least)


@dataclass(frozen=True, slots=True)
class Step:
    """What to run, and how.

    function: a callable, or "module:function" that is imported where it runs. inputs: names of the steps whose outputs
    it takes; None: its own parameters tell. parameters: constants that belong to the fingerprint. services: names that
    the runner injects (home, progress, run ...) and that don't. state: what it depends on outside, as JSON, from the
    outputs of its inputs; when it gives None, only running can tell. each: parameter -> a list, or the name of a step
    or run parameter that gives one; the function runs once per element. retries: further attempts after a failure, the
    first after *backoff*, then twice as long each time. effects: it changes something outside. cache: False runs it in
    every run.
    """

    name: str
    function: Callable[..., Any] | str
    _: KW_ONLY
    inputs: tuple[str, ...] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    services: tuple[str, ...] = ()
    state: State | None = None
    when: Condition | None = None
    each: Mapping[str, Any] = field(default_factory=dict)
    retries: int = 0
    backoff: float = 1.0
    timeout: float | None = None
    effects: bool = False
    cache: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise DeclarationError(
                f"step name {self.name!r} must be a Python name: it is the parameter by which others take its output"
            )
        if isinstance(self.function, str) and self.inputs is None:
            raise DeclarationError(
                f"step {self.name!r}: function {self.function!r} is given as text, so inputs=(...) must name its inputs"
            )
        if isinstance(self.function, str) and self.function.count(":") != 1:
            raise DeclarationError(f"step {self.name!r}: function {self.function!r} must be written module:function")
        if self.timeout is not None:
            raise DeclarationError(f"step {self.name!r}: timeout= can't be kept in this version: {_LATER['timeout']}")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise DeclarationError(f"step {self.name!r}: retries={self.retries!r} must be 0 or more")
        if self.when is not None and not isinstance(self.when, Condition):
            raise DeclarationError(
                f"step {self.name!r}: when={self.when!r} is no condition; write when=ms.at_least('accuracy', 0.8)"
            )
        _check_each(self.name, self.each)

    def with_state(self, state: State) -> Step:
        """This step, whose fingerprint also knows *state*."""
        return replace(self, state=state)


def _check_each(name: str, each: Mapping[str, Any]) -> None:
    if not isinstance(each, Mapping) or len(each) > 1:
        raise DeclarationError(
            f"step {name!r}: each={each!r} must name one parameter and its list: each={{'month': 'months'}}"
        )
    for parameter, values in each.items():
        if not isinstance(values, str | list | tuple):
            raise DeclarationError(
                f"step {name!r}: each={{{parameter!r}: {_brief(values)}}} must be a list, "
                f"or the name of a step that gives one"
            )


@overload
def step(function: Function, /) -> Function: ...
@overload
def step(
    *,
    when: Condition | None = None,
    each: Mapping[str, str | Sequence[Any]] | None = None,
    retries: int = 0,
    backoff: str | float = 1.0,
    effects: bool = False,
    cache: bool = True,
    services: Sequence[str] = (),
    **later: Any,
) -> Callable[[Function], Function]: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Say how a function is run as a step; the function itself stays as it is.

    >>> @step(retries=3)
    ... def doubled(number: int = 2) -> int:
    ...     return number * 2
    >>> doubled(4), as_step(doubled).retries
    (8, 3)
    """
    if function is not None:
        return mark(function)
    return lambda wrapped: mark(wrapped, **options)


def mark(
    function: Any,
    *,
    when: Condition | None = None,
    each: Mapping[str, str | Sequence[Any]] | None = None,
    retries: int = 0,
    backoff: str | float = 1.0,
    effects: bool = False,
    cache: bool = True,
    services: Sequence[str] = (),
    **later: Any,
) -> Any:
    """*function*, marked as a step with these options; what `step` does."""
    name = _name(function)
    for option in later:
        if option in _LATER:
            raise DeclarationError(
                f"step {name!r}: {option}= doesn't work in this version: {_LATER[option]}; leave it out"
            )
        raise DeclarationError(
            f"step {name!r}: no option {option!r}; there are when, each, retries, backoff, effects, cache, services"
        )
    marked = Step(
        name,
        function,
        services=tuple(services),
        when=when,
        each=dict(each or {}),
        retries=retries,
        backoff=seconds(backoff),
        effects=effects,
        cache=cache,
    )
    setattr(function, _MARK, marked)
    return function


def as_step(thing: Any) -> Step:
    """A Step as it is, or of a plain or marked function.

    >>> def rows() -> list[int]:
    ...     return [1, 2]
    >>> as_step(rows).name
    'rows'
    """
    if isinstance(thing, Step):
        return thing
    marked = getattr(thing, _MARK, None)
    if isinstance(marked, Step) and marked.function is thing:
        return marked
    return Step(_name(thing), thing)


def _name(function: Any) -> str:
    name = getattr(function, "__name__", None)
    if not callable(function) or isinstance(function, type) or not isinstance(name, str) or name == "<lambda>":
        raise DeclarationError(f"{_brief(function)} is no step; write a named function: def rows(): ...")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise DeclarationError(f"step {name!r} is async; call asyncio.run(...) inside a plain function")
    return name


def _brief(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
