"""What is fresh and what is stale: a step's parts now, what it was last time, and the kept output that still holds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mainspring.core.errors import MainspringError, StepFailed
from mainspring.execution import rows
from mainspring.execution.code import Code, Codes
from mainspring.pipeline import fingerprint
from mainspring.pipeline.entries import GIVEN_NAME
from mainspring.pipeline.fingerprint import HELD, UNTOLD, Parts, Reason, telling
from mainspring.pipeline.graph import Graph, Node
from mainspring.pipeline.reach import Place
from mainspring.pipeline.step import Step
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.journal import Hit, Journal, StepRecord

CodeOf = Callable[[Step], Code]
_NEW = Reason("new")


class Freshness:
    """The state of one pipeline's steps, between its journal and the code, parameters and world of now."""

    def __init__(
        self,
        graph: Graph,
        journal: Journal,
        catalog: Catalog,
        pipeline: str,
        parameters: Mapping[str, Any],
        force: tuple[str, ...] = (),
        code: CodeOf | None = None,
    ) -> None:
        graph.check(parameters)
        self._graph, self._journal, self._catalog, self._pipeline = graph, journal, catalog, pipeline
        self._parameters = parameters
        self._codes = code if isinstance(code, Codes) else Codes()
        self._code = code or self._codes
        self._latest: dict[str, StepRecord] | None = None
        self._finished: frozenset[str] | None = None
        self._artifacts: dict[str, Artifact] = {}
        self._held: dict[str, Code] = {}
        self.force = set(force)
        self.lost: set[str] = set()
        """The steps whose kept output seemed sound and couldn't be read."""

    def follow(self, names: Container[str]) -> None:
        """Follow the code of these steps before the first runs."""
        if self._code is self._codes:
            self._codes.follow(node.step for node in self._graph.nodes.values() if node.name in names)

    @property
    def latest(self) -> Mapping[str, StepRecord]:
        """The last finished row of each step."""
        if self._latest is None:
            self._latest = self._journal.latest(self._pipeline)
        return self._latest

    @property
    def _ever(self) -> frozenset[str]:
        """The steps of which something was finished, if only an element, before this run began to look."""
        if self._finished is None:
            self._finished = frozenset(name.partition("[")[0] for name in self.latest)
        return self._finished

    def arguments(self, node: Node) -> dict[str, Any]:
        """The run parameters that *node* takes, with their values in this run."""
        return {name: self._parameters.get(name, default) for name, default in node.parameters.items()}

    def parts(self, node: Node, inputs: Mapping[str, Artifact], outputs: Mapping[str, Any]) -> Parts:
        """What the fingerprint of *node* is made of, given its inputs; *outputs* are read only by its outside state."""
        self._artifacts.update({artifact.digest: artifact for artifact in inputs.values()})
        return self._parts(
            node, {name: artifact.digest for name, artifact in inputs.items()}, _state(node.step, outputs)
        )

    def own_parts(self, node: Node, like: Parts) -> Parts:
        """The same while its inputs aren't known yet: they and the outside state are taken to be *like* before."""
        return self._parts(node, like.inputs, like.state)

    def element_parts(self, node: Node, parts: Parts, element: Any) -> Parts:
        """The parts of one element of a fan-out: the element in place of the list."""
        values = node.step.each[node.element or ""]
        inputs = {name: digest for name, digest in parts.inputs.items() if name != values or name in node.inputs}
        digest = fingerprint.digest(element, other=self._content, code=self._codes.digest)
        shown = " ".join(repr(element).split())[:80]
        parameters = {**parts.parameters, node.element or "": (digest, shown)}
        return replace(parts, parameters=parameters, inputs=inputs)

    def hit(self, node: Node, parts: Parts, finished: tuple[str, Hit] | None) -> tuple[Hit | None, list[Reason]]:
        """The kept output for these parts, or why there is none. finished: what this run did before it resumed."""
        digest = parts.fingerprint
        if finished is not None and finished[0] == digest and self._catalog.sound(finished[1].output):
            return finished[1], []
        if node.name in self.lost:
            return None, [Reason("lost")]
        if node.name in self.force:
            return None, [Reason("forced")]
        if not node.step.cache:
            return None, [Reason("uncached")]
        if only_running_can_tell(node.step, parts):
            return None, [Reason("unknown", new="only reading can tell whether there is something new")]
        found = self._journal.hit(self._pipeline, node.name, digest) if node.name in self._ever else None
        if found is None:
            return None, self.reasons(node, parts)
        if not self._catalog.sound(found.output):
            return None, [Reason("lost")]
        return found, []

    def reasons(self, node: Node, parts: Parts) -> list[Reason]:
        """What has changed since *node* last finished."""
        old = self.before(node)
        if old is None:
            return [_NEW]
        differences = telling(node.name, parts.differences(old))
        kept = [reason for reason in differences if not _nameless_and_gone(reason)] or differences
        found = [self._told(node, reason) for reason in kept]
        return list({str(reason): reason for reason in found}.values()) or [Reason("lost")]

    def told(self, node: Node, parts: Parts, named: Sequence[str]) -> Parts:
        """*parts*, with the data files *named* as the step ran that its code doesn't tell marked in them."""
        held = self._held.get(node.name)
        codes = (self._code(node.step), *(() if held is None else (held,)))
        untold = self._codes.untold(codes, parts, named) if named else []
        return replace(parts, files={**parts.files, **dict.fromkeys(untold, UNTOLD)}) if untold else parts

    def widened(self, node: Node) -> tuple[str, ...]:
        """Where the code of *node* couldn't be followed, so that more counts than may be needed."""
        held = self._held.get(node.name)
        return (*self._code(node.step).widened, *(held.widened if held is not None else ()))

    def _told(self, node: Node, reason: Reason) -> Reason:
        """*reason* in a person's words: what a piece of code is and where it stands, how many rows are new."""
        if reason.kind == "code":
            held = self._held.get(node.name)
            places = {**self._codes.places, **(held.places if held is not None else {}), **self._code(node.step).places}
            return _placed(node, places.get(reason.where), reason)
        if reason.kind == "input":
            old, new = (None if digest is None else self._rows(digest) for digest in (reason.old, reason.new))
            return reason if old is None or new is None else replace(reason, old=old, new=new)
        return reason

    def _rows(self, digest: str) -> int | None:
        """How many rows the output with *digest* has, where that is quickly told."""
        artifact = self._artifact(digest)
        if artifact is None:
            return None
        try:
            return rows.count(self._catalog, artifact)
        except MainspringError:  # it was freed, or is damaged
            return None

    def _artifact(self, digest: str) -> Artifact | None:
        """The kept value with *digest*, if somebody still knows it."""
        if digest not in self._artifacts:
            made = (record.output for record in self._journal.made(digest) if record.output is not None)
            if (found := next(made, None)) is None:
                return None
            self._artifacts[digest] = found
        return self._artifacts[digest]

    def before(self, node: Node) -> Parts | None:
        """The parts of *node* when it last finished."""
        record = self.latest.get(node.name)
        return None if record is None or record.parts is None else Parts.from_json(record.parts)

    def _content(self, value: Any) -> str:
        """The digest of a value that isn't plain, and of the code that it holds."""
        artifact = self._catalog.artifact(value)
        return (
            " ".join([artifact.digest, *self._codes.held(artifact.names).stated()])
            if artifact.names
            else artifact.digest
        )

    def _holding(self, node: Node, inputs: Mapping[str, str]) -> Code | None:
        """The code that the values of *inputs* hold, name -> digest; None where they hold none."""
        artifacts = [self._artifact(digest) for digest in inputs.values()]
        names = {name for artifact in artifacts if artifact is not None for name in artifact.names}
        if not names:
            self._held.pop(node.name, None)
            return None
        self._held[node.name] = self._codes.held(tuple(sorted(names)))
        return self._held[node.name]

    def _parts(self, node: Node, inputs: Mapping[str, str], state: Any) -> Parts:
        code, held = self._code(node.step), self._holding(node, inputs)
        literal = {name: values for name, values in node.step.each.items() if not isinstance(values, str)}
        if node.step.seed is not None:
            literal["seed="] = node.step.seed
        return fingerprint.parts(
            node.step,
            code.pieces,
            inputs,
            state,
            code.libraries if held is None else {**code.libraries, **held.libraries},
            {**self.arguments(node), **literal},
            other=self._content,
            code=self._codes.digest,
            files=code.files if held is None else _both(code.files, held.files),
            held=None if held is None else held.pieces,
            pieces_of=self._codes.pieces_of,
        )


