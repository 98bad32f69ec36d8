"""From a source to the next version of a loop's rows: read, checked, united with labelled predictions, committed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import SchemaMismatch, SourceEmpty, SourceError, TargetUnusable, TooManyBadRows
from mainspring.core.protocols import Progress
from mainspring.core.schema import Schema, Type
from mainspring.core.values import Dataset
from mainspring.core.wording import count, percent
from mainspring.data import contract
from mainspring.data.casting import plain
from mainspring.data.contract import POSITION, REASON, Checked
from mainspring.data.sources import Reader, reader
from mainspring.data.unite import PREDICTION, labelled_rows, united
from mainspring.data.validate import refuse_columns, refuse_duplicates, refuse_ignored
from mainspring.data.versions import Reading, Versions
from mainspring.store.home import Home
from mainspring.store.records import Records
from mainspring.store.tables import ORDER


def ingest(
    *, source: Any, roles: Roles, home: Home, loop: str, max_bad: float = 0.05, progress: Progress | None = None
) -> Dataset:
    """The dataset version of everything that the source and the labelled predictions have given by now.

    A source with a cursor is asked only for what is new; any other is read as a whole and takes the place of its
    earlier rows. Rows and cursor are one commit; without anything new there is none, and the answer is the same value
    as before. A row that breaks the contract goes to quarantine; more of them than the share *max_bad*, or any other
    fault of the source, raises before anything is committed.
    """
    frozen, versions = contract.load(home, loop), Versions(home, loop)
    rows_of = reader(source, _text_columns(frozen))
    last = None if frozen is None else versions.last(rows_of.identity)
    since = last.cursor if last is not None and rows_of.incremental else None
    stands = rows_of.position()
    raw, cursor = _read(rows_of, since, progress)
    reading = Reading(rows_of.identity, rows_of.name, since, cursor, stands, raw.height)
    if reading.whole:
        _refuse_empty(raw, rows_of.name)
    checked = _checked(raw, frozen, roles, reading, max_bad, home, loop)
    known = None if last is None else versions.rows(last.dataset)
    labelled = labelled_rows(Records(home, loop), roles, checked.schema)
    rows = united(known, checked.good, labelled, roles, checked.schema, whole=reading.whole)
    return versions.commit(rows, checked, last, reading)


def position(source: Any, home: Home, loop: str) -> Any:
    """What changes when the source or the labelled predictions have something new; None: only reading can tell."""
    where = reader(source).position()
    labels = {name: end for name, end in Records(home, loop).end()["feedback"].items() if end}
    return None if where is None else {"source": where, "labels": labels}


def new_rows(source: Any, home: Home, loop: str) -> int:
    """How many rows the source has that no version knows yet."""
    rows_of = reader(source)
    last = Versions(home, loop).last(rows_of.identity)
    if last is None:
        return sum(part.height for part, _ in rows_of.read(None))
    if last.position is not None and last.position == rows_of.position():
        return 0
    since = last.cursor if rows_of.incremental else None
    rows = sum(part.height for part, _ in rows_of.read(since))
    return rows if since is not None else max(0, rows - last.read)


def _text_columns(frozen: Schema | None) -> tuple[str, ...]:
    return tuple(column.name for column in frozen or () if column.type is Type.TEXT)


def _read(source: Reader, since: Any, progress: Progress | None) -> tuple[pl.DataFrame, Any]:
    parts: list[pl.DataFrame] = []
    cursor, rows = since, 0
    for part, cursor in source.read(since):  # noqa: B007 - the last one is used
        parts.append(part)
        rows += part.height
        if progress is not None:
            progress(f"reading {source.name}", rows, 0)
    try:
        return pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame(), cursor
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(f"the parts of {source.name} don't fit: {reason}; give each column one type") from error


def _refuse_empty(raw: pl.DataFrame, name: str) -> None:
    if not raw.height:
        header = f", only a header: {', '.join(raw.columns[:30])}" if raw.width else ""
        raise SourceEmpty(f"{name} has no rows{header}; give it some and run again")


def _checked(
    raw: pl.DataFrame, frozen: Schema | None, roles: Roles, reading: Reading, max_bad: float, home: Home, loop: str
) -> Checked:
    """The rows read, checked against the frozen contract, or against the one that they suggest."""
    if frozen is not None and not raw.height:
        return Checked(pl.DataFrame(), pl.DataFrame(), frozen)
    _refuse_reserved(raw, reading.source)
    frame, said = plain(raw)
    _refuse_left_out(raw, frame, roles, reading.source)
    refuse_columns(frame.columns, roles, reading.source, () if frozen is None else frozen.names)
    refuse_ignored(raw.columns, roles, reading.source)
    schema, inferred = (frozen, ()) if frozen is not None else contract.infer(frame, roles, max_bad)
    file = contract.path(home, loop)
    checked = contract.check(frame, schema, roles, file)
    where = f"the contract, though the source has it; remove {file} to take it in"
    refuse_columns(checked.good.columns, roles, where, frame.columns)
    _refuse_bad(checked.bad, frame.height, reading.source, max_bad)
    refuse_duplicates(checked.good, roles, reading.source)
    return replace(checked, notes=(*said, *inferred, *checked.notes, *_set_aside(checked.bad, frame.height)))


def _refuse_left_out(raw: pl.DataFrame, frame: pl.DataFrame, roles: Roles, name: str) -> None:
    """A role's column whose values are no single numbers, texts or times isn't taken in."""
    for role in ("target", "key", "time", "group", "weight"):
        column = getattr(roles, role)
        if column in raw.columns and column not in frame.columns:
            error = TargetUnusable if role == "target" else SchemaMismatch
            raise error(
                f"{role}={column!r} of {name} holds {raw[column].dtype}, of which a row has no single value; "
                "name another column, or make one of it in the source"
            )


def _refuse_reserved(raw: pl.DataFrame, name: str) -> None:
    reserved = [column for column in (ORDER, PREDICTION, REASON, POSITION) if column in raw.columns]
    if reserved:
        raise SchemaMismatch(f"column {reserved[0]!r} of {name} has a name that mainspring keeps for itself; rename it")


def _refuse_bad(bad: pl.DataFrame, rows: int, name: str, max_bad: float) -> None:
    if bad.height > max_bad * rows:
        first = "; ".join(f"row {place + 1:,}: {why}" for place, why in bad.select(POSITION, REASON).head(3).rows())
        raise TooManyBadRows(
            f"{bad.height:,} of {count(rows, 'row')} of {name} break the contract, more than {percent(max_bad)}: "
            f"{first}; mend them in the source, or raise max_bad="
        )


def _set_aside(bad: pl.DataFrame, rows: int) -> tuple[str, ...]:
    if not bad.height:
        return ()
    return (f"{bad.height:,} of {count(rows, 'row')} went to quarantine, the first because {bad[REASON][0]}",)
