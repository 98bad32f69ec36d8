"""The plan of 1,000 steps over a project of 200 modules: of a project never seen, after a run, after an edit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import row

MODULES, STEPS = 200, 1_000
_TIMED = """
import sys, time
sys.path.insert(0, {folder!r})
import main
from mainspring.app import running  # what plans is start-up too
began = time.perf_counter()
planned = main.pipeline.plan(home={home!r})
cold = time.perf_counter() - began
began = time.perf_counter()
main.pipeline.plan(home={home!r})
print(len(planned), cold, time.perf_counter() - began)
"""


def project(folder: Path, modules: int = MODULES, steps: int = STEPS) -> None:
    """Modules of six functions, a constant and a table, each using three earlier modules; steps at the end of each."""
    for number in range(modules):
        (folder / f"part{number}.py").write_text(_module(number, steps // modules))
    names = [f"part{number}" for number in range(modules)]
    taken = [f"{name}.step_{name}_{index}" for name in names for index in range(steps // modules)]
    imports = "\n".join(f"import {name}" for name in names)
    (folder / "main.py").write_text(
        f"import mainspring as ms\n{imports}\npipeline = ms.Pipeline('large', [{', '.join(taken)}])\n"
    )


def _module(number: int, steps: int) -> str:
    used = sorted({number // 2, number // 3, number // 5} - {number})
    lines = ["import json", "import math", *(f"from part{each} import helper{each}_0" for each in used)]
    lines += [f"RATE{number} = {number}", f"TABLE{number} = {{'a': {number}, 'b': [1, 2]}}"]
    for index in range(6):
        inner = " + ".join(f"helper{each}_0(x)" for each in used) if not index else f"helper{number}_{index - 1}(x)"
        lines += [
            f"def helper{number}_{index}(x):",
            f"    total = x * RATE{number}",
            "    for step in range(3):",
            "        total += math.floor(step)",
            f"    return total + ({inner or '0'})",
        ]
    for index in range(steps):
        lines += [f"def step_part{number}_{index}():", f"    return helper{number}_5({index}) + len(TABLE{number})"]
    return "\n".join(lines) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        project(folder)
        script = _TIMED.format(folder=name, home=str(folder / ".mainspring"))
        taken = [_timed(script) for _ in range(3)]
        _command(folder, "run")
        warm = sorted(_command(folder, "plan") for _ in range(5))[2]
        part = folder / "part100.py"
        part.write_text(part.read_text().replace("x * RATE100", "x * RATE100 + 0"))
        edited = _command(folder, "plan")
    cold, again = (sorted(times)[1] for times in zip(*taken, strict=True))
    row("plan of 1,000 steps over 200 modules, cold", cold, "s", at_most=1.0)
    row("the same, again in the process", again, "s")
    row("`mainspring plan` after a run, nothing changed, start-up included", warm, "s", at_most=0.3)
    row("`mainspring plan` after an edit of one module, start-up included", edited, "s")


def _command(folder: Path, verb: str) -> float:
    began = time.perf_counter()
    command = [sys.executable, "-m", "mainspring.app.cli", verb, "main.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - began


def _timed(script: str) -> tuple[float, float]:
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert int(told[0]) == STEPS
    return float(told[1]), float(told[2])


if __name__ == "__main__":
    main()
