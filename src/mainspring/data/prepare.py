"""From a dataset version to the frame that is learnt from: labelled rows, the task, features that keep a promise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import polars as pl

from mainspring.core.declarations import Clean, Roles, seconds
from mainspring.core.errors import DataError, DeclarationError, DuplicateKeys, FeaturesError
from mainspring.core.schema import Column, Schema
from mainspring.core.values import Dataset, Frame
from mainspring.core.wording import count
from mainspring.data import afterwards, leaks
from mainspring.data.features import checked_features
from mainspring.data.quality import quality
from mainspring.data.targets import Target, target
from mainspring.data.validate import refuse_target
from mainspring.data.versions import Versions
from mainspring.store.home import Home

_QUOTED = re.compile(r"""(?<![\w=])(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?!\w)""")
"""A value or a name as messages quote it; not an apostrophe, nor what an argument is to be."""


def prepare(
    validate: Dataset,
    *,
    roles: Roles,
    features: Sequence[Any],
    task: Literal["auto", "binary", "multiclass", "regression"],
    home: Home,
    window: str | float | None = None,
    clean: Sequence[Clean] = (),
) -> Frame:
    """The labelled rows of the dataset, the target's task and classes, and the contract of what a request must carry.

    Raises FeaturesError where the features functions break their promise, and LeakFound where a column is proven to
    give the target away. A running number is no feature: it is ignored, and a note says so.
    """
    rows = Versions(home, validate.loop).rows(validate).select(validate.schema.names)
    gaps = {column.name: column.null_count() for column in rows.iter_columns()}
    _refuse_repeats(rows, validate.schema)
    late = [*afterwards.came_with_the_label(rows, roles), *afterwards.later_times(rows, roles)]
    described = quality(rows, validate, home, (roles.key, roles.time))
    rows, notes = _labelled(rows, roles, window)
    rows, repeated = _without_repeats(rows, clean)
    notes += [*repeated, *late]
    aim = target(rows[roles.target], task, roles.positive)
    rows = rows.with_columns(aim.values, *_weights(rows, roles)).drop(roles.ignore, strict=False)
    sample = _sample(rows)
    notes += afterwards.nearly_the_target(sample, roles) if aim.classes else []
    made = checked_features(features, sample, roles.hidden)
    shown = made.drop(roles.special, strict=False)
    _refuse_nothing(shown, roles)
    raw = sample.drop(roles.special, strict=False)  # what no feature uses, a request would have to carry all the same
    leaks.refuse_leaks(_leaks(raw, sample, aim, gaps) or _leaks(shown, sample, aim, gaps), sample.columns, roles)
    numbers = _running_numbers(rows, shown, features, sample, roles)
    roles = replace(roles, ignore=(*roles.ignore, *numbers))
    rows = rows.drop(numbers)
    notes += [f"column {name!r} only {what} the rows: it is ignored" for name, what in numbers.items()]
    inputs = _inputs(rows, validate.schema, roles)
    told = (*_unquoted(validate.notes, validate.schema.names, roles), *notes, *aim.notes)
    return Frame(rows, roles, aim.task, aim.classes, inputs, validate.version, told, described)


def _unquoted(notes: Sequence[str], names: Sequence[str], roles: Roles) -> tuple[str, ...]:
    """*notes* without the values that they quote, where rows are about people: they go into the signed bundle, which
    can't be cleared of a person. The *names* of columns stay."""
    if roles.subject is None:
        return tuple(notes)
    kept = {repr(name) for name in names}
    return tuple(_QUOTED.sub(lambda found: found[0] if found[0] in kept else "'…'", note) for note in notes)


def _labelled(rows: pl.DataFrame, roles: Roles, window: str | float | None) -> tuple[pl.DataFrame, list[str]]:
    labelled = rows.filter(pl.col(roles.target).is_not_null())
    unlabelled = rows.height - labelled.height
    notes = [f"{count(unlabelled, 'row')} without a value of {roles.target!r} are left out"] if unlabelled else []
    if window is None:
        return labelled, notes
    if not roles.time:
        raise DeclarationError(f"window={window!r} needs a time column; write time='COLUMN' in the Loop")
    newest: Any = labelled[roles.time].max()
    recent = labelled.filter(pl.col(roles.time) > newest - timedelta(seconds=seconds(window)))
    if recent.height < labelled.height:
        notes.append(f"{count(labelled.height - recent.height, 'row')} older than window={window!r} are left out")
    refuse_target(recent[roles.target])
    return recent, notes


