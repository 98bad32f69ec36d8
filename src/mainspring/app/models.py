"""What the commands about a loop's models do: predict, score, status, why, promote and their kind. A function returns
its exit code (None: 0)."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from mainspring.app import document
from mainspring.app import show as showing
from mainspring.app.config import existing
from mainspring.app.files import load
from mainspring.app.person import person
from mainspring.app.progress import Count
from mainspring.app.project import Loop
from mainspring.app.running import Surroundings
from mainspring.core.errors import NotInStore, UsageError
from mainspring.core.quantities import NAME
from mainspring.loop import turn
from mainspring.serving import push
from mainspring.store.deployments import TRIAL, Deployments
from mainspring.store.home import Home
from mainspring.store.journal import Journal


def predict(*, home: str | None, name: str, rows: str, as_json: bool) -> int:
    with document.alone(as_json):
        answer = turn.call("mainspring.loop.champion:answer", existing(home), name, rows)
    if as_json:
        return document.one("predict", "done", **answer)
    for label in answer["predictions"]:
        print(label)
    return 0


def score(*, home: str | None, name: str, rows: str, as_json: bool, **options: Any) -> int:
    loop, version = _divide(name)
    store = existing(home)
    with document.alone(as_json), Count(f"scoring with {name}", quiet=as_json) as count:
        done = turn.call("mainspring.loop.scoring:score", store, loop, version, rows, tell=count, **options)
    if as_json:
        return document.one("score", "done", scored=done, out=options["out"])
    went_on = f", after {done.resumed:,} that were there" if done.resumed else ""
    print(f"{done.model} has answered {done.rows:,} rows{went_on}: {options['out']} ({done.seconds:.1f} s)")
    return 0


def status(*, home: str | None, as_json: bool) -> int:
    store = existing(home)
    loops = [_loop_status(Deployments(store), name) for name in Deployments(store).loops()]
    if as_json:
        return document.one("status", "done", loops=loops, home=str(store.path), troubles=_troubles(store))
    showing.status(loops)
    for trouble in _troubles(store):
        print(f"trouble: {trouble}")
    return 0


def _troubles(store: Home) -> list[str]:
    """What the endpoint's processes tell of themselves, where they run."""
    with suppress(OSError):
        return push.ask(store, timeout_seconds=1.0) or []
    return []


def why(*, home: str | None, name: str, html: str | None, as_json: bool) -> int:
    loop, version = _divide(name)
    deployments = Deployments(existing(home))
    written = deployments.decisions(loop)
    if not written:  # a loop whose first turn failed has no version, but a reason
        _known(deployments, loop)
    found = [record for record in written if version is None or record.version == version]
    if version is not None and not found:
        deployments.version(loop, version)
    if html is not None:
        _write(html, turn.call("mainspring.release.page:page", deployments, loop, version))
    if as_json:
        return document.one("why", "done", decisions=found)
    showing.decisions(loop, found)
    return 0


def models(*, home: str | None, name: str, as_json: bool) -> int:
    deployments = Deployments(existing(home))
    _known(deployments, name)
    route, versions = deployments.route(name), deployments.versions(name)
    if as_json:
        return document.one("models", "done", versions=versions, route=route)
    showing.models(versions, route)
    return 0


def import_(*, home: str | None, uri: str, loop: str | None, as_json: bool, **options: Any) -> int:
    name = loop or re.sub(r"^models:/|[/@][^/@]*$", "", uri)
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be a loop's name (it must match {NAME.pattern}); give --loop NAME")
    where = Surroundings.of(home)
    with document.alone(as_json):
        done = turn.call(
            "mainspring.loop.importing:bring", where.home, uri, name, mlflow=where.mlflow, by=person(), **options
        )
    if as_json:
        return document.one("import", "done", release=done)
    print(f"{done.loop}@{done.version} is {done.state}", *(f"- {reason}" for reason in done.reasons), sep="\n")
    showing.notes(done.bundle.notes)
    return 0


def promote(*, home: str | None, name: str, reason: str, as_json: bool) -> int:
    loop, version = _divide(name)
    where = Surroundings.of(existing(home))
    _known(Deployments(where.home), loop)
    told = {"reason": reason, "mlflow": where.mlflow, "by": person()}
    return document.action(turn.call("mainspring.loop.champion:promote", where.home, loop, version, **told), as_json)


