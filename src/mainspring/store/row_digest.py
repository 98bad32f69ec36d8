"""A digest of rows that come in parts: of equal rows it is equal, however they were divided; more rows extend it."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl
from blake3 import blake3

from mainspring.store.tables import column_bytes

BLOCK = 1 << 16
"""So many rows are digested at once; what is kept of them is 32 characters."""


class RowDigest:
    """The digest of the rows given so far.

    >>> whole, parts = RowDigest(), RowDigest()
    >>> rows = pl.DataFrame({"x": range(5)})
    >>> whole.update(rows)
    >>> parts.update(rows.head(2)); parts.update(rows.tail(3))
    >>> whole.digest() == parts.digest(), parts.rows
    (True, 5)
    """

    def __init__(self, blocks: Iterable[str] = ()) -> None:
        """blocks: of the whole blocks of rows that are not given again."""
        self.blocks = list(blocks)
        self._rest: list[pl.DataFrame] = []
        self._rest_rows = 0

    @property
    def rows(self) -> int:
        """How many have been given."""
        return len(self.blocks) * BLOCK + self._rest_rows

    def update(self, frame: pl.DataFrame) -> None:
        start = 0
        while start < frame.height:
            part = frame.slice(start, BLOCK - self._rest_rows)
            start += part.height
            self._rest.append(part)
            self._rest_rows += part.height
            if self._rest_rows == BLOCK:
                self.blocks.append(_digest(self._rest))
                self._rest, self._rest_rows = [], 0

    def digest(self) -> str:
        """The digest of all rows; more may follow."""
        total = blake3("\n".join(self.blocks).encode())
        if self._rest:
            total.update(b"\n" + _digest(self._rest).encode())
        return total.hexdigest(20)


def _digest(parts: list[pl.DataFrame]) -> str:
    frame = parts[0] if len(parts) == 1 else pl.concat(parts, rechunk=False)
    total = blake3()
    for column in frame.iter_columns():
        total.update(f"{column.name}\0{column.dtype}\0{len(column)}\0{column.null_count()}\0".encode())
        if column.null_count():
            total.update(column.is_null().to_numpy().tobytes())
        for part in column_bytes(column):
            total.update(part)
    return total.hexdigest(16)