def _refuse_repeats(rows: pl.DataFrame, schema: Schema) -> None:
    """Raise where a column that the contract calls unique repeats a value."""
    for column in schema:
        values = rows[column.name].drop_nulls()
        if column.unique and (extra := len(values) - values.n_unique()):
            examples = "" if column.personal else f", such as {values.filter(values.is_duplicated())[0]!r}"
            raise DuplicateKeys(
                f"column {column.name!r} is unique by its contract, but its values repeat in {count(extra, 'row')}"
                f"{examples}; remove the repeats in the source, or take unique = true out of the contract"
            )


def _without_repeats(rows: pl.DataFrame, clean: Sequence[Clean]) -> tuple[pl.DataFrame, list[str]]:
    if not any(rule.duplicates == "drop" for rule in clean):
        return rows, []
    kept = rows.unique(maintain_order=True)
    dropped = rows.height - kept.height
    return kept, [f"{count(dropped, 'row')} that repeat another in every column are left out"] if dropped else []


def _weights(rows: pl.DataFrame, roles: Roles) -> list[pl.Series]:
    """A row without a weight, such as a labelled prediction, weighs as much as the mean of the others."""
    return [rows[roles.weight].cast(pl.Float64).fill_null(strategy="mean")] if roles.weight else []


def _sample(rows: pl.DataFrame) -> pl.DataFrame:
    if rows.height <= leaks.ROWS:
        return rows
    chosen = np.random.default_rng(0).choice(rows.height, leaks.ROWS, replace=False)
    return rows[np.sort(chosen)]


def _refuse_nothing(shown: pl.DataFrame, roles: Roles) -> None:
    if not shown.width:
        named = ", ".join(sorted(roles.special))
        raise DataError(
            f"no column is left as a feature: all of them are special ({named}); give the source more columns"
        )


def _leaks(shown: pl.DataFrame, sample: pl.DataFrame, aim: Target, gaps: dict[str, int]) -> list[leaks.Leak]:
    name = aim.values.name
    if aim.task == "regression":
        return leaks.value_leaks(shown, sample[name].to_numpy(), name, gaps)
    codes = sample[name].replace_strict(list(aim.classes), list(range(len(aim.classes))), return_dtype=pl.Int64)
    return leaks.class_leaks(shown, np.unique(codes.to_numpy(), return_inverse=True)[1], name, gaps)


def _running_numbers(
    rows: pl.DataFrame, shown: pl.DataFrame, features: Sequence[Any], sample: pl.DataFrame, roles: Roles
) -> dict[str, str]:
    """Columns that number or name the rows, unless they are all there is or a features function needs them."""
    kinds = {name: _names(rows[name]) for name in rows.columns if name in shown.columns}
    found = {name: what for name, what in kinds.items() if what}
    if not found or len(found) == shown.width:
        return {}
    if any(not hasattr(function, "fit") for function in features):
        found = {name: what for name, what in found.items() if _done_without(name, features, sample, roles)}
    return found


def _names(values: pl.Series) -> str:
    if _counts_rows(values):
        return "counts"
    return "names" if afterwards.names_rows(values) else ""


def _counts_rows(values: pl.Series) -> bool:
    if not values.dtype.is_integer() or len(values) < 50 or values.null_count():
        return False
    steps = values.diff().drop_nulls()
    return bool((steps > 0).all()) and int(steps.sum()) < 10 * len(values)


def _done_without(name: str, features: Sequence[Any], sample: pl.DataFrame, roles: Roles) -> bool:
    try:
        checked_features(features, sample.head(100).drop(name), roles.hidden)
    except FeaturesError:
        return False
    return True


def _inputs(rows: pl.DataFrame, schema: Schema, roles: Roles) -> Schema:
    """The raw columns of a request; what names or groups rows may be missing in one."""
    names = [name for name in rows.columns if name not in roles.hidden]
    optional = {roles.key, roles.time, roles.group, roles.subject}
    return Schema(tuple(_input(schema[name], rows[name], name in optional) for name in schema.names if name in names))


def _input(column: Column, values: pl.Series, optional: bool) -> Column:
    return replace(column, nullable=optional or column.nullable or values.null_count() > 0)
