"""Texts of an erased subject in what is neither table nor record: documents, logs, databases, artifacts, bundles."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from mainspring.core.errors import MainspringError, StoreError
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.home import BUSY_SECONDS, Home, write_atomic
from mainspring.store.journal import Journal

GONE = "(erased)"
_LEAST = 4
"""Shorter texts are found in everything."""
_KEPT_STEPS = ("package", "evaluate", "gate", "release")
"""Their outputs are what is known of a version, and hold no rows; a trace in one is overwritten."""


@dataclass(slots=True)
class Traces:
    """How many documents were overwritten and artifacts dropped. left: the files that can't be changed, such as a
    signed bundle's."""

    documents: int = 0
    artifacts: int = 0
    left: list[str] = field(default_factory=list)


def drop_artifacts(home: Home, loop: str, *, but: str = "") -> int:
    """Remove what the stages of *loop* made of its rows, in every run *but* this: the next run makes it again; how many
    objects."""
    Journal(home)  # makes its tables
    catalog, query = Catalog(home), home.database.query
    marks = ", ".join("?" * len(_KEPT_STEPS))
    steps, given = f"pipeline = ? and run != ? and name not in ({marks})", (loop, but, *_KEPT_STEPS)
    dropped = _objects(catalog, query(f"select output from steps where output is not null and {steps}", given))
    dropped |= _objects(catalog, query("select output from cache where pipeline = ? and run != ?", (loop, but)))
    with home.database.transaction() as connection:
        connection.execute(f"update steps set output = null where {steps}", given)
        connection.execute("delete from cache where pipeline = ? and run != ?", (loop, but))
    kept = _objects(catalog, query("select output from steps where output is not null"))
    kept |= _objects(catalog, query("select output from cache"))
    paths = [home.folder("objects") / name for name in dropped - kept]
    there = [path for path in paths if path.exists()]
    for path in there:
        path.unlink()
    return len(there)


def erase_traces(home: Home, texts: Collection[str]) -> Traces:
    """Overwrite *texts* wherever a file or a database of *home* still has them; remove what killed processes left."""
    needles = _needles(texts)
    found = Traces()
    for leftover in (*home.folder("tmp").glob("parts-*"), *home.folder("tmp").glob("trash-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    for path in sorted(home.path.rglob("*.db")):
        found.documents += _erased_cells(path, [needle.decode() for needle in needles])
    for path in _files(home):
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            if not any(needle in content for needle in needles):
                continue
            if "bundles" in path.relative_to(home.path).parts or "bundle" in path.parts or _binary(content):
                found.left.append(str(path.relative_to(home.path)))
                continue
            for needle in needles:
                content = content.replace(needle, GONE.encode())
            write_atomic(path, content)
            found.documents += 1
    return found


def _needles(texts: Collection[str]) -> list[bytes]:
    """*texts* as they may stand in a file: as they are, and as JSON writes them; the longest first."""
    written = {form for text in texts if len(text) >= _LEAST for form in (text, json.dumps(text)[1:-1])}
    return sorted((form.encode() for form in written), key=lambda form: (-len(form), form))


def _files(home: Home) -> Iterator[Path]:
    """Every file of the home but the databases'."""
    for path in sorted(home.path.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.suffix not in (".db", ".db-wal", ".db-shm"):
            yield path


def _binary(content: bytes) -> bool:
    return b"\0" in content


def _objects(catalog: Catalog, rows: Collection[sqlite3.Row]) -> set[str]:
    found: set[str] = set()
    for row in rows:
        with suppress(MainspringError, ValueError, KeyError):
            found |= catalog.objects(Artifact.from_json(json.loads(row["output"])))
    return found


def _erased_cells(path: Path, needles: Collection[str]) -> int:
    """Overwrite *needles* in every text of the database, then write it anew without free pages or a log."""
    changed = 0
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("pragma secure_delete=on")
            connection.execute("begin immediate")
            for table, column in _columns(connection):
                for needle in needles:
                    changed += connection.execute(
                        f'update "{table}" set "{column}" = replace("{column}", ?, ?) '
                        f'where typeof("{column}") = \'text\' and instr("{column}", ?) > 0',
                        (needle, GONE, needle),
                    ).rowcount
            connection.execute("commit")
            connection.execute("vacuum")
            if connection.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
                raise StoreError(f"{path} is in use; stop `mainspring up` and what else reads it, then erase again")
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} can't be cleared of a subject ({error}); stop what uses it, then erase again"
        ) from error
    return changed


def _columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    tables = connection.execute("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'")
    return [
        (table, row[1]) for (table,) in tables.fetchall() if table != "decisions"
        for row in connection.execute(f'pragma table_info("{table}")').fetchall()
    ]  # fmt: skip
