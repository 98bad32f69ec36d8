"""From a source to the next version of a loop's rows: read, checked, united with labelled predictions, committed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import DeclarationError, Overtaken, SourceEmpty, StoreError
from mainspring.core.hiding import hidden
from mainspring.core.joins import Join
from mainspring.core.privacy import Privacy
from mainspring.core.protocols import Progress
from mainspring.core.schema import Schema, Type
from mainspring.core.sources import CsvSource, SqlSource
from mainspring.core.values import Dataset
from mainspring.data import contract, merge, private
from mainspring.data.batches import BATCH_ROWS, ahead, batches
from mainspring.data.changes import counted
from mainspring.data.detection import Looking
from mainspring.data.files import Files
from mainspring.data.joined import Joined, source_of
from mainspring.data.keys import names_of
from mainspring.data.late import Late
from mainspring.data.load import Load, Loaded, TurnedToText
from mainspring.data.merge import Merged
from mainspring.data.outbound import shown
from mainspring.data.places import Places
from mainspring.data.repairs import Repairs
from mainspring.data.retention import Retention
from mainspring.data.sources import Reader, Resuming, beyond, overlap
from mainspring.data.unite import empty, filled, labelled_rows, relabelled, retyped
from mainspring.data.versions import Content, Last, Reading, Versions, digested, labels_of
from mainspring.data.written import perhaps_grouped
from mainspring.store.erasures import Erasures
from mainspring.store.forgetting import forget_loop
from mainspring.store.history import History
from mainspring.store.home import Home
from mainspring.store.parts import Part, Staging
from mainspring.store.protection import Protection
from mainspring.store.records import Records
from mainspring.store.row_digest import RowDigest

_TRIES = 20
_ANEW = (
    "earlier rows were kept under other rules of privacy: all are made anew, and older data versions can't be read any "
    "more; what runs made of them goes with `mainspring gc`, recorded predictions with retention="
)


def ingest(
    *, source: Any, roles: Roles, home: Home, loop: str, max_bad: float = 0.05, progress: Progress | None = None,
    version: int | None = None, run: str = "", privacy: Privacy | None = None,
) -> Dataset:  # fmt: skip
    """The dataset version of everything that the source and the labelled predictions have given by now.

    A source with a cursor is asked only for what is new; any other is read as a whole and takes the place of its
    earlier rows. Rows and cursor are one commit; without anything new there is none, and the answer is the same value
    as before. A row that breaks the contract goes to quarantine; more of them than the share *max_bad*, or any other
    fault of the source, raises before anything is committed. Memory is bounded by a batch: see `load`.

    version: take this older version instead, and don't look at the source.
    """
    if version is not None:
        return Versions(home, loop).pinned(version)
    work = _Work(source, roles, home, loop, max_bad, progress, run, privacy or Privacy())
    texts: frozenset[str] = frozenset()
    for _ in range(_TRIES):
        try:
            with Staging(home) as staging:
                return work.next(staging, texts)
        except TurnedToText as turned:
            texts |= turned.names
        except Overtaken:  # another run has made a version since: go on from that
            continue
    raise StoreError(f"other runs commit rows of {loop} all the time; run again with fewer of them at once")


def position(source: Any, home: Home, loop: str, privacy: Privacy | None = None) -> Any:
    """What changes when the source or the labelled predictions have something new, or, once a day, when rows may have
    become too old; None: only reading can tell."""
    where = source_of(source, home, loop).position()
    labels = {name: end for name, end in Records(home, loop).end()["feedback"].items() if end}
    told = {"source": where, "labels": labels, "contract": contract.stamp(home, loop)}
    if privacy is not None and privacy.retention is not None:
        told["retention"] = Retention(home, loop, privacy, None).day
    return None if where is None else told


def refresh(source: Join, home: Home, loop: str, privacy: Privacy | None = None) -> bool:
    """Keep what the right sides of a join tell by now: the endpoint looks up between two ingests too. Whether there was
    anything new."""
    rules = privacy or Privacy()
    protection = Protection(rules.rules, rules.subject, Erasures(home, loop).known())
    return Joined(source, home, loop, _text_columns(contract.load(home, loop)), protection).refresh()


def new_rows(source: Any, home: Home, loop: str, privacy: Privacy | None = None) -> int:
    """How many rows the source has that no version knows yet."""
    rows_of, versions = source_of(source, home, loop), Versions(home, loop)
    identity = private.identity(rows_of.identity, privacy or Privacy())
    last = versions.last(identity, versions.newest())
    known = None if last is None else last.position
    while isinstance(rows_of, Joined):  # what its right side tells makes no rows
        rows_of, known = rows_of.left, None if known is None else known[0]
    if last is None:
        return sum(part.height for part, _ in rows_of.read(None))
    if known is not None and known == _plain(rows_of.position()):
        return 0
    since = beyond(rows_of, last.cursor)
    rows = sum(part.height for part, _ in rows_of.read(since))
    if since is None:
        return max(0, rows - last.read)
    again = known[1] if overlap(rows_of) and isinstance(known, list) else 0
    return max(0, rows - again)


class _Work:
    """One ingest: what was asked for, and the steps from the reading to the commit."""

    def __init__(
        self, source: Any, roles: Roles, home: Home, loop: str, max_bad: float, progress: Progress | None, run: str,
        privacy: Privacy,
    ) -> None:  # fmt: skip
        self._source, self._roles, self._home, self._loop = source, roles, home, loop
        self._max_bad, self._progress, self._run = max_bad, progress, run
        self._privacy = privacy
        self._columns: set[str] = set()
        self._places = Places("")
        self._protection = Protection(privacy.rules, privacy.subject, Erasures(home, loop).known())
        self._retention = Retention(home, loop, privacy, roles.time)
        self._versions = Versions(home, loop)
        self._names = names_of(roles)
        self._compares = isinstance(source, SqlSource) and source.changes == "compare"
        if self._compares and not roles.key:
            raise DeclarationError("changes='compare' tells rows apart by their key; write key='COLUMN' in the Loop")

    def next(self, staging: Staging, texts: frozenset[str]) -> Dataset:
        """The version behind the newest one, or that one."""
        base, frozen = self._versions.newest(), contract.load(self._home, self._loop)
        frozen = frozen and private.contract(frozen, self._privacy, self._versions.rules(base))
        rows_of = source_of(self._source, self._home, self._loop, (*_text_columns(frozen), *texts), self._protection)
        identity = private.identity(rows_of.identity, self._privacy)
        last = None if frozen is None else self._versions.last(identity, base)
        stands = _plain(rows_of.position())
        unlooked = isinstance(rows_of, Joined) and last is not None and last.looked is None  # rows from quarantine
        if last is not None and frozen is not None and not unlooked and self._stands(last, stands, frozen):
            self._retention.bury(self._run, rows=False)
            return last.dataset
        since = None if last is None or _anew(rows_of, last, frozen) else beyond(rows_of, last.cursor)
        loaded, cursor = self._read(rows_of, since, last, frozen, staging, texts)
        told = _plain(asdict(self._roles))
        looked = rows_of.looked if isinstance(rows_of, Joined) else None
        reading = Reading(identity, rows_of.name, since, cursor, stands, loaded.rows, told, self._run, looked)
        if last is not None and not loaded.rows and not reading.whole:
            loaded = replace(loaded, schema=frozen or loaded.schema)
        return self._committed(rows_of, loaded, reading, last, base, staging)

    def _stands(self, last: Last, stands: Any, frozen: Schema) -> bool:
        """Whether nothing can have changed since the last version, so that nothing needs reading."""
        same = stands is not None and stands == last.position and last.roles == _plain(asdict(self._roles))
        if not same or _rules(frozen) != _rules(last.dataset.schema) or self._retention.over(last.content.source):
            return False
        labelled = self._labelled(last.dataset.schema)
        return labels_of(labelled) == last.content.labels

    # --------------------------------------------------------------------------------------------------- the reading

    def _read(
        self, rows_of: Reader, since: Any, last: Last | None, frozen: Schema | None, staging: Staging,
        texts: frozenset[str],
    ) -> tuple[Loaded, Any]:  # fmt: skip
        again = since is not None and overlap(rows_of)
        behind = last is not None and (since is not None or self._compares)
        self._places = Places(rows_of.name)
        load = Load(
            staging, self._home, self._loop, self._roles, rows_of.name, frozen, self._max_bad,
            first=last.content.next if last is not None and behind else 0,
            head=0 if last is None or behind else last.content.rows,
            retyped=isinstance(self._source, CsvSource),
            aside=self._versions.aside() if again else None,
            mended=Repairs(self._home, self._loop).all() if again else (),
            personal=self._privacy.personal, places=self._places,
        )  # fmt: skip
        cursor, header, looked = since, "", Looking(self._privacy, frozen)
        doubtful: tuple[str, ...] = ()
        for batch, cursor in batches(self._told_of(rows_of, since), rows_of.name):  # noqa: B007 - the last one is used
            header = ", ".join(batch.columns[:30])
            if batch.height:
                if not load.rows and isinstance(self._source, CsvSource) and frozen is None:
                    doubtful = perhaps_grouped(batch, self._source)
                looked.at(batch)
                load.take(batch, looked.columns)
        if since is None and not load.rows:
            only = f", only a header: {header}" if header else ""
            raise SourceEmpty(f"{rows_of.name} has no rows{only}; give it some and run again")
        if last is None or last.roles != _plain(asdict(self._roles)):
            private.check_columns(self._privacy, self._columns, rows_of.name, joined=isinstance(self._source, Join))
        loaded = load.finish()
        told = tuple(
            f"column {name!r} is taken as text: not all of it are numbers, or they would lose digits"
            for name in sorted(texts)
        )
        return replace(loaded, notes=(*loaded.notes, *doubtful, *told, *looked.notes)), cursor

    def _told_of(self, rows_of: Reader, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        rows = kept = first = 0
        of_files, parts = isinstance(rows_of, Files), rows_of.read(since)
        known = len(since or ()) if of_files else 0
        for part, cursor in ahead(parts) if of_files else parts:
            rows += part.height
            self._columns.update(part.columns)
            if self._progress is not None:
                self._progress(f"reading {rows_of.name}", rows, 0)
            protected = self._protection.frame(part)
            kept += protected.height
            if of_files and len(cursor) > known:  # the last rows of a file
                self._places.add(shown(cursor[-1][0]), first)
                known, first = len(cursor), kept
            yield protected, cursor

    # ---------------------------------------------------------------------------------------------------- the commit

    def _committed(
        self, rows_of: Reader, loaded: Loaded, reading: Reading, last: Last | None, base: int | None, staging: Staging
    ) -> Dataset:
        known = Content() if last is None else _in_types(last, loaded.schema, staging)
        by_now, noted = known, getattr(rows_of, "notes", ())
        if isinstance(rows_of, Joined) and last is not None and not reading.whole and last.looked != reading.looked:
            late = Late(rows_of, loaded.schema, self._roles, self._loop, staging)
            by_now = replace(known, source=late.joined(known.source))
            loaded, noted = replace(loaded, schema=late.schema), (*noted, *late.notes)
        schema = loaded.schema
        merged = self._merged(rows_of, loaded, reading, by_now, staging)
        if by_now is not known:
            merged = replace(merged, changed=merged.changed + late.changed)
        labelled = self._labelled(schema)
        labels = labels_of(labelled)
        united = self._with_known(labelled, known, schema)
        source, own = filled(merged.parts, united, self._roles, staging)
        given = sum(part.rows for part in source) + own.height
        kept, own = self._retention.kept(source, staging), self._retention.rows(own)
        aged = given - sum(part.rows for part in kept) - own.height
        source = merge.compacted(kept, BATCH_ROWS, staging)
        total = self._digest(source, loaded, known)
        content = Content(source, (), tuple(total.blocks), total.digest(), labels)
        same = last is not None and self._same(content, own, known, schema, last)
        self._versions.set_aside(loaded.bad, reading, self._places, base=base, only=same)
        if same and last is not None and base is not None:
            looked = not reading.whole and last.looked != reading.looked
            if looked or self._versions.identity(base) != reading.identity:
                self._versions.stay(last, reading, base=base)
            elif reading.position is not None and reading.position != last.position:
                self._versions.touched(reading, base=base)
            self._retention.bury(self._run, rows=False)
            return last.dataset
        notes = (*loaded.notes, *self._retention.note(aged), *noted)
        loaded = replace(loaded, notes=tuple(map(hidden, notes)))
        if reading.whole or aged:
            merged = Merged(kept, *counted(known.source, kept, self._names, schema))
        told = self._told(own, known, loaded, merged)
        over = last is not None and self._retention.over(last.content.source)
        other = base is not None and self._versions.rules(base) != private.plain(self._privacy.rules)
        if other:
            told["dataset"]["notes"] = (*loaded.notes, _ANEW)
        made = self._versions.commit(content, own, schema, told, reading, base=base, staging=staging)
        if other:
            forget_loop(self._home, self._loop)
        self._retention.bury(self._run, rows=over)
        return made

    def _merged(self, rows_of: Reader, loaded: Loaded, reading: Reading, known: Content, staging: Staging) -> Merged:
        """The rows of the source as they are now."""
        if self._compares and known.source:
            return merge.merged(known.source, loaded.parts, self._names, staging, remove=True)
        if not reading.whole:
            new, column = loaded.parts, overlap(rows_of)
            if not self._names and column in loaded.schema.names and known.source:
                new = self._unrepeated(rows_of, loaded, known, str(column), staging)
            found = [name for name in _gives(rows_of) if name in loaded.schema.names]
            return merge.merged(known.source, new, self._names, staging, found=found)
        if known.source and loaded.head == known.source_digest and known.dense and loaded.digest is not None:
            return Merged((*known.source, *merge.beyond(loaded.parts, known.rows, staging)))
        return Merged(loaded.parts)

    def _unrepeated(
        self, rows_of: Reader, loaded: Loaded, known: Content, column: str, staging: Staging
    ) -> tuple[Part, ...]:
        """The new rows without those at the cursor that a version has already."""
        newest: Any = max(
            (value for part in known.source if (value := part.read([column])[column].max()) is not None), default=None
        )
        return merge.unrepeated(loaded.parts, known.source, column, newest, staging, _gives(rows_of))

    def _labelled(self, schema: Schema) -> pl.DataFrame:
        """The labelled predictions. A version that knew no rule of privacy yet may have recorded some."""
        return self._kept(labelled_rows(History(self._home, self._loop), self._roles, schema), schema)

    def _kept(self, labelled: pl.DataFrame, schema: Schema) -> pl.DataFrame:
        made = self._protection.frame(labelled)
        return retyped(made, schema) if self._protection else made

    def _with_known(self, labelled: pl.DataFrame, known: Content, schema: Schema) -> pl.DataFrame:
        """The labelled predictions, those that a version has already first and as they are there, save for labels."""
        before = known.predictions()
        if before is None:
            return labelled
        before = relabelled(retyped(self._protection.frame(before), schema), labelled, self._roles.target)
        return pl.concat([before, labelled.join(before, on="_prediction", how="anti", maintain_order="left")])

    def _digest(self, source: tuple[Part, ...], loaded: Loaded, known: Content) -> RowDigest:
        if loaded.digest is not None and source == loaded.parts and not source[0].first:
            return loaded.digest
        return digested(source, known)

    def _same(self, content: Content, own: pl.DataFrame, known: Content, schema: Schema, last: Last) -> bool:
        if content.source_digest != known.source_digest or _rules(schema) != _rules(last.dataset.schema):
            return False
        before = known.predictions()
        return own.equals(empty(schema) if before is None else retyped(before, schema))

    def _told(self, own: pl.DataFrame, known: Content, loaded: Loaded, merged: Merged) -> dict[str, Any]:
        before = sum(part.rows for part in known.labelled)
        dataset = {
            "new_rows": merged.added,
            "labelled_rows": max(0, own.height - before),
            "quarantined_rows": loaded.bad_rows,
            "notes": loaded.notes,
        }
        return {"dataset": dataset, "changed": merged.changed, "removed": merged.removed}


def _in_types(last: Last, schema: Schema, staging: Staging) -> Content:
    """The last version's rows in the columns that the next one has."""
    known = last.content
    if _types(schema) == _types(last.dataset.schema):
        return known
    made = staging.settled([staging.put(retyped(part.read(), schema)) for part in known.source])
    return replace(known, source=made, blocks=(), source_digest="")


def _gives(rows_of: Reader) -> tuple[str, ...]:
    return rows_of.gives if isinstance(rows_of, Joined) else ()


def _anew(rows_of: Reader, last: Last, frozen: Schema | None) -> bool:
    """Whether all rows must be held against a contract that a person has changed: those of a source that can give them
    again. Rows behind a database's cursor stay as they were checked."""
    return isinstance(rows_of, Resuming) and (frozen is None or _rules(frozen) != _rules(last.dataset.schema))


def _types(schema: Schema) -> list[tuple[str, Type]]:
    return [(column.name, column.type) for column in schema]


def _rules(schema: Schema) -> Any:
    """*schema* without what has been seen of it."""
    return _plain([replace(column, nullable=True, low=None, high=None, levels=None).to_json() for column in schema])


def _plain(value: Any) -> Any:
    """*value* as it comes back from a commit."""
    return json.loads(json.dumps(value))


def _text_columns(frozen: Schema | None) -> tuple[str, ...]:
    return tuple(column.name for column in frozen or () if column.type is Type.TEXT)
