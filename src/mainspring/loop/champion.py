"""The version that answers: predict with it, put another in its place, tell the endpoint and MLflow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mainspring.core import declarations
from mainspring.core.errors import InvalidRequest, InvalidRows, NotInStore, UsageError
from mainspring.core.schema import Column, Schema, Type
from mainspring.data import casting, sources
from mainspring.release import release as releasing
from mainspring.serving import bodies, push
from mainspring.serving.loaded import needless, opener
from mainspring.serving.rows import Columns
from mainspring.store.deployments import Deployments, Version
from mainspring.store.home import Home
from mainspring.store.registry import Registry


def current(home: Home, loop: str) -> Version:
    """The champion of *loop*; raises NotInStore when there is none."""
    deployments = Deployments(home)
    route = deployments.route(loop)
    if route is None or route.champion is None:
        known = ", ".join(deployments.loops()) or "none"
        raise NotInStore(
            f"{loop} has no champion in {home.path} (loops there: {known}); `mainspring run FILE` makes one"
        )
    return deployments.version(loop, route.champion)


def rival(home: Home, loop: str, digest: str) -> str | None:
    """The digest of the bundle that *digest* is, or was, judged against: the champion when it first came, if any."""
    deployments = Deployments(home)
    known = deployments.version_of(loop, digest)
    if known is not None:
        return known.champion_digest
    route = deployments.route(loop)
    if route is None or route.champion is None:
        return None
    return deployments.version(loop, route.champion).digest


def predict(home: Home, loop: str, data: Any) -> Any:
    """The champion's labels (or values) for the rows of a polars, pandas or Arrow table, as a numpy array."""
    model, sample = opener(home)(current(home, loop).digest)
    rows = _as_ingested(sources.to_frame(data, "the data"), model.manifest.inputs)
    predictions = model.predict(_completed(rows, model, sample))
    return predictions.values if predictions.labels is None else predictions.labels


def answer(home: Home, loop: str, rows: str) -> dict[str, Any]:
    """What `POST /predict/{loop}` would answer to *rows*, without ids: nothing is recorded.

    rows: as a person gives them: JSON text, "-" for JSON on standard input, or a JSON, CSV or Parquet file.
    """
    version = current(home, loop)
    model, sample = opener(home)(version.digest)
    predictions = model.predict(_frame(rows, model, sample))
    if predictions.labels is None:
        return {"model": version.name, "predictions": np.asarray(predictions.values).tolist()}
    said = {
        "model": version.name,
        "predictions": np.asarray(predictions.labels).tolist(),
        "classes": list(predictions.classes),
    }
    if predictions.probabilities is not None:
        said["probabilities"] = np.asarray(predictions.probabilities).tolist()
    return said


def _frame(rows: str, model: Any, sample: pl.DataFrame) -> pl.DataFrame:
    """The rows as the model sees them; JSON is checked as the endpoint checks it."""
    manifest = model.manifest
    if rows.lower().endswith((".csv", ".csv.gz", ".csv.zip", ".tsv", ".parquet", ".pq")):
        texts = tuple(column.name for column in manifest.inputs if column.type is Type.TEXT)
        parts = [part for part, _ in sources.reader(declarations.source(rows), texts).read(None)]
        return _completed(_as_ingested(pl.concat(parts, how="diagonal_relaxed"), manifest.inputs), model, sample)
    columns = Columns(manifest.inputs, manifest.roles, needless(model, manifest, sample))
    return columns.frame(columns.read(_json_rows(rows)).typed)


def _as_ingested(rows: pl.DataFrame, inputs: Schema) -> pl.DataFrame:
    """*rows* with the types that their table's got: lengths of time as seconds, clock times as text, and the like.

    Numbers where the table had text, such as a batch without any of its words, become text as a file would write them.
    """
    plain = casting.plain(rows)[0]
    numbers = [column for column in inputs if column.type is Type.TEXT and column.name in plain.columns
               and plain[column.name].dtype in (pl.Int64, pl.Float64)]  # fmt: skip
    return plain.with_columns(_as_text(plain[column.name], column) for column in numbers)


def _as_text(numbers: pl.Series, column: Column) -> pl.Series:
    text = numbers.cast(pl.String)
    whole = casting.integers(numbers)
    if whole.null_count() > numbers.null_count() or set(text.drop_nulls()) & set(column.levels or ()):
        return text
    return whole.cast(pl.String)  # pandas makes whole numbers floats where one is missing


def _json_rows(text: str) -> list[dict[str, Any]]:
    if text == "-":
        content = sys.stdin.read().encode()
    elif text.lstrip().startswith(("{", "[")):
        content = text.encode()
    elif Path(text).is_file():
        content = Path(text).read_bytes()
    else:
        raise UsageError(
            f"{text!r} is neither JSON rows nor a file; give '{{\"column\": 1}}', rows.json, rows.csv or -"
        )
    try:
        given = bodies.parse(content)
    except InvalidRequest as error:
        raise InvalidRows(str(error).replace("the body is", "the rows are", 1)) from error
    rows = given.get("rows", [given]) if isinstance(given, dict) else given
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InvalidRows('give one row as an object, or several as {"rows": [{...}, ...]}')
    return rows


def _completed(rows: pl.DataFrame, model: Any, sample: pl.DataFrame) -> pl.DataFrame:
    """As over HTTP, *rows* may lack the key, time and group columns that change nothing in what the model says."""
    roles, inputs = model.manifest.roles, model.manifest.inputs
    absent = ({roles.key, roles.time, roles.group} & set(inputs.names)) - set(rows.columns)
    if not absent:
        return rows
    return rows.with_columns(pl.lit(None).alias(name) for name in absent & needless(model, model.manifest, sample))


def promote(
    home: Home, loop: str, version: int | None, *, reason: str, mlflow: str | None, now: datetime | None = None
) -> str:
    """Give a version all traffic; what was done, in a sentence."""
    deployments, registry = Deployments(home), Registry(home, mlflow)
    chosen = releasing.promote(
        deployments, loop, version, now=now or deployments.now(), reason=reason, announce=announcer(registry)
    )
    _tell(home, registry)
    return f"{chosen.name} has all traffic"


def rollback(home: Home, loop: str, *, reason: str, mlflow: str | None, now: datetime | None = None) -> str:
    """End the canary, or bring the previous champion back; what was done, in a sentence."""
    deployments, registry = Deployments(home), Registry(home, mlflow)
    serving = releasing.rollback(
        deployments, loop, now=now or deployments.now(), reason=reason, announce=announcer(registry)
    )
    _tell(home, registry)
    return f"{serving.name} has all traffic again"


def announcer(registry: Registry) -> Callable[[str, Version], None]:
    """Tells MLflow of a version and of the alias that names it, within the transaction that moves it."""
    deployments = Deployments(registry.home)

    def announce(alias: str, version: Version) -> None:
        loop, number, route = version.loop, version.number, deployments.route(version.loop)
        tags = {"estimator": version.bundle.estimator, "runtime": version.bundle.runtime}
        told = {"loop": loop, "version": number, "digest": version.digest, "run": version.run, "tags": tags}
        registry.enqueue("version", f"version:{version.name}", told)
        moved = f"alias:{loop}:{alias}:{number}:{0 if route is None else route.revision}"
        registry.enqueue("alias", moved, {"loop": loop, "alias": alias, "version": number})

    return announce


def _tell(home: Home, registry: Registry) -> None:
    push.notify(home)
    registry.drain()
