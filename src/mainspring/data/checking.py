"""One batch of rows against the contract: those that keep it, those that don't with their reasons, and what is new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import SchemaMismatch
from mainspring.core.hiding import hidden
from mainspring.core.schema import Column, Evolution, Schema, Type
from mainspring.core.wording import count, listed
from mainspring.data.casting import EXACT, cast, first_values, inexact, kind_of, numbers
from mainspring.data.inference import infer, observed, text_kind, widened
from mainspring.store.tables import DTYPES

REASON, POSITION = "_reason", "_position"
"""Columns of the rows that break the contract: why, and which row of those read they are, from 0 on."""
SHOWN = 100
"""So many characters of a value are shown."""
Fault = tuple[pl.Series, str]
"""Which rows break a rule, and what is said of their value."""


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Rows that keep the contract, in its types; those that don't, as they came; the contract, maybe wider."""

    good: pl.DataFrame
    bad: pl.DataFrame
    schema: Schema
    notes: tuple[str, ...] = ()


def check(
    frame: pl.DataFrame,
    schema: Schema,
    roles: Roles,
    loop: str = "NAME",
    *,
    growing: bool = False,
    picked: bool = False,
) -> Checked:
    """Divide the plain *frame*, one batch, into rows that keep *schema* and rows that don't, with reasons.

    Only a rule that a person wrote is held against a value; ranges and levels seen so far grow with the rows (that is
    drift, and no fault). growing: the contract comes from the batches before of the same reading, so that growth is no
    news. picked: the rows were bad once, so that many of them may be. What the contract's evolution doesn't allow
    raises SchemaMismatch, with the command that accepts it.
    """
    schema, notes = _evolved(frame, schema, roles, loop)
    given = set(frame.columns)
    made, faults, wider = [], [], []
    for column in schema:
        named = column.name in (roles.key, roles.time)
        values = frame[column.name] if column.name in given else _nothing(frame.height, column)
        decided, note = _decided(values, column, schema.evolution)
        notes += [note] if note else []
        typed = cast(values, decided.type) if values.dtype != pl.Null else values.cast(DTYPES[decided.type])
        if not picked:
            _refuse_other_type(values, typed, decided, loop)
        found = list(_faults(values, typed, decided, named, schema.evolution))
        made.append(typed)
        faults += [_reasons(values, decided, fault) for fault in found]
        sound = typed if not found else typed.filter(~_any([mask for mask, _ in found]))
        grown = widened(decided, observed(sound, decided.type, required=named)) if len(sound) else decided
        notes += [] if growing else _new_levels(decided, grown)
        wider.append(grown)
    good, bad = _divided(frame, pl.DataFrame(made), faults)
    return Checked(good, bad, replace(schema, columns=tuple(wider)), tuple(notes))


def _evolved(frame: pl.DataFrame, schema: Schema, roles: Roles, loop: str) -> tuple[Schema, list[str]]:
    """*schema* with the new columns of *frame* that it takes in; what the rules say of the others."""
    given, known, rule = set(frame.columns), set(schema.names), schema.evolution
    gone = [name for name in schema.names if name not in given]
    new = [name for name in frame.columns if name not in known]
    if gone and (rule.vanished_column == "refuse" or {roles.key, roles.time} & set(gone)):
        raise SchemaMismatch(
            f"column {listed(list(map(repr, gone)))} of the contract is gone: the source has "
            f"{listed(frame.columns, 30)}; put it back, or accept the source as it is now: "
            f"mainspring schema {loop} accept"
        )
    if new and rule.new_column == "refuse":
        raise SchemaMismatch(
            f"column {listed(list(map(repr, new)))} is new, and the contract refuses new columns; leave it out in the "
            f"source, or take it in: mainspring schema {loop} accept"
        )
    notes = [f"column {name!r} is gone: its values are missing" for name in gone]
    if rule.new_column == "add":
        added, said = infer(frame.select(new), roles) if new else (Schema(()), ())
        columns = tuple(replace(column, nullable=True) for column in added)  # earlier rows haven't got it
        notes += [*(f"column {name!r} is new and is taken in" for name in new), *said]
        return replace(schema, columns=(*schema.columns, *columns)), notes
    if new:
        notes.append(
            f"column {listed(list(map(repr, new)))} is new and is left out; take it in: mainspring schema {loop} accept"
        )
    return schema, notes


def _nothing(rows: int, column: Column) -> pl.Series:
    return pl.Series(column.name, [None], dtype=pl.Null).new_from_index(0, rows)


def _decided(values: pl.Series, column: Column, rule: Evolution) -> tuple[Column, str]:
    """A column without any value so far takes the type of its first ones; integers become floats with a fraction, but
    not those that lose digits so."""
    found = kind_of(values)
    if found is None:
        return column, ""
    if column.undecided:
        return replace(column, type=text_kind(values, 0.0)[0] if found is Type.TEXT else found), ""
    exact = max(abs(column.low or 0), abs(column.high or 0)) < EXACT
    if column.type is Type.INTEGER and exact and found in (Type.FLOAT, Type.TEXT) and rule.wider_type == "accept":
        floats = numbers(values)
        if (floats != floats.round()).any():
            return replace(column, type=Type.FLOAT), f"column {column.name!r} was integer and has fractions now"
    return column, ""


