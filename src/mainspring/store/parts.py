"""The files of a table's version: each some rows in their order. They are written aside, and a commit takes them in."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl

from mainspring.core.errors import HomeDamaged, HomeUnwritable
from mainspring.store.durable import sync
from mainspring.store.home import Home

ORDER = "_row"
"""The hidden column that keeps the rows in the order in which they came; no reader sees it."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file: so many *rows*, whose hidden numbers go from *first* to *last*."""

    path: Path
    rows: int
    size: int
    first: int
    last: int

    def read(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Its rows in their order, with their numbers; or some *columns* of them."""
        if self.size >= 0 and (not self.path.is_file() or self.path.stat().st_size != self.size):
            raise damaged(self.path.parent, f"{self.path.name} is gone or was changed")
        try:
            wanted = None if columns is None else list(columns)
            return pl.read_parquet(self.path, columns=wanted, hive_partitioning=False, glob=False)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            raise damaged(self.path.parent, error) from error


class Staging:
    """A folder of parts on their way into a table. What no commit has taken when it closes is removed.

    A thread writes and syncs two parts while the caller makes the next.
    """

    def __init__(self, home: Home) -> None:
        self._folder = home.folder("tmp") / f"parts-{uuid.uuid4().hex}"
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="mainspring-parts")
        self._writing: list[Future[None]] = []
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="mainspring-rows")
        self._working: Future[None] | None = None

    def __enter__(self) -> Staging:
        self._guarded(self._folder.mkdir)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._writer.shutdown(wait=True)
        self._worker.shutdown(wait=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, frame: pl.DataFrame, first: int, *, durable: bool = True) -> Part:
        """A part with the rows of *frame*, numbered from *first* on. durable: a table may take it."""
        numbers = pl.int_range(first, first + frame.height, dtype=pl.Int64, eager=True).alias(ORDER)
        return self.put(frame.with_columns(numbers), durable=durable)

    def put(self, frame: pl.DataFrame, *, durable: bool = True) -> Part:
        """A part with the rows of *frame*, which has their numbers."""
        self.settle(but=1)
        path = self._folder / f"{uuid.uuid4().hex}.parquet"
        first, last = int(frame[ORDER][0]), int(frame[ORDER][-1])
        self._writing.append(self._writer.submit(self._guarded, lambda: _write(frame, path, durable)))
        return Part(path, frame.height, -1, first, last)

    def meanwhile(self, work: Callable[..., None], *given: Any) -> None:
        """Have *work* done by a thread that does such work in its order, one behind the caller at most."""
        if self._working is not None:
            self._working.result()
        self._working = self._worker.submit(work, *given)

    def settle(self, but: int = 0) -> None:
        """Wait until all parts, or all *but* so many, are written, and other work is done."""
        while len(self._writing) > but:
            self._writing.pop(0).result()
        if not but and self._working is not None:
            done, self._working = self._working, None
            done.result()

    def settled(self, parts: Sequence[Part]) -> tuple[Part, ...]:
        """*parts* with their sizes, all of them written."""
        self.settle()
        return tuple(
            part if part.size >= 0 else Part(part.path, part.rows, part.path.stat().st_size, part.first, part.last)
            for part in parts
        )

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise HomeUnwritable(
                f"{self._folder.parent} can't be written ({first_line(error)}); make room, then run again"
            ) from error


def damaged(folder: Path, error: BaseException | str) -> HomeDamaged:
    """The table in *folder* can't be read."""
    return HomeDamaged(f"table {folder} can't be read ({first_line(error)}); restore it, or move it away to start over")


def first_line(error: BaseException | str) -> str:
    return str(error).strip().partition("\n")[0]


def _write(frame: pl.DataFrame, path: Path, durable: bool) -> None:
    frame.write_parquet(path, compression="snappy")
    if durable:
        sync(path)
