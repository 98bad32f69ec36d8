"""One bundle served from its folder, without a home: no database, no records, no feedback."""

from __future__ import annotations

import asyncio
import io
import threading
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import polars as pl
from starlette.types import Receive, Scope

from mainspring.core.errors import NotServed
from mainspring.core.values import Bundle
from mainspring.serving import runtime
from mainspring.serving.bodies import Reply
from mainspring.serving.endpoint import Endpoint
from mainspring.serving.loaded import load
from mainspring.serving.served import Routing, ServedLoop
from mainspring.store.bundles import unseal
from mainspring.store.deployments import Route, Version
from mainspring.store.keys import Keys
from mainspring.store.records import Records, identifiers


class Alone:
    """What a `Switchboard` is to a home: *loops* holds the one loop of the bundle, whose folder isn't followed."""

    def __init__(self, folder: Path, *, threads: Executor) -> None:
        self.loops: dict[str, ServedLoop] = {}
        self.ready = threading.Event()
        self._folder, self._threads = folder, threads

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Load the bundle. Raises BundleChanged or BundleUntrusted for one that can't be trusted."""
        sealed, now = unseal(self._folder, Keys()), datetime.now(UTC)
        told = sealed.manifest
        size = sum(entry.stat().st_size for entry in self._folder.rglob("*") if entry.is_file())
        bundle = Bundle(sealed.digest, told.loop, told.estimator, told.runtime, told.task, told.classes, told.metric,
                        size, told.notes)  # fmt: skip
        version = Version(told.loop, 1, sealed.digest, bundle, "", None, {}, "champion", now)
        sample = pl.read_ipc(io.BytesIO(sealed.read("sample.arrow")))
        champion = load(version, runtime.load(self._folder, measured=True), sample)
        served = ServedLoop(
            told.loop, cast(Records, _Nowhere()), lambda: datetime.now(UTC), identifiers(told.loop), self._threads
        )
        route = Route(told.loop, 1, 1, None, None, 0.0, 0, now, now, "", False)
        served.routing = Routing(route, champion)
        self.loops[told.loop] = served
        self.ready.set()

    def stop(self) -> None:
        """Nothing is kept."""

    def complete(self) -> bool:
        """Whether the bundle is loaded."""
        return self.ready.is_set()


class AloneEndpoint(Endpoint):
    """It takes no feedback, for it knows no prediction."""

    async def _take_feedback(self, scope: Scope, receive: Receive) -> Reply:
        raise NotServed("a bundle served from its folder keeps no records and takes no feedback; serve a home for that")

    def _standing(self, served: ServedLoop) -> dict[str, Any]:
        return {**super()._standing(served), "recording": False}


class _Nowhere:
    """Takes the place of records."""

    def append(self, batch: Any) -> None:
        """Predictions aren't kept."""

    def lag_seconds(self) -> float:
        return 0.0
