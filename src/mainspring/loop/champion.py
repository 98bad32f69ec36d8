"""The version that answers: predict with it, put another in its place, tell the endpoint and MLflow."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from mainspring.core import declarations
from mainspring.core.errors import InvalidRows, NotInStore, UsageError
from mainspring.data import sources
from mainspring.release import release as releasing
from mainspring.serving import push, runtime
from mainspring.store.bundles import Bundles
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
    predictions = _model(home, current(home, loop)).predict(sources.to_frame(data, "the data"))
    return predictions.values if predictions.labels is None else predictions.labels


def answer(home: Home, loop: str, rows: pl.DataFrame) -> dict[str, Any]:
    """What `POST /predict/{loop}` would answer, without ids: nothing is recorded."""
    version = current(home, loop)
    predictions = _model(home, version).predict(rows)
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


def read_rows(text: str) -> pl.DataFrame:
    """Rows as a person gives them: JSON text, "-" for JSON on standard input, or a JSON, CSV or Parquet file."""
    if text.lower().endswith((".csv", ".tsv", ".parquet", ".pq")):
        return pl.concat([part for part, _ in sources.reader(declarations.source(text)).read(None)])
    if text == "-":
        content = sys.stdin.read()
    elif text.lstrip().startswith(("{", "[")):
        content = text
    elif Path(text).is_file():
        content = Path(text).read_text(encoding="utf-8")
    else:
        raise UsageError(
            f"{text!r} is neither JSON rows nor a file; give '{{\"column\": 1}}', rows.json, rows.csv or -"
        )
    try:
        given = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise InvalidRows(f"the rows are not JSON: {error}") from error
    rows = given.get("rows", [given]) if isinstance(given, dict) else given
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InvalidRows('give one row as an object, or several as {"rows": [{...}, ...]}')
    return pl.from_dicts(rows, infer_schema_length=None)


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


def notify(home: Home) -> None:
    """The endpoint looks at routes and clock now, instead of within 250 ms; without an endpoint nothing happens."""
    push.notify(home)


def _tell(home: Home, registry: Registry) -> None:
    notify(home)
    registry.drain()


def _model(home: Home, version: Version) -> runtime.Runtime:
    return runtime.load(Bundles(home).path(version.digest))
