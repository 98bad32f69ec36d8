"""The seed's script (50,000 x 20, 100 trees, MLflow) against the same as a Loop, each in an empty folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import row

SEED = Path(__file__).parents[1] / "examples" / "seed"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, str(SEED / "data.py")], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        script = _timed([sys.executable, "-W", "ignore", str(SEED / "script.py")], folder)
        command = [sys.executable, "-m", "mainspring.app.cli", "run", str(SEED / "loop.py"), "--json"]
        cold = _timed(command, folder)
        again = _timed(command, folder)
        shutil.rmtree(folder / ".mainspring")
    row("the script", script, "s")
    row("the loop, cold", cold, "s")
    row("  over the script", cold / script, "x", at_most=0.7)
    row("the loop again, nothing changed", again, "s", at_most=0.5)


def _timed(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
