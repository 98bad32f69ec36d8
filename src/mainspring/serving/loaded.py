"""A version that is loaded and has passed its own sample: what an answer is made with."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl

from mainspring.core.errors import BundleError, NotExplained
from mainspring.core.protocols import Model
from mainspring.serving import runtime
from mainspring.serving.rows import Columns
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import Version
from mainspring.store.home import Home

SAMPLE_ROWS = 32
"""So many of a bundle's sample rows are looked at."""
Open = Callable[[str], tuple[Model, Any]]
"""A bundle's digest -> its model, which has the bundle's `manifest`, and its sample of raw rows (None: it has none)."""


class Said(msgspec.Struct, frozen=True):
    """A model's answer to some rows, as plain values: one class or number a row, and one list of probabilities."""

    labels: list[Any]
    probabilities: list[list[float]] | None


class Loaded:
    """One version in memory.

    joins: whether rows of several requests may share a model call; only where the sample's answers are the same, bit
    for bit, row by row and all at once. row_seconds: what a row takes alone, and among SAMPLE_ROWS, measured on the
    sample. probabilistic: whether it gives probabilities. pause: seconds between two looks at the model, in which other
    threads have Python.
    """

    def __init__(self, version: Version, model: Model, sample: pl.DataFrame | None = None, pause: float = 0.0) -> None:
        manifest: Any = getattr(model, "manifest")  # noqa: B009
        self.version, self.model, self.manifest = version, model, manifest
        self.name, self.classes = version.name, tuple(manifest.classes)
        self.regression = manifest.task == "regression"
        sample = None if sample is None or sample.is_empty() else sample.head(SAMPLE_ROWS)
        self.probabilistic = not self.regression and (sample is None or _probabilistic(model, sample.head(1)))
        self.columns = Columns(manifest.inputs, manifest.roles, needless(model, manifest, sample))
        seen = None if sample is None else _Seen(model, sample, pause)
        self._direct = None if seen is None else seen.direct()
        self.joins = seen is not None and seen.joins()
        rows = [] if sample is None else sample.to_dicts()
        self.row_seconds = (self._seconds(rows[:1]), self._seconds(rows))

    def say(self, typed: Sequence[Any]) -> Said:
        """The answers for rows that `columns` has read."""
        predict = self._direct
        said = self.model.predict(self.columns.frame(typed)) if predict is None else predict(typed)
        return _plain(said, self.classes, len(typed))

    def _seconds(self, rows: Sequence[Any]) -> float:
        """What an answer to one of *rows*, asked together, takes."""
        if not rows:
            return 0.0
        start = time.perf_counter()
        self.say(rows)
        return (time.perf_counter() - start) / len(rows)

    def explain(self, typed: Sequence[Any]) -> list[dict[str, Any]]:
        """What each feature column adds to the answers; raises NotExplained where the model can't tell."""
        explain = getattr(self.model, "explain", None)
        if explain is None:
            raise NotExplained("explain=true is not available for this model; leave it out")
        try:
            return list(explain(self.columns.frame(typed)))
        except (BundleError, ImportError) as error:
            raise NotExplained(f"explain=true is not available here: {error}") from error


def load(version: Version, model: Model, sample: pl.DataFrame | None, pause: float = 0.0) -> Loaded:
    """*model* as *version*, warmed up on the bundle's sample with *pause*s; raises BundleError when it can't answer
    that."""
    try:
        loaded = Loaded(version, model, sample, pause)
        loaded.columns.protection.ready()
        if sample is not None and not sample.is_empty():
            _plain(model.predict(sample), loaded.classes, sample.height)
    except Exception as error:
        what = f"{version.name} can't answer its own sample ({type(error).__name__}: {error})"
        raise BundleError(f"{what}; roll it back, or run the loop again") from error
    return loaded


def opener(home: Home) -> Open:
    """Opens bundles of *home* with the runtime that also evaluated them."""
    bundles = Bundles(home)

    def opened(digest: str) -> tuple[Model, pl.DataFrame]:
        sealed = bundles.open(digest)
        return runtime.load(sealed.folder, measured=True), pl.read_ipc(io.BytesIO(sealed.read("sample.arrow")))

    return opened


def _plain(predictions: Any, classes: tuple[Any, ...], rows: int) -> Said:
    probabilities = predictions.probabilities
    if predictions.labels is not None:
        labels = np.asarray(predictions.labels).tolist()
    elif probabilities is not None:
        labels = [classes[place] for place in np.argmax(probabilities, axis=1).tolist()]
    else:
        labels = np.asarray(predictions.values).tolist()
    if len(labels) != rows:
        raise BundleError(f"the model gave {len(labels)} answers for {rows} rows; run the loop again")
    return Said(labels, None if probabilities is None else np.asarray(probabilities, dtype=float).tolist())


def needless(model: Model, manifest: Any, sample: pl.DataFrame | None) -> frozenset[str]:
    """The columns without which the model says the same: a request may leave them out. Those that it doesn't read, and
    the key, time, group and subject columns that change nothing in the answers to the sample."""
    unread: frozenset[str] = getattr(model, "unread", frozenset())
    roles = {manifest.roles.key, manifest.roles.time, manifest.roles.group, manifest.roles.subject} & set(
        manifest.inputs.names
    )
    if sample is None:
        return unread
    return unread | {name for name in roles if name and _same_without(model, sample, name)}


def _same_without(model: Model, sample: pl.DataFrame, name: str) -> bool:
    try:
        bare = sample.with_columns(pl.lit(None, dtype=sample.schema[name]).alias(name))
        return _bits(model.predict(sample)) == _bits(model.predict(bare))
    except Exception:  # the user's features function may raise anything on a missing value
        return False


class _Seen:
    """What *model* says of its *sample*: all at once, and of each row alone."""

    def __init__(self, model: Model, sample: pl.DataFrame, pause: float) -> None:
        self._model, self._sample, self._pause = model, sample, pause
        self._typed: Any = getattr(model, "predict_typed", None)
        self._whole = _bits(model.predict(sample))
        self._alone = self._parts(model.predict, sample, 1)

    def direct(self) -> Any:
        """The model's way without a frame, if it says the same of the sample, row by row too, bit for bit."""
        if self._typed is None:
            return None
        rows = self._sample.to_dicts()
        same = _bits(self._typed(rows)) == self._whole and self._parts(self._typed, rows, 1) == self._alone
        return self._typed if same else None

    def joins(self) -> bool:
        """Whether a row is answered alike, bit for bit, whatever rows come with it."""
        return self._whole == self._alone and all(
            self._parts(self._model.predict, self._sample, size) == self._whole for size in (2, 3, 7)
        )

    def _parts(self, predict: Callable[[Any], Any], rows: Any, size: int) -> list[Any]:
        said = []
        for start in range(0, len(rows), size):
            said += _bits(predict(rows[start : start + size]))
            if self._pause:
                time.sleep(self._pause)
        return said


def _probabilistic(model: Model, row: pl.DataFrame) -> bool:
    return model.predict(row).probabilities is not None


def _bits(predictions: Any) -> list[Any]:
    """What was said of each row, in a form that only equal bits make equal."""
    if predictions.probabilities is not None:
        return [row.tobytes() for row in np.ascontiguousarray(predictions.probabilities)]
    said = predictions.values if predictions.labels is None else predictions.labels
    return [repr(each) for each in np.asarray(said).tolist()]
