"""Rows of one source looked up for the rows of another: by key, and as of a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mainspring.core import sources
from mainspring.core.errors import DeclarationError
from mainspring.core.quantities import seconds


@dataclass(frozen=True, slots=True)
class Join:
    """The rows of *left*, each with the columns of the row of *right* that was known at its time.

    on: the columns by which they belong together. as_of: the time column of *left*; right_time: that of *right*
    (default: the same name). None: *right* has one row per key, such as a list of planes. within: how old the row of
    *right* may be; delay: how long after its time it was known. prefix: put before the names of *right*'s columns.
    """

    left: Any
    right: Any
    on: tuple[str, ...]
    as_of: str | None = None
    right_time: str | None = None
    within: float | None = None
    delay: float = 0.0
    prefix: str = ""

    @property
    def time(self) -> str | None:
        """The time column of *right*."""
        return self.right_time or self.as_of


def join(
    left: Any,
    right: Any,
    *,
    on: str | list[str] | tuple[str, ...],
    as_of: str | None = None,
    right_time: str | None = None,
    within: str | float | None = None,
    delay: str | float = 0.0,
    prefix: str = "",
) -> Join:
    """Two sources as one: every row of *left*, with what *right* told of it by then. It never sees the future.

    on: the columns that both have and that belong together. as_of: the time column of *left*; a row of *right* counts
    from its own time (column *right_time*, unless told of the same name) plus *delay* on, equal times included, and
    while it is no older than *within* ("2h"); the last one does. Without as_of the last row of a key counts. prefix:
    put before the names of *right*'s columns, where both sides have one of a name.

    Raises DeclarationError for arguments that can't be used.
    """
    columns = (on,) if isinstance(on, str) else tuple(on)
    if not columns or not all(isinstance(name, str) and name for name in columns) or len(set(columns)) < len(columns):
        raise DeclarationError(f"join(on={on!r}) must name the columns that belong together, each once")
    if as_of is None and (right_time is not None or within is not None or seconds(delay)):
        raise DeclarationError("join has right_time=, within= or delay= but no as_of=; name the time column of left")
    if as_of in columns:
        raise DeclarationError(f"join(as_of={as_of!r}) is also in on=; a time is looked back from, not matched")
    limit = None if within is None else seconds(within)
    if limit is not None and limit <= seconds(delay):
        raise DeclarationError(f"join(within={within!r}) must be longer than delay={delay!r}, such as '2h'")
    if isinstance(right, Join):
        raise DeclarationError("the right side of a join can't be a join; join its parts to the left one after another")
    return Join(source(left), source(right), columns, as_of, right_time, limit, seconds(delay), prefix)


def source(data: Any) -> Any:
    """*data* as a source: a join as it is, all else as `sources.source` takes it."""
    return data if isinstance(data, Join) else sources.source(data)
