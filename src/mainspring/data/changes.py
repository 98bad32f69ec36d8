"""What one version of a loop's rows changed since another: rows by their key, columns, distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from mainspring.core.schema import Schema
from mainspring.data.evolution import changes as column_changes
from mainspring.data.unite import PREDICTION, retyped
from mainspring.data.versions import Versions
from mainspring.statistics.drift_measures import population_stability
from mainspring.store.home import Home
from mainspring.store.parts import ORDER, Part
from mainspring.store.profile import Profile
from mainspring.store.tables import Table

SAMPLE = 100_000
"""So many rows of each version tell how its values are distributed."""
_HASH, _NTH = "_hash", "_nth"


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a column's values moved: the population stability index, and the share that is missing, then and now."""

    column: str
    psi: float
    missing_before: float
    missing: float


@dataclass(frozen=True, slots=True)
class Changes:
    """From version *old* to *new*. by: the columns that name a row; none: rows count as equal or not."""

    old: int
    new: int
    rows_before: int
    rows: int
    added: int
    removed: int
    changed: int
    by: tuple[str, ...]
    columns: tuple[str, ...]
    shifts: tuple[Shift, ...]


def changes(home: Home, loop: str, old: int, new: int) -> Changes:
    """What version *new* changed since version *old*. Files that both have aren't read."""
    versions, table = Versions(home, loop), Table(home, loop, "rows")
    before, after = versions.pinned(old), versions.pinned(new)
    roles: dict[str, Any] = table.metadata(new).get("roles") or {}
    names = [name for name in (roles.get("key"), roles.get("time")) if name] if roles.get("key") else []
    names = names if all(name in before.schema and name in after.schema for name in names) else []
    parts = table.parts(old), table.parts(new)
    shared = {part.path for part in parts[0]} & {part.path for part in parts[1]}
    common = after.schema.only(before.schema.names)
    gone, come = (_hashed([part for part in each if part.path not in shared], names, common) for each in parts)
    added, removed, changed = _counted(gone, come, names)
    said = tuple(str(change) for change in column_changes(before.schema, after.schema))
    shifts = _shifts(_sample(parts[0]), _sample(parts[1]), common, names)
    return Changes(old, new, before.rows, after.rows, added, removed, changed, tuple(names), said, shifts)


def _hashed(parts: Sequence[Part], names: list[str], schema: Schema) -> pl.DataFrame:
    """Of each row its name and a hash of its values: little, however wide it is."""
    frames = []
    for part in parts:
        rows = retyped(part.read(list(schema.names)), schema)
        frames.append(pl.DataFrame([*rows.select(names).iter_columns(), rows.hash_rows(seed=0).alias(_HASH)]))
    return pl.concat(frames) if frames else pl.DataFrame()


def _counted(old: pl.DataFrame, new: pl.DataFrame, names: list[str]) -> tuple[int, int, int]:
    """How many rows were added, removed, changed."""
    if not old.height or not new.height:
        return new.height, old.height, 0
    if not names:
        names = [_HASH, _NTH]
        old, new = (rows.with_columns(pl.int_range(pl.len()).over(_HASH).alias(_NTH)) for rows in (old, new))
    both = new.join(old, on=names, how="inner", nulls_equal=True, suffix="_old")
    changed = both.filter(pl.col(_HASH) != pl.col(f"{_HASH}_old")).height if f"{_HASH}_old" in both.columns else 0
    return new.height - both.height, old.height - both.height, changed


def _sample(parts: Sequence[Part]) -> pl.DataFrame:
    """Rows from all over the parts, always the same ones."""
    total = sum(part.rows for part in parts)
    step = max(1, total // SAMPLE)
    frames = [part.read().gather_every(step).drop(ORDER, PREDICTION) for part in parts]
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


def _shifts(old: pl.DataFrame, new: pl.DataFrame, schema: Schema, names: list[str]) -> tuple[Shift, ...]:
    """The columns whose values are distributed otherwise, the most moved first."""
    if not old.height or not new.height:
        return ()
    profile = Profile.of(retyped(old, schema), schema, frozenset(names))
    counts = profile.counts(new)
    found = [
        Shift(
            column.name,
            population_stability(column.counts, counts[column.name]),
            old[column.name].null_count() / old.height,
            new[column.name].null_count() / new.height,
        )
        for column in profile
    ]
    return tuple(sorted((shift for shift in found if shift.psi >= 0.001), key=lambda shift: -shift.psi))
