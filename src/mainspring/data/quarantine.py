"""Rows that broke the contract: grouped by reason, repaired by a person, and put into the next version, once."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import NotInStore, Overtaken, SourceError, SourceNotFound, StoreError, UsageError
from mainspring.core.schema import Schema
from mainspring.core.wording import count, listed
from mainspring.data import contract
from mainspring.data.checking import POSITION, REASON
from mainspring.data.keys import names_of
from mainspring.data.repairs import Repair, Repairs, held_against, name_of
from mainspring.data.unite import PREDICTION, retyped
from mainspring.data.validate import refuse_duplicates
from mainspring.data.versions import Content, Last, Reading, Versions, digested
from mainspring.store.deployments import DECLARED, Deployments
from mainspring.store.home import Home
from mainspring.store.parts import Staging
from mainspring.store.tables import Table

ID = "_id"
"""The column of an exported file by which an edited row is known again."""
_VALUE = re.compile(r"^(column '.*?'): '.*' ((?:is|isn't) .*)$", re.DOTALL)
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Kept:
    """One row of the quarantine: where it came from, why it is here, and what it was, as *text*."""

    source: str
    position: str
    reason: str
    text: str

    @property
    def id(self) -> str:
        return name_of(self.text)

    @property
    def row(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text)
        return found


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that broke the same rule, the first of them as examples."""

    reason: str
    rows: int
    examples: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class Mended:
    """What repairs came to: *repairs* of the rows that keep the contract now, and why the others don't.

    version: the data version that has them; None where they were only tried.
    """

    repairs: tuple[Repair, ...]
    left: tuple[str, ...]
    version: int | None = None


