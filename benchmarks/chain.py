"""The engine: a chain of 100 tiny steps, durable, against a plain loop that commits and fsyncs once per step."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from pathlib import Path
from types import FunctionType
from typing import Any

from benchmarks.timing import line

STEPS = 100


def chain(length: int) -> list[Any]:
    """*length* steps, each adding one to the step before."""
    source = ["def s0():\n    return 0\n"]
    source += [f"def s{i}(s{i - 1}):\n    return s{i - 1} + 1\n" for i in range(1, length)]
    folder = Path(tempfile.mkdtemp())
    path = folder / "chain_steps.py"
    path.write_text("\n".join(source))
    space: dict[str, Any] = {"__name__": "chain_steps", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), space)
    return [space[f"s{i}"] for i in range(length) if isinstance(space[f"s{i}"], FunctionType)]


def floor(folder: Path) -> float:
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("create table steps (name, value)")
    began = time.perf_counter()
    for number in range(STEPS):
        with open(folder / f"{number}.json", "w") as file:
            file.write(str(number))
            file.flush()
            os.fsync(file.fileno())
        connection.execute("insert into steps values (?, ?)", (number, number))
    return time.perf_counter() - began


def main() -> None:
    from mainspring.app.project import Pipeline

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = floor(folder)
        pipeline = Pipeline("chain", chain(STEPS))
        began = time.perf_counter()
        assert pipeline.run(home=folder / ".mainspring").outputs[f"s{STEPS - 1}"] == STEPS - 1
        cold = time.perf_counter() - began
        began = time.perf_counter()
        pipeline.run(home=folder / ".mainspring")
        again = time.perf_counter() - began
    line("floor: a commit and an fsynced file per step", plain / STEPS * 1000, "ms", "(floor)")
    line("a step of a chain of 100, durable", cold / STEPS * 1000, "ms", "<= 1 ms (issue 3)")
    line("the same over the floor", cold / plain, "x", "<= 0.3x (issue 3)")
    line("100 steps, nothing changed, in process", again, "s", "<= 0.3 s (issue 3)")
