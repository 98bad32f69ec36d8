"""`mainspring schema`: the contract of a loop's rows shown, compared with its source, changed by a person's word."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.text import Text

from mainspring.app import document, show
from mainspring.core.errors import NotInStore, UsageError
from mainspring.core.schema import Column, Schema
from mainspring.core.wording import count, listed
from mainspring.data import contract
from mainspring.data.evolution import Change, accepted, changes
from mainspring.store.contracts import contract_path
from mainspring.store.home import Home

RULES = ("required", "minimum", "maximum", "allowed", "unique")


def schema(home: Home, *, name: str, action: str, columns: Sequence[str], as_json: bool) -> int:
    """Do *action* with the contract of loop *name*; the exit code."""
    if columns and action != "accept":
        raise UsageError(f"mainspring schema {name} {action} takes no columns, such as {columns[0]!r}; accept does")
    found = contract.load(home, name)
    if found is None:
        raise NotInStore(f"loop {name!r} has no contract in {home.path}; {_known(home)}")
    proposal = contract.proposed(home, name)
    changed = () if proposal is None else changes(found, proposal)
    match action:
        case "show":
            return _show(home, name, found, as_json)
        case "diff":
            return _diff(name, changed, as_json)
        case "accept":
            return _accept(home, name, found, changed, columns, as_json)
        case _:
            said = f"wrote {_near(contract.hand_over(home, name, found))}: edit and commit it, runs only read it"
            return _said(said, as_json)


def _show(home: Home, name: str, found: Schema, as_json: bool) -> int:
    file = contract_path(home, name)
    if as_json:
        evolution = {rule: getattr(found.evolution, rule) for rule in found.evolution.__slots__}
        return document.one("schema", "done", loop=name, file=str(file), columns=found.to_json(), evolution=evolution)
    table = show.headed("", "column", "type", "seen", "rules", "unit")
    for column in found:
        kind = "open" if column.undecided else str(column.type)
        show.row(table, column.name, kind, _seen(column), _rules(column), column.unit or "")
    print(f"contract of {name}: {_near(file)}")
    show.out(table)
    return 0


def _diff(name: str, changed: Sequence[Change], as_json: bool) -> int:
    if as_json:
        told = [{"kind": each.kind, "column": each.column, "old": each.old and each.old.to_json(),
                 "new": each.new and each.new.to_json()} for each in changed]  # fmt: skip
        return document.one("schema-diff", "done", loop=name, changes=told)
    for change in changed:
        show.out(Text(str(change)))
    if changed:
        print(f"the source differs in {count(len(changed), 'column')}; take it in: mainspring schema {name} accept")
    else:
        print("the source is as the contract says, as far as runs have read it")
    return 0


def _accept(
    home: Home, name: str, found: Schema, changed: Sequence[Change], columns: Sequence[str], as_json: bool
) -> int:
    if not changed:
        raise UsageError(f"nothing to accept: no run of {name!r} has met a source that differs from the contract")
    grown = accepted(found, changed, columns)
    file = contract.accept(home, name, grown)
    if changes(grown, contract.proposed(home, name) or grown) == ():
        contract.withdraw(home, name)
    done = [change.column for change in changed if not columns or change.column in columns]
    return _said(f"accepted {listed(list(map(repr, done)))} into {_near(file)}; the next run takes it in", as_json)


def _said(words: str, as_json: bool) -> int:
    if as_json:
        return document.one("action", "done", reason=words)
    print(words)
    return 0


def _seen(column: Column) -> str:
    said = []
    if column.low is not None:
        said.append(f"{column.low:g} to {column.high:g}")
    if column.levels is not None:
        said.append("personal" if column.personal else listed([repr(level) for level in column.levels], 5))
    return ", ".join([*said, *(["missing values"] if column.nullable and not column.undecided else [])])


def _rules(column: Column) -> str:
    said = [f"{rule} {value:g}" if isinstance(value, float) else f"{rule} {listed(list(map(repr, value)), 5)}"
            for rule in ("minimum", "maximum", "allowed") if (value := getattr(column, rule)) is not None]  # fmt: skip
    return ", ".join([rule for rule in ("required", "unique", "personal") if getattr(column, rule)] + said)


def _known(home: Home) -> str:
    loops = sorted(folder.name for folder in home.folder("tables").glob("*") if (folder / "schema.toml").is_file())
    return f"loops with one: {', '.join(loops)}" if loops else "`mainspring run FILE` makes one"


def _near(path: object) -> str:
    return os.path.relpath(str(path))
