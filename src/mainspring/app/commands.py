"""What each command of `app/cli.py` does; those about models are in `app/models.py`. A function returns its exit code
(None: 0)."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mainspring.app import config, differences, document, plans, supervisor
from mainspring.app import show as showing
from mainspring.app.access import access
from mainspring.app.config import existing
from mainspring.app.files import load
from mainspring.app.manifest import HELD
from mainspring.app.pipeline import Pipeline
from mainspring.app.progress import Progress
from mainspring.app.project import Loop
from mainspring.app.remember import remember
from mainspring.app.running import Run, Surroundings
from mainspring.core.declarations import CsvSource, ParquetSource
from mainspring.core.errors import MainspringError, NotInStore, UsageError
from mainspring.core.hiding import hidden
from mainspring.core.values import Release
from mainspring.core.wording import one_line
from mainspring.execution import executors
from mainspring.execution import logs as printed
from mainspring.execution.planning import PlannedStep
from mainspring.loop import turn
from mainspring.pipeline.graph import Graph, Selection, nearest
from mainspring.store.catalog import Catalog
from mainspring.store.home import Home
from mainspring.store.journal import Journal, StepRecord


def init(*, home: str | None, data: str, target: str, output: str, overwrite: bool) -> int:
    path = turn.call("mainspring.app.init:write", data, target=target, output=output, overwrite=overwrite)
    print(path.read_text(encoding="utf-8"))
    print(f"wrote {path}; next: mainspring plan {path}, mainspring run {path}, mainspring up {path}")
    return 0


def plan(
    *,
    home: str | None,
    file: str,
    settings: Sequence[str],
    markdown: bool,
    check: bool,
    as_json: bool,
    **selection: Any,
) -> int:
    where = Surroundings.of(home, selection=Selection(**selection))
    with document.alone(as_json):
        declared = [_asked(found, settings) for found in load(file)]
        planned = [(found.name, found.foresee(where, parameters)) for found, parameters in declared]
        stale = any(plans.stale(steps) for _, steps in planned)
        whole = where.selection == Selection() and not stale
        why = remember(where, home, file, settings, declared) if whole else ""
    if as_json:
        document.several("plan", [("done", {"name": name, "steps": _steps(steps)}) for name, steps in planned])
    for name, steps in () if as_json else planned:
        print(plans.markdown(name, steps)) if markdown else showing.plan(name, steps)
    if why and not as_json:
        print(f"- FILE is loaded each time: {why}")
    return plans.STALE if check and stale else 0


def run(
    *,
    home: str | None,
    file: str,
    settings: Sequence[str],
    executor: str | None,
    fast: bool,
    explain: bool,
    full_traceback: bool,
    as_json: bool,
    **selection: Any,
) -> int:
    runs = []
    loading = ("mainspring.app.module:know", os.path.abspath(file))
    executor = executor or config.read(home=home).executor or "local"
    with document.alone(as_json), _ended_in_order(), executors.opened(executor) as opened:
        executors.warmed(opened, loading)
        sound = _sound(home, file)
        opening = Surroundings.of(
            home, selection=Selection(**selection), durability="fast" if fast else None, load=loading
        )
        where = replace(opening, executor=opened)
        declared = [_asked(found, settings) for found in sound or load(file)]
        for found, parameters in declared:
            if explain:
                told = plans.explain(found.name, found.foresee(where, parameters))
                print(*told, sep="\n", file=sys.stderr if as_json else sys.stdout, flush=True)
            with Progress(found.name, _graph(found).names, quiet=as_json) as progress:
                done = found.start(replace(where, report=progress.event), parameters)
            runs.append(done)
            if not as_json:
                showing.run(done, where.home.card(done.model))
            if done.error is not None and full_traceback:
                print(hidden("".join(traceback.format_exception(done.error))), end="", file=sys.stderr)
            for step in done.steps:
                if step.state == "failed":
                    print(f"mainspring: {one_line(step.reason)}", file=sys.stderr)
        if where.selection == Selection() and all(done.status in ("done", "held") for done in runs):
            remember(where, home, file, settings, declared)
    if as_json:
        document.several("run", [(done.status, _run_fields(done)) for done in runs])
    return max(map(_code, runs), key=(0, HELD, 2, 1).index)


def up(
    *,
    home: str | None,
    files: Sequence[str],
    host: str | None,
    port: int | None,
    control_port: int | None,
    clock: str,
    now: str | None,
    once: bool,
    **doors: Any,
) -> int:
    settings = config.read(home=home, host=host, port=port, control_port=control_port, **doors)
    access(settings)  # before FILE is executed
    if now is not None and clock != "manual":
        raise UsageError("--now is where a manual clock starts; add --clock manual")
    if now is not None:
        _time(now)
    if clock == "manual" and settings.workers > 1:
        raise UsageError(f"history by a manual clock repeats only with one worker, not {settings.workers}")
    loops = [found for file in files for found in load(file) if isinstance(found, Loop)]
    if not loops:
        raise UsageError(f"{', '.join(files)}: no Loop to serve; `mainspring run` runs a Pipeline")
    names = [loop.name for loop in loops]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(f"{', '.join(files)}: two Loops of the name {twice!r}; give each its own")
    manual = clock == "manual"
    seeds = {loop.name: loop.declaration.seed for loop in loops} if manual else None
    return supervisor.up(files, names, settings, manual_clock=manual, now=now, once=once, seeds=seeds)


def serve(*, home: str | None, folder: str | None, **doors: Any) -> int:
    if folder is not None and home is not None:
        raise UsageError(f"serve {folder} needs no home; leave out --home, or FOLDER to serve the loops of the home")
    settings = config.read(home=home, **doors)
    if folder is None:
        return supervisor.serve(settings)
    return int(turn.call("mainspring.app.alone:serve", settings, Path(folder)))


def feedback(
    *, home: str | None, name: str, data: str, url: str | None, token: str | None, refused: str | None, as_json: bool
) -> int:
    settings = config.read(home=home, token=token)
    found = turn.call("mainspring.app.labelling:feedback", settings, name, data, url=url, refused=refused)
    if as_json:
        return document.one("feedback", "done", labels=found)
    print(f"{found.rows:,} labels: {found.new:,} new, {found.corrected:,} corrected, {found.known:,} known already")
    if found.refused:
        print(f"{found.refused:,} refused, kept in {found.kept}; the first: {found.first_refusal}")
    return 0


def runs(*, home: str | None, name: str | None, limit: int, as_json: bool) -> int:
    store = existing(home)
    journal = Journal(store)
    found = journal.runs(pipeline=name, limit=limit)
    if name is not None and not found and limit > 0:
        known = list(dict.fromkeys(run.pipeline for run in journal.runs(limit=1000)))
        raise NotInStore(f"no run of {name!r} in {store.path}: it has runs of {', '.join(known) or 'nothing'}")
    if as_json:
        return document.one("runs", "done", runs=found)
    showing.runs(found)
    return 0


def show(*, home: str | None, run: str, other: str | None, as_json: bool) -> int:
    store = existing(home)
    journal = Journal(store)
    if other is not None:
        return _differences(differences.between(store, other, run), as_json)
    found, steps = journal.run(run), journal.steps(run)
    if as_json:
        return document.one("show", found.status, run=found, steps=steps)
    showing.one_run(found, steps)
    verdict, release = (_made(store, steps, name) for name in ("gate", "release"))
    showing.notes(getattr(getattr(verdict, "bundle", None), "notes", ()))
    showing.card(store.card(f"{release.loop}@{release.version}" if isinstance(release, Release) else None))
    return 0


def logs(*, home: str | None, run: str, step: str | None, as_json: bool) -> int:
    store = existing(home)
    journal = Journal(store)
    journal.run(run)
    known = {record.name: record.cached_from for record in journal.steps(run)}
    if step is not None and known and step not in known:
        near = nearest(step, list(known))
        raise NotInStore(f"run {run} has no step {step!r}{near}; its steps are {', '.join(known)}")
    if step is not None and (made := known.get(step)):
        raise NotInStore(f"step {step!r} was cached in run {run}; write mainspring logs {made} {step}")
    texts = printed.read(store, run, step)
    if as_json:
        return document.one("logs", "done", run=run, logs=texts)
    for name, text in texts.items():
        print(f"--- {name}\n{text.rstrip()}")
    return 0


def cancel(*, home: str | None, run: str, as_json: bool) -> int:
    Journal(existing(home)).cancel(run)
    return document.action(f"run {run} is asked to stop; `mainspring show {run}` tells when it has", as_json)


def schema(*, home: str | None, **arguments: Any) -> int:
    found: int = turn.call("mainspring.app.contracts:schema", existing(home), **arguments)
    return found


def quarantine(*, home: str | None, **arguments: Any) -> int:
    found: int = turn.call("mainspring.app.rejected:quarantine", existing(home), **arguments)
    return found


def doctor(*, home: str | None, as_json: bool) -> int:
    findings = turn.call("mainspring.app.doctor:examine", config.read(home=home))
    wrong = any(finding.state == "wrong" for finding in findings)
    if as_json:
        document.one("doctor", "failed" if wrong else "done", findings=findings)
    else:
        showing.findings(findings)
    return 1 if wrong else 0


# ------------------------------------------------------------------------------------------------------------ details


def _steps(steps: Sequence[PlannedStep]) -> list[dict[str, Any]]:
    return [step.to_json() for step in steps]


def _differences(found: differences.Differences, as_json: bool) -> int:
    if as_json:
        steps = [step.to_json() for step in found.steps]
        return document.one("diff", "done", run=found.run, other=found.other, parameters=found.parameters, steps=steps,
                           metrics=found.metrics)  # fmt: skip
    showing.differences(found)
    return 0


def _asked(found: Loop | Pipeline, settings: Sequence[str]) -> tuple[Loop | Pipeline, dict[str, Any]]:
    """What is to run with which run parameters; `data@=12` is no parameter but the version of the data."""
    versions = [setting.removeprefix("data@=") for setting in settings if setting.startswith("data@=")]
    parameters = _parameters(found, [setting for setting in settings if not setting.startswith("data@=")])
    if not versions:
        return found, parameters
    if not isinstance(found, Loop):
        raise UsageError(f"--set data@={versions[-1]}: {found.name!r} is a Pipeline; only a Loop's data have versions")
    if not versions[-1].isdecimal():
        raise UsageError(f"--set data@={versions[-1]} must be a version's number: see mainspring data {found.name}")
    return found.at(int(versions[-1])), parameters


def _parameters(found: Loop | Pipeline, settings: Iterable[str]) -> dict[str, Any]:
    """Run parameters typed as the steps annotate them."""
    graph = _graph(found)
    parameters = {}
    for setting in settings:
        name, separator, text = setting.partition("=")
        if not separator:
            raise UsageError(f"--set {setting!r} must be NAME=VALUE, such as --set trees=200")
        parameters[name] = graph.parse(name, text)
    return parameters


def data(*, home: str | None, name: str, **arguments: Any) -> int:
    return int(turn.call("mainspring.app.datasets:data", existing(home), name=name, **arguments))


def erase(*, home: str | None, **arguments: Any) -> int:
    return int(turn.call("mainspring.app.erase:erase", existing(home), **arguments))


def gc(*, home: str | None, dry_run: bool, keep_days: float, as_json: bool) -> int:
    from mainspring.store import gc as garbage

    if not dry_run:
        turn.call("mainspring.store.history:compact_all", existing(home), checked=True)
    found = garbage.collect(existing(home), keep_days=keep_days, dry_run=dry_run)
    if as_json:
        return document.one("gc", "busy" if found.busy else "done", dry_run=dry_run, garbage=found, bytes=found.bytes)
    showing.garbage(found, freed=not (dry_run or found.busy))
    return 0


def _graph(found: Loop | Pipeline) -> Graph:
    return (found.pipeline if isinstance(found, Loop) else found).graph


def _made(home: Home, steps: Sequence[StepRecord], name: str) -> Any:
    """What the step *name* made; None where it made nothing that is still there."""
    output = next((step.output for step in steps if step.name == name), None)
    try:
        return None if output is None else Catalog(home).load(output)
    except MainspringError:
        return None


def _code(done: Run) -> int:
    """A declaration that only a stage could refuse is a wrong call all the same."""
    failed = 2 if isinstance(done.error, UsageError) else 1
    return {"done": 0, "held": HELD}.get(done.status, failed)


def _run_fields(done: Run) -> dict[str, Any]:
    return {
        "id": done.id,
        "metrics": done.metrics,
        "model": done.model,
        "verdict": done.verdict,
        "reasons": done.reasons,
        "steps": done.steps,
        "error": None if done.error is None else str(done.error),
    }


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM, as from a scheduler, ends a run as Ctrl-C does: with a word, and nothing that is done is lost."""

    def end(number: int, frame: Any) -> None:
        if not callable(signal.getsignal(signal.SIGINT)):  # ignored, as in a shell's background jobs
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sound(home: str | None, file: str) -> list[Loop | Pipeline]:
    """What FILE declares, where no home is there yet: none is made for a FILE that can't be loaded or finds no data."""
    if config.read(home=home).home.exists():
        return []
    declared = load(file)
    for found in declared:
        if isinstance(found, Loop) and isinstance(found.declaration.source, CsvSource | ParquetSource):
            turn.call("mainspring.data.sources:reader", found.declaration.source).position()
    return declared


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--now {text!r} is not an ISO 8601 time such as 2013-04-01T00:00:00+00:00") from None