def rollback(*, home: str | None, name: str, reason: str, as_json: bool) -> int:
    loop, version = _divide(name)
    if version is not None:
        to = f"a version of your choice takes all traffic by mainspring promote {loop}@VERSION"
        raise UsageError(f"{name!r}: a rollback takes the loop alone, mainspring rollback {loop}; {to}")
    where = Surroundings.of(existing(home))
    _known(Deployments(where.home), loop)
    told = {"reason": reason, "mlflow": where.mlflow, "by": person()}
    return document.action(turn.call("mainspring.loop.champion:rollback", where.home, loop, **told), as_json)


def verify(*, home: str | None, **arguments: Any) -> int:
    return int(turn.call("mainspring.app.bundles:verify", home, **arguments))


def decided(*, home: str | None, verb: str, name: str, reason: str, as_json: bool) -> int:
    loop, version = _divide(name)
    store = existing(home)
    _known(Deployments(store), loop)
    return document.action(turn.call("mainspring.app.approvals:decide", store, verb, loop, version, reason), as_json)


def monitor(*, home: str | None, name: str, html: str | None, as_json: bool) -> int:
    store = existing(home)
    with document.alone(as_json):
        watching = _watching(store, name)
        report, _ = watching.report(Deployments(store).now())
    if html is not None:
        _write(html, watching.page(report))
    if as_json:
        return document.one("monitor", "done", report=report.to_json())
    print(turn.call("mainspring.monitoring.terminal:render", report))
    return 0


def _write(html: str, page: str) -> None:
    if not Path(html).parent.is_dir():
        raise UsageError(f"--html {html!r}: no folder {str(Path(html).parent)!r}; make it first")
    Path(html).write_text(page, encoding="utf-8")
    print(f"wrote {html}", file=sys.stderr)


def _loop_status(deployments: Deployments, name: str) -> dict[str, Any]:
    route = deployments.route(name)
    decisions = deployments.decisions(name)
    alarms = [record for record in decisions if record.kind == "monitor" and record.decision == "alarm"]
    return {
        "name": name,
        "champion": route and route.champion,
        "canary": route and route.canary,
        "canary_share": route and route.share,
        "holding": route and route.holding,
        "strategy": route and route.strategy,
        "trial": deployments.load_state(name, TRIAL) if route and route.canary else None,
        "versions": len(deployments.versions(name)),
        "last_decision": decisions[-1] if decisions else None,
        "last_alarm": alarms[-1] if alarms else None,
    }


def _known(deployments: Deployments, loop: str) -> None:
    loops = deployments.loops()
    if loop not in loops:
        last = next(iter(Journal(deployments.home).runs(loop, limit=1)), None)
        if last is not None and last.status != "done":
            told = f"{loop!r} has no version yet, its last run is {last.status}"
            raise NotInStore(f"{told}: `mainspring show {last.id}` says why")
        known = (
            f"this home has {', '.join(loops)}" if loops else "this home has none yet; `mainspring run FILE` makes one"
        )
        raise NotInStore(f"no loop {loop!r} in {deployments.home.path}: {known}")


def _watching(store: Home, name: str) -> Any:
    """The watch over a loop, by the rules of its FILE or by the last that were declared."""
    if name.partition(":")[0].endswith(".py"):
        return turn.call("mainspring.loop.watch:Watch.of", store, _only_loop(name).declaration)
    _known(Deployments(store), name)
    return turn.call("mainspring.loop.watch:Watch.last", store, name)


def _only_loop(reference: str) -> Loop:
    loops = [found for found in load(reference) if isinstance(found, Loop)]
    if len(loops) != 1:
        names = ", ".join(loop.name for loop in loops) or "none"
        raise UsageError(f"{reference} must have one Loop, it has {names}; name it: FILE.py:name")
    return loops[0]


def _divide(name: str) -> tuple[str, int | None]:
    loop, separator, version = name.partition("@")
    if not separator:
        return loop, None
    if not version.isdigit():
        raise UsageError(f"{name!r}: the version after @ must be a number, such as {loop}@3")
    return loop, int(version)
