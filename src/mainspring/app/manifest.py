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
from mainspring.core.wording import count
from mainspring.execution.outcome import Outputs
from mainspring.loop import turn
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.journal import Hit, Journal
from mainspring.store.ledger import Ledger
from mainspring.store.manifests import Manifests
from mainspring.store.outbox import Outbox
from mainspring.store.records import Records

_NO_SELECTION = ("start", "until", "only", "force")
HELD = 3


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One declaration of FILE, all of whose steps were cached. steps: (name, fingerprint, parts, hit)."""

    name: str
    loop: bool
    asked: Any
    steps: tuple[tuple[str, str, Mapping[str, Any], Hit], ...]

    def to_json(self) -> dict[str, Any]:
        steps = [
            [name, digest, parts, hit.output.to_json(), hit.run, hit.seconds] for name, digest, parts, hit in self.steps
        ]
        return {"name": self.name, "loop": self.loop, "asked": self.asked, "steps": steps}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Pipeline:
        steps = tuple(
            (name, digest, parts, Hit(Artifact.from_json(output), run, seconds))
            for name, digest, parts, output, run, seconds in kept["steps"]
        )
        return cls(kept["name"], kept["loop"], kept["asked"], steps)


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
    """What a turn of *loop* sees of the home beside its own steps: versions, traffic, labelled predictions."""
    deployments = Deployments(home)
    told = [deployments.route(loop), deployments.versions(loop), Records(home, loop).end()["feedback"]]
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
    for name, fingerprint, _, hit in pipeline.steps:
        now = journal.hit(pipeline.name, name, fingerprint)
        if now is None or now.output != hit.output or not catalog.sound(now.output):
            return False
    return True


def _plan(found: Sequence[Pipeline], options: Mapping[str, Any]) -> int:
    if options.get("as_json"):
        steps: list[list[dict[str, Any]]] = [
            [{"name": step[0], "state": "cached", "reasons": [], "seconds": None} for step in each.steps]
            for each in found
        ]
        document.several(
            "plan", [("done", {"name": each.name, "steps": told}) for each, told in zip(found, steps, strict=True)]
        )
    for each in () if options.get("as_json") else found:
        cached = f"{count(len(each.steps), 'step')} cached"
        page = f"### Plan of `{each.name}`\n\nNothing to run; {cached}.\n"
        print(page if options.get("markdown") else f"{each.name}: nothing to run, {cached}")
    return 0


def _run(home: Home, found: Sequence[Pipeline], durability: Any, options: Mapping[str, Any]) -> int:
    code, answers = 0, []
    for each in found:
        run, status = _record(home, each, durability)
        outputs = Outputs(Catalog(home), {name: hit.output for name, _, _, hit in each.steps}, {})
        summary = turn.summarise(outputs) if each.loop else None
        metrics = dict(summary.metrics) if summary is not None else _numbers(outputs)
        model, verdict, reasons = (summary.model, summary.verdict, summary.reasons) if summary else (None, None, ())
        code = HELD if status == "held" else code
        steps: list[dict[str, Any]] = [
            {"name": name, "state": "cached", "seconds": 0.0, "reason": f"from run {hit.run}"}
            for name, _, _, hit in each.steps
        ]
        answers.append((status, {"id": run, "metrics": metrics, "model": model, "verdict": verdict, "reasons": reasons,
                                 "steps": steps, "error": None}))  # fmt: skip
        if not options.get("as_json"):
            print(f"{each.name}: nothing to run, {count(len(steps), 'step')} cached", file=sys.stderr)
            figures = [f"{name:<20} {value:.4f}" for name, value in metrics.items()]
            told = [f"{run}  {status}", *figures, *(f"- {reason}" for reason in reasons)]
            print(*told, *([f"model {model}"] if model else []), sep="\n")
    if options.get("as_json"):
        document.several("run", answers)
    return code


def _record(home: Home, pipeline: Pipeline, durability: Any) -> tuple[str, Any]:
    """Write the run: every step came from the cache."""
    journal = Journal(home)
    outputs = Outputs(Catalog(home), {name: hit.output for name, _, _, hit in pipeline.steps}, {})
    status: Any = turn.conclude(outputs) if pipeline.loop else "done"
    claim = journal.begin(pipeline.name, pipeline.asked, {})
    ledger = Ledger(home, claim, durability)
    try:
        for name, fingerprint, parts, hit in pipeline.steps:
            ledger.cached(name, fingerprint, parts, hit)
        ledger.settle()
        journal.end(claim, status)
    finally:
        ledger.close()
        journal.release(claim)
    return claim.run, status


def _numbers(outputs: Outputs) -> dict[str, float]:
    small = {name: outputs[name] for name in outputs if outputs.artifact(name).content is not None}
    return {name: float(value) for name, value in small.items() if type(value) in (int, float)}
