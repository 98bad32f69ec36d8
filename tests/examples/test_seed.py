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


def test_the_script_and_the_loop_have_the_same_accuracy(tmp_path: Path) -> None:
    run(tmp_path, str(SEED / "data.py"), rows=4_000)
    script = float(run(tmp_path, str(SEED / "script.py")).split()[-1])

    loop = json.loads(run(tmp_path, "-m", "mainspring.app.cli", "run", str(SEED / "loop.py"), "--json"))

    assert loop["status"] == "done"
    assert round(loop["metrics"]["accuracy"], 4) == script


def test_the_second_run_of_the_loop_does_nothing_and_says_the_same(tmp_path: Path) -> None:
    run(tmp_path, str(SEED / "data.py"), rows=1_000)
    first = json.loads(run(tmp_path, "-m", "mainspring.app.cli", "run", str(SEED / "loop.py"), "--json"))

    second = json.loads(run(tmp_path, "-m", "mainspring.app.cli", "run", str(SEED / "loop.py"), "--json"))

    assert {step["state"] for step in second["steps"]} == {"cached"}
    assert (second["model"], second["metrics"]) == (first["model"], first["metrics"])
