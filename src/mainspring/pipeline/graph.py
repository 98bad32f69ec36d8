"""The graph of a pipeline's steps: who takes whose output, in which order, and which part of it is asked for."""

from __future__ import annotations

import difflib
import heapq
import inspect
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mainspring.core.errors import DeclarationError, UsageError
from mainspring.pipeline import typed
from mainspring.pipeline.step import Step, as_step


@dataclass(frozen=True, slots=True)
class Node:
    """A step in its graph.

    inputs: the steps whose outputs its function takes. parameters: the run parameters it takes, with their defaults.
    waits: all steps that must be over before it, those of its condition and its fan-out included.
    """

    step: Step
    inputs: tuple[str, ...]
    parameters: Mapping[str, Any]
    waits: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.step.name

    @property
    def element(self) -> str | None:
        """The parameter that runs over a list."""
        return next(iter(self.step.each), None)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which steps of a run are asked for.

    start, until: from and up to a step; only: just these; force: not from the cache.
    Steps before the selection aren't looked at: their last outputs are taken.
    """

    start: str | None = None
    until: str | None = None
    only: tuple[str, ...] = ()
    force: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        chosen = {"from": self.start, "until": self.until, "only": list(self.only), "force": list(self.force)}
        return {name: value for name, value in chosen.items() if value}


class Graph:
    """Steps in an order in which each comes after its inputs; otherwise as they were declared.

    >>> def total(rows: list[int]) -> int:
    ...     return sum(rows)
    >>> def rows() -> list[int]:
    ...     return [1, 2]
    >>> Graph([total, rows]).names
    ('rows', 'total')
    """

    def __init__(self, steps: Iterable[Any]) -> None:
        declared = [as_step(step) for step in steps]
        known = {step.name for step in declared}
        if not declared:
            raise DeclarationError("there are no steps; name at least one, such as ms.Pipeline('sums', [total])")
        if len(known) < len(declared):
            twice = next(step.name for step in declared if sum(other.name == step.name for other in declared) > 1)
            raise DeclarationError(f"two steps are called {twice!r}; rename one, for a step's name is its output")
        nodes = {step.name: _node(step, known) for step in declared}
        self.nodes: Mapping[str, Node] = {name: nodes[name] for name in _ordered(nodes)}
        self.dependants: Mapping[str, tuple[str, ...]] = _reversed(self.nodes)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.nodes)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The run parameters of all steps, with the default of the first step that has one."""
        found: dict[str, Any] = {}
        for node in self.nodes.values():
            for name, default in node.parameters.items():
                found.setdefault(name, default)
        return found

    @property
    def wide(self) -> bool:
        """Whether there is a fan-out, so that several workers have something to do."""
        return any(node.element is not None for node in self.nodes.values())

    def upstream(self, name: str) -> frozenset[str]:
        """*name* and all steps that it needs, however far."""
        return _closure(name, lambda at: self.nodes[at].waits)

    def downstream(self, name: str) -> frozenset[str]:
        """*name* and all steps that need it, however far."""
        return _closure(name, lambda at: self.dependants[at])

    def select(self, selection: Selection) -> frozenset[str]:
        """The names of the steps that *selection* asks for."""
        for name in (selection.start, selection.until, *selection.only, *selection.force):
            if name is not None and name not in self.nodes:
                raise UsageError(f"no step {name!r}{nearest(name, self.names)}; the steps are {', '.join(self.names)}")
        if selection.only and (selection.start or selection.until):
            raise UsageError("--only can't be combined with --from or --until; choose one")
        if selection.only:
            return frozenset(selection.only)
        chosen = frozenset(self.names)
        if selection.start:
            chosen &= self.downstream(selection.start)
        if selection.until:
            chosen &= self.upstream(selection.until)
        if not chosen:
            raise UsageError(
                f"no step lies between {selection.start!r} and {selection.until!r}; exchange --from and --until"
            )
        return chosen

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Raise UsageError for a run parameter that no step takes."""
        known = self.parameters
        for name in parameters:
            if name not in known:
                has = f"there are {', '.join(known)}" if known else "this pipeline has none"
                raise UsageError(f"no run parameter {name!r}{nearest(name, tuple(known))}; {has}")

    def parse(self, name: str, text: str) -> Any:
        """The value that *text*, as typed on a command line, stands for, by the parameter's annotation or default."""
        self.check({name: text})
        node = next(node for node in self.nodes.values() if name in node.parameters)
        wanted = _annotation(node.step.function, name) or type(node.parameters[name])
        try:
            return typed.parsed(text, wanted)
        except ValueError:
            written = " or ".join(f"--set {name}={each}" for each in typed.examples(wanted))
            raise UsageError(f"run parameter {name}={text!r} is no {typed.title(wanted)}; write {written}") from None


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint at the known name that *name* may have meant, or nothing."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


