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
_HASH, _NAME = "_hash", "_name"


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
    common = after.schema.only(before.schema.names)
    added, changed, removed = counted(*parts, names, common)
    said = tuple(str(change) for change in column_changes(before.schema, after.schema))
    shifts = _shifts(_sample(parts[0]), _sample(parts[1]), common, names)
    return Changes(old, new, before.rows, after.rows, added, removed, changed, tuple(names), said, shifts)


def counted(old: Sequence[Part], new: Sequence[Part], names: Sequence[str], schema: Schema) -> tuple[int, int, int]:
    """How many rows were added, changed and removed: by the columns *names*, without any as whole rows. Files that both
    have aren't read, and of the others 16 bytes a row are held."""
    shared = {part.path for part in old} & {part.path for part in new}
    gone, come = ([part for part in each if part.path not in shared] for each in (old, new))
    before, after = sum(part.rows for part in gone), sum(part.rows for part in come)
    if not gone or not come:
        return after, 0, before
    known, rows = _hashed(gone, names, schema), _hashed(come, names, schema)
    if not names:
        both = known.group_by(_HASH).len("old").join(rows.group_by(_HASH).len("new"), on=_HASH)
        same = int(both.select(pl.min_horizontal("old", "new")).to_series().sum())
        return after - same, 0, before - same
    hits = rows.unique(_NAME).join(known.unique(_NAME), on=_NAME, suffix="_old")
    changed = hits.filter(pl.col(_HASH) != pl.col(f"{_HASH}_old")).height
    return after - hits.height, changed, before - hits.height


def _hashed(parts: Sequence[Part], names: Sequence[str], schema: Schema) -> pl.DataFrame:
    """Of each row a hash of its name and one of its values: little, however wide it is."""
    frames = []
    for part in parts:
        rows = retyped(part.read(list(schema.names)), schema)
        hashes = [rows.hash_rows(seed=0).alias(_HASH)]
        frames.append(pl.DataFrame([*hashes, rows.select(names).hash_rows(seed=0).alias(_NAME)] if names else hashes))
    return pl.concat(frames)


def _sample(parts: Sequence[Part]) -> pl.DataFrame:
    """Rows from all over the parts, always the same ones; not every n-th, for values may come round with n."""
    total = sum(part.rows for part in parts)
    share = min(1.0, SAMPLE / max(1, total))
    frames = [part.read().sample(fraction=share, seed=0).drop(ORDER, PREDICTION) for part in parts]
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