def _refuse_other_type(values: pl.Series, typed: pl.Series, column: Column, loop: str) -> None:
    """Raise where most values aren't what the contract says."""
    if typed.null_count() == values.null_count():
        return
    wrong = typed.is_null() & values.is_not_null()
    if wrong.sum() <= (len(values) - values.null_count()) / 2:
        return
    examples = "" if column.personal else f", such as {_cut(first_values(values, wrong))}"
    raise SchemaMismatch(
        f"column {column.name!r} is {kind_of(values)}{examples}; the contract says {column.type}; cast it in the "
        f"source, or accept it as it is now: mainspring schema {loop} accept"
    )


def _faults(values: pl.Series, typed: pl.Series, column: Column, named: bool, rule: Evolution) -> Iterator[Fault]:
    """Each rule that rows break."""
    known = typed.is_not_null()
    lost = typed.null_count() > values.null_count()
    rules: list[tuple[pl.Series | None, str]] = [
        (~known & values.is_not_null() if lost else None, f"is no {column.type}")
    ]
    if column.type is Type.FLOAT and values.dtype in (pl.Int64, pl.String):
        rules.append((inexact(values), "is more than a float holds exactly; say integer or text in the contract"))
    if named or column.required:
        rules.append((~known & values.is_null(), "is empty but names the row" if named else "is empty but required"))
    if column.minimum is not None:
        rules.append((typed < column.minimum, f"is below {column.minimum:g}, the contract's minimum"))
    if column.maximum is not None:
        rules.append((typed > column.maximum, f"is above {column.maximum:g}, the contract's maximum"))
    if column.allowed is not None:
        allowed = pl.Series(list(column.allowed), dtype=typed.dtype)
        rules.append((known & ~typed.is_in(allowed.implode()), "isn't among the contract's allowed values"))
    elif rule.new_level == "refuse" and column.type is Type.TEXT and column.levels is not None:
        rules.append((known & ~typed.is_in(pl.Series(column.levels).implode()), "is a new level, which is refused"))
    for mask, said in rules:
        if mask is not None and (mask := mask.fill_null(False)).any():
            yield mask, said


def _reasons(values: pl.Series, column: Column, fault: Fault) -> pl.Series:
    """Per row why it breaks a rule, None where it doesn't; a personal value isn't shown."""
    mask, said = fault
    name = f"column {column.name!r}"
    if said.startswith("is empty"):
        words = pl.lit(f"{name} {said}")
    elif column.personal:
        words = pl.lit(f"{name}: its value {said}")
    else:
        shown = values.cast(pl.String)
        cut = pl.when(shown.str.len_chars() > SHOWN).then(shown.str.head(SHOWN) + "…").otherwise(shown)
        words = pl.lit(f"{name}: '") + cut + pl.lit(f"' {said}")
    return pl.select(pl.when(mask).then(words).alias(column.name)).to_series()


def _cut(words: str) -> str:
    return words if len(words) <= SHOWN else words[:SHOWN] + "…"


def _new_levels(before: Column, grown: Column) -> list[str]:
    """What to say of levels that come for the first time."""
    if before.levels is None or before.undecided:
        return []
    if grown.levels is None:
        return [f"column {before.name!r} has more than {count(len(before.levels), 'level')} now, too many to list"]
    new = [level for level in grown.levels if level not in set(before.levels)]
    if not new:
        return []
    examples = "" if before.personal else f": {_cut(listed([repr(level) for level in new], 5))}"
    return [f"column {before.name!r} has {count(len(new), 'new level')}{examples}"]


def _any(masks: list[pl.Series]) -> pl.Series:
    whole = masks[0]
    for mask in masks[1:]:
        whole = whole | mask
    return whole


def _divided(frame: pl.DataFrame, made: pl.DataFrame, faults: list[pl.Series]) -> tuple[pl.DataFrame, pl.DataFrame]:
    if not faults:
        return made, frame.head(0).with_columns(pl.lit("").alias(REASON), pl.lit(0, pl.Int64).alias(POSITION))
    bad = _any([fault.is_not_null() for fault in faults])
    reasons = pl.DataFrame([fault.alias(str(place)) for place, fault in enumerate(faults)]).filter(bad)
    joined = reasons.select(pl.concat_str(pl.all(), separator="; ", ignore_nulls=True)).to_series()
    said = pl.Series("", list(map(hidden, joined.to_list())), pl.String)
    rows = pl.int_range(frame.height, dtype=pl.Int64, eager=True).filter(bad)
    return made.filter(~bad), frame.filter(bad).with_columns(said.alias(REASON), rows.alias(POSITION))
