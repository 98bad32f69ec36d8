"""The seed's script and its Loop."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

from tests.execution.warm import Warm

SEED = Path(__file__).parents[2] / "examples" / "seed"


def test_the_script_and_the_loop_have_the_same_accuracy_and_the_loops_second_run_does_nothing(
    tmp_path: Path, loaded: Warm
) -> None:
    runpy.run_path(str(SEED / "data.py"))["write"](tmp_path / "data.csv", 4_000)
    script = float(said(loaded, tmp_path, "-c", (SEED / "script.py").read_text()).split()[-1])
    command = ("run", str(SEED / "loop.py"), "--json", "--executor", "here")

    first, second = (json.loads(said(loaded, tmp_path, *command)) for _ in range(2))

    assert first["status"] == "done" and round(first["metrics"]["accuracy"], 4) == script
    assert {step["state"] for step in second["steps"]} == {"cached"}
    assert (second["model"], second["metrics"]) == (first["model"], first["metrics"])


def said(loaded: Warm, folder: Path, *arguments: str) -> str:
    done = loaded.run(folder, *arguments, timeout=280)
    assert done.code == 0, done.err
    return done.out
