"""Bytecode of the user's modules: never that of an older text.

Python tells an edit by whole seconds and by size: of two edits within a second that leave the size it runs the first.
Here bytecode counts only where it was written a second or more after the file last changed.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import cache_from_source
from types import ModuleType
from typing import Any

from mainspring.pipeline.modules import decoded, is_project_file

_TELLS_APART_NS = 1_000_000_000


class CurrentSource(SourceFileLoader):
    """Loads a module from its text, or from bytecode that is sure to come from it.

    ran: the text that the module was made of; None where that was bytecode."""

    ran: str | None = None
    _compiled: str | None = None

    def exec_module(self, module: ModuleType) -> None:
        self.ran = None
        super().exec_module(module)
        self.ran = self._compiled

    def path_stats(self, path: str) -> Any:
        """As Python asks before it looks for bytecode; where this raises OSError it compiles the text."""
        self._compiled = None
        drop_doubtful(path)
        return super().path_stats(path)

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> Any:  # type: ignore[override]
        """As Python compiles the text."""
        self._compiled = decoded(data) if isinstance(data, bytes) else None
        return super().source_to_code(data, path, _optimize=_optimize)


def import_current() -> None:
    """From now on this process imports the modules of the user's projects by `CurrentSource`."""
    if _finder not in sys.path_hooks:
        sys.path_hooks.insert(0, _finder)
        for folder in [folder for folder in list(sys.path_importer_cache) if is_project_file(folder)]:
            del sys.path_importer_cache[folder]


def is_doubtful(source: str) -> bool:
    """Whether the bytecode beside *source* may come from an older text of it."""
    try:
        made = os.stat(cache_from_source(source)).st_mtime_ns
        return made < os.stat(source).st_ctime_ns + _TELLS_APART_NS
    except (OSError, NotImplementedError):  # there is none
        return False


def drop_doubtful(source: str) -> None:
    """Remove bytecode of *source* that may be older. Raises OSError where it can't be removed."""
    if is_doubtful(source):
        os.unlink(cache_from_source(source))


_LOADERS = (
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (CurrentSource, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)


def _finder(folder: str) -> FileFinder:
    if not os.path.isdir(folder) or not is_project_file(folder):
        raise ImportError(f"{folder} is no folder of the user's", path=folder)
    return FileFinder(folder, *_LOADERS)
