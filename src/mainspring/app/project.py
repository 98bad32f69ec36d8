"""Loop: the declaration of a model's life. What runs it loads only then: a worker process declares and never runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import iscoroutinefunction, isgeneratorfunction
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Literal, get_args

from mainspring.app.pipeline import Pipeline
from mainspring.core import declarations
from mainspring.core.declarations import (
    Clean,
    Declaration,
    Gate,
    Monitor,
    Privacy,
    Release,
    Retrain,
    Roles,
    Search,
    Split,
)
from mainspring.core.errors import DeclarationError
from mainspring.core.privacy import check_privacy

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    from mainspring.app.running import Run, Surroundings
    from mainspring.execution.planning import PlannedStep
    from mainspring.pipeline.graph import Graph
    from mainspring.store.home import Home
    from mainspring.store.ledger import Durability


class Loop:
    """A model that is trained, judged, released, watched and renewed; see `docs/reference.md` for every argument.

    data: a source (`csv`, `parquet`, `sql`, `frame`), a frame, or a function that gives rows. target: what to predict.
    model: a scikit-learn style estimator, several, or "auto". key, time, group, weight: roles of columns; positive: the
    class that counts as positive; ignore: columns that aren't known when predicting; unit: what a release sticks to
    (default: key, else the request); max_bad: the share of rows that may go to quarantine; clean:
    how features are cleaned, one Clean or several in their order; privacy: what happens to personal data. Raises
    DeclarationError for an argument that can't be used.
    """

    def __init__(
        self,
        name: str,
        data: Any,
        target: str,
        model: Any = "auto",
        *,
        key: str | None = None,
        time: str | None = None,
        group: str | None = None,
        weight: str | None = None,
        positive: Any = None,
        ignore: Sequence[str] = (),
        split: Any = None,
        features: Any = (),
        clean: Clean | Sequence[Clean] = (),
        task: Literal["auto", "binary", "multiclass", "regression"] = "auto",
        search: Search | None = None,
        gate: Gate | None = None,
        release: Release | None = None,
        unit: str | None = None,
        monitor: Monitor | None = None,
        retrain: Retrain | None = Retrain(),  # noqa: B008  frozen
        privacy: Privacy | None = None,
        max_bad: float = 0.05,
        steps: Sequence[Any] = (),
        seed: int = 0,
        **unknown: Any,
    ) -> None:
        _refuse(unknown)
        if not isinstance(target, str) or not target:
            raise DeclarationError(f"target={target!r} must be the name of a column")
        if task not in ("auto", "binary", "multiclass", "regression"):
            raise DeclarationError(f"task={task!r} is unknown; choose auto, binary, multiclass or regression")
        if not 0 <= max_bad <= 1:
            raise DeclarationError(f"max_bad={max_bad!r} must be a share of the rows, from 0 to 1, such as 0.05")
        gate, release, monitor = gate or Gate(), release or declarations.Canary(), monitor or Monitor()
        _check_columns(target, ignore, key=key, time=time, group=group, weight=weight, unit=unit)
        _check_kinds(gate=gate, release=release, monitor=monitor, search=search, retrain=retrain, privacy=privacy)
        if isinstance(release, declarations.Shadow) and release.slices is None:
            release = replace(release, slices=tuple(gate.slices))
        features = tuple(features) if isinstance(features, list | tuple) else (features,)
        clean = (clean,) if isinstance(clean, Clean) else clean
        _check_parts(split, features, clean, seed)
        source, subject = declarations.source(data), None if privacy is None else privacy.subject
        roles = Roles(target, key, time, group, weight, positive, tuple(ignore), subject)
        if privacy is not None:
            check_privacy(privacy, roles, source)
        self.declaration = Declaration(
            name=name,
            source=source,
            roles=roles,
            split=split if split is not None else Split(),
            features=features,
            clean=tuple(clean),
            models=model if isinstance(model, str) else tuple(model) if isinstance(model, list | tuple) else (model,),
            task=task,
            search=search,
            gate=gate,
            release=release,
            unit=unit,
            monitor=monitor,
            retrain=retrain,
            seed=seed,
            steps=tuple(steps),
            max_bad=max_bad,
            privacy=privacy,
        )
        self.name = name

    @property
    def pipeline(self) -> Pipeline:
        """The stages this loop compiles to, ingest to release."""
        from mainspring.loop import turn

        return Pipeline(self.name, turn.steps(self.declaration))

    def run(
        self,
        data: Any = None,
        *,
        home: Home | Path | str | None = None,
        executor: str | Executor | None = None,
        durability: Durability | None = None,
        **parameters: Any,
    ) -> Run:
        """One turn, from ingest to release; *data* replaces the declared source. An error of a stage is raised.

        executor, durability: as for `Pipeline.run`.
        """
        from mainspring.app import running  # here and below: a worker process, which only declares, needn't load it

        loop = self if data is None else self.on(data)
        where = running.Surroundings.of(home, executor=executor, durability=durability)
        return running.raised(loop.start(where, parameters))

    def plan(self, *, home: Home | Path | str | None = None, **parameters: Any) -> list[PlannedStep]:
        """What would run, and why, without running it."""
        from mainspring.app import running

        return self.foresee(running.Surroundings.of(home), parameters)

    def predict(self, data: Any, *, home: Home | Path | str | None = None) -> Any:
        """The champion's predictions (labels, or values) for the rows of a polars, pandas or Arrow table."""
        from mainspring.app import running
        from mainspring.loop import champion

        return champion.predict(running.Surroundings.of(home).home, self.name, data)

    def on(self, data: Any) -> Loop:
        """This loop over another source."""
        twin = object.__new__(Loop)
        twin.name, twin.declaration = self.name, replace(self.declaration, source=declarations.source(data))
        return twin

    def at(self, version: int) -> Loop:
        """This loop over an older *version* of its data, whatever the source has by now."""
        twin = object.__new__(Loop)
        twin.name, twin.declaration = self.name, replace(self.declaration, data_version=version)
        return twin

    def start(self, where: Surroundings, parameters: Mapping[str, Any]) -> Run:
        """One turn in these surroundings; the stages' errors are in the Run."""
        from mainspring.app import running

        return running.loop(self.declaration, where, parameters)

    def foresee(self, where: Surroundings, parameters: Mapping[str, Any]) -> list[PlannedStep]:
        from mainspring.app import running

        return running.foresee(self.graph_in(where), self.name, where, parameters)

    def graph_in(self, where: Surroundings) -> Graph:
        """The stages as they run there."""
        from mainspring.app import running

        return running.stages(self.declaration, where)


