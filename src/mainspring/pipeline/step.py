"""A step: a plain function whose name is its output and whose parameters are its inputs, and how it is to be run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, TypeVar, overload

from mainspring.core.errors import DeclarationError
from mainspring.core.quantities import number_of_bytes, seconds
from mainspring.core.wording import brief

Function = TypeVar("Function", bound=Callable[..., Any])
State = Callable[[Mapping[str, Any]], Any]

_MARK = "__mainspring_step__"
_OPTIONS = (
    "when", "each", "retries", "backoff", "timeout", "cpus", "memory", "priority", "seed", "effects", "cache",
    "services",
)  # fmt: skip


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
        except Exception as error:  # the value is the user's own, and may refuse in any way
            raise DeclarationError(
                f"at_least({self.step!r}, {self.least}) needs a number, but {self.step!r} gave {brief(value)}; "
                f"let a step return the number"
            ) from error
        return None if holds else f"{self.step} is {brief(value)}, at least {self.least} is asked"


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
    first after *backoff* seconds, then twice as long each time. timeout: the most seconds of one attempt. cpus: how
    many of the executor's places it takes. memory: the most bytes of its process. A step with timeout or memory runs in
    a process of its own, which can be ended. priority: of steps that are ready the higher starts first. seed: of
    Python's and numpy's random numbers at the start of each attempt. effects: it changes something outside, so it
    starts only when all before it is durable. cache: False runs it in every run.
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
    cpus: float = 1
    memory: int | None = None
    priority: int = 0
    seed: int | None = None
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
        _check_figures(self)
        if self.when is not None and not isinstance(self.when, Condition):
            raise DeclarationError(
                f"step {self.name!r}: when={self.when!r} is no condition; write when=ms.at_least('accuracy', 0.8)"
            )
        _check_each(self.name, self.each)

    def with_state(self, state: State) -> Step:
        """This step, whose fingerprint also knows *state*."""
        return replace(self, state=state)


def _check_figures(step: Step) -> None:
    for option, least, whole in (
        ("retries", 0, True), ("backoff", 0, False), ("timeout", 0, False), ("cpus", 0, False), ("memory", 1, True),
        ("priority", None, True), ("seed", 0, True),
    ):  # fmt: skip
        value = getattr(step, option)
        if value is None and option in ("timeout", "memory", "seed"):
            continue
        wanted = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted) or (least is not None and not value >= least):
            kind = "a whole number" if whole else "a number"
            bound = "" if least is None else f", {least} or more"
            raise DeclarationError(f"step {step.name!r}: {option}={value!r} must be {kind}{bound}")
    for option in ("effects", "cache"):
        if not isinstance(value := getattr(step, option), bool):
            raise DeclarationError(f"step {step.name!r}: {option}={value!r} must be True or False")


def _check_each(name: str, each: Mapping[str, Any]) -> None:
    if not isinstance(each, Mapping) or len(each) > 1:
        raise _no_each(name, each)
    for parameter, values in each.items():
        if not isinstance(values, str | list | tuple):
            raise DeclarationError(
                f"step {name!r}: each={{{parameter!r}: {brief(values)}}} must be a list, "
                f"or the name of a step that gives one"
            )


def _no_each(name: str, each: Any) -> DeclarationError:
    return DeclarationError(
        f"step {name!r}: each={each!r} must name one parameter and its list: each={{'month': 'months'}}"
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
    timeout: str | float | None = None,
    cpus: float = 1,
    memory: str | int | None = None,
    priority: int = 0,
    seed: int | None = None,
    effects: bool = False,
    cache: bool = True,
    services: Sequence[str] = (),
) -> Callable[[Function], Function]: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Say how a function is run as a step; the function itself stays as it is. See `Step` for the options.

    Raises DeclarationError for an option that isn't known or can't be used.

    >>> @step(retries=3, timeout="10m", memory="2GB")
    ... def doubled(number: int = 2) -> int:
    ...     return number * 2
    >>> doubled(4), as_step(doubled).retries, as_step(doubled).timeout, as_step(doubled).memory
    (8, 3, 600.0, 2000000000)
    """
    if function is not None:
        return mark(function)
    return lambda wrapped: mark(wrapped, **options)


def mark(function: Any, **options: Any) -> Any:
    """*function*, marked as a step with these options; what `step` does."""
    name = _name(function)
    for option in options:
        if option not in _OPTIONS:
            raise DeclarationError(f"step {name!r}: no option {option!r}; there are {', '.join(_OPTIONS)}")
    given = dict(options)
    for option, read in (("backoff", seconds), ("timeout", seconds), ("memory", number_of_bytes)):
        if given.get(option) is not None:
            try:
                given[option] = read(given[option])
            except DeclarationError as error:
                raise DeclarationError(f"step {name!r}: {option}={given[option]!r}: {error}") from error
    given["services"] = tuple(given.get("services", ()))
    if given.setdefault("each", {}) is None:
        given["each"] = {}
    elif "each" in options and not given["each"]:
        raise _no_each(name, given["each"])
    setattr(function, _MARK, Step(name, function, **given))
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
        raise DeclarationError(f"{brief(function)} is no step; write a named function: def rows(): ...")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise DeclarationError(f"step {name!r} is async; call asyncio.run(...) inside a plain function")
    return name
