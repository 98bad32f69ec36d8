"""FILE's manifest: by it `plan` and `run` answer without executing FILE, when nothing that it depends on has changed.

Written by `app/remember.py` after FILE was loaded. Light on purpose: this is looked at before anything big is imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from mainspring.app import config, document, world
from mainspring.core.errors import MainspringError
from mainspring.core.wording import count, number
from mainspring.execution.outcome import Outputs
from mainspring.loop import turn
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.contracts import said_by_people
from mainspring.store.deployments import DECLARED, ONSET, Deployments
from mainspring.store.home import Home
from mainspring.store.journal import Hit, Journal
from mainspring.store.ledger import Ledger
from mainspring.store.manifests import Manifests
from mainspring.store.outbox import Outbox
from mainspring.store.records import Records

_NO_SELECTION = ("start", "until", "only", "force")
HELD = 3


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was cached. widened: where its code couldn't be followed."""

    name: str
    fingerprint: str
    parts: Mapping[str, Any]
    hit: Hit
    widened: tuple[str, ...]

    def to_json(self) -> list[Any]:
        hit = self.hit
        return [self.name, self.fingerprint, self.parts, hit.output.to_json(), hit.run, hit.seconds, self.widened]

    @classmethod
    def from_json(cls, kept: Sequence[Any]) -> Step:
        name, fingerprint, parts, output, run, seconds, widened = kept
        return cls(name, fingerprint, parts, Hit(Artifact.from_json(output), run, seconds), tuple(widened))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One declaration of FILE, all of whose steps were cached."""

    name: str
    loop: bool
    asked: Any
    steps: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        steps = [step.to_json() for step in self.steps]
        return {"name": self.name, "loop": self.loop, "asked": self.asked, "steps": steps}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Pipeline:
        return cls(kept["name"], kept["loop"], kept["asked"], tuple(map(Step.from_json, kept["steps"])))


def key(reference: str, settings: Sequence[str]) -> tuple[Path, str] | None:
    """The file that *reference* names, and what is asked of it; None when there is no such file."""
    path, name = Path(reference), ""
    if not path.is_file():
        text, _, name = reference.rpartition(":")
        path = Path(text)
    return (path.resolve(), json.dumps([name, *settings])) if path.is_file() else None


def answer(verb: str, *, home: str | None, file: str, settings: Sequence[str], **options: Any) -> int | None:
    """The exit code of `plan` or `run`, answered from FILE's manifest; None when FILE must be loaded."""
    asked = key(file, settings)
    if asked is None or any(options.get(name) for name in _NO_SELECTION):
        return None
    try:
        configured = config.read(home=home)
        if not (configured.home / "mainspring.db").is_file():
            return None
        store = Home.open(configured.home)
        found = _matching(store, *asked, home)
        if found is None:
            return None
        if verb == "plan":
            return _plan(found, options)
        durability = "fast" if options.get("fast") else configured.durability
        return _run(store, found, durability, options)
    except MainspringError:  # the long way says it with more knowledge, and mends what can be mended
        return None


def loop_state(home: Home, loop: str) -> Any:
    """What a turn of *loop* sees beside its own steps: versions, traffic, labelled predictions, the contract."""
    deployments = Deployments(home)
    told: list[Any] = [deployments.route(loop), deployments.versions(loop), Records(home, loop).end()["feedback"],
            said_by_people(home, loop), deployments.load_state(loop, ONSET)]  # fmt: skip
    declared = deployments.load_state(loop, DECLARED) or {}
    if declared.get("privacy", {}).get("retention") is not None:
        told.append(deployments.now().date())  # each day rows may have become too old
    return msgspec.json.encode(told, enc_hook=str).decode()


