"""What must hold of a dataset as a whole: the columns that roles name, a usable target, unique keys, rows enough."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import DataError, DeclarationError, DuplicateKeys, SchemaMismatch, TargetUnusable
from mainspring.core.schema import Type
from mainspring.core.values import Dataset
from mainspring.core.wording import count, listed
from mainspring.store.home import Home
from mainspring.store.tables import Table

MIN_LABELLED_ROWS = 20


def validate(ingest: Dataset, *, roles: Roles, home: Home) -> Dataset:
    """The same dataset, if a model can be learnt from it; raises what is wrong with it otherwise."""
    name = f"version {ingest.version} of the rows"
    refuse_columns(ingest.schema.names, roles, name)
    _refuse_types(ingest, roles)
    asked = [column for column in (roles.target, roles.key, roles.time, roles.weight) if column]
    rows = Table(home, ingest.loop, "rows").read(ingest.version, list(dict.fromkeys(asked)))
    refuse_target(rows[roles.target])
    refuse_duplicates(rows, roles, name)
    if roles.weight:
        _refuse_weight(rows[roles.weight])
    return ingest


def refuse_columns(names: Sequence[str], roles: Roles, where: str, known: Collection[str] = ()) -> None:
    """Raise where a role names a column that isn't there; the nearest names are told. *known*: what has been there."""
    for role in ("target", "key", "time", "group", "weight"):
        name = getattr(roles, role)
        if name and name not in names:
            error = SchemaMismatch if name in known else DeclarationError
            raise error(f"{role}={name!r} is no column of {where}; {_nearest(name, names)}")


def refuse_ignored(names: Sequence[str], roles: Roles, where: str) -> None:
    """Raise where `ignore` names a column that isn't there: a leak with a typing error in its name would stay."""
    for name in roles.ignore:
        if name not in names:
            raise DeclarationError(f"ignore={name!r} is no column of {where}; {_nearest(name, names)}")


def refuse_duplicates(rows: pl.DataFrame, roles: Roles, where: str) -> None:
    """Raise where rows repeat a (key, time), or a key where no time is declared."""
    if not roles.key:
        return
    names = [name for name in (roles.key, roles.time) if name]
    repeated = rows.drop_nulls(names).group_by(names, maintain_order=True).len("rows").filter(pl.col("rows") > 1)
    if not repeated.height:
        return
    examples = listed([_shown(names, values) for values in repeated.select(names).head(3).rows()])
    extra = int(repeated["rows"].sum()) - repeated.height
    mend = "remove the repeats" + ("" if roles.time else ", or name the column that tells them apart: time='COLUMN'")
    what = f"{roles.key!r} and {roles.time!r}" if roles.time else repr(roles.key)
    raise DuplicateKeys(
        f"{count(repeated.height, 'key')} in {what} of {where} {'comes' if repeated.height == 1 else 'come'} more than "
        f"once ({count(extra, 'row')} too many), "
        f"such as {examples}; {mend}"
    )


def refuse_target(target: pl.Series) -> None:
    """Raise where nothing can be learnt from the *target*: no labels, one value only, too few rows."""
    labelled = target.drop_nulls()
    if not len(labelled):
        raise TargetUnusable(
            f"target {target.name!r} is empty in all {count(len(target), 'row')}; no row has a label yet: give some "
            "rows their value, or name another target"
        )
    if labelled.n_unique() == 1:
        raise TargetUnusable(
            f"target {target.name!r} is {labelled[0]!r} in all {count(len(labelled), 'labelled row')}; "
            "there is nothing to learn: name another target, or rows of other classes"
        )
    if len(labelled) < MIN_LABELLED_ROWS:
        raise DataError(
            f"only {count(len(labelled), 'row')} of {len(target):,} have a value of target {target.name!r}; "
            f"at least {MIN_LABELLED_ROWS} are needed"
        )


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else f"the columns are {listed(list(names), 12)}"


def _shown(names: list[str], values: tuple[object, ...]) -> str:
    return " with ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def _refuse_types(dataset: Dataset, roles: Roles) -> None:
    if roles.time and (kind := dataset.schema[roles.time].type) not in (Type.DATETIME, Type.DATE):
        raise SchemaMismatch(
            f"time column {roles.time!r} is {kind}, not a time; convert it in the source to text such as "
            "2013-01-31T15:00:00 or to the database's own type"
        )
    if roles.weight and (kind := dataset.schema[roles.weight].type) not in (Type.INTEGER, Type.FLOAT):
        raise SchemaMismatch(f"weight column {roles.weight!r} is {kind}; it must hold numbers")


def _refuse_weight(weight: pl.Series) -> None:
    if (weight.drop_nulls() < 0).any() or not (weight.drop_nulls() > 0).any():
        raise DataError(f"weight column {weight.name!r} must hold numbers of 0 or more, some of them above 0")