def _both(code: Mapping[str, str], held: Mapping[str, str]) -> dict[str, str]:
    """The data files that either names; one name may stand for another file in each."""
    both = {name: f"{code[name]} {digest}" for name, digest in held.items() if code.get(name, digest) != digest}
    return {**code, **held, **both}


def only_running_can_tell(step: Step, parts: Parts) -> bool:
    """Whether the step looks outside at something that shows no position."""
    return step.state is not None and parts.state is None


def untold(kept: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The data files that are marked in each of the *kept* parts."""
    return {
        name: [path for path, digest in Parts.from_json(parts).files.items() if digest == UNTOLD]
        for name, parts in kept.items()
    }


def _state(step: Step, outputs: Mapping[str, Any]) -> Any:
    if step.state is None:
        return None
    try:
        return json.loads(json.dumps(step.state(outputs), sort_keys=True))
    except MainspringError:
        raise
    except Exception as error:
        raise StepFailed(
            f"step {step.name!r}: its state outside can't be told ({type(error).__name__}: {error})"
        ) from error


def _nameless_and_gone(reason: Reason) -> bool:
    """Whether *reason* is a lambda or nested function as it was: nothing tells a person which."""
    return reason.kind == "code" and reason.new is None and reason.where.partition(":")[2].startswith(GIVEN_NAME)


def _placed(node: Node, place: Place | None, reason: Reason) -> Reason:
    module, _, name = reason.where.partition(":")
    if reason.where == HELD:
        return replace(reason, what="the code that its inputs hold")
    if place is None:
        return replace(reason, what=name or ("its code" if module == node.name else module))
    if place.name.startswith(GIVEN_NAME):  # a lambda or a nested function
        reason = replace(reason, old=reason.old or "", new=reason.new or "")
        return replace(reason, what="its code", file=os.path.basename(place.file) or module, line=place.line or None)
    own = place.kind == "function" and place.name == node.name
    title = {"function": "helper", "value": "the value of"}.get(place.kind, place.kind)
    what = "its code" if own else f"{title} {place.name}"
    return replace(reason, what=what, file=os.path.basename(place.file) or module, line=place.line)
