"""What a loop's Privacy means to its contract and to the identity of its source."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from mainspring.core.errors import SchemaMismatch
from mainspring.core.privacy import Privacy
from mainspring.core.schema import Column, Schema


def identity(source: Any, privacy: Privacy) -> Any:
    """That of the *source* under the rules of *privacy*: under others it asks for other rows and is read anew."""
    return {"source": source, "privacy": plain(privacy.rules)} if privacy.rules else source


def contract(frozen: Schema, privacy: Privacy, before: Mapping[str, Any]) -> Schema:
    """The contract under *privacy*: a column whose rule isn't the one of *before* is open again, or gone."""
    changed = {name for name, rule in plain(privacy.rules).items() if before.get(name) != rule}
    changed |= {name for name in before if name not in privacy.rules}
    columns = [
        Column(column.name, column.type, undecided=True) if column.name in changed else column
        for column in frozen
        if privacy.rules.get(column.name) != ("drop",)
    ]
    return marked(replace(frozen, columns=tuple(columns)), privacy.personal)


def check_columns(privacy: Privacy, columns: Collection[str], source: str, *, joined: bool) -> None:
    """Refuse names of *privacy* that none of the *columns* of the source has: a slip would keep what is to go.

    joined: what is dropped may have gone from a right side already.
    """
    named = [name for name, rule in privacy.rules.items() if not (joined and rule == ("drop",))]
    for name in (*named, *([privacy.subject] if privacy.subject else [])):
        if columns and name not in columns:
            near = get_close_matches(name, sorted(columns), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(columns)[:30])}"
            raise SchemaMismatch(f"Privacy names column {name!r}, which {source} lacks ({hint}); nothing was kept")


def marked(schema: Schema, personal: Collection[str]) -> Schema:
    """*schema* whose *personal* columns are called so, and keep no values in the contract."""
    if not personal:
        return schema
    return replace(
        schema,
        columns=tuple(
            replace(column, personal=True, levels=None, low=None, high=None) if column.name in personal else column
            for column in schema
        ),
    )


def plain(rules: Mapping[str, Any]) -> dict[str, Any]:
    """*rules* as they come back from a commit."""
    known: dict[str, Any] = json.loads(json.dumps(rules))
    return known
