"""FILE on the command line: an ordinary Python file with Loops and Pipelines at module level."""

from __future__ import annotations

import glob
import sys
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mainspring.app.module import divide, execute
from mainspring.app.pipeline import Pipeline
from mainspring.app.project import Loop
from mainspring.core.errors import UsageError
from mainspring.core.joins import Join
from mainspring.core.sources import DeltaSource, FileSource, IcebergSource, SqlSource, relative

_BEFORE: set[str] = set()


def imported_before() -> frozenset[str]:
    """The modules that this process had before it last loaded a FILE: they are not what FILE imports."""
    return frozenset(_BEFORE)


def load(reference: str) -> list[Loop | Pipeline]:
    """The declarations of "FILE" or "FILE:name", in the file's order. Raises UsageError when there are none.

    A relative path of their data is one from FILE's folder, or from the current folder where only that has it.
    """
    path, name = divide(reference)
    _BEFORE.clear()
    _BEFORE.update(sys.modules)
    module = execute(path)
    found: dict[str, Loop | Pipeline] = {}
    for value in vars(module).values():
        if isinstance(value, Loop | Pipeline) and found.setdefault(value.name, value) is not value:
            raise UsageError(f"{path} has two of the name {value.name!r}; give each Loop and Pipeline its own")
        if isinstance(value, Loop):
            _place(value, path.parent)
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


def _place(loop: Loop, folder: Path) -> None:
    """Let *loop* find the files of its data, and its contract, from *folder*."""
    loop.declaration = replace(loop.declaration, folder=str(folder))
    if folder != Path.cwd():
        loop.declaration = replace(loop.declaration, source=_placed(loop.declaration.source, folder))


def _placed(source: Any, folder: Path) -> Any:
    """*source*, both sides of a join too, with *folder* as the place where its relative path begins."""
    if isinstance(source, Join):
        return replace(source, left=_placed(source.left, folder), right=_placed(source.right, folder))
    if not isinstance(source, FileSource | DeltaSource | IcebergSource | SqlSource):
        return source
    path = relative(source.url if isinstance(source, SqlSource) else source.path)[1]
    if not path or (_there(Path(path)) and not _there(folder / path)):
        return source
    return replace(source, folder=str(folder))


def _there(path: Path) -> bool:
    return path.exists() or any(glob.iglob(str(path), recursive=True))
