"""The versions of a loop's rows: what the last commit knew, and the next commit of rows, cursor and dataset at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mainspring.core.errors import HomeDamaged, NotInStore
from mainspring.core.schema import Schema
from mainspring.core.values import Dataset
from mainspring.data import contract
from mainspring.data.contract import POSITION, REASON
from mainspring.data.places import Places
from mainspring.data.unite import PREDICTION
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.parts import ORDER, Part, Staging
from mainspring.store.row_digest import BLOCK, RowDigest
from mainspring.store.tables import DTYPES, Table, digest

LABELLED = 1 << 62
"""The number of the first labelled prediction: they come behind all rows of the source, in files of their own."""

_TOUCHED = "source touched"
_OF = "of"
"""In what was committed with rows that stay an earlier version: which."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a reading of a source went: from one cursor (None: its beginning) to another. run: who asked for it;
    looked: in which versions of what joins look up."""

    identity: Any
    source: str
    since: Any
    cursor: Any
    position: Any
    rows: int
    roles: Any = None
    run: str = ""
    looked: Any = None

    @property
    def whole(self) -> bool:
        return self.since is None


@dataclass(frozen=True, slots=True)
class Content:
    """The rows of a version: those of the source and the labelled predictions, with what their digests are made of.

    labels: a digest of the predictions that were there to be united, the ones whose row the source has included.
    """

    source: tuple[Part, ...] = ()
    labelled: tuple[Part, ...] = ()
    blocks: tuple[str, ...] = ()
    source_digest: str = ""
    labels: str = ""

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.source)

    @property
    def next(self) -> int:
        """The number of the next row of the source."""
        return self.source[-1].last + 1 if self.source else 0

    @property
    def dense(self) -> bool:
        """Whether the numbers go from 0 on without gaps, as those of a reading of the whole do."""
        return self.next == self.rows

    def predictions(self) -> pl.DataFrame | None:
        """The labelled predictions with the hidden column of their ids; None where there are none."""
        return pl.concat([part.read() for part in self.labelled]).drop(ORDER) if self.labelled else None


@dataclass(frozen=True, slots=True)
class Last:
    """The last commit: the dataset it made, and where the source stood then.

    cursor: None where the source must be read as a whole; *read* is how many rows it had when that was last done.
    """

    dataset: Dataset
    content: Content
    cursor: Any = None
    position: Any = None
    read: int = 0
    roles: Any = None
    looked: Any = None


@dataclass(frozen=True, slots=True)
class Version:
    """One version as a person sees it: when it was made, from where, and what came with it."""

    version: int
    at: datetime
    source: str
    rows: int
    new: int
    changed: int
    removed: int
    labelled: int
    quarantined: int
    digest: str
    cursor: Any
    run: str
    kept: bool


class Versions:
    """The committed rows of one loop, and beside them the rows that broke the contract."""

    def __init__(self, home: Home, loop: str) -> None:
        self._home, self._loop = home, loop
        self._states = Deployments(home)
        self._rows, self._quarantine = Table(home, loop, "rows"), Table(home, loop, "quarantine")

    def newest(self) -> int | None:
        """The newest version of the table; None before the first."""
        return self._rows.version()

    def last(self, identity: Any, version: int | None) -> Last | None:
        """The commit that made *version*, if any; its cursor counts only for the source with this *identity*."""
        known = self._rows.metadata(version) if version is not None else {}
        if "dataset" not in known:
            return None
        dataset = _dataset(known["dataset"], known.get(_OF, version or 0))
        content = self._content(known, version)
        if known["source"] != identity:
            same = _privacy(known["source"]) == _privacy(identity)
            return Last(dataset, content if same else Content(content.source, content.labelled))
        cursor, position = self._cursor(known["cursor"], version), known["position"]
        since = self._states.load_state(self._loop, _TOUCHED) or {}
        if since.get("base") == version and since["source"] == identity:
            cursor, position = since["cursor"], since["position"]
        return Last(dataset, content, cursor, position, known["read"], known.get("roles"), known.get("looked"))

    def identity(self, version: int) -> Any:
        """Which source the cursor of *version* belongs to."""
        return self._rows.metadata(version)["source"]

    def rules(self, version: int | None) -> dict[str, Any]:
        """By which rules of privacy the rows of *version* were kept."""
        return {} if version is None else _privacy(self._rows.metadata(version).get("source"))

    def pinned(self, version: int) -> Dataset:
        """The dataset of an older *version*, whatever the source has by now."""
        newest = self.newest()
        known = self._rows.metadata(version) if newest is not None and 0 <= version <= newest else {}
        if "dataset" not in known or _OF in known:
            raise NotInStore(f"{self._loop} has no data version {version}; `mainspring data {self._loop}` lists them")
        if not self._rows.kept(version):
            raise NotInStore(f"rows of data version {version} of {self._loop} are gone; gc removes what is old")
        return _dataset(known["dataset"], version)

    def rows(self, dataset: Dataset) -> pl.DataFrame:
        """The rows of a version, the hidden column of predictions included; raises HomeDamaged where one changed."""
        rows = self._rows.read(dataset.version)
        known = self._rows.metadata(dataset.version)
        if _digest(rows, known) != dataset.digest:
            where = f"version {dataset.version} of {self._rows.path}"
            raise HomeDamaged(f"{where} isn't what was committed; restore it, or move it away to start over")
        return rows

    def all(self) -> Iterator[Version]:
        """Every version, the newest first; of rows that another source gave again, its name and cursor."""
        newest, again = self.newest(), dict[int, dict[str, Any]]()
        for number in range(-1 if newest is None else newest, -1, -1):
            known = self._rows.metadata(number)
            if _OF in known:
                again.setdefault(known[_OF], {"name": known["name"], "cursor": known["cursor"]})
            elif "dataset" in known:
                yield _version(number, {**known, **again.get(number, {})}, kept=self._rows.kept(number))

    def commit(
        self, content: Content, labelled: pl.DataFrame, schema: Schema, told: dict[str, Any], reading: Reading, *,
        base: int | None, staging: Staging,
    ) -> Dataset:  # fmt: skip
        """The next version, with the rows of *content* and the *labelled* predictions. Raises Overtaken where another
        run has made one since *base*."""
        parts = [staging.add(labelled, LABELLED)] if labelled.height else []
        total = _total(content.source_digest, labelled)
        dataset = Dataset(self._loop, 0, content.rows + labelled.height, total, schema, **told["dataset"])
        metadata = {
            "dataset": _to_json(dataset), "source": reading.identity, "name": reading.source, "cursor": reading.cursor,
            "position": reading.position, "read": reading.rows, "roles": reading.roles, "run": reading.run,
            "blocks": list(content.blocks), "source_digest": content.source_digest, "labels": content.labels,
            "at": datetime.now(UTC).isoformat(), "changed": told["changed"], "removed": told["removed"],
            "looked": reading.looked,
        }  # fmt: skip
        contract.save(self._home, self._loop, schema)
        settled = staging.settled([*content.source, *parts])
        version = self._rows.commit(settled, _columns(schema), base=base, metadata=metadata)
        return _dataset(metadata["dataset"], version)

    def stay(self, last: Last, reading: Reading, *, base: int) -> None:
        """Commit that another source, or a join that has looked again, gives the rows of the *last* version again, and
        how far it was read: they stay that version."""
        metadata = {
            **self._rows.metadata(base), _OF: last.dataset.version, "source": reading.identity, "name": reading.source,
            "cursor": reading.cursor, "position": reading.position, "read": reading.rows, "roles": reading.roles,
            "looked": reading.looked,
        }  # fmt: skip
        self._rows.commit(self._rows.parts(base), self._rows.columns(base), base=base, metadata=metadata)

    def touched(self, reading: Reading, *, base: int) -> None:
        """Note that the source was touched, or written anew, since *base* and gives its rows again: it needn't be read
        once more."""
        stands = {"source": reading.identity, "position": reading.position, "cursor": reading.cursor}
        self._states.save_state(self._loop, _TOUCHED, {"base": base, **stands})

    def set_aside(
        self, bad: Sequence[pl.DataFrame], reading: Reading, places: Places, *, base: int | None, only: bool
    ) -> None:
        """Keep the *bad* rows with their reasons; the same ones only once, though a crash may bring them again.

        A source that is read as a whole takes its earlier bad rows back.
        """
        version = self._quarantine.version()
        if not bad and (version is None or not reading.whole):
            return
        kept = pl.concat([_kept(frame, places) for frame in bad or [_NO_BAD]])
        metadata = {
            "since": reading.since, "cursor": reading.cursor, "base": base, "only": only, "digest": digest(kept),
        }  # fmt: skip
        before = self._quarantine.metadata() if version is not None else {}
        if all(before.get(name) == metadata[name] for name in ("since", "cursor", "base", "only", "digest")):
            return
        repeats = all(before.get(name) == metadata[name] for name in ("since", "digest"))
        write = self._quarantine.replace if reading.whole else self._quarantine.append
        write(kept.head(0) if repeats and not reading.whole else kept, metadata=metadata)

    def aside(self) -> pl.Series:
        """The rows in quarantine, as JSON."""
        if self._quarantine.version() is None:
            return pl.Series("row", [], pl.String)
        return self._quarantine.read(columns=["row"])["row"]

    def _content(self, known: dict[str, Any], version: int | None) -> Content:
        """Of a version that an older mainspring wrote only the rows are known."""
        parts = self._rows.parts(version)
        source = tuple(part for part in parts if part.first < LABELLED)
        if "blocks" not in known:
            return Content()
        labelled = tuple(part for part in parts if part.first >= LABELLED)
        return Content(source, labelled, tuple(known["blocks"]), known["source_digest"], known["labels"])

    def _cursor(self, cursor: Any, version: int | None) -> Any:
        """Beyond the last commit where all rows read since then were set aside."""
        if cursor is None or self._quarantine.version() is None:
            return cursor
        known = self._quarantine.metadata()
        return known["cursor"] if known.get("only") and known.get("base") == version else cursor


_NO_BAD = pl.DataFrame(schema={POSITION: pl.Int64, REASON: pl.String, "none": pl.Null})


def digested(parts: Sequence[Part], known: Content) -> RowDigest:
    """The digest of the rows of *parts*; of those that *known* begins with nothing is read again."""
    same = next((place for place, (a, b) in enumerate(zip(parts, known.source, strict=False)) if a != b), None)
    same = min(len(parts), len(known.source)) if same is None else same
    blocks = sum(part.rows for part in parts[:same]) // BLOCK
    total, skip = RowDigest(known.blocks[:blocks]), blocks * BLOCK
    for part in parts:
        if skip < part.rows:
            total.update(part.read().drop(ORDER, PREDICTION).slice(max(skip, 0)))
        skip -= part.rows
    return total


def _privacy(identity: Any) -> dict[str, Any]:
    """The rules of privacy in the *identity* of a source."""
    return dict(identity["privacy"]) if isinstance(identity, dict) and "privacy" in identity else {}


def labels_of(labelled: pl.DataFrame) -> str:
    """What changes when there are other labelled predictions; "" of none."""
    return digest(labelled) if labelled.height else ""


def _columns(schema: Schema) -> pl.Schema:
    known = {column.name: DTYPES[column.type] for column in schema}
    return pl.Schema({**known, PREDICTION: pl.String(), ORDER: pl.Int64()})


def _total(source: str, labelled: pl.DataFrame) -> str:
    """One digest of the source's rows and the labelled predictions behind them."""
    if not labelled.height:
        return source
    return digest(pl.DataFrame({"source": [source], "labelled": [digest(labelled.drop(PREDICTION))]}))


