"""What a person sees in the terminal: tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mainspring.app import plans
from mainspring.app.progress import follows
from mainspring.core.wording import number

_STATES = {
    "cached": "dim", "run": "green", "done": "green", "maybe": "yellow", "running": "cyan", "skipped": "dim",
    "failed": "bold red", "held": "yellow", "interrupted": "yellow", "cancelled": "yellow",
    "ok": "green", "warning": "yellow", "wrong": "bold red", "champion": "bold green", "canary": "cyan",
}  # fmt: skip


NOTES = 15
"""So many notes are shown; the card has them all."""
MANY_STEPS = 50
"""Of a plan of more, the steps that are cached are counted and not listed."""


def plan(name: str, steps: Sequence[Any]) -> None:
    table = headed(name, "step", "state", "why", "expected")
    shown = [step for step in steps if step.state != "cached"] if len(steps) > MANY_STEPS else steps
    for step in shown:
        expected = "" if step.state == "cached" or step.seconds is None else plans.seconds(step.seconds)
        row(table, step.name, _state(step.state), plans.why(step), expected)
    if shown:
        out(table)
    left_out = len(steps) - len(shown)
    out(Text(plans.total(steps) + (f"; {left_out:,} steps are cached" if left_out else "")))
    for note in plans.notes(steps):
        out(Text(f"- counts more than needed: {note}"))


def run(done: Any, page: str | None = None) -> None:
    table = headed(f"{done.id}  {done.status}", "metric", "value")
    for name, value in done.metrics.items():
        row(table, name, number(value, 4))
    out(table if done.metrics else f"{done.id}  {done.status}")
    for line in done.reasons:
        if not (follows(line) or (done.error is not None and str(done.error) in line)):  # the error is told by itself
            out(Text(f"- {line}"))
    notes(() if done.verdict is None else done.verdict.bundle.notes)
    if done.model:
        out(Text.assemble("model ", (done.model, "bold")))
    card(page)


def card(page: str | None) -> None:
    """Where the model card lies, if there is one."""
    if page:
        out(Text(f"card: {page}"))


def notes(found: Sequence[str]) -> None:
    """What happened to the data on its way into the model."""
    for note in found[:NOTES]:
        out(Text(f"  note: {note}"))
    if len(found) > NOTES:
        out(Text(f"  note: {len(found) - NOTES} more are in the card"))


_MOST_SLICES = 10


def status(loops: Sequence[Mapping[str, Any]]) -> None:
    table = headed("loops", "loop", "champion", "on trial", "versions", "last decision")
    for loop in loops:
        last = loop["last_decision"]
        canary = "" if loop["canary"] is None else f"@{loop['canary']} {loop['strategy']}"
        canary += f" {_percent(loop['canary_share'])}" if loop["canary_share"] else ""  # a shadow answers nobody
        canary += " held" if loop["holding"] else ""
        told = "" if last is None else f"{last.at:%Y-%m-%d %H:%M} {last.kind} {last.decision}: {last.reason}"
        champion = "" if loop["champion"] is None else f"@{loop['champion']}"
        row(table, loop["name"], champion, canary, str(loop["versions"]), told)
    out(table if loops else "no loop yet; `mainspring run FILE` makes one")
    for loop in loops:
        if loop["trial"] is not None:
            _trial(loop["name"], loop["trial"])


def _trial(loop: str, trial: Mapping[str, Any]) -> None:
    """What the running trial has come to, with a shadow's disagreement by slice."""
    out(Text(f"{loop}@{trial['version']} {trial['strategy']}: {trial['reason']}"))
    for column, values in ((trial["evidence"] or {}).get("slices") or {}).items():
        table = headed(f"where the shadow disagrees, by {column}", column, "rows", "disagreement")
        for value, found in sorted(values.items(), key=lambda each: -each[1]["disagreement"])[:_MOST_SLICES]:
            row(table, value, f"{found['rows']:,}", f"{found['disagreement']:.3g}")
        out(table)


def runs(found: Sequence[Any]) -> None:
    table = headed("runs", "run", "pipeline", "status", "created", "seconds")
    for each in found:
        seconds = "" if each.ended is None else f"{(each.ended - each.created).total_seconds():.1f}"
        row(table, each.id, each.pipeline, _state(each.status), f"{each.created:%Y-%m-%d %H:%M:%S}", seconds)
    out(table)


