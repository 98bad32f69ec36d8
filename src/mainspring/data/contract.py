"""Where the contract of a loop's rows is kept: inferred once from the first rows, frozen, and a person's to change.

`NAME.schema.toml` beside FILE (else beside the home) is a person's file: no run writes it. Without one the home keeps
the contract. What a source has become and the contract refuses waits as a proposal, for `mainspring schema`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import ContractError, HomeDamaged, SchemaMismatch
from mainspring.core.schema import Column, Schema
from mainspring.data import contract_file
from mainspring.data.checking import POSITION as POSITION
from mainspring.data.checking import REASON as REASON
from mainspring.data.checking import Checked as Checked
from mainspring.data.checking import check as check
from mainspring.data.evolution import become
from mainspring.data.inference import LEVELS as LEVELS
from mainspring.data.inference import infer as infer
from mainspring.data.repairs import Repairs
from mainspring.store import durable
from mainspring.store.contracts import contract_path as path
from mainspring.store.contracts import kept_path, own_path
from mainspring.store.home import Home


def load(home: Home, loop: str) -> Schema | None:
    """The contract of *loop*; None before the first ingest and without a person's file.

    A person's file has the rules; what has been seen comes from the home.
    """
    kept, own = _kept(home, loop), own_path(home, loop)
    text = _told(own)
    if text is None:
        return kept
    rules = contract_file.parsed(text, own)
    return rules if kept is None else replace(rules, columns=tuple(_seen(column, kept) for column in rules))


def _told(own: Path) -> str | None:
    """The text of a person's file; None where there is none."""
    try:
        return own.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{own} can't be read ({error}); mend it there") from error


def save(home: Home, loop: str, schema: Schema) -> None:
    """Freeze *schema* as the contract of *loop*, or what has grown of it."""
    _write(home, loop, schema, _times(home, loop))


def stamp(home: Home, loop: str) -> Any:
    """What changes when a person has changed the contract or mended rows, and never by a run; None: nobody has."""
    own, mended = own_path(home, loop), Repairs(home, loop).version()
    text = _told(own)
    if text is None:
        times = _times(home, loop)
        return [times, mended] if times or mended is not None else None
    schema = contract_file.parsed(text, own)
    rules = [replace(column, nullable=True, low=None, high=None, levels=None).to_json() for column in schema]
    told = json.dumps([rules, str(schema.evolution), mended], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=10).hexdigest()


def checked(home: Home, loop: str, frame: pl.DataFrame, schema: Schema, roles: Roles, *, growing: bool) -> Checked:
    """`check`, with what the source has become kept as a proposal where the contract differs from it."""
    new = [name for name in frame.columns if name not in set(schema.names)]
    try:
        found = Repairs(home, loop).mended(check(frame, schema, roles, loop, growing=growing), roles, loop)
    except SchemaMismatch:
        propose(home, loop, become(frame, schema, roles))
        raise
    if new and schema.evolution.new_column == "ignore":
        propose(home, loop, become(frame, schema, roles))
    return found


# -------------------------------------------------------------------------------------------------------- proposals


def propose(home: Home, loop: str, schema: Schema) -> None:
    """Keep what a source has become, for a person to accept."""
    file = _proposal_path(home, loop)
    file.parent.mkdir(parents=True, exist_ok=True)
    durable.write(file, json.dumps(schema.to_json(), ensure_ascii=False).encode())


def proposed(home: Home, loop: str) -> Schema | None:
    """What the source has become, where the contract differed from it."""
    try:
        return Schema.from_json(json.loads(_proposal_path(home, loop).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def withdraw(home: Home, loop: str) -> None:
    """Forget the proposal."""
    _proposal_path(home, loop).unlink(missing_ok=True)


def accept(home: Home, loop: str, schema: Schema) -> Path:
    """Make *schema* the contract, by a person's word; the file that was written."""
    own = own_path(home, loop)
    if own.is_file():
        durable.write(own, contract_file.edited(own.read_text(encoding="utf-8-sig"), schema).encode())
    _write(home, loop, schema, _times(home, loop) + 1)
    return path(home, loop)


def hand_over(home: Home, loop: str, schema: Schema) -> Path:
    """Write a person's file with *schema*, to be edited and committed."""
    own = own_path(home, loop)
    if own.exists():
        raise ContractError(f"{own} is there already: edit it, or remove it to have it written anew")
    durable.write(own, contract_file.written(schema, loop).encode())
    return own


# ---------------------------------------------------------------------------------------------------------- details


def _proposal_path(home: Home, loop: str) -> Path:
    return home.folder("tables") / loop / "proposed.json"


def _kept(home: Home, loop: str) -> Schema | None:
    file = kept_path(home, loop)
    try:
        return contract_file.parsed(file.read_text(encoding="utf-8"), file)
    except FileNotFoundError:
        return None
    except (ContractError, OSError, UnicodeDecodeError) as error:
        raise HomeDamaged(f"{error}; or remove it, and the next run infers it anew") from error


def _times(home: Home, loop: str) -> int:
    try:
        return contract_file.accepted(kept_path(home, loop).read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError):
        return 0


def _write(home: Home, loop: str, schema: Schema, times: int) -> None:
    file = kept_path(home, loop)
    file.parent.mkdir(parents=True, exist_ok=True)
    durable.write(file, contract_file.written(schema, loop, times).encode())


def _seen(column: Column, kept: Schema) -> Column:
    before = next((one for one in kept if one.name == column.name and one.type is column.type), None)
    if before is None or before.undecided:
        return column
    return replace(column, nullable=before.nullable, low=before.low, high=before.high, levels=before.levels)
