"""The rows of an erased subject taken out of a loop's tables: of every version, quarantine, repairs and lookups."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from mainspring.core.errors import Overtaken, StoreError
from mainspring.core.schema import Schema
from mainspring.data import contract
from mainspring.data.repairs import REPAIRS
from mainspring.data.unite import PREDICTION
from mainspring.data.versions import Content, Reading, Versions, digested
from mainspring.store.forgetting import forget_older, forget_unnamed
from mainspring.store.home import Home
from mainspring.store.lookups import PREFIX
from mainspring.store.parts import ORDER, Part, Staging
from mainspring.store.protection import canonical
from mainspring.store.records import KINDS
from mainspring.store.tables import Table
from mainspring.store.traces import telling

_TRIES = 20


OfSubject = Callable[[pl.DataFrame], pl.Series]


def versions_with(home: Home, loop: str, column: str, forms: Collection[str]) -> tuple[set[int], set[int]]:
    """The versions of the loop's rows that have some of the subject's, and those of which that can't be told any more,
    for an erasure, retention or other rules of privacy have removed them."""
    table = Table(home, loop, "rows")
    newest = table.version()
    there = {} if newest is None else {path.name: path for path in table.path.glob("*.parquet")}
    held = {name for name, path in there.items() if _hits(path, column, forms)}
    if newest is None or not held:
        return set(), set()
    named = {version: set(table.names(version)) for version in range(newest + 1)}
    sure = {version for version, names in named.items() if names & held}
    return sure, {version for version, names in named.items() if names - set(there)} - sure


def erase_rows(home: Home, loop: str, column: str, forms: Collection[str]) -> dict[str, int]:
    """Take the rows whose *column* has one of the *forms* out of every table of *loop*, older versions included: how
    many of which. The loop's rows come last: until then an interrupted erasure finds out again what to look for."""
    found: dict[str, int] = {}
    for name in ("quarantine", REPAIRS):
        found[name] = _erased_texts(Table(home, loop, name), column, forms)
    for folder in sorted((home.folder("tables") / loop).glob(f"{PREFIX}*")):
        found[folder.name] = _erased_lookup(Table(home, loop, folder.name), column, forms)
    shutil.rmtree(home.folder("tables") / loop / "quality", ignore_errors=True)
    contract.withdraw(home, loop)
    of_subject = partial(_are, column, forms)
    for folder in sorted((home.folder("tables") / loop).glob("*/_delta_log")):
        if folder.parent.name not in KINDS:  # what was compacted: who erases records knows its files
            forget_unnamed(Table(home, loop, folder.parent.name), lambda path: _may_hold(path, forms))
    return {
        "rows": _erased_versions(home, loop, of_subject, column),
        **{name: rows for name, rows in found.items() if rows},
    }


def erase_older(home: Home, loop: str, column: str, moment: Any) -> int:
    """Take the rows whose time is before *moment* out of every version of the loop's rows; how many."""
    return _erased_versions(home, loop, lambda rows: (rows[column] < moment).fill_null(False), column)


def texts_of(home: Home, loop: str, column: str, forms: Collection[str], predicted: Sequence[Mapping[str, Any]],
             others: Sequence[Mapping[str, Any]]) -> set[str]:  # fmt: skip
    """Texts that only the subject's rows have: in the table, those that stand in quarantine, and among the *predicted*
    ones but not the *others*. Notes and reports quote what was wrong with a row in quarantine."""
    table = Table(home, loop, "rows")
    kept = [row for name in ("quarantine", REPAIRS) for row in _texts_kept(Table(home, loop, name))]
    predicted = [*predicted, *(row for row in kept if _is_of(row, column, forms))]
    others = [*others, *(row for row in kept if not _is_of(row, column, forms))]
    gone = {value for row in predicted for value in row.values() if isinstance(value, str) and telling(value)}
    left = {value for row in others for value in row.values() if isinstance(value, str)}
    if table.version() is not None:
        for path in sorted(table.path.glob("*.parquet")):
            rows = pl.read_parquet(path)
            mask = _are(column, forms, rows)
            gone |= _texts(rows.filter(mask))
            left |= _texts(rows.filter(~mask))
    return gone - left


def columns_of(home: Home, loop: str) -> tuple[str, ...]:
    """The names of the loop's columns, of which none is taken for a person."""
    table = Table(home, loop, "rows")
    return () if table.version() is None else tuple(table.columns())


def _texts(rows: pl.DataFrame) -> set[str]:
    names = [name for name, kind in rows.schema.items() if kind == pl.String and name != PREDICTION]
    return {value for name in names for value in rows[name].drop_nulls().unique().to_list() if telling(value)}


def _are(column: str, forms: Collection[str], rows: pl.DataFrame) -> pl.Series:
    """Which *rows* are the subject's."""
    if column not in rows.columns:
        return pl.Series([False], dtype=pl.Boolean).new_from_index(0, rows.height)
    return _is_one(rows[column], forms)


def _is_one(values: pl.Series, forms: Collection[str]) -> pl.Series:
    """Which *values* are one of the *forms*."""
    known = [value for value in values.drop_nulls().unique().to_list() if canonical(value) in forms]
    return values.is_in(pl.Series(known, dtype=values.dtype).implode()).fill_null(False)


def _hits(path: Any, column: str, forms: Collection[str]) -> bool:
    names = [column] if column in pl.read_parquet_schema(path) else []
    return bool(names) and bool(_are(column, forms, pl.read_parquet(path, columns=names)).any())


