"""Texts of an erased subject in what is neither table nor record: documents, logs, databases, artifacts, bundles."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from mainspring.core.errors import MainspringError, StoreError
from mainspring.store import durable
from mainspring.store.catalog import Artifact, Catalog
from mainspring.store.home import BUSY_SECONDS, Home
from mainspring.store.journal import Journal

GONE = "(erased)"
_LEAST = 4
"""Shorter texts are found in everything."""
_TRIES = 6
_WORD = re.compile(r"[A-Za-z_-]+")
_OWN = re.compile(
    "alarm|approve|canary|champion|continue|data|decision|done|erase|error|failed|feedback|gate|held|hold"
    "|inconclusive|ingest|kind|loop|model|name|none|package|position|predictions|prepare|quarantine|reason"
    "|register|registered|reject|rejected|release|report|reports|retained|retention|retire|retired|retrain"
    "|rollback|rolled|route|rows|run|running|said|score|search|serving|shadow|shadows|share|split|stage|started"
    "|state|states|status|step|table|time|train|trial|turn|unit|validate|value|values|version|wait|waiting"
)
"""Words of our own documents: a person of this name is looked for in tables and records only."""
_KEPT_STEPS = ("package", "evaluate", "gate", "release")
"""Their outputs are what is known of a version, and hold no rows; a trace in one is overwritten."""
_CHANGEABLE = {"decisions": ("reason", "data"), "audit": ("reason",)}
"""Of tables that stay as they are, what a person's words stand in."""


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


def erase_traces(home: Home, texts: Collection[str], own: Collection[str] = ()) -> Traces:
    """Overwrite *texts* wherever a file or a database of *home* still has them; remove what killed processes left.

    own: names of the home, such as loops' and columns', which aren't taken for a person's.
    """
    needles = _Needles(texts, own)
    found = Traces()
    for leftover in (*home.folder("tmp").glob("parts-*"), *home.folder("tmp").glob("trash-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    for path in sorted(home.path.rglob("*.db")):
        found.documents += _erased_cells(path, needles)
    for path in _files(home):
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            if (cleared := needles.cleared(content)) == content:
                continue
            if "bundles" in path.relative_to(home.path).parts or "bundle" in path.parts or _binary(content):
                found.left.append(str(path.relative_to(home.path)))
                continue
            durable.write(path, cleared)
            found.documents += 1
    return found


def telling(text: str) -> bool:
    """Whether *text* can be looked for among others: one that is short, a number or a time is found everywhere.

    >>> telling("Anna Kowalska"), telling("2014-07-27"), telling("1007")
    (True, False, False)
    """
    return len(text) >= _LEAST and not _number_or_time(text)


class _Needles:
    """Texts to overwrite, as they may stand in a file: as they are, and as JSON writes them.

    A word of letters alone must stand for itself, and be none of *own* or of ours; a number or a time, in quotes.
    """

    def __init__(self, texts: Collection[str], own: Collection[str]) -> None:
        used = {text for text in texts if len(text) >= _LEAST and not _OWN.fullmatch(text) and text not in own}
        written = {(form, text) for text in used for form in (text, json.dumps(text)[1:-1])}
        forms = sorted(written, key=lambda each: (-len(each[0]), each))
        self._plain = [form.encode() for form, _ in forms]
        self._pattern = re.compile(b"|".join(_pattern(form.encode(), text) for form, text in forms))

    def cleared(self, content: bytes) -> bytes:
        """*content* without them."""
        there = any(form in content for form in self._plain)
        return self._pattern.sub(GONE.encode(), content) if there else content

    def cell(self, text: str) -> str:
        """A *text* of a database without them."""
        return self.cleared(text.encode()).decode()


def _pattern(form: bytes, text: str) -> bytes:
    if _number_or_time(text):
        return rb"(?<=[\"'])" + re.escape(form) + rb"(?=\\*[\"'])"
    if _WORD.fullmatch(text):
        return rb"(?<![\w.:])" + re.escape(form) + rb"(?!\w)"
    return re.escape(form)


def _number_or_time(text: str) -> bool:
    for read in (float, datetime.fromisoformat):
        with suppress(ValueError):
            read(text)
            return True
    return text.lower() in ("true", "false", "null", "none")


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


def _erased_cells(path: Path, needles: _Needles) -> int:
    """Overwrite *needles* in every text of the database, then write it anew without free pages or a log."""
    changed = 0
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
            connection.create_function("cleared", 1, needles.cell, deterministic=True)
            connection.execute("pragma secure_delete=on")
            connection.execute("begin immediate")
            with _unkept(connection):
                for table, column in _columns(connection):
                    changed += connection.execute(
                        f'update "{table}" set "{column}" = cleared("{column}") '
                        f'where typeof("{column}") = \'text\' and cleared("{column}") != "{column}"'
                    ).rowcount
            connection.execute("commit")
            connection.execute("vacuum")
            _emptied_log(connection, path)
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path} can't be cleared of a subject ({error}); stop what uses it, then erase again"
        ) from error
    return changed


@contextmanager
def _unkept(connection: sqlite3.Connection) -> Iterator[None]:
    """While the triggers that keep decisions and acts as they are don't hold, in the open transaction: a reason
    may name a person, and then the words that do go, not the decision."""
    kept = connection.execute(
        "select name, sql from sqlite_schema where type = 'trigger' and tbl_name in ('decisions', 'audit')"
    )
    triggers = kept.fetchall()
    for name, _ in triggers:
        connection.execute(f'drop trigger "{name}"')
    yield
    for _, sql in triggers:
        connection.execute(sql)


def _emptied_log(connection: sqlite3.Connection, path: Path) -> None:
    """Readers come and go: the log is emptied between two of them."""
    for _ in range(_TRIES):
        if not connection.execute("pragma wal_checkpoint(truncate)").fetchone()[0]:
            return
    raise StoreError(f"{path} is read all the time; stop what reads it, then erase again")


def _columns(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    tables = connection.execute("select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'")
    return [
        (table, row[1]) for (table,) in tables.fetchall()
        for row in connection.execute(f'pragma table_info("{table}")').fetchall()
        if row[1] in _CHANGEABLE.get(table, (row[1],))
    ]  # fmt: skip
