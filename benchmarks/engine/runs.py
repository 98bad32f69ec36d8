"""Runs a pipeline file in a process of its own and measures from within, so that start-up can be told apart."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_INSIDE = """
import json, resource, sys, time
from pathlib import Path
from mainspring.app import running  # what runs it is start-up too
from mainspring.app.files import load
began = time.perf_counter()
(pipeline,) = load(sys.argv[1])
loaded = time.perf_counter()
done = pipeline.run(**json.loads(sys.argv[2]))
ended = time.perf_counter()
children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"load": loaded - began, "run": ended - loaded, "status": done.status,
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "children": children / 1024}))
"""
_PLAIN = """
import json, resource, sys, time
from mainspring.app.files import load
(pipeline,) = load(sys.argv[1])
values = {}
for name, node in pipeline.graph.nodes.items():
    values[name] = node.step.function(*[values[each] for each in node.inputs])
print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """wall: with start-up; run: `pipeline.run` alone; peak: MiB of the process, children: of its largest child."""

    wall: float
    run: float
    peak: float
    children: float


def run(file: Path, **options: Any) -> Taken:
    """`pipeline.run(**options)` of *file*, in its folder."""
    began = time.perf_counter()
    told = _told(_INSIDE, file, json.dumps(options))
    wall = time.perf_counter() - began
    assert told["status"] == "done", told
    return Taken(wall, told["run"], told["peak"], told["children"])


def plainly(file: Path) -> float:
    """Peak MiB of calling the same functions one after another, in a process that has loaded the same."""
    return float(_told(_PLAIN, file)["peak"])


def command(*arguments: str, folder: Path) -> float:
    """Seconds of `mainspring ARGUMENTS`, start-up and all."""
    began = time.perf_counter()
    subprocess.run(
        [str(Path(sys.executable).parent / "mainspring"), *arguments], cwd=folder, check=True, capture_output=True
    )
    return time.perf_counter() - began


def _told(program: str, file: Path, *arguments: str) -> dict[str, Any]:
    call = [sys.executable, "-c", program, str(file), *arguments]
    done = subprocess.run(call, cwd=file.parent, check=True, capture_output=True, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