def _digest(rows: pl.DataFrame, known: dict[str, Any]) -> str:
    if "blocks" not in known:  # an older mainspring's
        return digest(rows.drop(PREDICTION))
    source, labelled = rows.filter(pl.col(PREDICTION).is_null()), rows.filter(pl.col(PREDICTION).is_not_null())
    total = RowDigest()
    total.update(source.drop(PREDICTION))
    return _total(total.digest(), labelled)


def _kept(bad: pl.DataFrame, places: Places) -> pl.DataFrame:
    """Rows as they are kept in the quarantine."""
    stood = [places.of(row) for row in bad[POSITION]]
    return bad.select(
        pl.Series("source", [file for file, _ in stood], pl.String),
        pl.Series("position", [f"row {number}" for _, number in stood], pl.String),
        pl.col(REASON).alias("reason"),
        pl.struct(pl.exclude(POSITION, REASON)).struct.json_encode().alias("row"),
    )


def _to_json(dataset: Dataset) -> dict[str, Any]:
    fields = asdict(dataset)
    del fields["version"]
    return {**fields, "schema": dataset.schema.to_json(), "notes": list(dataset.notes)}


def _dataset(fields: dict[str, Any], version: int) -> Dataset:
    known = {**fields, "schema": Schema.from_json(fields["schema"]), "notes": tuple(fields["notes"])}
    return Dataset(version=version, **known)


def _version(number: int, known: dict[str, Any], *, kept: bool) -> Version:
    dataset = known["dataset"]
    return Version(
        number, datetime.fromisoformat(known["at"]) if "at" in known else datetime.fromtimestamp(0, UTC),
        known.get("name", ""), dataset["rows"], dataset["new_rows"], known.get("changed", 0), known.get("removed", 0),
        dataset["labelled_rows"], dataset["quarantined_rows"], dataset["digest"], known["cursor"], known.get("run", ""),
        kept,
    )  # fmt: skip
