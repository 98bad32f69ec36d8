"""A contract as text that a person reads, edits and commits: TOML in, TOML out, each slip named."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

import tomlkit

from mainspring.core.errors import ContractError
from mainspring.core.schema import Column, Evolution, Schema, Type

_ABOUT = """\
# The contract of loop {loop!r}: what each new row is held against.
# A rule that a row breaks sends it to quarantine: required = true, minimum = 0, maximum = 120, allowed = ["a", "b"].
# unique = true is checked over all rows. unit = "km" is for people; personal = true keeps values out of messages.
# `seen` is what came so far: it grows by itself and refuses nothing.
"""
_EVOLUTION: Mapping[str, tuple[str, ...]] = {name: get_args(kind) for name, kind in get_type_hints(Evolution).items()}
_RULES: Mapping[str, str] = {
    "type": f"one of {', '.join(Type)}",
    "required": "true or false",
    "minimum": "a number",
    "maximum": "a number",
    "allowed": "a list of values",
    "unique": "true or false",
    "unit": "a text",
    "personal": "true or false",
    "seen": "a table, such as { missing = false }",
}
_SEEN: Mapping[str, str] = {
    "missing": "true or false", "low": "a number", "high": "a number", "levels": "a list of values"
}  # fmt: skip
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def parsed(text: str, where: object) -> Schema:
    """The contract in *text*, of the file *where*; raises ContractError that names each slip's place.

    >>> parsed('[columns.age]\\ntype = "integer"\\nminimum = 0', "s.toml")["age"].minimum
    0.0
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ContractError(f"{where} is no TOML: {error}; mend it there") from error
    _refuse_unknown(document, ("columns", "evolution", "accepted"), f"{where}")
    columns = document.get("columns")
    if not isinstance(columns, dict) or not columns:
        raise ContractError(
            f'{where} has no columns; write a table for each, such as [columns.age] with type = "float"'
        )
    return Schema(
        tuple(_column(name, table, f"{where}, column {name!r}") for name, table in columns.items()),
        _evolution(document.get("evolution", {}), f"{where}, [evolution]"),
    )


