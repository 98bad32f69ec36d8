"""What a person sees while a run goes on: a tree in a terminal, lines in a pipe, nothing when asked for JSON."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from mainspring.app.progress import Progress
from mainspring.execution.outcome import Event
from mainspring.pipeline.fingerprint import LOST

EVENTS = [
    Event("begun", "r1"),
    Event("started", "r1", "rows", LOST),
    Event("progress", "r1", "rows", "reading", done=1, of=4),
    Event("output", "r1", "rows", "hello [b]\n"),
    Event("run", "r1", "rows", LOST, seconds=1.25),
    Event("cached", "r1", "clean", "from run r0"),
    Event("started", "r1", "monthly[0]", ""),
    Event("run", "r1", "monthly[0]", "", seconds=0.1),
    Event("retry", "r1", "model", "attempt 1 of 2 failed: OSError: gone"),
    Event("failed", "r1", "model", "step 'model' failed: OSError: gone", seconds=0.5),
    Event("skipped", "r1", "gate", "model failed"),
]


def test_in_a_pipe_each_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("seed", ["rows", "clean", "monthly", "model", "gate"]) as progress:
        for event in EVENTS:
            progress.event(event)

    assert capsys.readouterr().err.splitlines() == [
        "  rows | hello [b]",
        "  rows       done 1.2 s  made again: its kept output is missing or damaged",
        "  clean      cached",
        "  monthly[0] done 0.1 s",
        "  model      retry 0.0 s  attempt 1 of 2 failed: OSError: gone",
        "  model      failed 0.5 s",
    ]


def test_for_json_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("seed", ["rows"], quiet=True) as progress:
        for event in EVENTS:
            progress.event(event)

    assert capsys.readouterr() == ("", "")


def test_in_a_terminal_a_tree_shows_what_is_at_work_and_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress("seed", ["rows", "clean", "monthly", "model", "gate", "last"])
    for event in EVENTS[:8]:
        progress.event(event)

    shown = _rendered(progress)
    assert "seed  2 of 6 steps, 1 cached" in shown
    assert "✓ rows  1.2 s" in shown and "· clean" in shown and "monthly  0." in shown and "1 elements" in shown
    assert "3 waiting" in shown
    for event in EVENTS[8:]:
        progress.event(event)
    shown = _rendered(progress)
    assert "✗ model  0.5 s  step 'model' failed: OSError: gone" in shown and "– gate\n" in shown


def test_of_many_steps_those_that_matter_stay_in_view() -> None:
    progress = Progress("long", [f"s{number}" for number in range(200)])
    progress.event(Event("failed", "r1", "s0", "step 's0' failed: no"))
    for number in range(1, 150):
        progress.event(Event("run", "r1", f"s{number}"))
    progress.event(Event("started", "r1", "s150"))

    shown = _rendered(progress)
    assert "✗ s0" in shown and "s150" in shown and "✓ s149" in shown and "✓ s10 " not in shown
    assert len(shown.splitlines()) < 22 and "49 waiting" in shown


def _rendered(progress: Progress) -> Any:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(progress._tree())
    return console.export_text()
