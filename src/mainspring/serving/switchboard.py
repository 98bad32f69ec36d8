"""Keeps the endpoint at what the database says: loads versions, checks them, swaps them in, all of a route at once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from datetime import UTC, datetime

from mainspring.core.errors import StoreError
from mainspring.serving.loaded import Loaded, Open, load
from mainspring.serving.mirror import Mirror
from mainspring.serving.push import Listener
from mainspring.serving.served import Routing, ServedLoop
from mainspring.store.compacted import Compacted
from mainspring.store.deployments import Deployments, Route, Version
from mainspring.store.erasures import Erasures
from mainspring.store.home import Home
from mainspring.store.labels import Labels
from mainspring.store.lookups import Lookups
from mainspring.store.records import Records, identifiers
from mainspring.store.shadows import Shadows

_log = logging.getLogger(__name__)
POLL_SECONDS = 0.25
_RETRY_SECONDS, _SWAP_SECONDS = 5.0, 5.0
_PAUSE_SECONDS = 0.001
"""Between two looks at a new model while others answer."""
STATE = "serving"
PREPARED_BYTES = 50 << 20
"""A larger bundle isn't held twice, by the process in reserve too: that one loads it when it is needed."""

Versions = dict[tuple[str, int], Loaded]
"""What is loaded, by loop and number."""


class LoopClock:
    """The time by which the loops live: the manual clock's, as it was last read, or the system's."""

    def __init__(self) -> None:
        self.manual: datetime | None = None

    def __call__(self) -> datetime:
        return self.manual or datetime.now(UTC)