def one_run(found: Any, steps: Sequence[Any]) -> None:
    table = headed(
        f"{found.id}  {found.pipeline}  {found.status}", "step", "status", "attempt", "seconds", "output", "why"
    )
    for step in steps:
        seconds = "" if step.seconds is None else f"{step.seconds:.2f}"
        digest = "" if step.output is None else f"{step.output.format} {step.output.digest[:12]}"
        row(table, step.name, _state(step.status), str(step.attempt), seconds, digest, step.reason or "")
    out(table)


def differences(found: Any) -> None:
    """What a run did otherwise than another."""
    if not (found.parameters or found.steps or found.metrics):
        out(f"{found.run} differs in nothing from {found.other}")
    if found.parameters:
        _changes("parameters", found.other, found.run, found.parameters)
    if found.steps:
        table = headed("steps", "step", found.other, found.run, "output", "why")
        for step in found.steps:
            same = step.old_digest == step.new_digest
            output = "the same" if same else f"{(step.old_digest or '-')[:12]} -> {(step.new_digest or '-')[:12]}"
            why = "; ".join(map(str, step.reasons[:5])) + (" ..." if len(step.reasons) > 5 else "")
            states = (_state(step.old_status or ""), _state(step.new_status or ""))
            row(table, step.name, *states, output, why)
        out(table)
    if found.metrics:
        _changes("metrics", found.other, found.run, found.metrics)


def _changes(title: str, other: str, run: str, changes: Sequence[Any]) -> None:
    table = headed(title, "name", other, run)
    for change in changes:
        row(table, change.name, *("" if value is None else str(value) for value in (change.old, change.new)))
    out(table)


def decisions(loop: str, found: Sequence[Any]) -> None:
    table = headed(f"why {loop}", "when", "what", "decision", "version", "reason")
    for each in found:
        version = "" if each.version is None else f"@{each.version}"
        row(table, f"{each.at:%Y-%m-%d %H:%M}", each.kind, each.decision, version, each.reason)
    out(table)


def acts(entries: Sequence[Any]) -> None:
    table = headed("audit", "", "when", "who", "act", "on", "reason")
    for each in entries:
        named = each.loop if each.version is None else f"{each.loop}@{each.version}"
        row(table, str(each.number), f"{each.at:%Y-%m-%d %H:%M:%S}", each.by, each.act, named, each.reason)
    out(table)


def models(versions: Sequence[Any], route: Any) -> None:
    names = list(dict.fromkeys(name for version in versions for name in version.metrics))[:3]
    table = headed("versions", "version", "state", "traffic", "estimator", "runtime", *names, "since")
    for version in versions:
        share = _share(version.number, route)
        figures = [_figure(version.metrics.get(name)) for name in names]
        bundle = version.bundle
        row(table, f"@{version.number}", _state(version.state), share, bundle.estimator, bundle.runtime, *figures,
                      f"{version.at:%Y-%m-%d %H:%M}")  # fmt: skip
    out(table)


def findings(found: Sequence[Any]) -> None:
    table = headed("doctor", "what", "state", "detail", "mend")
    for each in found:
        row(table, each.subject, _state(each.state), each.detail, each.mend)
    out(table)


def garbage(found: Any, *, freed: bool) -> None:
    """What gc freed, or would free."""
    table = headed("freed" if freed else "would be freed", "kind", "count", "size")
    for kind in ("objects", "bundles", "cache", "data", "leftovers", "kept"):
        amount = getattr(found, kind)
        size = "" if kind == "cache" else _size(amount.bytes)
        row(table, {"cache": "cache entries", "kept": "kept"}.get(kind, kind), f"{amount.count:,}", size)
    out(table)
    if found.busy:
        out(f"{found.busy} is under way: nothing was freed; run `mainspring gc` again when it has ended")


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _share(number: int, route: Any) -> str:
    if route is None or number not in (route.champion, route.canary):
        return ""
    return _percent(route.share if number == route.canary else 1 - (route.share if route.canary else 0))


def _percent(share: float) -> str:
    return f"{100 * share:.4g}%"


def _figure(value: float | None) -> str:
    return "" if value is None else number(value, 4)


def _state(state: str) -> Text:
    return Text(state, _STATES.get(state, ""))


def row(table: Table, *cells: str | Text) -> None:
    """A row whose texts are shown as they are: what a person wrote may look like markup."""
    table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def headed(title: str, *columns: str) -> Table:
    return Table(
        *columns, title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False
    )


def out(what: Any) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(what, highlight=False, soft_wrap=isinstance(what, Text) and not console.is_terminal)
