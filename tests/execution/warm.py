"""The command line in processes that are forked from a warm one: a start costs milliseconds, and each runs as if alone.

As a program it is that warm process: it reads one request a line and answers with one line. It runs `python -c` too.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARK = "WARM_MARK"
LIBRARIES = (
    "polars",
    "pandas",
    "sklearn.ensemble",
    "skops.io",
    "optuna",
    "onnxruntime",
    "skl2onnx",
    "matplotlib.figure",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.sklearn",
)
"""What a turn of a loop loads that isn't ours; importing them is most of what a short command costs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended. code: its exit code, negative for a signal; None: it hung and was ended."""

    code: int | None
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Started:
    """A command at work, in a session and process group of its own."""

    def __init__(self, warm: Warm, folder: Path, pid: int) -> None:
        self._warm, self.folder, self.pid = warm, folder, pid

    def kill(self, group: bool = True) -> None:
        """kill -9 of the group, or of the command's own process alone."""
        try:
            (os.killpg if group else os.kill)(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def end(self, timeout: float = 60) -> Answer:
        answer = self._warm._ask({"wait": self.pid, "timeout": timeout})
        files = [self.folder / f"{self.pid}.{end}" for end in ("out", "err")]
        out, err = (file.read_text() if file.exists() else "" for file in files)  # it may have been killed before
        return Answer(answer["code"], out, err, answer["seconds"])


class Warm:
    """The warm process. folder: for the commands' output; load: libraries that are loaded before the fork; environment:
    beside the usual."""

    def __init__(self, folder: Path, *, load: Sequence[str] = (), **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.mark = str(folder)
        there = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, "-B", __file__, str(folder), *load],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**there, MARK: self.mark, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        )  # fmt: skip

    def start(self, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Started:
        """`mainspring ARGUMENTS` in *folder*; `python -c CODE` where they begin with "-c". environment: of its own."""
        request = {"start": list(arguments), "folder": str(folder), "environment": dict(environment or {})}
        return Started(self, self._folder, self._ask(request)["pid"])

    def run(
        self, folder: Path, *arguments: str, timeout: float = 60, environment: Mapping[str, str] | None = None
    ) -> Answer:
        return self.start(folder, *arguments, environment=environment).end(timeout)

    def left(self, seconds: float = 5.0) -> list[int]:
        """The processes that are still there after *seconds*, of all that commands have started."""
        return wait_until_none(lambda: marked(self.mark) - {self._process.pid}, seconds)

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes its pipes and waits for it
            pass

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def marked(mark: str) -> set[int]:
    """The living processes that carry *mark* in their environment."""
    line = f"{MARK}={mark}".encode()
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if status != "Z" and line in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
            except OSError:
                continue
    return found


def wait_until_none(find: Callable[[], set[int]], seconds: float) -> list[int]:
    deadline = time.monotonic() + seconds
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return sorted(found)


# ---------------------------------------------------------------------------------------------------- the warm process


def serve(folder: Path, load: Sequence[str]) -> None:
    import mainspring.app.commands  # noqa: F401  all that a command would load first
    from mainspring.app import cli

    with warnings.catch_warnings(action="ignore"):
        for library in load:
            importlib.import_module(library)
    gc.freeze()  # the forked processes don't touch, and so don't copy, what is there
    began: dict[int, float] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if not pid:
                become(cli.main, request["start"], request["folder"], folder, request["environment"])
            began[pid] = time.monotonic()
            answer: dict[str, Any] = {"pid": pid}
        else:
            pid = request["wait"]
            answer = {"code": ended(pid, request["timeout"]), "seconds": time.monotonic() - began.pop(pid)}
        print(json.dumps(answer), flush=True)


def become(
    main: Callable[[], Any], arguments: list[str], folder: str, output: Path, environment: Mapping[str, str]
) -> None:
    """The forked process: a command of its own."""
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(output / f"{os.getpid()}.out", flags), 1)
    os.dup2(os.open(output / f"{os.getpid()}.err", flags), 2)
    sys.argv = ["mainspring", *arguments]
    code: Any = 1
    try:
        if arguments[0] == "-c":
            python(arguments[1])
            code = 0
        else:
            main()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        # as at the end of any interpreter: threads are waited for, handlers are called
        import atexit
        import threading

        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def python(text: str) -> None:
    """What `python -c TEXT` does."""
    sys.argv, sys.path[0] = ["-c"], ""
    sys.modules["__main__"] = module = types.ModuleType("__main__")
    exec(compile(text, "<string>", "exec"), module.__dict__)


def ended(pid: int, timeout: float) -> int | None:
    descriptor = os.pidfd_open(pid)
    try:
        over, _, _ = select.select([descriptor], [], [], timeout)
    finally:
        os.close(descriptor)
    if not over:
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) if over else None


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2:])