@dataclass(slots=True)
class _Signature:
    """What a function's parameters say about a step's place in the graph."""

    inputs: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)


def _node(step: Step, known: set[str]) -> Node:
    found = _declared(step, known) if step.inputs is not None else _inferred(step, known)
    if step.name in found.inputs:
        raise DeclarationError(f"step {step.name!r} takes its own output; rename its parameter {step.name!r}")
    waits = list(found.inputs)
    for name in step.when.needs if step.when else ():
        waits.append(_known(name, step, known, "its condition needs"))
    for values in step.each.values():
        if isinstance(values, str) and values in known:
            waits.append(values)
        elif isinstance(values, str) and values not in found.parameters:
            raise DeclarationError(
                f"step {step.name!r}: each={step.each!r} names {values!r}, "
                f"which is no step{nearest(values, sorted(known))}; the steps are {', '.join(sorted(known))}"
            )
    return Node(step, tuple(found.inputs), found.parameters, tuple(dict.fromkeys(waits)))


def _declared(step: Step, known: set[str]) -> _Signature:
    return _Signature([_known(name, step, known, "its inputs name") for name in step.inputs or ()])


def _known(name: str, step: Step, known: set[str], how: str) -> str:
    if name not in known:
        raise DeclarationError(
            f"step {step.name!r}: {how} {name!r}, which is no step{nearest(name, sorted(known))}; "
            f"the steps are {', '.join(sorted(known))}"
        )
    return name


def _inferred(step: Step, known: set[str]) -> _Signature:
    found = _Signature()
    try:
        parameters = inspect.signature(step.function).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise DeclarationError(
            f"step {step.name!r}: its parameters can't be read ({error}); wrap it in a def"
        ) from error
    for name in (*step.each, *step.parameters, *step.services):
        if name not in parameters and not any(other.kind is other.VAR_KEYWORD for other in parameters.values()):
            raise DeclarationError(
                f"step {step.name!r}: its function has no parameter {name!r}{nearest(name, list(parameters))}"
            )
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise DeclarationError(
                f"step {step.name!r}: parameter {name!r} can't be given by name; write it as a plain parameter"
            )
        if (
            parameter.kind is parameter.VAR_KEYWORD
            or name in step.parameters
            or name in step.services
            or name in step.each
        ):
            continue
        if name in known and name != step.name:
            found.inputs.append(name)
        elif parameter.default is not parameter.empty:
            found.parameters[name] = parameter.default
        else:
            raise DeclarationError(
                f"step {step.name!r}: parameter {name!r} is no step{nearest(name, sorted(known - {step.name}))} "
                f"and has no default; add a step {name!r}, or give it a value: {name}=..."
            )
    return found


def _ordered(nodes: Mapping[str, Node]) -> list[str]:
    place = {name: index for index, name in enumerate(nodes)}
    names, dependants = list(nodes), _reversed(nodes)
    missing = {name: len(node.waits) for name, node in nodes.items()}
    ready = [index for name, index in place.items() if not missing[name]]
    order: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for dependant in dependants[name]:
            missing[dependant] -= 1
            if not missing[dependant]:
                heapq.heappush(ready, place[dependant])
    if len(order) < len(nodes):
        cycle = _cycle(nodes, {name for name in nodes if missing[name]})
        raise DeclarationError(
            f"the steps wait for each other: {' -> '.join(cycle)}; one of them must do without the other"
        )
    return order


def _cycle(nodes: Mapping[str, Node], stuck: set[str]) -> list[str]:
    """A circle among *stuck*, in the direction in which data would flow."""
    at = next(name for name in nodes if name in stuck)
    path: dict[str, None] = {}
    while at not in path:
        path[at] = None
        at = next(name for name in nodes[at].waits if name in stuck)
    names = list(path)
    return [*names[names.index(at) :], at][::-1]


def _reversed(nodes: Mapping[str, Node]) -> dict[str, tuple[str, ...]]:
    dependants: dict[str, list[str]] = {name: [] for name in nodes}
    for name, node in nodes.items():
        for wait in node.waits:
            dependants[wait].append(name)
    return {name: tuple(found) for name, found in dependants.items()}


def _closure(name: str, following: typing.Callable[[str], Iterable[str]]) -> frozenset[str]:
    found, ahead = {name}, [name]
    while ahead:
        for other in following(ahead.pop()):
            if other not in found:
                found.add(other)
                ahead.append(other)
    return frozenset(found)


def _annotation(function: Any, name: str) -> Any:
    try:
        return typing.get_type_hints(function, include_extras=True).get(name)
    except (NameError, TypeError, AttributeError):
        return None
