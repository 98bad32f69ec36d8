"""What a source has become against its contract: each change by name, and the contract once they are accepted."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import UsageError
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.wording import listed
from mainspring.data.casting import cast
from mainspring.data.inference import infer

_NUMBERS = (Type.INTEGER, Type.FLOAT)


@dataclass(frozen=True, slots=True)
class Change:
    """One column of the source that the contract doesn't know as it is now; *old* or *new* is None where it isn't."""

    kind: Literal["new", "gone", "type"]
    column: str
    old: Column | None
    new: Column | None

    def __str__(self) -> str:
        if self.kind == "new" and self.new is not None:
            return f"+ {self.column!r}: {_told(self.new)}"
        if self.kind == "gone" and self.old is not None:
            return f"- {self.column!r}: {_told(self.old)}"
        return f"~ {self.column!r}: {_told(self.old)} -> {_told(self.new)}"


def become(frame: pl.DataFrame, schema: Schema, roles: Roles) -> Schema:
    """The contract of the rows of the plain *frame*: a column that mostly keeps *schema* stays as it is there."""
    known = {column.name: column for column in schema}
    return Schema(tuple(
        known[column.name] if column.name in known and _mostly_kept(frame[column.name], known[column.name]) else column
        for column in infer(frame, roles)[0]
    ))  # fmt: skip


def changes(contract: Schema, source: Schema) -> tuple[Change, ...]:
    """In which columns *source* differs from *contract*."""
    old, new = ({column.name: column for column in schema} for schema in (contract, source))
    gone = [Change("gone", name, column, None) for name, column in old.items() if name not in new]
    fresh = [Change("new", name, None, column) for name, column in new.items() if name not in old]
    other = [Change("type", name, old[name], column) for name, column in new.items()
             if name in old and not column.undecided and column.type is not old[name].type]  # fmt: skip
    return (*gone, *other, *fresh)


def accepted(contract: Schema, found: Iterable[Change], only: Collection[str] = ()) -> Schema:
    """*contract* with the changes *found*, or with those of the columns *only*; a person's other rules stay."""
    chosen = {change.column: change for change in found if not only or change.column in only}
    if unknown := sorted(set(only) - set(chosen)):
        raise UsageError(f"column {unknown[0]!r} has no change to accept; see mainspring schema NAME diff")
    columns = []
    for column in contract:
        change = chosen.pop(column.name, None)
        if change is None:
            columns.append(column)
        elif change.new is not None:
            columns.append(_with_rules_of(column, change.new))
    columns += [replace(change.new, nullable=True) for change in chosen.values() if change.new is not None]
    return replace(contract, columns=tuple(columns))


def _mostly_kept(values: pl.Series, column: Column) -> bool:
    if column.undecided:
        return False
    lost = (cast(values, column.type).is_null() & values.is_not_null()).sum()
    return bool(lost <= (len(values) - values.null_count()) / 2)


def _with_rules_of(old: Column, new: Column) -> Column:
    """*new* with the rules of *old* that make sense for its type."""
    numeric, same = new.type in _NUMBERS, new.type is old.type
    return replace(
        new,
        nullable=old.nullable or new.nullable,
        required=old.required,
        minimum=old.minimum if numeric else None,
        maximum=old.maximum if numeric else None,
        allowed=old.allowed if same else None,
        unique=old.unique,
        unit=old.unit,
        personal=old.personal,
    )


def _told(column: Column | None) -> str:
    if column is None or column.undecided:
        return "no value yet"
    said = [str(column.type)]
    if column.low is not None:
        said.append(f"{column.low:g} to {column.high:g}")
    if column.levels is not None and not column.personal:
        said.append(listed([repr(level) for level in column.levels], 5))
    return ", ".join(said)
