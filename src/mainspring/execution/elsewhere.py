"""A call made in another process: what is sent, and what is done there. Any executor can carry it."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from mainspring.core.errors import StepFailed
from mainspring.execution import logs
from mainspring.execution.work import Bench, Call, Failed, Result, resolve
from mainspring.pipeline.bytecode import import_current
from mainspring.store.catalog import Catalog
from mainspring.store.home import Home

said: Callable[[str, str, int, int], None] = lambda task, what, done, of: None  # noqa: E731
"""Where a step's progress goes in this process; a worker sets it."""
begun: Callable[[], None] = lambda: None  # noqa: E731
"""Called when all is loaded and the step itself begins; a worker sets it."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a process needs before its first call. paths: where modules are found. load: ("module:function", argument),
    called once, such as what loads FILE as the module that its functions name."""

    home: Path
    paths: tuple[str, ...]
    load: tuple[str, str] | None = None

    @classmethod
    def here(cls, home: Home, load: tuple[str, str] | None = None) -> Setup:
        return cls(home.path.resolve(), search_path(), load)


def search_path() -> tuple[str, ...]:
    """Where this process finds modules, whatever the current folder of another is."""
    return tuple(str(Path(path).resolve()) for path in sys.path)


_benches: dict[bytes, Bench] = {}
_loaded: set[tuple[str, str]] = set()


def packed(call: Call) -> bytes:
    """*call* as bytes. Functions of modules go by name, those of a notebook or a script's main module by value."""
    import cloudpickle  # only where a call travels

    try:
        return bytes(cloudpickle.dumps(call))
    except Exception as error:
        raise StepFailed(
            f"step {call.task!r} can't be sent to another process ({type(error).__name__}: {error}); give it plain "
            f"values, or run without executor="
        ) from error


def make(setup: bytes, call: bytes, mark: str = "") -> bytes:
    """Make a packed *call* in this process and pack its result. mark: a file that is there from when the step itself
    begins."""
    if setup not in _benches:
        prepare(setup)
    bench = _benches[setup]
    made: Call = pickle.loads(call)
    needed = {given.artifact.digest for given in made.inputs.values()} | made.later
    for digest in bench.values.keys() - needed:
        del bench.values[digest]
    begun()
    if mark:
        Path(mark).parent.mkdir(parents=True, exist_ok=True)
        Path(mark).touch()
    with logs.redirected(made.log) if made.log else nullcontext():
        result = bench.do(made)
    return _packed(result)


def prepare(setup: bytes, call: bytes = b"") -> None:
    """Make this process as *setup* says, and load what another's packed *call* needs, before it has one itself."""
    wanted: Setup = pickle.loads(setup)
    know(wanted.paths, wanted.load)
    _benches[setup] = Bench(Catalog(Home(wanted.home)), lambda *told: said(*told))
    if call:
        pickle.loads(call)


def know(paths: tuple[str, ...], load: tuple[str, str] | None) -> None:
    """Have this process find modules in *paths*, and those of *load* in memory; see `Setup`."""
    sys.path[:] = dict.fromkeys([*paths, *sys.path])
    importlib.invalidate_caches()
    import_current()
    if load is not None and load not in _loaded:
        resolve(load[0])(load[1])
        _loaded.add(load)


def _packed(result: Result) -> bytes:
    """An exception that doesn't survive the journey stays behind: its words don't."""
    try:
        content = pickle.dumps(result)
        if isinstance(result, Failed):
            pickle.loads(content)
    except Exception:
        if not isinstance(result, Failed):
            raise
        content = pickle.dumps(
            Failed(None, result.words, result.given, result.where, result.trace, result.seconds, result.again)
        )
    return content
