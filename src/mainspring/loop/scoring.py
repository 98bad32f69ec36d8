"""Batch scoring: a version answers every row of a source, part by part; a job that was killed goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import polars as pl
from blake3 import blake3

from mainspring.core.errors import InvalidRows, UsageError
from mainspring.core.schema import Type
from mainspring.data import outputs
from mainspring.data.batches import ahead
from mainspring.data.named import named
from mainspring.data.sources import Reader, reader
from mainspring.loop import given
from mainspring.loop.champion import current
from mainspring.serving import runtime
from mainspring.serving.inputs import conform
from mainspring.serving.loaded import needless
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home

Tell = Callable[[int, float], None]
"""How many rows are done, and how many a second."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A finished job. resumed: the rows that an earlier, killed process had written."""

    model: str
    rows: int
    resumed: int
    seconds: float


def score(
    home: Home,
    loop: str,
    version: int | None,
    source: str,
    out: str,
    *,
    query: str | None = None,
    keep: Sequence[str] = (),
    overwrite: bool = False,
    tell: Tell,
) -> Scored:
    """Write key, prediction and probabilities of every row of *source* to *out*.

    Where rows are read in the same order again (all sources but databases that say nothing of their state, and APIs),
    a repeated call goes on behind the last part that a killed one wrote; else it begins anew.
    """
    chosen = current(home, loop) if version is None else Deployments(home).version(loop, version)
    folder = Bundles(home).path(chosen.digest)
    model = runtime.load(folder, measured=True)
    sample = pl.read_ipc(folder / "sample.arrow")
    texts = tuple(column.name for column in model.manifest.inputs if column.type is Type.TEXT)
    rows = reader(named(source, query), texts)
    position = rows.position()
    said = [chosen.digest, rows.identity, position, list(keep), None if position is not None else time.time_ns()]
    job = blake3(json.dumps(said, default=str).encode()).hexdigest()
    scorer = _Scorer(model, sample, tuple(keep))
    began = time.monotonic()
    with outputs.opened(out, job, overwrite=overwrite) as output, ThreadPoolExecutor(1, "write") as writer:
        done = resumed = output.begun()
        writing: Future[None] | None = None
        for part in _beyond(rows, done):
            answers = scorer.answers(part, done)  # while the part before is written
            if writing is not None:
                writing.result()
                tell(done, (done - resumed) / max(time.monotonic() - began, 1e-9))
            writing = writer.submit(output.write, answers, done)
            done += part.height
        if writing is not None:
            writing.result()
            tell(done, (done - resumed) / max(time.monotonic() - began, 1e-9))
        if not done:
            raise InvalidRows(f"{source} gives no rows; there is nothing to score")
        output.finish()
    return Scored(chosen.name, done, resumed, time.monotonic() - began)


def _beyond(rows: Reader, done: int) -> Iterator[pl.DataFrame]:
    """The parts of the source behind its first *done* rows; one is read while another is answered."""
    seen = 0
    for part, _ in ahead(rows.read(None)):
        start, seen = max(done - seen, 0), seen + part.height
        if start < part.height:
            yield part[start:] if start else part


class _Scorer:
    """What is written of each row: the key (or the columns that were asked for), the prediction, the probabilities."""

    def __init__(self, model: Any, sample: pl.DataFrame, keep: tuple[str, ...]) -> None:
        self._model, self._inputs = model, model.manifest.inputs
        self._free, self._keep = needless(model, model.manifest, sample), keep

    def answers(self, part: pl.DataFrame, before: int) -> pl.DataFrame:
        raw = given.as_ingested(part, self._inputs)
        absent = (set(self._inputs.names) - set(raw.columns)) & self._free
        rows = conform(raw.with_columns(pl.lit(None).alias(name) for name in absent), self._inputs,
                       fractions=not self._model.manifest.features)  # fmt: skip
        said = self._model.predict(rows)
        kept = [rows[name] if name in rows.columns else raw[name] for name in self._kept(raw)]
        columns = kept or [pl.int_range(before, before + rows.height, dtype=pl.Int64, eager=True).alias("row")]
        columns.append(pl.Series("prediction", said.values if said.labels is None else said.labels))
        if said.probabilities is not None:
            columns += [
                pl.Series(f"probability_{label}", said.probabilities[:, place].astype("float64"))
                for place, label in enumerate(said.classes)
            ]
        return pl.DataFrame(columns)

    def _kept(self, raw: pl.DataFrame) -> list[str]:
        if missing := [name for name in self._keep if name not in raw.columns]:
            raise UsageError(f"--keep {missing[0]!r}: the rows have {', '.join(raw.columns[:30])}")
        key = self._model.manifest.roles.key
        return list(self._keep) or ([key] if key in raw.columns else [])
