"""The version that answers: predict with it, put another in its place, tell the endpoint and MLflow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, get_args

import numpy as np
import polars as pl

from mainspring.core.declarations import Canary, Release
from mainspring.core.errors import NotInStore
from mainspring.data import sources
from mainspring.loop import given
from mainspring.release import by_hand
from mainspring.serving import push
from mainspring.serving.loaded import opener
from mainspring.store.audit import Audit
from mainspring.store.deployments import DECLARED, Deployments, Version
from mainspring.store.home import Home
from mainspring.store.registry import Registry


def current(home: Home, loop: str) -> Version:
    """The champion of *loop*; raises NotInStore when there is none."""
    deployments = Deployments(home)
    route = deployments.route(loop)
    if route is None or route.champion is None:
        if waiting := deployments.versions(loop):
            newest = waiting[-1]
            raise NotInStore(
                f"{loop} has no champion: its version {newest.number} is {newest.state}; `mainspring why {loop}` says "
                f"why, `mainspring promote {newest.name}` makes it the champion"
            )
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
    model, sample = _opened(home, current(home, loop))
    rows = given.as_ingested(sources.to_frame(data, "the data"), model.manifest.inputs)
    predictions = model.predict(given.completed(rows, model, sample))
    return predictions.values if predictions.labels is None else predictions.labels


def _opened(home: Home, version: Version) -> tuple[Any, pl.DataFrame]:
    """The version's model and its sample of raw rows."""
    return opener(home)(version.digest)


def answer(home: Home, loop: str, rows: str) -> dict[str, Any]:
    """What `POST /predict/{loop}` would answer to *rows*, without ids: nothing is recorded.

    rows: as a person gives them: JSON text, a JSON, CSV or Parquet file, or "-" for JSON or CSV on standard input.
    """
    version = current(home, loop)
    model, sample = _opened(home, version)
    predictions = model.predict(given.frame(rows, model, sample))
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


def promote(
    home: Home,
    loop: str,
    version: int | None,
    *,
    reason: str,
    mlflow: str | None,
    now: datetime | None = None,
    by: str | None = None,
) -> str:
    """Give a version all traffic; what was done, in a sentence."""
    deployments, registry = Deployments(home), Registry(home, mlflow)
    chosen = by_hand.promote(
        deployments, loop, version, now=now or deployments.now(), reason=reason, announce=announcer(registry), by=by
    )
    _tell(home, registry)
    return f"{chosen.name} has all traffic"


def rollback(
    home: Home, loop: str, *, reason: str, mlflow: str | None, now: datetime | None = None, by: str | None = None
) -> str:
    """End the canary, or bring the previous champion back; what was done, in a sentence."""
    deployments, registry = Deployments(home), Registry(home, mlflow)
    route = deployments.route(loop)
    canary = None if route is None else route.canary
    serving = by_hand.rollback(
        deployments, loop, now=now or deployments.now(), reason=reason, announce=announcer(registry), by=by
    )
    _tell(home, registry)
    ended = "" if route is None or canary is None else f"the {route.strategy} @{canary} is ended: "
    return f"{ended}{serving.name} has all traffic{'' if ended else ' again'}"


def hold(home: Home, loop: str, version: int | None, *, reason: str, by: str, now: datetime | None = None) -> str:
    """Stop the running trial where it is, or keep back a version that waits; what was done, in a sentence."""
    deployments = Deployments(home)
    done = by_hand.hold(deployments, loop, version, now=now or deployments.now(), reason=reason, by=by)
    Audit(home).witness()
    push.notify(home)
    return done


def approve(
    home: Home,
    loop: str,
    version: int | None,
    *,
    reason: str,
    by: str,
    mlflow: str | None,
    now: datetime | None = None,
) -> str:
    """Let a held trial go on, or release a version that waits for a person by the loop's own strategy."""
    deployments, registry = Deployments(home), Registry(home, mlflow)
    strategy, seed = declared_strategy(deployments, loop)
    done = by_hand.approve(
        deployments, loop, version, strategy=strategy, now=now or deployments.now(), reason=reason, by=by, seed=seed,
        announce=announcer(registry),
    )  # fmt: skip
    _tell(home, registry)
    return done


def reject(
    home: Home,
    loop: str,
    version: int | None,
    *,
    reason: str,
    by: str,
    mlflow: str | None,
    now: datetime | None = None,
) -> str:
    """End the running trial, or refuse a version that waits, for good; what was done, in a sentence."""
    deployments, registry = Deployments(home), Registry(home, mlflow)
    done = by_hand.reject(
        deployments, loop, version, now=now or deployments.now(), reason=reason, by=by, announce=announcer(registry)
    )
    _tell(home, registry)
    return done


def declared_strategy(deployments: Deployments, loop: str) -> tuple[Release | None, int]:
    """How the loop releases, as its FILE said last, and its seed; None where that isn't known."""
    told = (deployments.load_state(loop, DECLARED) or {}).get("release")
    if told is None:
        return None, 0
    kinds = {kind.__name__: kind for kind in get_args(Release)}
    arguments = dict(told["arguments"])
    if arguments.get("then") is not None:
        arguments["then"] = Canary(**arguments["then"])
    return kinds[told["kind"]](**arguments), told["seed"]


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
    Audit(home).witness()
    push.notify(home)
    registry.drain()
