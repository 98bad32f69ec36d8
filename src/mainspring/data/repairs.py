"""Rows of the quarantine that a person has mended: kept, so that a source which gives them again gives them mended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.schema import Schema
from mainspring.data.casting import plain
from mainspring.data.checking import POSITION, REASON, Checked, check
from mainspring.store.home import Home
from mainspring.store.tables import Table

REPAIRS = "repairs"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Repair:
    """A row as it came, as text, and as a person has mended it."""

    row: str
    mended: Row


class Repairs:
    """The repairs of one loop, in a table of their own."""

    def __init__(self, home: Home, loop: str) -> None:
        self._table = Table(home, loop, REPAIRS)

    def version(self) -> int | None:
        """What changes with every repair; None before the first."""
        return self._table.version()

    def add(self, repairs: Sequence[Repair], how: str) -> int:
        """Keep *repairs*; their version."""
        at = datetime.now(UTC).isoformat()
        told = [(name_of(each.row), _text(each.mended), how, at) for each in repairs]
        frame = pl.DataFrame(told, schema=dict.fromkeys(("name", "mended", "how", "at"), pl.String), orient="row")
        return self._table.append(frame, metadata={"how": how})

    def all(self) -> frozenset[str]:
        """The rows that repairs are of."""
        newest = self.version()
        return frozenset() if newest is None else self.names(newest)

    def names(self, version: int) -> frozenset[str]:
        """The rows that the repairs up to *version* are of."""
        return frozenset(self._table.read(version, columns=["name"])["name"])

    def mended(self, checked: Checked, roles: Roles, loop: str) -> Checked:
        """*checked* with its bad rows mended where a person has; those that keep the contract now come last."""
        if not checked.bad.height or self.version() is None:
            return checked
        known = dict(self._table.read(columns=["name", "mended"]).iter_rows())
        names = [name_of(text) for text in texts(checked.bad)]
        places = [place for place, name in enumerate(names) if name in known]
        if not places:
            return checked
        found = held_against(checked.schema, [json.loads(known[names[place]]) for place in places], roles, loop)
        still = set(found.bad[POSITION].to_list())
        gone = {place for number, place in enumerate(places) if number not in still}
        left = [place for place in range(checked.bad.height) if place not in gone]
        return Checked(pl.concat([checked.good, found.good]), checked.bad[left], found.schema, checked.notes)


def held_against(schema: Schema, rows: Sequence[Row], roles: Roles, loop: str) -> Checked:
    """Rows that came as records, checked against *schema*; a column that none of them has is missing in all."""
    frame, _ = plain(pl.DataFrame(list(rows), infer_schema_length=None, strict=False))
    gone = [pl.lit(None, pl.Null).alias(name) for name in schema.names if name not in frame.columns]
    known = [name for name in schema.names if name in frame.columns]
    return check(frame.select(*known, *gone), schema, roles, loop, picked=True)


def texts(bad: pl.DataFrame) -> list[str]:
    """The rows of *bad* as the quarantine keeps them."""
    found: list[str] = bad.select(pl.struct(pl.exclude(POSITION, REASON)).struct.json_encode()).to_series().to_list()
    return found


def name_of(row: str) -> str:
    """What a row of the quarantine is known by."""
    return hashlib.blake2b(row.encode(), digest_size=8).hexdigest()


def _text(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)
