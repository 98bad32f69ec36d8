"""One table of source rows and labelled predictions: by (key, time) a row is there once, and the source wins."""

from __future__ import annotations

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.schema import Schema, Type
from mainspring.data.casting import cast, plain
from mainspring.store.labelled import labelled
from mainspring.store.records import Records
from mainspring.store.tables import DTYPES

PREDICTION = "_prediction"
"""The hidden column with the id of the labelled prediction that a row comes from; null for a row of the source."""
_PLACE, _LABEL = "_place", "_label"


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


def united(
    known: pl.DataFrame | None, new: pl.DataFrame, labelled: pl.DataFrame, roles: Roles, schema: Schema, *, whole: bool
) -> pl.DataFrame:
    """The rows of the next version: those of the source in its order, then the labelled predictions.

    known: the rows of the last version. new: rows of the source, all of them where *whole*; a row with the
    (key, time) of an older one takes its place. A source row without a target takes a labelled prediction's.
    """
    names = [name for name in (roles.key, roles.time) if name] if roles.key else []
    old = empty(schema) if known is None else known.select(
        *(cast(known[name], schema[name].type) for name in schema.names), PREDICTION
    )  # fmt: skip
    source = old.filter(pl.col(PREDICTION).is_null())
    fresh = new.with_columns(pl.lit(None, pl.String).alias(PREDICTION)) if new.width else empty(schema)
    source = fresh if whole else _updated(source, fresh, names)
    before = old.filter(pl.col(PREDICTION).is_not_null())
    return _joined(source, pl.concat([before, labelled.join(before, on=PREDICTION, how="anti")]), names, roles.target)


def empty(schema: Schema) -> pl.DataFrame:
    """No rows, in the columns of a version."""
    return pl.DataFrame(schema={**{column.name: DTYPES[column.type] for column in schema}, PREDICTION: pl.String})


def _typed(raw: pl.DataFrame, name: str, kind: Type) -> pl.Series:
    if name not in raw.columns or raw[name].dtype == pl.Null:
        return pl.Series(name, [None], dtype=DTYPES[kind]).new_from_index(0, raw.height)
    values = raw[name]
    return cast(values.cast(pl.String) if kind is Type.TEXT else values, kind)


def _updated(old: pl.DataFrame, new: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """*old* with *new* rows in the places of those that they replace, the others behind."""
    if not names or not old.height or not new.height:
        return pl.concat([old, new])
    places = old.select(names).with_row_index(_PLACE)
    placed = new.join(places, on=names, how="left", maintain_order="left")
    if placed[_PLACE].null_count() == new.height:
        return pl.concat([old, new])
    behind = pl.int_range(old.height, old.height + new.height, dtype=pl.UInt32, eager=True)
    placed = placed.with_columns(pl.col(_PLACE).fill_null(behind))
    kept = old.with_row_index(_PLACE).join(new, on=names, how="anti").select(placed.columns)
    return pl.concat([kept, placed]).sort(_PLACE).drop(_PLACE)


def _joined(source: pl.DataFrame, labelled: pl.DataFrame, names: list[str], target: str) -> pl.DataFrame:
    if not names or not labelled.height:
        return pl.concat([source, labelled])
    named = labelled.drop_nulls(names).unique(names, keep="last", maintain_order=True)
    nameless = labelled.filter(pl.any_horizontal(pl.col(names).is_null()))
    label = named.select(*names, pl.col(target).alias(_LABEL))
    filled = source.join(label, on=names, how="left", maintain_order="left")
    filled = filled.with_columns(pl.coalesce(target, _LABEL).alias(target)).select(source.columns)
    return pl.concat([filled, named.join(source, on=names, how="anti"), nameless])