def accepted(text: str) -> int:
    """How often a person has accepted a change of the contract in *text*."""
    found = re.search(r"^accepted = (\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else 0


def written(schema: Schema, loop: str, times: int = 0) -> str:
    """*schema* as text. times: how often a person has accepted a change."""
    parts = [_ABOUT.format(loop=loop)] + ([f"accepted = {times}\n"] if times else [])
    parts.append("\n[evolution]\n")
    for name, choices in _EVOLUTION.items():
        rule = f"{name} = {_value(getattr(schema.evolution, name))}"
        parts.append(f"{rule:<27}  # {_or(choices)}\n")
    for column in schema:
        parts.append(f"\n[columns.{_key(column.name)}]\n")
        parts += [f"{name} = {_value(value)}\n" for name, value in _table(column).items()]
    return "".join(parts)


def edited(text: str, schema: Schema) -> str:
    """*text*, a person's file, with *schema*'s columns: comments and order stay where they are."""
    document = tomlkit.parse(text)
    columns: Any = document["columns"]
    for name in [name for name in columns if name not in schema.names]:
        del columns[name]
    for column in schema:
        if column.name not in columns:
            columns[column.name] = tomlkit.table()
        table, wanted = columns[column.name], _table(column)
        for name in [name for name in table if name not in wanted]:
            del table[name]
        for name, value in wanted.items():
            if _unwrapped(table.get(name)) != value:
                table[name] = _inline(value) if isinstance(value, dict) else value
    return tomlkit.dumps(document)


def _unwrapped(item: Any) -> Any:
    return item.unwrap() if hasattr(item, "unwrap") else item


def _inline(value: Mapping[str, Any]) -> Any:
    table = tomlkit.inline_table()
    table.update(value)
    return table


def _table(column: Column) -> dict[str, Any]:
    """What stands in the table of *column*."""
    told: dict[str, Any] = {} if column.undecided else {"type": str(column.type)}
    usual = {field.name: field.default for field in fields(Column)}
    for name in _RULES:
        if name not in ("type", "seen") and (value := getattr(column, name)) != usual[name]:
            told[name] = list(value) if isinstance(value, tuple) else _short(value)
    seen = {
        "missing": column.nullable,
        "low": _short(column.low),
        "high": _short(column.high),
        "levels": None if column.levels is None else list(column.levels),
    }
    return {**told, "seen": {name: value for name, value in seen.items() if value is not None}}


def _short(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_value(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _text(str(value))


def _text(words: str) -> str:
    return json.dumps(words, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


# ------------------------------------------------------------------------------------------------------- reading


def _evolution(table: Any, where: str) -> Evolution:
    if not isinstance(table, dict):
        raise ContractError(f"{where} must be a table, such as [evolution] with new_column = 'ignore'")
    _refuse_unknown(table, tuple(_EVOLUTION), where)
    for name, value in table.items():
        if value not in _EVOLUTION[name]:
            raise ContractError(f"{where}: {name} = {value!r} must be {_or(_EVOLUTION[name])}")
    return Evolution(**table)


def _column(name: str, table: Any, where: str) -> Column:
    if not isinstance(table, dict):
        raise ContractError(f"{where}: {table!r} must be a table, such as [columns.{_key(name)}]")
    _refuse_unknown(table, tuple(_RULES), where)
    for rule, value in table.items():
        if not _fits(rule, value):
            raise ContractError(f"{where}: {rule} = {_value(value)} must be {_RULES[rule]}{_meant(rule, value)}")
    kind = Type(table["type"]) if "type" in table else None
    _refuse_senseless(table, kind, where)
    seen = table.get("seen", {})
    _refuse_unknown(seen, tuple(_SEEN), f"{where}: seen")
    for fact, value in seen.items():
        if not _fits(fact, value):
            raise ContractError(f"{where}: seen: {fact} = {_value(value)} must be {_SEEN[fact]}")
    levels = seen.get("levels")
    return Column(
        name=name,
        type=kind or Type.FLOAT,
        nullable=bool(seen.get("missing", True)),
        low=_float(seen.get("low")),
        high=_float(seen.get("high")),
        levels=None if levels is None else tuple(map(str, levels)),
        undecided=kind is None,
        required=table.get("required", False),
        minimum=_float(table.get("minimum")),
        maximum=_float(table.get("maximum")),
        allowed=tuple(table["allowed"]) if "allowed" in table else None,
        unique=table.get("unique", False),
        unit=table.get("unit"),
        personal=table.get("personal", False),
    )


def _fits(rule: str, value: Any) -> bool:
    match rule:
        case "type":
            return value in list(Type)
        case "required" | "unique" | "personal" | "missing":
            return isinstance(value, bool)
        case "low" | "high":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "minimum" | "maximum":
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        case "allowed":
            return isinstance(value, list) and bool(value)
        case "levels":
            return isinstance(value, list)
        case "unit":
            return isinstance(value, str)
        case _:
            return isinstance(value, dict)


def _refuse_senseless(table: Mapping[str, Any], kind: Type | None, where: str) -> None:
    """Raise where rules contradict the type or one another."""
    bounds = [name for name in ("minimum", "maximum") if name in table]
    if bounds and kind not in (Type.INTEGER, Type.FLOAT):
        said = f"type = {_value(str(kind))}" if kind else "no type"
        raise ContractError(f"{where}: {bounds[0]} is for numbers, and the column has {said}; take it out")
    if len(bounds) == 2 and table["minimum"] > table["maximum"]:
        raise ContractError(f"{where}: minimum = {table['minimum']} is above maximum = {table['maximum']}; mend one")
    wanted: dict[Type | None, Any] = {Type.TEXT: str, Type.INTEGER: int, Type.FLOAT: int | float, Type.BOOLEAN: bool}
    for value in table.get("allowed", ()):
        number = isinstance(value, bool) and kind is not Type.BOOLEAN
        if kind not in wanted or number or not isinstance(value, wanted[kind]):
            said = f"isn't {_an(kind)}" if kind in wanted else "needs type text, integer, float or boolean"
            raise ContractError(f"{where}: allowed value {_value(value)} {said}; mend it")
        if kind is Type.INTEGER and not -(2**63) <= value < 2**63:
            raise ContractError(
                f"{where}: allowed value {value} is no integer of 64 bits; mend it, or say type = 'text'"
            )


def _an(kind: Type | None) -> str:
    return f"an {kind}" if str(kind)[0] in "aeiou" else f"a {kind}"


def _refuse_unknown(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ContractError(f"{where} has {name!r}, which isn't known; {hint}")


def _meant(rule: str, value: Any) -> str:
    near = get_close_matches(str(value), [str(kind) for kind in Type], n=1) if rule == "type" else []
    return f"; did you mean {near[0]!r}?" if near else ""


def _or(choices: Iterable[str]) -> str:
    return " or ".join(choices)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