class Quarantine:
    """The rows of one loop that broke its contract."""

    def __init__(self, home: Home, loop: str) -> None:
        self._home, self._loop = home, loop
        self._table = Table(home, loop, "quarantine")

    def rows(self) -> list[Kept]:
        """All of them, in the order in which they came."""
        if self._table.version() is None:
            return []
        return [Kept(*row) for row in self._table.read(columns=["source", "position", "reason", "row"]).iter_rows()]

    def groups(self, examples: int = 3) -> list[Group]:
        """They by what they broke, the most frequent first."""
        rows = self.rows()
        counts = Counter(kind_of(row.reason) for row in rows)
        first: dict[str, list[Kept]] = {}
        for row in rows:
            shown = first.setdefault(kind_of(row.reason), [])
            shown += [row] if len(shown) < examples else []
        return [Group(reason, rows, tuple(first[reason])) for reason, rows in counts.most_common()]

    def write(self, file: Path) -> int:
        """Write the rows into *file*, CSV, to be edited and taken back; how many."""
        rows = self.rows()
        records = [{ID: row.id, "_reason": row.reason, **row.row} for row in rows]
        try:
            pl.DataFrame(records, infer_schema_length=None, strict=False).write_csv(file)
        except OSError as error:
            raise UsageError(f"{file} can't be written ({error}); name another file") from error
        return len(rows)

    def mended(self, fixes: Sequence[str] = (), edited: Path | None = None) -> Mended:
        """What would keep the contract, as it is now, with the *fixes* or as a person has *edited* the rows."""
        return self._tried(self.rows(), fixes, edited)[0]

    def replay(self, fixes: Sequence[str] = (), edited: Path | None = None) -> Mended:
        """Put the rows that keep the contract now into the next version, and take them out of here: once, whatever
        happens in between. A source that gives them again as they were gives them mended from now on."""
        for _ in range(_TRIES):
            self._finish_last()
            rows = self.rows()
            found, good = self._tried(rows, fixes, edited)
            if not found.repairs:
                return found
            how = listed([*fixes, *([f"edited in {edited}"] if edited else [])]) or "the contract"
            number = Repairs(self._home, self._loop).add(found.repairs, how)
            try:
                version = self._committed(good, f"replay-{number}")
            except Overtaken:
                continue
            self._without({repair.row for repair in found.repairs})
            return replace(found, version=version)
        raise StoreError(f"runs commit rows of {self._loop} all the time; replay when they have ended")

    # ------------------------------------------------------------------------------------------------------ repairing

    def _tried(self, rows: Sequence[Kept], fixes: Sequence[str], edited: Path | None) -> tuple[Mended, pl.DataFrame]:
        """What keeps the contract now, and those rows in its types."""
        schema, roles = contract.load(self._home, self._loop), self._roles()
        if schema is None:
            raise NotInStore(f"loop {self._loop!r} has no contract yet; `mainspring run FILE` makes one")
        if not rows:
            return Mended((), ()), pl.DataFrame()
        records = fixed([row.row for row in rows], fixes) if fixes else [row.row for row in rows]
        if edited is not None:
            records = _taken_back(edited, rows, schema)
        checked = held_against(schema, records, roles, self._loop)
        refuse_duplicates(checked.good, roles, "the rows to replay")
        bad = set(checked.bad[POSITION].to_list())
        places = [place for place in range(len(rows)) if place not in bad]
        there = self._there(checked.good, roles)
        kept = [place for place, known in zip(places, there, strict=True) if not known]
        left = [*checked.bad[REASON].to_list(), *("a row with its key is there already" for known in there if known)]
        repairs = tuple(Repair(rows[place].text, records[place]) for place in kept)
        return Mended(repairs, tuple(left)), checked.good.filter(~pl.Series(there, dtype=pl.Boolean))

    def _roles(self) -> Roles:
        told: Any = (Deployments(self._home).load_state(self._loop, DECLARED) or {}).get("roles")
        return Roles(**told) if told else Roles("")

    def _there(self, good: pl.DataFrame, roles: Roles) -> list[bool]:
        """Which of the *good* rows have a key that a row of the newest version has."""
        names, version = names_of(roles), Versions(self._home, self._loop).newest()
        if not names or version is None or not good.height:
            return [False] * good.height
        table = Table(self._home, self._loop, "rows")
        known = table.read(version, names).join(good.select(names), on=names, how="semi").unique()
        marked = good.select(names).join(known.with_columns(there=True), on=names, how="left", maintain_order="left")
        return marked["there"].fill_null(False).to_list()

    # ----------------------------------------------------------------------------------------------------- committing

    def _committed(self, good: pl.DataFrame, run: str) -> int:
        """The next version: the newest one and the *good* rows."""
        versions, table = Versions(self._home, self._loop), Table(self._home, self._loop, "rows")
        base = versions.newest()
        known = {} if base is None else table.metadata(base)
        last = versions.last(known.get("source"), base)
        if last is None:
            raise NotInStore(f"loop {self._loop!r} has no data version to add to; `mainspring run FILE` makes one")
        schema = contract.load(self._home, self._loop) or last.dataset.schema
        with Staging(self._home) as staging:
            content = _in_types(last, schema, staging)
            rows = good.select(schema.names).with_columns(pl.lit(None, pl.String).alias(PREDICTION))
            parts = (*content.source, *staging.settled([staging.add(rows, content.next)]))
            total = digested(parts, content)
            grown = Content(parts, (), tuple(total.blocks), total.digest(), last.content.labels)
            before = content.predictions()
            labelled = rows.head(0) if before is None else retyped(before, schema)
            told = {"dataset": {"new_rows": good.height, "labelled_rows": 0, "quarantined_rows": 0,
                                "notes": (f"{count(good.height, 'row')} came back from quarantine",)},
                    "changed": 0, "removed": 0}  # fmt: skip
            reading = Reading(
                known["source"], known.get("name", ""), None, last.cursor, last.position, last.read, last.roles, run
            )  # fmt: skip - the next ingest looks up what joins find for the rows
            return versions.commit(grown, labelled, schema, told, reading, base=base, staging=staging).version

    def _finish_last(self) -> None:
        """Take out the rows of a replay that was committed and then interrupted."""
        table, number = Table(self._home, self._loop, "rows"), Repairs(self._home, self._loop).version()
        newest = table.version()
        if number is None or newest is None:
            return
        done = (table.metadata(version).get("run") for version in range(newest, -1, -1))
        if f"replay-{number}" in done:
            names = Repairs(self._home, self._loop).names(number)
            self._without({row.text for row in self.rows() if row.id in names})

    def _without(self, gone: set[str]) -> None:
        for _ in range(_TRIES):
            base = self._table.version()
            if base is None:
                return
            rows = self._table.read(base)
            left = rows.filter(~pl.col("row").is_in(pl.Series(sorted(gone)).implode()))
            if left.height == rows.height:
                return
            try:
                with Staging(self._home) as staging:
                    parts = staging.settled([staging.add(left, 0)] if left.height else [])
                    self._table.commit(
                        parts,
                        self._table.columns(base),
                        base=base,
                        metadata={**self._table.metadata(base), "only": False},
                    )
                return
            except Overtaken:
                continue


