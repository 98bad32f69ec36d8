"""FILE on the command line: an ordinary Python file with Loops and Pipelines at module level."""

from __future__ import annotations

import importlib.util
import sys
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from mainspring.app.project import Loop, Pipeline
from mainspring.core.errors import MainspringError, UsageError


def load(reference: str) -> list[Loop | Pipeline]:
    """The declarations of "FILE" or "FILE:name", in the file's order. Raises UsageError when there are none."""
    path, name = _divide(reference)
    module = _execute(path)
    found: dict[str, Loop | Pipeline] = {}
    for value in vars(module).values():
        if isinstance(value, Loop | Pipeline) and found.setdefault(value.name, value) is not value:
            raise UsageError(f"{path} has two of the name {value.name!r}; give each Loop and Pipeline its own")
    if not found:
        raise UsageError(f"{path} has no Loop or Pipeline at module level; write one, such as loop = ms.Loop(...)")
    if name is None:
        return list(found.values())
    by_variable = {key: value for key, value in vars(module).items() if isinstance(value, Loop | Pipeline)}
    chosen = found.get(name) or by_variable.get(name)
    if chosen is None:
        near = get_close_matches(name, found, n=1) or list(found)
        raise UsageError(f"{path} has no {name!r}; did you mean {near[0]!r}?")
    return [chosen]


def _divide(reference: str) -> tuple[Path, str | None]:
    path, separator, name = reference.rpartition(":")
    if not separator or not path.endswith(".py"):
        path, name = reference, ""
    file = Path(path)
    if not file.is_file():
        raise UsageError(
            f"no such file: {path}; FILE is a Python file that declares a Loop (mainspring init writes one)"
        )
    return file.resolve(), name or None


def _execute(path: Path) -> ModuleType:
    """Run *path* as a module whose folder is importable, as `python FILE` does."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    known = sys.modules.get(path.stem)
    name = path.stem if known is None or getattr(known, "__file__", None) == str(path) else f"{path.stem}_file"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} can't be loaded as Python; give a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except MainspringError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path} can't be loaded: {type(error).__name__}: {_first_line(error)}") from error
    return module


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or "no message"
