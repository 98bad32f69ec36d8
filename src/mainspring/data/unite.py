"""One table of source rows and labelled predictions: by (key, time) a row is there once, and the source wins."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.schema import Schema, Type
from mainspring.data.casting import cast, plain
from mainspring.store.labelled import labelled
from mainspring.store.parts import ORDER, Part, Staging
from mainspring.store.records import Records
from mainspring.store.tables import DTYPES

PREDICTION = "_prediction"
"""The hidden column with the id of the labelled prediction that a row comes from; null for a row of the source."""
_HIDDEN, _LABEL = (PREDICTION, ORDER), "_label"


def labelled_rows(records: Records, roles: Roles, schema: Schema) -> pl.DataFrame:
    """The predictions whose label has come, as rows of *schema*; columns that no request carries are null.

    Without a time, where one is declared, a row can't be placed and is left out.
    """
    asked = schema.only(set(schema.names) - roles.hidden)
    raw, _ = plain(labelled(records, roles.target, asked))
    if not raw.height:
        return empty(schema)
    columns = [_typed(raw, name, schema[name].type) for name in schema.names]
    rows = pl.DataFrame([*columns, raw["mainspring_id"].alias(PREDICTION)])
    return rows.drop_nulls([name for name in (roles.target, roles.time) if name])


def retyped(rows: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """*rows* of an earlier version, in the columns and types that a version has now."""
    return rows.select(
        *(_typed(rows, name, schema[name].type) for name in schema.names), *(name for name in _HIDDEN if name in rows)
    )


def filled(
    parts: Sequence[Part], labelled: pl.DataFrame, roles: Roles, staging: Staging
) -> tuple[tuple[Part, ...], pl.DataFrame]:
    """The source's *parts*, and the *labelled* predictions that are rows of their own, by time and key: the order in
    which requests came, which differs from run to run where clients ask at once, changes no data version.

    By (key, time) a row is there once, and the source wins: of a prediction whose row the source has, only the label is
    taken, where the source has none.
    """
    names = [name for name in (roles.key, roles.time) if name] if roles.key else []
    if not names or not labelled.height:
        return tuple(parts), _in_order(labelled, roles)
    named = labelled.drop_nulls(names).unique(names, keep="last", maintain_order=True)
    nameless = labelled.filter(pl.any_horizontal(pl.col(names).is_null()))
    label = named.select(*names, pl.col(roles.target).alias(_LABEL))
    found, made = [], []
    for part in parts:
        hits = part.read([*names, roles.target]).join(label, on=names, how="inner")
        found.append(hits.select(names))
        made.append(_filled(part, label, names, roles.target, staging) if hits[roles.target].null_count() else part)
    own = named.join(pl.concat(found), on=names, how="anti") if found else named
    return staging.settled(made), _in_order(pl.concat([own, nameless]), roles)


def _in_order(rows: pl.DataFrame, roles: Roles) -> pl.DataFrame:
    first = [name for name in (roles.time, roles.key) if name]
    others = [name for name in rows.columns if name not in (*first, *_HIDDEN)]
    return rows.sort([*first, *others], nulls_last=True, maintain_order=True)


def relabelled(rows: pl.DataFrame, labelled: pl.DataFrame, target: str) -> pl.DataFrame:
    """Predictions that a version has, with the labels that they have now: one may have been corrected."""
    labels = labelled.select(PREDICTION, pl.col(target).alias(_LABEL))
    told = rows.join(labels, on=PREDICTION, how="left", maintain_order="left")
    return told.with_columns(pl.coalesce(_LABEL, target).alias(target)).select(rows.columns)


def empty(schema: Schema) -> pl.DataFrame:
    """No rows, in the columns of a version."""
    return pl.DataFrame(schema={**{column.name: DTYPES[column.type] for column in schema}, PREDICTION: pl.String})


def _typed(raw: pl.DataFrame, name: str, kind: Type) -> pl.Series:
    if name not in raw.columns or raw[name].dtype == pl.Null:
        return pl.Series(name, [None], dtype=DTYPES[kind]).new_from_index(0, raw.height)
    values = raw[name]
    return cast(values.cast(pl.String) if kind is Type.TEXT else values, kind)


def _filled(part: Part, label: pl.DataFrame, names: list[str], target: str, staging: Staging) -> Part:
    rows = part.read()
    joined = rows.join(label, on=names, how="left", maintain_order="left")
    return staging.put(joined.with_columns(pl.coalesce(target, _LABEL).alias(target)).select(rows.columns))
