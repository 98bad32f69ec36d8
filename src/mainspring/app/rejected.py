"""`mainspring quarantine`: the rows that broke a loop's contract, by reason; repairs tried; rows replayed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mainspring.app import document, show
from mainspring.core.errors import NotInStore, UsageError
from mainspring.core.schema import Schema
from mainspring.core.wording import count
from mainspring.data import contract
from mainspring.data.quarantine import Group, Kept, Mended, Quarantine, kind_of
from mainspring.store.home import Home

WIDE = 100
"""So much of a row is shown in the terminal."""
_VALUE = 40


def quarantine(
    home: Home, *, name: str, fixes: Sequence[str], written: str | None, edited: str | None, replay: bool, as_json: bool
) -> int:
    """Show the rows of loop *name*, write them, try repairs or replay them; the exit code."""
    schema = contract.load(home, name)
    if schema is None:
        raise NotInStore(f"loop {name!r} has no contract in {home.path}, so no rows that broke it")
    if fixes and edited:
        raise UsageError("--fix and --take are two ways to mend the same rows; give one of them")
    rows = Quarantine(home, name)
    if written is not None:
        many = rows.write(Path(written))
        said = (
            f"wrote {count(many, 'row')} into {written}; edit them, then mainspring quarantine {name} --take {written}"
        )
        return _said(said, as_json)
    file = None if edited is None else Path(edited)
    if replay:
        return _mended(name, rows.replay(fixes, file), as_json)
    if fixes or edited:
        return _mended(name, rows.mended(fixes, file), as_json)
    return _show(name, rows.groups(), schema, as_json)


def _show(name: str, groups: Sequence[Group], schema: Schema, as_json: bool) -> int:
    if as_json:
        told = [{"reason": group.reason, "rows": group.rows,
                 "examples": [_example(row, schema) for row in group.examples]} for group in groups]  # fmt: skip
        return document.one("quarantine", "done", loop=name, rows=sum(group.rows for group in groups), groups=told)
    if not groups:
        print(f"no row of {name} is in quarantine")
        return 0
    table = show.headed("", "rows", "reason", "example", "where")
    for group in groups:
        first = group.examples[0]
        shown = json.dumps(_example(first, schema)["row"], ensure_ascii=False)
        show.row(table, f"{group.rows:,}", _cut(group.reason), _cut(shown), f"{first.position} of {first.source}")
    print(f"quarantine of {name}: {count(sum(group.rows for group in groups), 'row')}")
    show.out(table)
    return 0


def _mended(name: str, found: Mended, as_json: bool) -> int:
    reasons = Counter(map(kind_of, found.left))
    if as_json:
        return document.one("replay", "done", loop=name, mended=len(found.repairs), left=dict(reasons),
                            version=found.version)  # fmt: skip
    keep = "keeps" if len(found.repairs) == 1 else "keep"
    kept = f"{count(len(found.repairs), 'row')} of {len(found.repairs) + len(found.left):,} {keep} the contract"
    if found.version is not None:
        print(f"{kept} now, in data version {found.version} of {name}; the next run learns from it")
    elif found.repairs:
        print(f"{kept} so; add --replay to put them into the next version")
    else:
        print(f"{kept}: nothing to replay")
    for reason, rows in reasons.most_common():
        print(f"  {count(rows, 'row')} left: {_cut(reason)}")
    return 0


def _example(kept: Kept, schema: Schema) -> dict[str, Any]:
    """A row without what is personal, and without more of a value than a person reads."""
    personal = {column.name for column in schema if column.personal}
    row = {name: "(personal)" if name in personal else _short(value) for name, value in kept.row.items()}
    return {"id": kept.id, "source": kept.source, "position": kept.position, "reason": kept.reason, "row": row}


def _short(value: Any) -> Any:
    return value if not isinstance(value, str) or len(value) <= _VALUE else value[: _VALUE - 1] + "…"


def _cut(words: str) -> str:
    return words if len(words) <= WIDE else words[: WIDE - 1] + "…"


def _said(words: str, as_json: bool) -> int:
    if as_json:
        return document.one("action", "done", reason=words)
    print(words)
    return 0
