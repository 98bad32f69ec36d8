"""What the right side of a join tells late, in rows that a version has: the next ingest joins them anew."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.schema import Schema
from mainspring.core.wording import count
from mainspring.data import contract
from mainspring.data.contract import POSITION
from mainspring.data.joined import Joined
from mainspring.data.unite import PREDICTION, retyped
from mainspring.store.parts import ORDER, Part, Staging

_HIDDEN = (ORDER, PREDICTION)


class Late:
    """Known rows with what a join finds for them by now; what breaks the contract stays as it was, and so does a row
    for which nothing is found any more: a right side may forget what is old."""

    def __init__(self, join: Joined, schema: Schema, roles: Roles, loop: str, staging: Staging) -> None:
        self._join, self._roles, self._loop, self._staging = join, roles, loop, staging
        self.schema = schema
        self.changed = self._broken = 0

    def joined(self, known: Sequence[Part]) -> tuple[Part, ...]:
        """*known* with the rows that changed in their places; files without such stay."""
        names = set(self.schema.names)
        if not names.issuperset(self._join.asks) or names.isdisjoint(self._join.gives):
            return tuple(known)
        parts = [self._part(part) for part in known]
        return self._staging.settled(parts) if self.changed else tuple(known)

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say of it."""
        told = []
        if self.changed:
            told.append(f"{count(self.changed, 'row')} of earlier versions joined with what came late")
        if self._broken:
            told.append(
                f"{count(self._broken, 'row')} of earlier versions stay as joined before: what came late breaks the "
                "contract"
            )
        return tuple(told)

    def _part(self, part: Part) -> Part:
        rows = part.read()
        gives = [name for name in self._join.gives if name in self.schema.names]
        now = retyped(self._join.rejoined(rows), self.schema)
        changed = now.select(pl.any_horizontal(pl.col(name).ne_missing(rows[name]) for name in gives)).to_series()
        if not changed.any():
            return part
        made = now.filter(changed).drop(_HIDDEN, strict=False)
        checked = contract.check(made, self.schema, self._roles, self._loop, growing=True, picked=True)
        places = changed.arg_true()
        kept = places.filter(~pl.int_range(len(places), eager=True).is_in(checked.bad[POSITION].implode()))
        self._broken += checked.bad.height
        self.changed += len(kept)
        if not len(kept):
            return part
        self.schema = checked.schema
        taken = pl.int_range(rows.height, eager=True).is_in(kept.implode())
        columns = [now[name].zip_with(taken, rows[name]) for name in gives]
        return self._staging.put(rows.with_columns(columns))
