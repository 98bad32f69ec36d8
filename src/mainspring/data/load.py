"""One reading of a source on its way into a version: each batch is checked and written aside, none is kept in memory.

The contract of a first load comes from its first batch. Where a later batch suggests a wider type for a column, the
column has that type, and the rows that were written under the narrower one are made anew from what was kept of them:
the outcome is that of a contract which knew all rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import polars as pl

from mainspring.core.declarations import Roles
from mainspring.core.errors import MainspringError, SchemaMismatch, TargetUnusable, TooManyBadRows
from mainspring.core.schema import Column, Schema, Type
from mainspring.core.wording import count, percent
from mainspring.data import contract
from mainspring.data.casting import EXACT, plain
from mainspring.data.contract import POSITION, REASON, Checked
from mainspring.data.inference import widened
from mainspring.data.keys import Keys, names_of
from mainspring.data.places import Places
from mainspring.data.private import marked
from mainspring.data.repairs import name_of
from mainspring.data.unite import PREDICTION
from mainspring.data.validate import refuse_columns, refuse_ignored
from mainspring.store.home import Home
from mainspring.store.parts import ORDER, Part, Staging
from mainspring.store.row_digest import RowDigest
from mainspring.store.tables import DTYPES

_Types = tuple[tuple[str, Type], ...]
_NUMBERS = (Type.INTEGER, Type.FLOAT)


class TurnedToText(MainspringError):
    """Columns of files that look like numbers at first turned out to be text: they must be read as such from the
    beginning, for a number isn't always written as it was."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__(f"columns {', '.join(sorted(names))} are text")
        self.names = names


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows of a reading: good ones in *parts*, numbered from 0 or from where the last version ends; *bad* ones.

    digest: of the good rows, None where it must be made from the parts. head: of the first so many that were asked for.
    """

    parts: tuple[Part, ...]
    bad: tuple[pl.DataFrame, ...]
    schema: Schema
    rows: int
    digest: RowDigest | None
    head: str | None
    notes: tuple[str, ...] = ()

    @property
    def good_rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def bad_rows(self) -> int:
        return sum(frame.height for frame in self.bad)


@dataclass(slots=True)
class _Written:
    """A batch as it was written: under which types, and what its rows could be made anew from under others.

    raw: the columns whose values were cast, as they came; all columns and rows where some rows were bad.
    """

    types: _Types
    start: int
    good: Part | None
    bad: pl.DataFrame | None
    raw: Part | None
    notes: tuple[str, ...] = ()


class Load:
    """Takes the batches of a reading one by one.

    first: the number of the first row. head: a digest of the first so many rows is wanted. retyped: whether the source
    can be read again with other columns as text. aside: known bad rows, as `as_text` has them, that may come again;
    mended: the names of those that a person has repaired. places: where the rows stand, once all are read.
    personal: columns of which no value is shown; those that look so are added where the contract is yet to be made.
    """

    def __init__(
        self, staging: Staging, home: Home, loop: str, roles: Roles, name: str, frozen: Schema | None,
        max_bad: float, *, first: int = 0, head: int = 0, retyped: bool = False, aside: pl.Series | None = None,
        mended: Collection[str] = (), personal: Collection[str] = (), places: Places | None = None,
    ) -> None:  # fmt: skip
        self._staging, self._home, self._loop, self._roles, self._name = staging, home, loop, roles, name
        self._frozen, self._schema, self._max_bad, self._retyped = frozen is not None, frozen, max_bad, retyped
        self._first, self._head_rows, self._head = first, head, None if head else ""
        self._aside, self._mended, self._personal = aside, mended, set(personal)
        self._places = places or Places(name)
        self._keys, self._digest = Keys(names_of(roles)), RowDigest()
        self._digested: pl.Schema | None = None
        self._written: list[_Written] = []
        self._seen: dict[str, pl.DataType] = {}
        self._given: dict[str, None] = {}
        self.rows = 0

    def take(self, raw: pl.DataFrame, personal: Collection[str] = ()) -> None:
        """Check the rows of a batch and write them. personal: columns that look so."""
        self._personal |= set(personal) - {self._roles.target}
        _refuse_reserved(raw, self._name)
        self._given |= dict.fromkeys(raw.columns)
        frame, said = plain(raw)
        if not self._written:
            self._refuse_roles(raw, frame)
        frame = self._completed(frame)
        if self._aside is not None and not self._written:  # those at the cursor come first: they tell nothing new
            frame = self._unknown(frame, self._aside)
        _refuse_alike(self._taken_in(), self._name)
        checked = self._judged(frame)
        if self._aside is not None and checked.bad.height:
            frame, checked = self._without_known(frame, checked, self._aside)
        self._write(frame, checked, (*said, *checked.notes))

    def _unknown(self, frame: pl.DataFrame, aside: pl.Series) -> pl.DataFrame:
        """*frame* without rows that are in quarantine already, or were and are mended."""
        if not len(aside) and not self._mended:
            return frame
        texts = as_text(frame)
        mended = pl.Series([name_of(text) in self._mended for text in texts] if self._mended else [False])
        return frame.filter(~texts.is_in(aside.implode()) & ~mended)

    def _without_known(self, frame: pl.DataFrame, checked: Checked, aside: pl.Series) -> tuple[pl.DataFrame, Checked]:
        new = ~as_text(checked.bad).is_in(aside.implode())
        known = checked.bad.filter(~new)[POSITION]
        places = pl.int_range(frame.height, dtype=pl.Int64, eager=True)
        return frame.filter(~places.is_in(known.implode())), replace(checked, bad=checked.bad.filter(new))

    def finish(self) -> Loaded:
        """All that was taken. Raises TooManyBadRows or DuplicateKeys, which only the whole can tell."""
        schema = self._schema
        if schema is None or not self._written:
            return Loaded((), (), schema or Schema(()), self.rows, self._digest, self._head)
        refuse_ignored(list(dict.fromkeys([*self._given, *schema.names])), self._roles, self._name)
        self._staging.settle()
        redone = [self._made_anew(each, schema) for each in self._written if each.types != _types(schema)]
        schema = self._schema or schema
        bad = tuple(each.bad for each in self._written if each.bad is not None)
        self._refuse_bad(bad)
        parts = self._numbered()
        self._keys.refuse_duplicates(parts, self._roles, self._name)
        notes = _told(note for each in self._written for note in each.notes)
        kept = self._digest if not any(redone) else None
        return Loaded(
            parts, bad, schema, self.rows, kept, self._head if kept else None, (*notes, *self._set_aside(bad))
        )

    # -------------------------------------------------------------------------------------------------- the contract

    def _refuse_roles(self, raw: pl.DataFrame, frame: pl.DataFrame) -> None:
        _refuse_left_out(raw, frame, self._roles, self._name)
        known = () if self._schema is None else self._schema.names
        refuse_columns(frame.columns, self._roles, self._name, known)

    def _completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """*frame* with the columns that batches before it had: a record may lack what others have."""
        given = dict(frame.schema)
        gone = [name for name in self._seen if name not in given]
        for name, kind in given.items():
            if self._seen.get(name, pl.Null()) == pl.Null:
                self._seen[name] = kind
        return frame.with_columns(pl.lit(None, pl.Null).alias(name) for name in gone) if gone else frame

    def _taken_in(self) -> list[str]:
        """The columns of the rows to be kept: what is new to a frozen contract may be left out."""
        known = () if self._schema is None else self._schema.names
        growing = self._schema is None or not self._frozen or self._schema.evolution.new_column == "add"
        return list(dict.fromkeys([*known, *self._seen])) if growing else list(known)

    def _judged(self, frame: pl.DataFrame) -> Checked:
        if self._frozen:
            checked = self._checked_by_frozen(frame)
        else:
            checked = self._checked_by_suggested(frame)
        self._schema = checked.schema
        return checked

    def _checked_by_frozen(self, frame: pl.DataFrame) -> Checked:
        assert self._schema is not None
        checked = contract.checked(self._home, self._loop, frame, self._schema, self._roles, growing=False)
        where = f"the contract, though the source has it; take it in: mainspring schema {self._loop} accept"
        refuse_columns(checked.good.columns, self._roles, where, frame.columns)
        return checked

    def _checked_by_suggested(self, frame: pl.DataFrame) -> Checked:
        said: tuple[str, ...] = ()
        if self._schema is None or self._surprises(frame):
            said = self._learn(frame)
        assert self._schema is not None
        try:
            checked = self._checked(frame)
            if not checked.bad.height or said:
                return replace(checked, notes=(*said, *checked.notes))
        except SchemaMismatch:
            if said:
                raise
        said = self._learn(frame)
        checked = self._checked(frame)
        return replace(checked, notes=(*said, *checked.notes))

    def _checked(self, frame: pl.DataFrame) -> Checked:
        assert self._schema is not None
        given = dict(frame.schema)
        texts = [pl.col(column.name).cast(pl.String) for column in self._schema
                 if column.type is Type.TEXT and given[column.name] not in (pl.String, pl.Null)]  # fmt: skip
        made = frame.with_columns(texts) if texts else frame
        return contract.check(made, self._schema, self._roles, self._loop, growing=True)

    def _surprises(self, frame: pl.DataFrame) -> bool:
        """Whether a column is new, or of another type than before."""
        known = {column.name: DTYPES[column.type] for column in self._schema or ()}
        return any(
            name not in known or (kind not in (pl.Null, known[name]) and kind != self._seen[name])
            for name, kind in frame.schema.items()
        )

    def _learn(self, frame: pl.DataFrame) -> tuple[str, ...]:
        """Make the contract as wide as *frame* suggests; what there is to say of it."""
        suggested, said = contract.infer(frame, self._roles, self._max_bad)
        before = self._schema
        self._schema = marked(suggested if before is None else joined(before, suggested), self._personal)
        said = (*said, *_of_digits(before, suggested, self._schema))
        if self._retyped and before is not None:
            now = {column.name for column in self._schema if column.type is Type.TEXT}
            turned = [column.name for column in before if column.name in now and column.type is not Type.TEXT]
            numbers = [name for name in turned if self._seen[name].is_numeric() or self._seen[name] == pl.Boolean]
            if numbers:
                raise TurnedToText(frozenset(numbers))
        return said

    # ----------------------------------------------------------------------------------------------------- the files

    def _write(self, frame: pl.DataFrame, checked: Checked, notes: tuple[str, ...]) -> None:
        start = self.rows
        self.rows += frame.height
        kept = frame if checked.bad.height else frame.select(_cast(frame, checked.good))
        open_types = not self._frozen or any(column.undecided for column in checked.schema)
        raw = self._staging.add(kept, 0, durable=False) if open_types and kept.width else None
        good = self._stored(checked.good)
        bad = _moved(checked.bad, start) if checked.bad.height else None
        self._written.append(_Written(_types(checked.schema), start, good, bad, raw, notes))
        self._keys.add(checked.good)

    def _stored(self, good: pl.DataFrame) -> Part | None:
        if not good.height:
            return None
        self._staging.meanwhile(self._update, good)
        first, self._first = self._first, self._first + good.height
        return self._staging.add(good.with_columns(pl.lit(None, pl.String).alias(PREDICTION)), first)

    def _update(self, good: pl.DataFrame) -> None:
        self._digested = self._digested or good.schema
        if good.schema != self._digested:  # the rows before are made anew in other types: they are digested then
            return
        missing = self._head_rows - self._digest.rows
        if self._head is None and missing <= good.height:
            self._digest.update(good.head(missing))
            self._head = self._digest.digest()
            good = good.slice(missing)
        self._digest.update(good)

    def _made_anew(self, written: _Written, schema: Schema) -> bool:
        """Check a batch again, by the contract of the whole."""
        parts = [part for part in (written.raw, written.good) if part is not None]
        if not parts:
            return False
        frame = parts[0].read().drop(ORDER)
        if written.bad is None and parts[0] is written.raw and written.good is not None:
            frame = written.good.read().drop(ORDER).with_columns(frame.iter_columns())
        frame = frame.drop(PREDICTION, strict=False)
        frame = frame.with_columns(
            pl.lit(None, pl.Null).alias(name) for name in schema.names if name not in frame.columns
        )
        checked = self._checked(frame)
        self._schema = checked.schema
        first = 0 if written.good is None else written.good.first
        stored = checked.good.with_columns(pl.lit(None, pl.String).alias(PREDICTION))
        written.good = self._staging.add(stored, first) if checked.good.height else None
        if written.raw is not None or checked.bad.height:
            written.bad = _moved(checked.bad, written.start) if checked.bad.height else None
        return True

    def _numbered(self) -> tuple[Part, ...]:
        """The good parts; where one has fewer or more rows than before it was made anew, with numbers without gaps."""
        parts, at = [], None
        for each in self._written:
            if (part := each.good) is None:
                continue
            at = part.first if at is None else at
            if part.first != at:
                part = self._staging.add(part.read().drop(ORDER), at)
            parts.append(part)
            at += part.rows
        return self._staging.settled(parts)

    # ----------------------------------------------------------------------------------------------------- bad rows

    def _refuse_bad(self, bad: tuple[pl.DataFrame, ...]) -> None:
        broken = sum(frame.height for frame in bad)
        if broken > self._max_bad * self.rows:
            first = bad[0].select(POSITION, REASON).head(3).rows()
            told = "; ".join(f"{self._places.told(row)}: {why}" for row, why in first)
            raise TooManyBadRows(
                f"{broken:,} of {count(self.rows, 'row')} of {self._name} break the contract, more than "
                f"{percent(self._max_bad)}: {told}; mend them in the source, or raise max_bad="
            )

    def _set_aside(self, bad: tuple[pl.DataFrame, ...]) -> tuple[str, ...]:
        if not bad:
            return ()
        broken = sum(frame.height for frame in bad)
        rows = count(self.rows, "row")
        return (f"{broken:,} of {rows} went to quarantine, the first because {bad[0][REASON][0]}",)


def as_text(bad: pl.DataFrame) -> pl.Series:
    """Each of the *bad* rows as JSON, without its reason and place."""
    return bad.select(pl.struct(pl.exclude(POSITION, REASON)).struct.json_encode().alias("row")).to_series()


def joined(known: Schema, more: Schema) -> Schema:
    """The contract of rows of which some suggest *known* and others *more*: each column as narrow as holds both."""
    found = {column.name: column for column in more}
    columns = [_joined(column, found.pop(column.name, None)) for column in known]
    return replace(known, columns=(*columns, *(replace(column, nullable=True) for column in found.values())))


def _joined(known: Column, more: Column | None) -> Column:
    if more is None or more.undecided:
        return replace(known, nullable=True)
    if known.undecided:
        return replace(more, nullable=True)
    if known.type is more.type:
        return widened(known, more)
    kinds = {known.type, more.type}
    if kinds <= {Type.INTEGER, Type.FLOAT, Type.BOOLEAN}:
        kind = Type.FLOAT if Type.FLOAT in kinds else Type.INTEGER
        if kind is Type.FLOAT and any(_large(column) for column in (known, more)):
            return Column(known.name, Type.TEXT, known.nullable or more.nullable)
        return replace(widened(known, more), type=kind)
    if kinds == {Type.DATE, Type.DATETIME}:
        return replace(known, type=Type.DATETIME, nullable=known.nullable or more.nullable)
    return Column(known.name, Type.TEXT, known.nullable or more.nullable)


def _large(column: Column) -> bool:
    """Whether integers among the values of *column* may be too large for a float."""
    return column.type is Type.INTEGER and max(abs(column.low or 0), abs(column.high or 0)) >= EXACT


def _types(schema: Schema) -> _Types:
    return tuple((column.name, column.type) for column in schema)


def _of_digits(before: Schema | None, suggested: Schema, now: Schema) -> tuple[str, ...]:
    """What to say of columns that are text because numbers in them would lose digits."""
    numbers = [{column.name for column in each or () if column.type in _NUMBERS} for each in (before, suggested)]
    names = [column.name for column in now if column.type is Type.TEXT and column.name in numbers[0] & numbers[1]]
    return tuple(
        f"column {name!r} is taken as text: it has fractions, and whole numbers that no float holds" for name in names
    )


def _cast(frame: pl.DataFrame, good: pl.DataFrame) -> list[str]:
    """The columns of *frame* that are held otherwise in *good*, or not at all."""
    held = dict(good.schema)  # once: of 10,000 columns it takes its time
    return [name for name, kind in frame.schema.items() if kind != pl.Null and held.get(name) != kind]


def _moved(bad: pl.DataFrame, start: int) -> pl.DataFrame:
    """*bad* rows with their places among all rows read."""
    return bad.with_columns(pl.col(POSITION) + start)


def _told(notes: Iterable[str]) -> tuple[str, ...]:
    """Each note once. One that counts differs from batch to batch: of each column the first is told."""
    found: dict[str, str] = {}
    more: set[str] = set()
    for note in notes:
        shape = note if ": " not in note and "; " not in note else note.replace("; ", ": ").partition(": ")[0]
        if found.setdefault(shape, note) != note:
            more.add(shape)
    return tuple(f"{note}, and more in later rows" if shape in more else note for shape, note in found.items())


def _refuse_left_out(raw: pl.DataFrame, frame: pl.DataFrame, roles: Roles, name: str) -> None:
    """A role's column whose values are no single numbers, texts or times isn't taken in."""
    for role in ("target", "key", "time", "group", "weight"):
        column = getattr(roles, role)
        if column in raw.columns and column not in frame.columns:
            error = TargetUnusable if role == "target" else SchemaMismatch
            raise error(
                f"{role}={column!r} of {name} holds {raw[column].dtype}, of which a row has no single value; "
                "name another column, or make one of it in the source"
            )


def _refuse_alike(names: Iterable[str], source: str) -> None:
    """Raise where names differ by upper and lower case only: Delta Lake's tables can't hold both."""
    known: dict[str, str] = {}
    for name in names:
        if (other := known.setdefault(name.lower(), name)) != name:
            raise SchemaMismatch(
                f"columns {other!r} and {name!r} of {source} differ by upper and lower case only, which tables can't "
                "tell apart; rename one"
            )


def _refuse_reserved(raw: pl.DataFrame, name: str) -> None:
    reserved = [column for column in (ORDER, PREDICTION, REASON, POSITION) if column in raw.columns]
    if reserved:
        raise SchemaMismatch(f"column {reserved[0]!r} of {name} has a name that mainspring keeps for itself; rename it")
