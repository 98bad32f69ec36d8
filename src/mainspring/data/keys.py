"""Whether the keys of one reading's rows repeat: found without holding them, 8 bytes a row at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from mainspring.core.declarations import Roles
from mainspring.data.validate import refuse_duplicates
from mainspring.store.parts import Part


def names_of(roles: Roles) -> list[str]:
    """The columns that name a row: its key, and its time where one is declared."""
    return [name for name in (roles.key, roles.time) if name] if roles.key else []


class Keys:
    """The keys of rows that come in batches. Those that only rise need no second look."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._rising, self._last = True, None

    def add(self, rows: pl.DataFrame) -> None:
        if self._names and rows.height and self._rising:
            key = rows[self._names[0]]
            self._rising = _rises(key, self._last)
            self._last = key[-1]

    def refuse_duplicates(self, parts: Sequence[Part], roles: Roles, where: str) -> None:
        """Raise DuplicateKeys where rows of *parts*, which are all that was added, repeat a key.

        Keys that are equal have the same hash; whether two of the same hash are equal, the rows tell.
        """
        if not self._names or self._rising:
            return
        seen = np.concatenate([_hashes(part.read(self._names)).to_numpy() for part in parts])
        seen.sort()
        twice = seen[1:][seen[1:] == seen[:-1]]
        if not len(twice):
            return
        suspects = pl.Series(np.unique(twice)).implode()
        rows = (part.read(self._names) for part in parts)
        refuse_duplicates(pl.concat(keys.filter(_hashes(keys).is_in(suspects)) for keys in rows), roles, where)


def _rises(key: pl.Series, last: Any) -> bool:
    """Whether each value is greater than the one before it, and the first one than *last*."""
    if not key.dtype.is_integer() or key.null_count() or (last is not None and key[0] <= last):
        return False
    values = key.to_numpy()
    return bool((values[1:] > values[:-1]).all())


def _hashes(keys: pl.DataFrame) -> pl.Series:
    return keys.hash_rows(seed=0)
