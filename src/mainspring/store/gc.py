"""Garbage: what no run, no model and no lineage that is kept needs any more; and its removal, beside running runs.

Why nothing that a run needs can be lost. Only a run writes objects and bundles and takes up cached ones. It does so
after the transaction that begins it and before the one that ends it, and it holds its lease all that while. The
removal happens inside one write transaction, and only if nobody has written to the database since all was looked at
and no run was under way. So until it commits no run can begin; every run that ever was has ended and has written down
what it made; and what no row names is named by nobody. A run that begins afterwards sees neither the removed cache
entries nor their objects. A kill on the way leaves at worst cache entries without objects, which count as lost and
are made again. No clock takes part: a stepped one makes runs look older or younger, but never the last of a pipeline.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sqlite3 import Row

from mainspring.core.errors import MainspringError, StoreError
from mainspring.store import vacuum
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.journal import Journal

KEEP_DAYS = 30.0
_LEFTOVER_SECONDS = 86_400.0
_WAIT_SECONDS = 5.0
_TRASH = "trash-"
_NO_MATTER = ("retired", "rolled back")
"""Versions in these states keep their bundle, for a rollback; not what their run made on the way."""


@dataclass(frozen=True, slots=True)
class Amount:
    """So many things, so many bytes."""

    count: int = 0
    bytes: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.count + other.count, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Garbage:
    """What was freed, or would be. kept: the objects and bundles that stay. busy: the run that was under way, for which
    all was left as it is."""

    objects: Amount
    bundles: Amount
    cache: Amount
    leftovers: Amount
    kept: Amount
    busy: str = ""
    data: Amount = Amount()

    @property
    def bytes(self) -> int:
        return self.objects.bytes + self.bundles.bytes + self.leftovers.bytes + self.data.bytes


def collect(home: Home, *, keep_days: float = KEEP_DAYS, dry_run: bool = False, now: datetime | None = None) -> Garbage:
    """Remove what hasn't been used for *keep_days* and isn't needed; waits a little while runs are under way.

    Kept are: the outputs of each pipeline's last run, of the runs of the last *keep_days* with what they took from the
    cache, and of the runs that made a model version which isn't retired; every version's bundle; all rows of all runs.
    Of a loop's data: the newest version, those of the last *keep_days*, and those that a kept output is or is made of.
    """
    journal, oldest = Journal(home), (now or datetime.now(UTC)) - timedelta(days=keep_days)
    Deployments(home)
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        journal.look()  # a run whose process is gone is over
        try:
            version = _version(home)
            found = _Found.of(home, oldest)
            if dry_run:
                return found.told
            if not found.told.busy and _removed(home, found, version):
                return found.told
        except OSError as error:
            raise StoreError(f"{home.path} can't be tidied ({error.strerror}); mend it, then run gc again") from error
        if time.monotonic() > deadline:
            return replace(found.told, busy=found.told.busy or "others, which write all the time")
        time.sleep(0.02)


def _removed(home: Home, found: _Found, version: int) -> bool:
    """Remove what was *found* when the database was at *version*; not when anybody has written since."""
    trash = home.folder("tmp") / f"{_TRASH}{uuid.uuid4().hex}"
    with home.database.transaction() as connection:
        if _version(home) != version:
            return False
        connection.executemany("delete from cache where rowid = ?", [(row,) for row in found.dropped])
        trash.mkdir()
        for path in found.paths:
            with suppress(FileNotFoundError):  # a leftover that its owner has removed
                os.rename(path, trash / f"{path.parent.name}-{path.name}")
    shutil.rmtree(trash, ignore_errors=True)  # the slow part: runs may begin again
    return True


def _version(home: Home) -> int:
    """A number that changes when anybody else commits."""
    return int(home.database.query("pragma data_version")[0][0])


def leftovers(home: Home) -> Amount:
    """What processes that were killed a day ago or longer have left behind."""
    return _amount(list(_leftovers(home)))


@dataclass(frozen=True, slots=True)
class _Found:
    """What isn't needed: files and folders, cache entries (by rowid); and how that is told."""

    paths: list[Path]
    dropped: list[int]
    told: Garbage

    @classmethod
    def of(cls, home: Home, oldest: datetime) -> _Found:
        busy = home.database.query("select id, pipeline from runs where status = 'running' limit 1")
        needs = _Needs.of(home, oldest)
        objects, bundles = list(_unneeded(home, "objects", needs)), list(_unneeded(home, "bundles", needs))
        leftovers = list(_leftovers(home))
        rows = list(vacuum.unneeded(home, vacuum.needed(needs.texts), oldest, time.time() - _LEFTOVER_SECONDS))
        told = Garbage(
            _amount(objects), _amount(bundles), Amount(len(needs.dropped)), _amount(leftovers), needs.kept,
            f"run {busy[0]['id']} of {busy[0]['pipeline']}" if busy else "", _amount(rows),
        )  # fmt: skip
        return cls([*objects, *bundles, *leftovers, *rows], needs.dropped, told)


