"""A pipeline of ten steps with all kinds of outputs, what it leaves behind, and what must hold after each fault."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from blake3 import blake3

FILE = '''
import os
import random
import time
from pathlib import Path

import mainspring as ms

HERE = Path(__file__).parent
PAUSE = 0.0


def over(step, value, file="finished.txt"):
    """The step is at its end: one line beside the home, whatever becomes of the run."""
    time.sleep(PAUSE)
    descriptor = os.open(HERE / file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{step}\\n".encode())
    os.close(descriptor)
    return value


def numbers(count: int = 4):
    return over("numbers", list(range(count)))


def frame(numbers):
    import polars as pl

    return over("frame", pl.DataFrame({"number": numbers * 500}))


def large(numbers):
    return over("large", random.Random(len(numbers)).randbytes(LARGE))


def array(large):
    import numpy as np

    return over("array", np.frombuffer(large, dtype=np.uint8)[:50_000].astype(np.int64))


@ms.step(each={"number": "numbers"})
def squares(number):
    return over(f"squares[{number}]", number**2)


def total(squares):
    return over("total", sum(squares))


def mean(frame):
    return over("mean", float(frame["number"].mean()))


def checksum(array, mean):
    return over("checksum", {"sum": int(array.sum()), "mean": mean})


@ms.step(effects=True)
def announce(total, checksum):
    over("announce", None, "outside.txt")
    return over("announce", f"total {total}" * 200)


def last(announce, total, mean, checksum, large):
    return over("last", (announce[:10], total, mean, checksum, len(large)))


LARGE = 3_000_000

ten = ms.Pipeline("ten", [numbers, frame, large, array, squares, total, mean, checksum, announce, last])
'''
STEPS = 10
BEFORE_ANNOUNCE = {"numbers", "frame", "large", "array", "squares", "total", "mean", "checksum"}


class Command(Protocol):
    """Runs `mainspring ...` in a folder; its answer has code, out, err and json."""

    def __call__(self, folder: Path, *arguments: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """What a person sees after a run: its id and status, its finished steps with the elements of its fan-out, and the
    digests of their outputs."""

    run: str
    status: str
    done: frozenset[str]
    digests: dict[str, str]

    @property
    def outputs(self) -> dict[str, str]:
        """The digests of the ten steps; a step that was wholly cached shows no elements."""
        return {name: digest for name, digest in self.digests.items() if "[" not in name}


def write(folder: Path, *, pause: float = 0.0, large: int = 3_000_000, **settings: str) -> Path:
    """The project in *folder*, with these settings."""
    folder.mkdir(parents=True)
    text = FILE.replace("PAUSE = 0.0", f"PAUSE = {pause}").replace("LARGE = 3_000_000", f"LARGE = {large}")
    (folder / "ten.py").write_text(text)
    (folder / "mainspring.toml").write_text("".join(f'{name} = "{value}"\n' for name, value in settings.items()))
    return folder


def finished(folder: Path, file: str = "finished.txt") -> Counter[str]:
    """How often each step, and each element of the fan-out, came to its end."""
    path = folder / file
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def look(mainspring: Command, folder: Path) -> list[Seen]:
    """The runs of the home, newest first, by `mainspring runs` and `mainspring show`."""
    if not (folder / ".mainspring").is_dir():
        return []
    answer = mainspring(folder, "runs", "--json")
    assert answer.code == 0, answer
    return [_seen(mainspring(folder, "show", run["id"], "--json").json, run) for run in answer.json["runs"]]


def _seen(shown: Any, run: Any) -> Seen:
    done = {step["name"]: step for step in shown["steps"] if step["status"] in ("done", "cached")}
    digests = {name: step["output"]["digest"] for name, step in done.items()}
    return Seen(run["id"], run["status"], frozenset(done), digests)


class Watch:
    """Looks at one project whenever no process is at work on it, and says what must hold across all looks.

    again: whether a run that ended with an error may be followed by another run."""

    def __init__(self, mainspring: Command, folder: Path, *, again: bool = False) -> None:
        self._mainspring, self.folder, self._again = mainspring, folder, again
        self._runs: list[Seen] = []
        self._counted: Counter[str] = Counter()

    def look(self, *, unsynced: bool = False) -> Seen | None:
        """The newest run; AssertionError when something was lost, repeated, half-written or untold. unsynced: the power
        failed, so an object of which no run tells may be there in part, as nobody has synced it."""
        runs, times = look(self._mainspring, self.folder), finished(self.folder)
        assert "running" not in {run.status for run in runs}, "a run without a process says that it is running"
        assert self._again or {run.status for run in runs[1:]} <= {"done"}, f"a run was begun anew: {runs}"
        for earlier in self._runs:
            now = next((run for run in runs if run.run == earlier.run), None)
            assert now is not None, f"run {earlier.run} was lost"
            assert earlier.digests.items() <= now.digests.items(), f"{earlier.done} became {now.done}"
        repeated = {name: times[name] for name, before in self._counted.items() if times[name] != before}
        assert not repeated, f"finished steps ran again: {repeated}"
        if finished(self.folder, "outside.txt"):
            assert any(run.done >= BEFORE_ANNOUNCE for run in runs), "an effect came before what it rests on"
        half = {path.name for path in damaged(self.folder)}
        told = {digest for run in runs for digest in run.digests.values()}
        assert not (half & told if unsynced else half), "a half-written object is visible"
        self._runs = runs
        self._counted = Counter({name: times[name] for run in runs for name in run.done if name in times})
        return runs[0] if runs else None


def damaged(folder: Path) -> list[Path]:
    """The objects whose content isn't what their name says."""
    objects = (folder / ".mainspring" / "objects").rglob("*")
    named = [path for path in objects if path.is_file() and len(path.name) == 64]
    return [path for path in named if blake3(path.read_bytes()).hexdigest() != path.name]


def one_line(answer: Any) -> bool:
    """Whether an error was told as it should be: one clear line, no traceback."""
    lines = [line for line in answer.err.splitlines() if line.startswith("mainspring:")]
    return "Traceback" not in answer.err + answer.out and len(lines) == 1