class Switchboard:
    """A thread that follows routes and clock by push and poll. *loops* is what the endpoint serves.

    wanted: the loops to serve, None for all. seeds: of the loops whose prediction ids are repeatable. open: loads a
    bundle. loaded: what is loaded already. worker: which of the *workers* processes that serve these loops this is.
    """

    def __init__(
        self,
        home: Home,
        open: Open,
        *,
        wanted: Iterable[str] | None = None,
        seeds: Mapping[str, int] | None = None,
        manual_clock: bool = False,
        threads: Executor,
        loaded: Versions | None = None,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self._worker, self._workers = worker, workers
        self.loops: dict[str, ServedLoop] = {}
        self.clock = LoopClock()
        self.ready = threading.Event()
        self.failures = 0
        self._home, self._open, self._threads = home, open, threads
        self._wanted = None if wanted is None else frozenset(wanted)
        self._seeds, self._manual_clock = dict(seeds or {}), manual_clock
        self._loaded: Versions = dict(loaded or {})
        self._failed: dict[tuple[str, int], tuple[str, float]] = {}
        self._erasures: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Follow from now on, swapping in *loop*."""
        self._thread = threading.Thread(target=self._follow, args=(loop,), name="switchboard", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following and leave the records durable."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(5)
        for served in self.loops.values():
            served.records.close()
        mirrors = [served.mirror for served in self.loops.values() if served.mirror is not None]
        for mirror in mirrors:
            mirror.part()
        for mirror in mirrors:
            mirror.stop()

    def _follow(self, loop: asyncio.AbstractEventLoop) -> None:
        deployments, listener = Deployments(self._home), Listener(self._home, self._worker, self._troubles)
        asked: list[Callable[[], None]] = []
        while not self._stopping.is_set():
            try:
                self._catch_up(deployments, loop)
                for served in self.loops.values():
                    if served.lookups is not None:  # here, so that no request waits for the disk
                        served.lookups.refresh(now=bool(asked))
            except Exception:  # the thread must live on; the next poll tries again
                _log.exception("routes and clock can't be read")
            self.ready.set()
            for acknowledge in asked:
                acknowledge()
            asked = listener.wait(POLL_SECONDS)
            if self._workers > 1:
                loop.call_soon_threadsafe(self._look_beside)
        listener.close()

    def _troubles(self) -> list[str]:
        return [trouble for served in list(self.loops.values()) if (trouble := served.trouble)]

    def _look_beside(self) -> None:
        """Know what the other processes have answered, and don't hold up the compaction of their records."""
        for served in self.loops.values():
            if served.labels_ready:
                with suppress(StoreError):  # who needs it is told why
                    served.records.step_aside(self._workers)
                    served.labels.refresh()

    def complete(self) -> bool:
        """Whether routes have been read, and every loop that was asked for by name is there."""
        return self.ready.is_set() and (self._wanted is None or self._wanted <= self.loops.keys())

    def _catch_up(self, deployments: Deployments, loop: asyncio.AbstractEventLoop) -> None:
        if self._manual_clock:
            self.clock.manual = deployments.clock()
        for name, route in deployments.routes().items():
            if self._wanted is not None and name not in self._wanted:
                continue
            if not self._current(name, route):
                self._switch(deployments, name, route, loop)
            if name in self.loops:
                self._forget(self.loops[name], loop)

    def _forget(self, served: ServedLoop, loop: asyncio.AbstractEventLoop) -> None:
        """After an erasure: what is known in memory of predictions is read from their records anew."""
        times = Erasures(self._home, served.name).times()
        if self._erasures.setdefault(served.name, times) == times or not served.labels_ready:
            return
        labels, done = Labels(served.records, served.compacted), threading.Event()
        labels.refresh()
        loop.call_soon_threadsafe(served.know, labels, done)
        if done.wait(_SWAP_SECONDS):
            self._erasures[served.name] = times

    def _current(self, name: str, route: Route) -> bool:
        routing = self.loops[name].routing if name in self.loops else None
        return routing is not None and routing.route == route and (routing.canary is None) == (route.canary is None)

    # ------------------------------------------------------------------------------------------------------ loading

    def _switch(self, deployments: Deployments, name: str, route: Route, loop: asyncio.AbstractEventLoop) -> None:
        """Load what *route* names and swap it in.

        A champion that can't be loaded leaves the loop as it was; a canary that can't be gets no traffic, no evidence.
        """
        numbers = _numbers(route)
        versions = {number: self._version(deployments, name, number) for number in numbers}
        champion = versions.get(route.champion or 0)
        served = self.loops.get(name) or self._begin(name, loop)
        if champion is None:
            if route.champion is not None:
                served.why_not = self._failed[name, route.champion][0]
            self.loops[name] = served
            return
        canary, previous = versions.get(route.canary or 0), versions.get(route.previous or 0)
        routing = Routing(route, champion, canary, previous)
        swapped = threading.Event()
        loop.call_soon_threadsafe(self._swap, served, routing, swapped)
        swapped.wait(_SWAP_SECONDS)
        for key in [key for key in self._loaded if key[0] == name and key[1] not in numbers]:
            del self._loaded[key]

    def _swap(self, served: ServedLoop, routing: Routing, swapped: threading.Event) -> None:
        served.routing = routing
        self.loops[served.name] = served
        swapped.set()

    def _version(self, deployments: Deployments, name: str, number: int) -> Loaded | None:
        """The loaded version; None when it can't be loaded, which is tried again later."""
        key = (name, number)
        if key in self._loaded:
            return self._loaded[key]
        if key in self._failed and time.monotonic() - self._failed[key][1] < _RETRY_SECONDS:
            return None
        version = deployments.version(name, number)
        try:
            self._loaded[key] = _load(self._open, version, _PAUSE_SECONDS if self.ready.is_set() else 0.0)
        except Exception as error:  # of the bundle, or of the user's code in it: told, and tried again later
            self._fail(deployments, version, f"{version.name} can't be loaded: {error}")
            return None
        if self._failed.pop(key, None):
            deployments.save_state(name, STATE, None)
        return self._loaded[key]

    def _fail(self, deployments: Deployments, version: Version, reason: str) -> None:
        """Tell it once in the log, and for `status` and `doctor` in the database."""
        key = (version.loop, version.number)
        if key not in self._failed:
            self.failures += 1
            _log.error("%s", reason)
            deployments.save_state(version.loop, STATE, {"version": version.number, "error": reason})
        self._failed[key] = (reason, time.monotonic())

    def _begin(self, name: str, loop: asyncio.AbstractEventLoop) -> ServedLoop:
        records = Records(self._home, name)
        place = records.take_up()
        identify = identifiers(name, self._seeds.get(name), place)
        joined, compacted = Lookups(self._home, name), Compacted(self._home, name)
        mirror = Mirror(Shadows(self._home, name))
        served = ServedLoop(name, records, self.clock, identify, self._threads, joined, compacted, mirror)
        threading.Thread(target=self._read_labels, args=(served, loop), name=f"labels {name}", daemon=True).start()
        return served

    def _read_labels(self, served: ServedLoop, loop: asyncio.AbstractEventLoop) -> None:
        """Read the records back, so that feedback finds its predictions; predictions go on meanwhile."""
        served.labels.refresh()
        loop.call_soon_threadsafe(self._labels_read, served)

    def _labels_read(self, served: ServedLoop) -> None:
        served.labels.refresh()  # what was predicted in the meantime
        served.labels_ready = True


def prepared(home: Home, open: Open, wanted: Iterable[str] | None) -> Versions:
    """What a process would load that served by the routes of now, without what is large or can't be loaded."""
    deployments, loaded = Deployments(home), Versions()
    names = None if wanted is None else frozenset(wanted)
    for name, route in deployments.routes().items():
        for number in _numbers(route) if names is None or name in names else []:
            with suppress(Exception):  # of the bundle, or of the user's code in it: told when it is to be served
                version = deployments.version(name, number)
                if version.bundle.size_bytes <= PREPARED_BYTES:
                    loaded[name, number] = _load(open, version)
    return loaded


def _load(open: Open, version: Version, pause: float = 0.0) -> Loaded:
    model, sample = open(version.digest)
    return load(version, model, sample, pause)


def _numbers(route: Route) -> list[int]:
    """The versions that *route* names."""
    return [number for number in (route.champion, route.canary, route.previous) if number is not None]
