"""The code that a foreign model brings along: importable while that model is at work.

Meanwhile another thread that imports a module of one of its names gets the model's: none of Python's own may be one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mainspring.core.errors import BundleError

_one_at_a_time = threading.RLock()
"""What can be imported is one for the whole process."""


class OwnCode:
    """The modules in *folder*; None: it brings none. Two models may bring different modules of one name."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        found = [] if folder is None or not folder.is_dir() else [*folder.iterdir()]
        self._names = frozenset(path.name.partition(".")[0] for path in found)
        if own := sorted(self._names & sys.stdlib_module_names):
            raise BundleError(
                f"the model's code has a module {own[0]!r}, as Python has; rename it and log the model again"
            )
        self._modules: dict[str, ModuleType] = {}

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """Meanwhile its modules go before others; what is added to `sys.path` meanwhile is taken away."""
        if not self._names:
            yield
            return
        with _one_at_a_time:
            path, others = list(sys.path), self._taken()
            sys.modules.update(self._modules)
            sys.path.insert(0, str(self._folder))
            try:
                yield
            finally:
                sys.path[:] = path
                self._modules = self._taken()
                sys.modules.update(others)

    def _taken(self) -> dict[str, ModuleType]:
        """The loaded modules of its names, which are no longer loaded then."""
        loaded = [name for name in list(sys.modules) if name.partition(".")[0] in self._names]
        return {name: sys.modules.pop(name) for name in loaded}
