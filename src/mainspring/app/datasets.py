"""`mainspring data`: the versions of a loop's rows, and what changed between two of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mainspring.app import document, show
from mainspring.core.errors import NotInStore
from mainspring.core.wording import count, listed
from mainspring.data.changes import Changes, changes
from mainspring.data.versions import Version, Versions
from mainspring.store.home import Home

SHOWN = 30
"""So many versions are shown in the terminal, and so many columns of a comparison."""


def data(home: Home, *, name: str, versions: Sequence[int] | None, as_json: bool) -> int:
    """List the versions of loop *name*, or compare two; the exit code."""
    found = Versions(home, name)
    if not (home.folder("tables") / name).is_dir() or found.newest() is None:
        raise NotInStore(f"loop {name!r} has no data in {home.path}; {_known(home)}")
    if versions:
        return _compare(changes(home, name, *versions), as_json)
    listed = list(found.all())
    if as_json:
        return document.one("data", "done", loop=name, versions=[_fields(each) for each in listed])
    _list(name, listed)
    return 0


def _list(name: str, listed: Sequence[Version]) -> None:
    table = show.headed(
        f"data of {name}", "version", "time", "source", "rows", "new", "changed", "removed", "from feedback",
        "quarantined", "digest", "cursor", "run",
    )  # fmt: skip
    for each in listed[:SHOWN]:
        counts = (each.rows, each.new, each.changed, each.removed, each.labelled, each.quarantined)
        cursor = "" if each.cursor is None else _short(_cursor(each.cursor))
        version = str(each.version) if each.kept else f"{each.version} (gone)"
        at = f"{each.at:%Y-%m-%d %H:%M}"
        show.row(table, version, at, each.source, *(f"{n:,}" for n in counts), each.digest[:12], cursor, each.run)
    show.out(table)
    if len(listed) > SHOWN:
        print(f"and {count(len(listed) - SHOWN, 'older version')}: mainspring data {name} --json")


def _compare(found: Changes, as_json: bool) -> int:
    if as_json:
        return document.one("data-diff", "done", **asdict(found))
    by = f"by {' and '.join(found.by)}" if found.by else "as whole rows"
    print(f"version {found.old}: {count(found.rows_before, 'row')}, version {found.new}: {count(found.rows, 'row')}")
    print(f"{by}: {found.added:,} added, {found.removed:,} removed, {found.changed:,} changed")
    for said in found.columns:
        print(said)
    table = show.headed("distributions", "column", "stability index", "missing before", "missing")
    for shift in found.shifts[:SHOWN]:
        show.row(table, shift.column, f"{shift.psi:.3f}", f"{shift.missing_before:.1%}", f"{shift.missing:.1%}")
    if found.shifts:
        show.out(table)
    return 0


def _fields(version: Version) -> dict[str, Any]:
    return {**asdict(version), "at": version.at.isoformat()}


def _known(home: Home) -> str:
    loops = sorted(folder.name for folder in home.folder("tables").glob("*") if (folder / "rows").is_dir())
    return f"loops with data: {', '.join(loops)}" if loops else "`mainspring run FILE` makes some"


def _cursor(cursor: Any) -> str:
    """How far a source was read; of files the names, without the sizes and times that tell whether they changed."""
    if isinstance(cursor, list) and all(
        isinstance(each, list) and each and isinstance(each[0], str) for each in cursor
    ):
        return listed([each[0] for each in cursor], most=2)
    return json.dumps(cursor, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
