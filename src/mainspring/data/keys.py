"""The keys of the rows of one reading, held small: 8 bytes a row, whatever a key is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.core.declarations import Roles
from mainspring.data.validate import refuse_duplicates
from mainspring.store.parts import Part


def names_of(roles: Roles) -> list[str]:
    """The columns that name a row: its key, and its time where one is declared."""
    return [name for name in (roles.key, roles.time) if name] if roles.key else []


class Keys:
    """The keys seen so far. Two that are equal have the same hash; whether two of a hash are equal, the rows tell."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._seen: list[npt.NDArray[np.uint64]] = []

    def add(self, rows: pl.DataFrame) -> None:
        if self._names and rows.height:
            self._seen.append(_hashes(rows.select(self._names)).to_numpy())

    def refuse_duplicates(self, parts: Sequence[Part], roles: Roles, where: str) -> None:
        """Raise DuplicateKeys where rows of *parts*, which are all that was added, repeat a key."""
        if not self._seen:
            return
        seen = np.concatenate(self._seen)
        self._seen = [seen]
        seen.sort()
        twice = seen[1:][seen[1:] == seen[:-1]]
        if not len(twice):
            return
        suspects = pl.Series(np.unique(twice))
        rows = [part.read(self._names) for part in parts]
        same = [keys.filter(_hashes(keys).is_in(suspects.implode())) for keys in rows]
        refuse_duplicates(pl.concat(same), roles, where)


def _hashes(keys: pl.DataFrame) -> pl.Series:
    return keys.hash_rows(seed=0)
