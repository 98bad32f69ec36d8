"""The joints where one room hands another something it can call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Protocol

UNCOUNTED = "mainspring: how it is reached"
"""Marks, in a field's metadata, what of a declared source is no part of what it asks for."""

Clock = Callable[[], datetime]
"""The time by which a loop lives, with its time zone: the system's, or the manual clock's."""

Progress = Callable[[str, int, int], None]
"""Tells the person who waits: what is being done, how much is done, of how much (0: unknown)."""


class Named(Protocol):
    """Something that is known by its name: a metric of the user's own, registered in `statistics.metrics`."""

    @property
    def name(self) -> str: ...


class Model(Protocol):
    """A bundle loaded by the runtime that serves it: what is measured is what is shipped."""

    def predict(self, rows: Any) -> Any:
        """The `statistics.metrics.Predictions` for *rows*, a polars frame of the raw input columns."""


class Source(Protocol):
    """Where rows come from. A plug-in needs these two methods."""

    def position(self) -> Any:
        """What changes when the source has something new (JSON); None when only reading can tell."""

    def read(self, since: Any) -> Iterator[Any]:
        """Arrow batches (or polars frames) of the rows after cursor *since*; all rows when it is None."""