def _matching(home: Home, file: Path, asked: str, named_home: str | None) -> list[Pipeline] | None:
    kept = Manifests(home).find(str(file), asked)
    if kept is None or world.state(world.Named.from_json(kept["named"]), file, named_home) != kept["state"]:
        return None
    found = [Pipeline.from_json(each) for each in kept["pipelines"]]
    states = {each.name: loop_state(home, each.name) for each in found if each.loop}
    if states != kept["loops"] or (states and Outbox(home).pending()):
        return None
    journal, catalog = Journal(home), Catalog(home)
    return found if all(_holds(journal, catalog, each) for each in found) else None


def _holds(journal: Journal, catalog: Catalog, pipeline: Pipeline) -> bool:
    """Whether every step's output is still kept and sound, and no run was left that should be gone on with."""
    last = journal.runs(pipeline.name, 1)
    if last and last[0].status not in ("done", "held"):
        return False
    for step in pipeline.steps:
        now = journal.hit(pipeline.name, step.name, step.fingerprint)
        if now is None or now.output != step.hit.output or not catalog.sound(now.output):
            return False
    return True


def _plan(found: Sequence[Pipeline], options: Mapping[str, Any]) -> int:
    if options.get("as_json"):
        planned = [{"name": each.name, "steps": [_cached(step) for step in each.steps]} for each in found]
        document.several("plan", [("done", told) for told in planned])
    for each in () if options.get("as_json") else found:
        cached = f"{count(len(each.steps), 'step')} cached"
        page = f"### Plan of `{each.name}`\n\nNothing to run; {cached}.\n"
        print(page if options.get("markdown") else f"{each.name}: nothing to run, {cached}")
        for note in dict.fromkeys(note for step in each.steps for note in step.widened):
            print(f"- counts more than needed: {note}")
    return 0


def _cached(step: Step) -> dict[str, Any]:
    told: dict[str, Any] = {"name": step.name, "state": "cached", "reasons": [], "seconds": None}
    return {**told, "widened": list(step.widened)} if step.widened else told


def _run(home: Home, found: Sequence[Pipeline], durability: Any, options: Mapping[str, Any]) -> int:
    code, answers = 0, []
    for each in found:
        run, status = _record(home, each, durability)
        outputs = Outputs(Catalog(home), {step.name: step.hit.output for step in each.steps}, {})
        summary = turn.summarise(outputs) if each.loop else None
        metrics = dict(summary.metrics) if summary is not None else outputs.numbers()
        model, verdict, reasons = (summary.model, summary.verdict, summary.reasons) if summary else (None, None, ())
        code = HELD if status == "held" else code
        steps: list[dict[str, Any]] = [
            {"name": step.name, "state": "cached", "seconds": 0.0, "reason": f"from run {step.hit.run}"}
            for step in each.steps
        ]
        answers.append((status, {"id": run, "metrics": metrics, "model": model, "verdict": verdict, "reasons": reasons,
                                 "steps": steps, "error": None}))  # fmt: skip
        if not options.get("as_json"):
            print(f"{each.name}: nothing to run, {count(len(steps), 'step')} cached", file=sys.stderr)
            width = max(map(len, metrics), default=0)
            figures = [f"{name:<{width}}  {number(value, 4)}" for name, value in metrics.items()]
            told = [f"{run}  {status}", *figures, *(f"- {reason}" for reason in reasons)]
            page = home.card(model)
            print(*told, *([f"model {model}"] if model else []), *([f"card: {page}"] if page else []), sep="\n")
    if options.get("as_json"):
        document.several("run", answers)
    return code


def _record(home: Home, pipeline: Pipeline, durability: Any) -> tuple[str, Any]:
    """Write the run: every step came from the cache."""
    journal = Journal(home)
    outputs = Outputs(Catalog(home), {step.name: step.hit.output for step in pipeline.steps}, {})
    status: Any = turn.conclude(outputs) if pipeline.loop else "done"
    claim = journal.begin(pipeline.name, pipeline.asked, {})
    ledger = Ledger(home, claim, durability)
    try:
        for step in pipeline.steps:
            ledger.cached(step.name, step.fingerprint, step.parts, step.hit)
        ledger.settle()
        journal.end(claim, status)
    finally:
        ledger.close()
        journal.release(claim)
    return claim.run, status
