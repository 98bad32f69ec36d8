"""FILE as a module. A worker process runs it for its functions, and needs nothing of what runs its declarations."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from mainspring.core.errors import MainspringError, UsageError
from mainspring.core.wording import place
from mainspring.pipeline.bytecode import CurrentSource, import_current


def know(reference: str) -> None:
    """Have the module of "FILE" or "FILE:name" in this process."""
    execute(divide(reference)[0])


def divide(reference: str) -> tuple[Path, str | None]:
    """The file of "FILE" or "FILE:name", and the name. Raises UsageError for what is no Python file."""
    path, separator, name = reference.rpartition(":")
    if not separator or not path.endswith(".py"):
        path, name = reference, ""
    file = Path(path)
    if file.is_file() and file.suffix not in (".py", ""):
        raise UsageError(f"{path} is no Python file; `mainspring init DATA --target COLUMN` writes one for a table")
    if not file.is_file():
        raise UsageError(
            f"no such file: {path}; FILE is a Python file that declares a Loop (mainspring init writes one)"
        )
    return file.resolve(), name or None


def execute(path: Path) -> ModuleType:
    """Run *path* as a module whose folder is importable, as `python FILE` does."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    known = sys.modules.get(path.stem)
    name = path.stem if known is None or getattr(known, "__file__", None) == str(path) else f"{path.stem}_file"
    import_current()
    spec = importlib.util.spec_from_file_location(name, path, loader=CurrentSource(name, str(path)))
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} can't be loaded as Python; give a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.modules.setdefault(f"{path.stem}_file", module)  # its name in the process that had another FILE of this stem
    try:
        spec.loader.exec_module(module)
    except MainspringError as error:
        if where := place(error):
            error.args = (f"{error} ({where})",)
        raise
    except (Exception, SystemExit) as error:
        where = "" if isinstance(error, SyntaxError) else place(error)  # a SyntaxError says it itself
        said = f"{type(error).__name__}: {_first_line(error)}{f' ({where})' if where else ''}"
        raise UsageError(f"{path} can't be loaded: {said}") from error
    return module


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or "no message"
