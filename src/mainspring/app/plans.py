"""A plan as a person reads it: a table in the terminal, lines before a run, Markdown for a review comment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mainspring.execution.planning import PlannedStep

STALE = 4
"""The exit code of `plan --check` when something would run."""

_MOST_REASONS = 3
_WORDS = {"run": "runs", "maybe": "may stop early", "cached": "cached", "skip": "skipped"}


def stale(steps: Sequence[PlannedStep]) -> bool:
    """Whether a run would do anything but read what is kept."""
    return any(step.state in ("run", "maybe") for step in steps)


def why(step: PlannedStep) -> str:
    """The reasons of *step*, the first few in full."""
    told = [str(reason) for reason in step.reasons]
    more = len(told) - _MOST_REASONS
    return "; ".join([*told[:_MOST_REASONS], *([f"and {more} more"] if more > 0 else [])])


def total(steps: Sequence[PlannedStep]) -> str:
    """How long a run would take, as far as history tells.

    >>> total([PlannedStep("model", "run", (), 61.0), PlannedStep("report", "maybe", (), 2.0)])
    'expected 61.0 s, at most 63.0 s'
    >>> total([PlannedStep("model", "run", (), 0.01), PlannedStep("report", "maybe", (), 0.02)])
    'expected under 0.1 s'
    """
    sure, perhaps = (sum(step.seconds or 0.0 for step in steps if step.state == state) for state in ("run", "maybe"))
    unknown = sum(step.state in ("run", "maybe") and step.seconds is None for step in steps)
    if not stale(steps):
        return "nothing to run"
    least, most = seconds(sure), seconds(sure + perhaps)
    times = f"expected {least}" + (f", at most {most}" if most != least else "")
    never = f"{unknown} step{'s' if unknown > 1 else ''} never timed"
    if unknown and not sure + perhaps:
        return f"expected time unknown: {never}"
    return f"{times}, and {never}" if unknown else times


def seconds(taken: float) -> str:
    """A time as history tells it; none is 0.0 s."""
    return f"{taken:.1f} s" if taken >= 0.05 else "under 0.1 s"


def notes(steps: Sequence[PlannedStep]) -> list[str]:
    """Where code couldn't be followed, each place once with the steps that it concerns."""
    found: dict[str, list[str]] = {}
    for step in steps:
        for note in step.widened:
            found.setdefault(note, []).append(step.name)
    return [f"{note} ({_some(names)})" for note, names in found.items()]


def explain(name: str, steps: Sequence[PlannedStep]) -> Iterator[str]:
    """Lines that say per step what a run is about to do, and why."""
    yield f"{name}: {total(steps)}"
    for step in steps:
        if step.state != "cached":
            yield f"  {step.name}: {_WORDS[step.state]}{': ' if step.reasons else ''}{why(step)}"
    yield from (f"  counts more than needed: {note}" for note in notes(steps))


def markdown(name: str, steps: Sequence[PlannedStep]) -> str:
    """The plan as a table for a review comment; what is cached is only counted."""
    cached = sum(step.state == "cached" for step in steps)
    lines = [f"### Plan of `{name}`", "", f"{total(steps).capitalize()}; {cached} of {len(steps)} steps cached.", ""]
    if len(steps) > cached:
        lines += ["| step | what | why | expected |", "| --- | --- | --- | --- |"]
    for step in steps:
        if step.state != "cached":
            expected = "" if step.seconds is None else seconds(step.seconds)
            lines.append(f"| `{step.name}` | {_WORDS[step.state]} | {_cell(why(step))} | {expected} |")
    lines += ["", *(f"- counts more than needed: {_cell(note)}" for note in notes(steps))] if notes(steps) else []
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _MOST_REASONS else f"{names[0]} and {len(names) - 1} more"