def _may_hold(path: Path, forms: Collection[str]) -> bool:
    """Whether a value of the file, or of a row that it keeps as JSON, is one of the *forms*; one that can't be read may
    be anybody's."""
    try:
        rows = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError):
        return True
    texts = [name for name in ("row", "mended") if rows.schema.get(name) == pl.String]
    found = [value for name in texts for text in rows[name].drop_nulls() for value in json.loads(text).values()]
    return any(value is not None and canonical(value) in forms for value in found) or any(
        bool(_is_one(column, forms).any()) for column in rows.iter_columns() if not column.dtype.is_nested()
    )


# ------------------------------------------------------------------------------------------------- rows of the source


def _erased_versions(home: Home, loop: str, of_subject: OfSubject, column: str) -> int:
    for _ in range(_TRIES):
        try:
            gone = _next_version(home, loop, of_subject, column)
        except Overtaken:
            continue
        forget_older(Table(home, loop, "rows"))
        return gone
    raise StoreError(f"runs commit rows of {loop} all the time; erase when they have ended")


def _next_version(home: Home, loop: str, of_subject: OfSubject, column: str) -> int:
    """Commit a version without the subject's rows, where the newest has any; how many it had."""
    versions, table = Versions(home, loop), Table(home, loop, "rows")
    base = versions.newest()
    known = {} if base is None else table.metadata(base)
    last = versions.last(known.get("source"), base)
    if last is None or column not in last.dataset.schema:
        return 0
    rows = table.read(base)
    mask = of_subject(rows)
    gone = int(mask.sum())
    if not gone:
        return 0
    left = rows.filter(~mask)
    schema = _as_seen(contract.load(home, loop) or last.dataset.schema, left)
    with Staging(home) as staging:
        parts = staging.settled(_kept(last.content.source, of_subject, staging))
        total = digested(parts, Content())
        labelled = left.filter(pl.col(PREDICTION).is_not_null())
        content = Content(parts, (), tuple(total.blocks), total.digest(), last.content.labels)
        told = {"dataset": {"new_rows": 0, "labelled_rows": 0, "quarantined_rows": 0,
                            "notes": (f"{gone:,} rows were erased",)}, "changed": 0, "removed": gone}  # fmt: skip
        reading = Reading(known["source"], known.get("name", ""), None, last.cursor, last.position, last.read,
                          last.roles, "erase", last.looked)  # fmt: skip
        versions.commit(
            content, labelled, _only(schema, last.dataset.schema), told, reading, base=base, staging=staging
        )
    return gone


def _kept(parts: Collection[Part], of_subject: OfSubject, staging: Staging) -> list[Part]:
    kept = []
    for part in parts:
        rows = part.read()
        left = rows.filter(~of_subject(rows))
        kept += [part] if left.height == rows.height else [staging.put(left)] if left.height else []
    return kept


def _only(schema: Schema, known: Schema) -> Schema:
    """The columns that the version has, as they are *known*, with what the *schema* has seen of them."""
    return replace(known, columns=tuple(schema[c.name] if c.name in schema and schema[c.name].type is c.type else c
                                        for c in known))  # fmt: skip


def _as_seen(schema: Schema, left: pl.DataFrame) -> Schema:
    """*schema* without what only the rows that went had shown."""
    columns = []
    for column in schema:
        if column.name in left.columns and left.height:
            values = left[column.name]
            if column.levels is not None:
                there = set(values.drop_nulls().unique().to_list())
                column = replace(column, levels=tuple(level for level in column.levels if level in there))
            if column.low is not None and values.dtype.is_numeric() and (low := values.min()) is not None:
                column = replace(column, low=float(low), high=float(values.max()))  # type: ignore[arg-type]
        columns.append(column)
    return replace(schema, columns=tuple(columns))


# ------------------------------------------------------------------------------------------- quarantine and the like


def _erased_texts(table: Table, column: str, forms: Collection[str]) -> int:
    """Of a table whose rows are kept as JSON."""
    if table.version() is None:
        return 0
    mask = pl.Series([_is_of(row, column, forms) for row in _texts_kept(table)], dtype=pl.Boolean)
    return _replaced(table, table.read(), mask)


def _texts_kept(table: Table) -> list[dict[str, Any]]:
    """The rows that a *table* keeps as JSON."""
    if table.version() is None:
        return []
    rows = table.read()
    return [json.loads(text) for text in rows["row" if "row" in rows.columns else "mended"].to_list()]


def _is_of(row: Mapping[str, Any], column: str, forms: Collection[str]) -> bool:
    value = row.get(column)
    return value is not None and canonical(value) in forms


def _erased_lookup(table: Table, column: str, forms: Collection[str]) -> int:
    if table.version() is None:
        return 0
    how = table.metadata()["join"]
    rows = table.read()
    names = [
        name for name in rows.columns if (name if name in how["on"] else f"{how.get('prefix', '')}{name}") == column
    ]
    return _replaced(table, rows, _is_one(rows[names[0]], forms)) if names else 0


def _replaced(table: Table, rows: pl.DataFrame, mask: pl.Series) -> int:
    """*table* without the rows of *mask*, and without its older versions, which a run that replaced them left."""
    gone = int(mask.sum())
    if gone:
        metadata = table.metadata()
        table.replace(rows.filter(~mask).drop(ORDER, strict=False), metadata={**metadata, "only": False})
    forget_older(table)
    return gone
