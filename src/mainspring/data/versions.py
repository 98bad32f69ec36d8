"""The versions of a loop's rows: what the last commit knew, and the next commit of rows, cursor and dataset at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from mainspring.core.errors import HomeDamaged
from mainspring.core.schema import Schema
from mainspring.core.values import Dataset
from mainspring.data import contract
from mainspring.data.contract import POSITION, REASON, Checked
from mainspring.data.unite import PREDICTION
from mainspring.store.home import Home
from mainspring.store.tables import Table, digest


@dataclass(frozen=True, slots=True)
class Last:
    """The last commit: the dataset it made, and where the source stood then.

    cursor: None where the source must be read as a whole; *read* is how many rows it had when that was last done.
    """

    dataset: Dataset
    cursor: Any = None
    position: Any = None
    read: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """Where a reading of a source went: from one cursor (None: its beginning) to another."""

    identity: Any
    source: str
    since: Any
    cursor: Any
    position: Any
    rows: int

    @property
    def whole(self) -> bool:
        return self.since is None


class Versions:
    """The committed rows of one loop, and beside them the rows that broke the contract."""

    def __init__(self, home: Home, loop: str) -> None:
        self._home, self._loop = home, loop
        self._rows, self._quarantine = Table(home, loop, "rows"), Table(home, loop, "quarantine")

    def last(self, identity: Any) -> Last | None:
        """The last commit, if any; its cursor counts only for the source with this *identity*."""
        version = self._rows.version()
        known = self._rows.metadata(version) if version is not None else {}
        if "dataset" not in known:
            return None
        dataset = _dataset(known["dataset"], version or 0)
        if known["source"] != identity:
            return Last(dataset)
        return Last(dataset, self._cursor(known["cursor"], version), known["position"], known["read"])

    def rows(self, dataset: Dataset) -> pl.DataFrame:
        """The rows of a version, the hidden column of predictions included; raises HomeDamaged where one changed."""
        rows = self._rows.read(dataset.version)
        if digest(rows.drop(PREDICTION)) != dataset.digest:
            where = f"version {dataset.version} of {self._rows.path}"
            raise HomeDamaged(f"{where} isn't what was committed; restore it, or move it away to start over")
        return rows

    def commit(self, rows: pl.DataFrame, checked: Checked, last: Last | None, reading: Reading) -> Dataset:
        """The dataset with these *rows*: a new version, or the last one where nothing is different."""
        known = None if last is None else self.rows(last.dataset)
        same = known is not None and rows.schema == known.schema and rows.equals(known)
        self._set_aside(checked.bad, reading, base=self._rows.version(), only=same)
        if same and last is not None:
            return last.dataset
        dataset = self._described(rows, checked, known)
        contract.save(self._home, self._loop, checked.schema)
        told = {
            "source": reading.identity,
            "cursor": reading.cursor,
            "position": reading.position,
            "read": reading.rows,
        }
        metadata = {"dataset": _to_json(dataset), **told}
        if known is not None and known.height and known.schema == rows.schema and rows.head(known.height).equals(known):
            version = self._rows.append(rows.slice(known.height), metadata=metadata)
        else:
            version = self._rows.replace(rows, metadata=metadata)
        return _dataset(metadata["dataset"], version)

    def _cursor(self, cursor: Any, version: int | None) -> Any:
        """Beyond the last commit where all rows read since then were set aside."""
        if cursor is None or self._quarantine.version() is None:
            return cursor
        known = self._quarantine.metadata()
        return known["cursor"] if known["only"] and known["base"] == version else cursor

    def _set_aside(self, bad: pl.DataFrame, reading: Reading, *, base: int | None, only: bool) -> None:
        """Keep the *bad* rows with their reasons; the same ones only once, though a crash may bring them again.

        A source that is read as a whole takes its earlier bad rows back.
        """
        version = self._quarantine.version()
        if not bad.height and (version is None or not reading.whole):
            return
        if not bad.height:
            bad = pl.DataFrame(schema={POSITION: pl.Int64, REASON: pl.String, "none": pl.Null})
        kept = bad.select(
            pl.lit(reading.source).alias("source"),
            (pl.lit("row ") + (pl.col(POSITION) + 1).cast(pl.String)).alias("position"),
            pl.col(REASON).alias("reason"),
            pl.struct(pl.exclude(POSITION, REASON)).struct.json_encode().alias("row"),
        )
        metadata = {
            "since": reading.since,
            "cursor": reading.cursor,
            "base": base,
            "only": only,
            "digest": digest(kept),
        }
        before = self._quarantine.metadata() if version is not None else {}
        if all(before.get(name) == metadata[name] for name in ("since", "cursor", "base", "only", "digest")):
            return
        repeats = all(before.get(name) == metadata[name] for name in ("since", "digest"))
        write = self._quarantine.replace if reading.whole else self._quarantine.append
        write(kept.head(0) if repeats and not reading.whole else kept, metadata=metadata)

    def _described(self, rows: pl.DataFrame, checked: Checked, known: pl.DataFrame | None) -> Dataset:
        labelled = rows.height - rows[PREDICTION].null_count()
        labelled_before = 0 if known is None else known.height - known[PREDICTION].null_count()
        before = 0 if known is None else known[PREDICTION].null_count()
        return Dataset(
            loop=self._loop,
            version=0,
            rows=rows.height,
            digest=digest(rows.drop(PREDICTION)),
            schema=checked.schema,
            new_rows=max(0, rows.height - labelled - before),
            labelled_rows=max(0, labelled - labelled_before),
            quarantined_rows=checked.bad.height,
            notes=checked.notes,
        )


def _to_json(dataset: Dataset) -> dict[str, Any]:
    fields = asdict(dataset)
    del fields["version"]
    return {**fields, "schema": dataset.schema.to_json(), "notes": list(dataset.notes)}


def _dataset(fields: dict[str, Any], version: int) -> Dataset:
    known = {**fields, "schema": Schema.from_json(fields["schema"]), "notes": tuple(fields["notes"])}
    return Dataset(version=version, **known)