def _check_columns(target: str, ignore: Sequence[str], **roles: Any) -> None:
    if isinstance(ignore, str):
        raise DeclarationError(f"ignore={ignore!r} must be a list: ignore=[{ignore!r}]")
    named: dict[str, str] = {}
    for role, name in roles.items():
        if isinstance(name, str) and role != "unit" and named.setdefault(name, role) != role:
            raise DeclarationError(f"{named[name]}={name!r} and {role}={name!r}; a column has one role")
        if name is not None and not isinstance(name, str):
            raise DeclarationError(f"{role}={name!r} must be the name of a column")
        if name is not None and name == target and role != "unit":
            raise DeclarationError(f"{role}={name!r} is the target; a column has one role")
        if name is not None and name in ignore:
            raise DeclarationError(f"{role}={name!r} is in ignore=[...] too; take it out of one of them")
    if target in ignore:
        raise DeclarationError(f"ignore=[...] names the target {target!r}; the target is never among the features")


_KINDS: Mapping[str, tuple[type, ...]] = {
    "gate": (Gate,),
    "release": get_args(declarations.Release),
    "monitor": (Monitor,),
    "search": (Search, type(None)),
    "retrain": (Retrain, type(None)),
    "privacy": (Privacy, type(None)),
}


def _check_parts(split: Any, features: tuple[Any, ...], clean: Any, seed: Any) -> None:
    """What no stage could make sense of is told before any runs."""
    if isinstance(split, str):
        raise DeclarationError(f"split={split!r} must be ms.Split(by={split!r}) or a scikit-learn splitter")
    if isinstance(split, int | float):
        share = split if 0 < split < 1 else 0.2
        raise DeclarationError(f"split={split!r} must be ms.Split(test={share!r}) or a scikit-learn splitter")
    for item in features:
        if isinstance(item, type):
            raise DeclarationError(f"features={item.__name__} is a class; write an instance, {item.__name__}()")
        _check_function(item)
        if not (callable(item) or hasattr(item, "transform")):
            raise DeclarationError(
                f"features={item!r} must be a function that takes and returns a frame, or a scikit-learn transformer, "
                "or both in a list"
            )
    if not isinstance(clean, list | tuple) or not all(isinstance(rule, Clean) for rule in clean):
        raise DeclarationError(f"clean={clean!r} must be ms.Clean(...), or a list of them")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise DeclarationError(f"seed={seed!r} must be a whole number from 0 to 4294967295")


def _check_function(item: Any) -> None:
    """A features function is packed with its source, so it must be a plain one."""
    if isinstance(item, MethodType):
        raise DeclarationError(f"features={item.__qualname__} is a method; write a plain function")
    own = type(item)
    if callable(item) and not hasattr(item, "transform") and not isinstance(item, FunctionType | partial):
        name = own.__name__ if own.__module__ != "builtins" else getattr(item, "__name__", own.__name__)
        raise DeclarationError(f"features={name} is no plain function; write one with def, or a lambda")
    if iscoroutinefunction(item) or isgeneratorfunction(item):
        raise DeclarationError(f"features={item.__name__} must return a frame; write it without async and yield")


def _check_kinds(**arguments: Any) -> None:
    for name, value in arguments.items():
        if not isinstance(value, _KINDS[name]):
            wanted = " or ".join(f"ms.{kind.__name__}(...)" for kind in _KINDS[name] if kind is not type(None))
            raise DeclarationError(f"{name}={value!r} must be {wanted}")


def _refuse(unknown: Mapping[str, Any]) -> None:
    """An argument that does nothing would lie."""
    for name in unknown:
        raise DeclarationError(f"Loop has no argument {name!r}; it has {', '.join(_arguments())}")


def _arguments() -> list[str]:
    code = Loop.__init__.__code__
    return list(code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount])
