"""The progress of a run: a live tree of its steps in a terminal, a plain line per step when piped."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.text import Text
from rich.tree import Tree

from mainspring.pipeline.fingerprint import LOST

STYLES = {
    "cached": "dim", "done": "green", "started": "cyan", "skipped": "dim", "failed": "bold red", "retry": "yellow",
}  # fmt: skip
_MARKS = {"cached": "·", "done": "✓", "skipped": "–", "failed": "✗", "retry": "↻"}
_MOST_LINES = 16
_QUIET_SECONDS = 5.0


@dataclass(slots=True)
class _Shown:
    """One step as it is shown. elements: how many of a fan-out's are over."""

    name: str
    state: str = "waiting"
    since: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    said: str = ""
    elements: int = 0


class Progress:
    """Shows the events of a run. steps: the names of all its steps; quiet: show nothing."""

    def __init__(self, name: str, steps: Sequence[str] = (), *, quiet: bool = False) -> None:
        self._name, self._quiet = name, quiet
        self._steps = {step: _Shown(step) for step in steps}
        self._console = Console(file=sys.stderr)
        self._live: Live | None = None
        self._lock = threading.Lock()
        self._began = self._told = time.monotonic()

    def __enter__(self) -> Progress:
        if not self._quiet and self._console.is_terminal:
            self._live = Live(get_renderable=self._tree, console=self._console, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def event(self, event: Any) -> None:
        """Something has happened; from any thread."""
        if self._quiet:
            return
        with self._lock:
            self._note(event)
        if event.kind == "output":
            for line in event.message.splitlines():
                self._print(f"  [dim]{escape(event.step)} |[/] {escape(line)}")
        elif event.kind == "stopping":
            self._print(f"  [yellow]stopping[/]: {event.message}")
        elif event.kind == "resumed":
            self._print(f"  goes on with the interrupted run {event.run}")
        elif event.kind == "progress":
            self._work(f"{event.message} {event.done}{f' of {event.of}' if event.of else ''}")
        elif event.kind == "retry" or (self._live is None and event.kind in ("cached", "run", "failed", "skipped")):
            self._line(event)

    def _note(self, event: Any) -> None:
        parent, _, element = event.step.partition("[")
        if parent not in self._steps:
            return
        shown = self._steps[parent]
        if element and event.kind in ("run", "cached", "failed"):
            shown.elements += event.kind != "failed"
        elif event.kind == "started":
            if shown.state != "started":
                shown.state, shown.since = "started", time.monotonic()
        elif event.kind == "progress":
            shown.said = f"{event.message} {event.done}{f' of {event.of}' if event.of else ''}"
        elif event.kind in ("run", "cached", "failed", "skipped"):
            shown.state, shown.seconds = "done" if event.kind == "run" else event.kind, event.seconds
            shown.said = event.message if event.kind in ("failed", "skipped") else _made_again(event)

    # ------------------------------------------------------------------------------------------------- when it is piped

    def _line(self, event: Any) -> None:
        if follows(event.message):
            return
        seconds = "" if event.kind == "cached" else f" {event.seconds:.1f} s"
        reason = event.message if event.kind in ("skipped", "retry") else _made_again(event)
        reason = f"  {escape(reason)}" if reason else ""
        state = "done" if event.kind == "run" else event.kind
        self._print(f"  {escape(event.step):<10} [{STYLES[state]}]{state}[/]{seconds}{reason}")

    def _work(self, said: str) -> None:
        """A long step tells how far it is: now and then."""
        if self._live is None and time.monotonic() - self._told > _QUIET_SECONDS:
            self._told = time.monotonic()
            self._print(f"  {escape(said)}")

    def _print(self, markup: str) -> None:
        console = self._live.console if self._live is not None else self._console
        console.print(markup, highlight=False, soft_wrap=True)

    # -------------------------------------------------------------------------------------------------- in a terminal

    def _tree(self) -> RenderableType:
        with self._lock:
            tree = Tree(self._summary(), guide_style="dim")
            for shown in self._lines():
                tree.add(_line_of(shown))
            waiting = sum(shown.state == "waiting" for shown in self._steps.values())
            return Group(tree, Text(f"    {waiting} waiting", "dim")) if waiting else tree

    def _lines(self) -> list[_Shown]:
        """The steps worth a line when not all have room: those at work and failed, then the latest that ended."""
        begun = [shown for shown in self._steps.values() if shown.state != "waiting"]
        if len(begun) <= _MOST_LINES:
            return begun
        loud = [shown for shown in begun if shown.state in ("started", "failed")]
        room = max(0, _MOST_LINES - len(loud))
        ended = [shown for shown in begun if shown.state not in ("started", "failed")]
        kept = {shown.name for shown in [*loud, *ended[len(ended) - room :]]}
        return [shown for shown in begun if shown.name in kept]

    def _summary(self) -> Text:
        states = [shown.state for shown in self._steps.values()]
        over = sum(state not in ("waiting", "started") for state in states)
        parts = [f"{over} of {len(states)} steps"]
        parts += [f"{states.count(state)} {state}" for state in ("cached", "skipped", "failed") if state in states]
        parts.append(f"{time.monotonic() - self._began:.1f} s")
        return Text.assemble((self._name, "bold"), "  ", (", ".join(parts), "dim"))


def follows(reason: str) -> bool:
    """Whether a step was only skipped because one before it gave nothing: that one has said why."""
    return reason.endswith((" failed", " was skipped"))


def _made_again(event: Any) -> str:
    """What a step that ran says of a kept output that it had: one that is gone is news."""
    return f"made again: {LOST}" if event.kind == "run" and LOST in event.message else ""


def _line_of(shown: _Shown) -> RenderableType:
    elements = f"  {shown.elements} elements" if shown.elements else ""
    if shown.state == "started":
        said = f"  {shown.said}" if shown.said else ""
        took = time.monotonic() - shown.since
        return Spinner("dots", Text.assemble((shown.name, "cyan"), (f"  {took:.1f} s{elements}{said}", "dim")))
    mark, style = _MARKS.get(shown.state, "·"), STYLES.get(shown.state, "")
    seconds = "" if shown.state in ("cached", "skipped") else f"  {shown.seconds:.1f} s"
    said = f"  {shown.said}" if shown.said and not follows(shown.said) else ""
    parts = (f"{mark} {shown.name}", style), (f"{seconds}{elements}", "dim"), said
    return Text.assemble(*parts, overflow="ellipsis", no_wrap=True)


class Count:
    """Shows how many rows are done: a line that changes in a terminal, a line every few seconds when piped."""

    def __init__(self, what: str, *, quiet: bool = False) -> None:
        self._what, self._quiet, self._terminal = what, quiet, sys.stderr.isatty()
        self._told = time.monotonic()

    def __enter__(self) -> Count:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal and not self._quiet:
            sys.stderr.write("\r\x1b[K")

    def __call__(self, rows: int, per_second: float) -> None:
        now = time.monotonic()
        if self._quiet or now - self._told < (0.1 if self._terminal else _QUIET_SECONDS):
            return
        self._told = now
        line = f"{self._what}: {rows:,} rows, {per_second:,.0f} a second"
        sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()
