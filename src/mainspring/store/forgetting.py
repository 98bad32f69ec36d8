"""Tables that keep nothing but their newest version: what older ones alone hold is removed, and what was said of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mainspring.store import durable
from mainspring.store.home import Home
from mainspring.store.tables import METADATA, Table

_SAID = ("levels", "low", "high")


def forget_older(table: Table) -> int:
    """Remove the files that only older versions of *table* name, and from its log what was seen of their rows; how many
    files. The older versions can't be read any more."""
    newest = table.version()
    if newest is None:
        return 0
    stays = set(table.names(newest))
    gone = {name for version in range(newest) for name in table.names(version)} - stays
    there = [path for name in sorted(gone) if (path := table.path / name).is_file()]
    for path in there:
        path.unlink()
    for version in range(newest):
        _forget_said(table, version)
    for torn in (table.path / "_delta_log").glob("*.torn"):  # a commit that was withdrawn
        torn.unlink()
    durable.sync(table.path)
    return len(there)


def forget_unnamed(table: Table, chosen: Callable[[Path], bool]) -> None:
    """Remove the files that no version of *table* names, of killed writers and withdrawn commits, where *chosen*."""
    newest = table.version()
    if newest is None:
        return
    named = {name for version in range(newest + 1) for name in table.names(version)}
    for path in sorted(table.path.glob("*.parquet")):
        if path.name not in named and chosen(path):
            path.unlink()
    durable.sync(table.path)


def forget_loop(home: Home, loop: str) -> None:
    """Leave of the tables of *loop*, and of what was said of its rows, only what is new."""
    folder = home.folder("tables") / loop
    for path in sorted(folder.glob("*/_delta_log")):
        forget_older(Table(home, loop, path.parent.name))
    shutil.rmtree(folder / "quality", ignore_errors=True)
    (folder / "proposed.json").unlink(missing_ok=True)


def _forget_said(table: Table, version: int) -> None:
    path = table.log(version)
    lines = [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    for line in lines:
        said = line.get("commitInfo", {}).get(METADATA)
        if said is not None:
            line["commitInfo"][METADATA] = json.dumps(_bare(json.loads(said)))
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    if content != path.read_bytes():
        durable.write(path, content)


def _bare(metadata: dict[str, Any]) -> dict[str, Any]:
    """What was committed with a version, without values of its rows."""
    dataset = metadata.get("dataset")
    if dataset is not None:
        columns = [{**column, **dict.fromkeys(_SAID)} for column in dataset["schema"]]
        metadata = {**metadata, "dataset": {**dataset, "schema": columns, "notes": []}}
    hidden: dict[str, Any] = {name: None for name in ("cursor", "position", "since", "state") if name in metadata}
    return {**metadata, **hidden}