def kind_of(reason: str) -> str:
    """A *reason* without the value, so that rows that broke the same rules have the same.

    >>> kind_of("column 'fare': 'dear' is no float; column 'id' is empty but names the row")
    "column 'fare' is no float; column 'id' is empty but names the row"
    """
    return "; ".join(_VALUE.sub(r"\1 \2", part) for part in re.split(r"; (?=column ')", reason))


def fixed(rows: Sequence[Mapping[str, Any]], fixes: Sequence[str]) -> list[dict[str, Any]]:
    """*rows* after simple repairs, each "COLUMN=EXPRESSION" in SQL over the row's own columns.

    >>> fixed([{"fare": "12,5", "id": 1}], ["fare=replace(fare, ',', '.')"])
    [{'fare': '12.5', 'id': 1}]
    """
    frame = pl.DataFrame(list(rows), infer_schema_length=None, strict=False)
    for fix in fixes:
        column, separator, expression = fix.partition("=")
        if not separator or not expression.strip():
            raise UsageError(f"--fix {fix!r} must be COLUMN=EXPRESSION, such as \"fare=replace(fare, ',', '.')\"")
        if column not in frame.columns:
            raise UsageError(f"--fix {fix!r}: no column {column!r}; the rows have {listed(frame.columns, 20)}")
        try:
            frame = frame.with_columns(pl.sql_expr(expression).alias(column))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            said = str(error).partition("\n")[0]
            raise UsageError(
                f"--fix {fix!r} can't be computed ({said}); write SQL over {listed(frame.columns, 8)}"
            ) from error
    return frame.to_dicts()


def _taken_back(file: Path, rows: Sequence[Kept], schema: Schema) -> list[dict[str, Any]]:
    """The rows as they stand in the edited *file*; one that isn't in it stays as it is."""
    try:
        frame = pl.read_csv(file, infer_schema=False)
    except FileNotFoundError as error:
        raise SourceNotFound(f"no such file: {file}; `mainspring quarantine NAME --write FILE` makes one") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceError(f"{file} can't be read as CSV ({str(error).partition(chr(10))[0]}); mend it") from error
    if ID not in frame.columns:
        raise UsageError(f"{file} has no column {ID!r}, by which a row is known again; write it anew with --write")
    edited = {row.pop(ID): row for row in frame.drop(REASON, strict=False).to_dicts()}
    if unknown := sorted(set(edited) - {row.id for row in rows}, key=str):
        raise UsageError(f"{file} has {ID} {unknown[0]!r}, which isn't in quarantine (any more); take that row out")
    if strange := [name for name in frame.columns if name not in (ID, REASON, *schema.names) and
                   not any(name in row.row for row in rows[:1])]:  # fmt: skip
        raise UsageError(
            f"{file} has a column {strange[0]!r}, which neither the rows nor the contract have; take it out"
        )
    return [edited.get(row.id, row.row) for row in rows]


def _in_types(last: Last, schema: Schema, staging: Staging) -> Content:
    """The newest version's rows in the contract's columns."""
    if [(c.name, c.type) for c in schema] == [(c.name, c.type) for c in last.dataset.schema]:
        return last.content
    made = tuple(staging.put(retyped(part.read(), schema)) for part in last.content.source)
    return replace(last.content, source=made, blocks=(), source_digest="")
