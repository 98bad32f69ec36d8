"""Files of tables that no version which is still needed names: what gc may remove from the loops' data."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from pathlib import Path

from mainspring.core.errors import MainspringError
from mainspring.store.home import Home
from mainspring.store.tables import Table

Needed = Collection[tuple[str, int]]


def needed(documents: Iterable[str]) -> set[tuple[str, int]]:
    """(loop, version) of the datasets that kept *documents* are."""
    found = set()
    for text in documents:
        if "values:Dataset" not in text:
            continue
        fields = json.loads(text).get("fields", {})
        if "loop" in fields and "version" in fields:
            found.add((fields["loop"], fields["version"]))
    return found


def unneeded(home: Home, datasets: Needed, oldest: datetime, leftover: float) -> Iterator[Path]:
    """Files that only versions name which were made before *oldest* and of which none is the newest or among
    *datasets*; and those that no version names and that are older than the time *leftover*: of killed writers."""
    for folder in sorted(home.folder("tables").glob("*/*/")):
        if not (folder / "_delta_log").is_dir():
            continue
        table = Table(home, folder.parent.name, folder.name)
        wanted = {version for loop, version in datasets if loop == folder.parent.name and folder.name == "rows"}
        try:
            kept, known = _files(table, wanted, oldest)
        except MainspringError:
            continue  # damaged: which files it needs can't be known
        for path in sorted(folder.glob("*.parquet")):
            if path.name not in kept and (path.name in known or path.stat().st_mtime < leftover):
                yield path


def _files(table: Table, wanted: Collection[int], oldest: datetime) -> tuple[set[str], set[str]]:
    """The names of the files that must stay, and of all that any version names."""
    newest = table.version()
    kept: set[str] = set()
    known: set[str] = set()
    for version in range(0 if newest is None else newest + 1):
        names = set(table.names(version))
        known |= names
        if version == newest or version in wanted or table.committed(version) >= oldest:
            kept |= names
    return kept, known
