"""The seed's script and its Loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SEED = Path(__file__).parents[2] / "examples" / "seed"


def run(folder: Path, *arguments: str, rows: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        cwd=folder,
        env={**os.environ, "SEED_ROWS": str(rows)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_and_the_loop_have_the_same_accuracy_and_the_loops_second_run_does_nothing(tmp_path: Path) -> None:
    run(tmp_path, str(SEED / "data.py"), rows=4_000)
    script = float(run(tmp_path, str(SEED / "script.py")).split()[-1])
    command = ("-m", "mainspring.app.cli", "run", str(SEED / "loop.py"), "--json")

    first, second = (json.loads(run(tmp_path, *command)) for _ in range(2))

    assert first["status"] == "done" and round(first["metrics"]["accuracy"], 4) == script
    assert {step["state"] for step in second["steps"]} == {"cached"}
    assert (second["model"], second["metrics"]) == (first["model"], first["metrics"])