@dataclass(slots=True)
class _Needs:
    """The objects and bundles that are needed, and the cache entries (by rowid) that are dropped."""

    objects: set[str]
    texts: list[str]
    """The documents that are kept: the bundles that they name are needed too."""
    versions: set[str]
    dropped: list[int]
    kept: Amount = Amount()

    @classmethod
    def of(cls, home: Home, oldest: datetime) -> _Needs:
        needs, catalog, query = cls(set(), [], set(), []), Catalog(home), home.database.query
        needs.versions = {row["digest"] for row in query("select digest from versions")}
        runs = _runs(home, oldest)
        wanted = {row["output"] for row in query(_OUTPUTS) if row["run"] in runs or row["newest"]}
        for row in query("select rowid, output, created, run from cache"):
            if row["output"] in wanted or row["run"] in runs or _time(row["created"]) >= oldest:
                wanted.add(row["output"])
            else:
                needs.dropped.append(row["rowid"])
        for output in wanted:
            needs._keep(catalog, output)
        return needs

    def _keep(self, catalog: Catalog, output: str) -> None:
        try:
            artifact = Artifact.from_json(json.loads(output))
            self.objects |= catalog.objects(artifact)
            if artifact.format == "json":
                self.texts.append(artifact.content or catalog.files.read(artifact.digest).decode())
        except (MainspringError, ValueError, KeyError, TypeError):
            return  # damaged: what it named can't be known and can't be loaded; its step makes it again

    def need(self, kind: str, name: str) -> bool:
        if kind == "objects":
            return name in self.objects
        return name in self.versions or any(name in text for text in self.texts)


_OUTPUTS = """
    select run, output, rowid in (select max(rowid) from steps where status in ('done', 'cached')
                                  group by pipeline, name) as newest
    from steps where output is not null"""


def _runs(home: Home, oldest: datetime) -> set[str]:
    """The runs whose outputs are kept."""
    query = home.database.query
    kept = {row["id"] for row in query("select id, max(number) from runs group by pipeline")}
    rows = query("select id, created, ended, status from runs")
    kept |= {row["id"] for row in rows if row["status"] == "running" or _last(row) >= oldest}
    marks = ", ".join("?" * len(_NO_MATTER))
    return kept | {row["run"] for row in query(f"select run from versions where state not in ({marks})", _NO_MATTER)}


def _last(row: Row) -> datetime:
    return _time(row["ended"] or row["created"])


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)  # damaged: when it was can't be known, so it is kept


def _unneeded(home: Home, kind: str, needs: _Needs) -> Iterator[Path]:
    for path in sorted(home.folder(kind).iterdir()):
        if needs.need(kind, path.name):
            needs.kept += _amount([path])
        else:
            yield path


def _leftovers(home: Home) -> Iterator[Path]:
    """What killed processes have left in `tmp/` and, half written, beside the database."""
    before = time.time() - _LEFTOVER_SECONDS
    for path in (*home.folder("tmp").iterdir(), *home.path.glob(".*.*")):
        with suppress(FileNotFoundError):  # its owner is at work
            if path.name.startswith(_TRASH) or path.lstat().st_mtime < before:
                yield path


def _amount(paths: list[Path]) -> Amount:
    return Amount(len(paths), sum(_size(path) for path in paths))


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            return sum(_size(inner) for inner in path.iterdir())
        return path.lstat().st_size
    return 0
