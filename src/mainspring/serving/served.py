"""One served loop: picks the version for a unit, predicts, records, and takes labels."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from mainspring.core.errors import InvalidRows, NotServed, RequestError, TooMany, Unavailable
from mainspring.core.protocols import Clock
from mainspring.serving.loaded import SAMPLE_ROWS, Loaded, Said
from mainspring.serving.mirror import Mirror, Mirrored
from mainspring.serving.rows import Row, Rows
from mainspring.statistics.assignment import assigned
from mainspring.store.compacted import Compacted
from mainspring.store.deployments import Route
from mainspring.store.labels import Labels
from mainspring.store.lookups import Lookups
from mainspring.store.records import Arm, PredictionRecord, Records

_log = logging.getLogger(__name__)
_SLOW_SECONDS = 0.005
_MOST_WAITING, _MOST_AT_ONCE = 100, 2_000
_BURST_SECONDS, _CALM_SECONDS = 0.05, 1.0
"""So long more than _MOST_WAITING may wait, after so long in which there never were."""
_MOST_SECONDS = 4.0
MANY_ROWS = 500
_PINNED = -1
"""The route's revision of an answer whose version the request chose: a release counts only units that it drew."""


class ModelFailed(RequestError):
    """The model raised; the request may be fine."""

    status = 500


@dataclass(frozen=True, slots=True)
class Routing:
    """Who answers now: the route as it was loaded, and its versions."""

    route: Route
    champion: Loaded
    canary: Loaded | None = None
    previous: Loaded | None = None

    def pick(self, unit: str) -> tuple[Arm, Loaded]:
        """The arm that *unit* sticks to."""
        if self.canary is not None and assigned(self.route.salt, unit, self.route.share):
            return "canary", self.canary
        return "champion", self.champion

    def shadow(self, unit: str) -> Loaded | None:
        """The candidate that is shown what the champion answers to *unit*."""
        shown = self.canary is not None and self.route.strategy == "shadow"
        return self.canary if shown and assigned(self.route.salt, unit, self.route.mirrored) else None

    def propensity(self, arm: Arm) -> float:
        """The chance with which a unit meets *arm*."""
        if self.canary is None:
            return 1.0
        return self.route.share if arm == "canary" else 1.0 - self.route.share

    def version(self, number: str) -> Loaded:
        """The version of this number; raises NotServed when it isn't loaded."""
        for loaded in self.versions():
            if str(loaded.version.number) == number:
                return loaded
        known = ", ".join(str(loaded.version.number) for loaded in self.versions())
        raise NotServed(f"version {number[:20]!r} is not loaded; loaded: {known}")

    def versions(self) -> list[Loaded]:
        """What is loaded, the champion first."""
        return [loaded for loaded in (self.champion, self.canary, self.previous) if loaded is not None]


class Answer(msgspec.Struct, frozen=True):
    """What a request is told. recorded: False when the disk had no room for the record."""

    loaded: Loaded
    ids: list[str]
    said: Said
    extra: int
    recorded: bool
    explanations: list[dict[str, Any]] | None = None


Settle = Callable[[Answer | Exception], None]
"""Who is told the answer, or why there is none."""


class _Ask(msgspec.Struct):
    """A request on its way through the model."""

    arm: Arm
    loaded: Loaded
    revision: int
    rows: Rows
    unit: str
    ids: list[str]
    began: float
    settle: Settle | None = None
    seconds: float = 0.0
    said: Said | None = None
    error: Exception | None = None
    records: list[PredictionRecord] = []
    propensity: float = 1.0
    shadow: Loaded | None = None
    given: Sequence[Row] = ()


_NO_ROWS = Rows([], [], 0)


@dataclass(slots=True)
class ServedLoop:
    """A loop's live side. All methods run in the event loop; *threads* takes slow model calls.

    Requests that arrive in one turn of the event loop and hit one version share a model call where the version `joins`,
    and one write of their records.
    """

    name: str
    records: Records
    clock: Clock
    identify: Callable[[int], list[str]]
    threads: Executor
    lookups: Lookups | None = None
    compacted: Compacted | None = None
    mirror: Mirror | None = None
    routing: Routing | None = None
    why_not: str = "it has no version yet; `mainspring run FILE` makes one"
    labels: Labels = field(init=False)
    labels_ready: bool = False
    unrecorded: int = 0
    recording: bool = True
    _waiting: list[_Ask] = field(default_factory=list)
    _in_flight: int = 0
    _seconds_in_flight: float = 0.0
    _many_since: float = 0.0
    _many_last: float = -_CALM_SECONDS
    _row_seconds: dict[tuple[int, bool], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.labels = Labels(self.records, self.compacted)

    def know(self, labels: Labels, done: threading.Event) -> None:
        """From now on *labels* tell which prediction a feedback is about, with what has been recorded meanwhile."""
        labels.refresh()
        self.labels = labels
        done.set()

    @property
    def queue(self) -> int:
        """Requests that wait for their answer."""
        return self._in_flight

    @property
    def trouble(self) -> str:
        """What people should know of at once, a sentence; empty where all is well."""
        if self.recording:
            return ""
        return f"{self.name}: predictions are answered but not recorded, {self.unrecorded:,} so far; make room"

    def live(self) -> Routing:
        """The routing; raises NotServed or Unavailable while nothing can answer."""
        if self.routing is None:
            raise Unavailable(f"loop {self.name!r} can't answer: {self.why_not}")
        return self.routing

    async def predict(
        self,
        rows: Sequence[Row],
        *,
        unit: str | None,
        strict: bool,
        began: float,
        version: str | None = None,
        explain: bool = False,
    ) -> Answer:
        """Answer *rows* as one unit with one version, that of the number *version* or, without, the unit's own.

        InvalidRows names what doesn't fit.
        """
        ask = self._begun(rows, unit, began, version)
        try:
            ask.rows = await self._read(ask.loaded, rows, strict)
        except InvalidRows as error:
            self._refused(ask, error)
            raise
        explanations = None
        if explain:
            explanations = await self._in_thread(partial(ask.loaded.explain, ask.rows.typed))
            ask.began = time.perf_counter()  # how long the explanation took says nothing of the version
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._await(ask, partial(_settle, answered))
        answer = await answered
        return answer if explanations is None else msgspec.structs.replace(answer, explanations=explanations)

    def ask(self, rows: Sequence[Row], *, unit: str | None, strict: bool, began: float, settle: Settle) -> None:
        """As `predict`, for fewer than MANY_ROWS rows, without a task: *settle* is told later. Raises what is wrong
        with the rows."""
        ask = self._begun(rows, unit, began)
        try:
            ask.rows = ask.loaded.columns.read(self._completed(ask.loaded, rows), strict=strict)
        except InvalidRows as error:
            self._refused(ask, error)
            raise
        self._await(ask, settle)

    def _begun(self, rows: Sequence[Row], unit: str | None, began: float, version: str | None = None) -> _Ask:
        """What is asked, its rows yet to be read."""
        routing = self.live()
        self.admit()
        ids = self.identify(len(rows))
        unit = _unit(unit, rows[0], routing.champion) or ids[0]
        if version is not None:
            return _Ask("champion", routing.version(version), _PINNED, _NO_ROWS, unit, ids, began, given=rows)
        arm, loaded = routing.pick(unit)
        return _Ask(
            arm, loaded, routing.route.revision, _NO_ROWS, unit, ids, began, propensity=routing.propensity(arm),
            shadow=routing.shadow(unit), given=rows,
        )  # fmt: skip

    def admit(self) -> None:
        """Refuse what would wait too long: by the seconds that the model needs for those before, and by their number,
        save for a burst after a calm: of it all are answered."""
        if self._seconds_in_flight > _MOST_SECONDS:
            work = f"about {self._seconds_in_flight:.0f} seconds of work wait for loop {self.name!r} already"
            raise TooMany(f"{work}; try again in a second")
        if self._in_flight >= _MOST_WAITING and not self._is_burst():
            raise TooMany(f"{self._in_flight} requests wait for loop {self.name!r} already; try again in a second")

    def _is_burst(self) -> bool:
        now = time.monotonic()
        if now - self._many_last > _CALM_SECONDS:
            self._many_since = now
        self._many_last = now
        return now - self._many_since <= _BURST_SECONDS and self._in_flight < _MOST_AT_ONCE

    def _await(self, ask: _Ask, settle: Settle) -> None:
        """Have *ask* answered with those of the same turn of the event loop."""
        ask.settle = settle
        ask.seconds = self._expected_seconds([ask], self._in_flight if ask.loaded.joins else 0)
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(ask)
        self._in_flight += 1
        self._seconds_in_flight += ask.seconds

    async def _in_thread(self, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.threads, call)

    async def _read(self, loaded: Loaded, rows: Sequence[Row], strict: bool) -> Rows:
        """Many rows are checked in a thread, so that a large request doesn't stop the small ones."""
        check = partial(loaded.columns.read, self._completed(loaded, rows), strict=strict)
        return check() if len(rows) < MANY_ROWS else await self._in_thread(check)

    def _completed(self, loaded: Loaded, rows: Sequence[Row]) -> Sequence[Row]:
        """*rows* with what joins find for them."""
        if self.lookups is None or not self.lookups.any:
            return rows
        return self.lookups.complete(loaded.columns.protection.rows(rows), loaded.columns.inputs.names)

    def _refused(self, ask: _Ask, error: InvalidRows) -> None:
        """Rows that the champion takes and the canary doesn't count against the canary."""
        if ask.arm != "canary":
            return
        ask.error = error
        try:
            ask.rows = self.live().champion.columns.read(ask.given)
        except InvalidRows:
            return
        self._record(self._records(ask))

    # ------------------------------------------------------------------------------------------------ the model call

    def _flush(self) -> None:
        asks, self._waiting = self._waiting, []
        for group in _groups(asks):
            if self._expected_seconds(group) < _SLOW_SECONDS:
                self._answer(group)
                self._finish(group)
            else:
                calling = asyncio.get_running_loop().run_in_executor(self.threads, self._answer, group)
                calling.add_done_callback(lambda _, group=group: self._finish(group))  # type: ignore[misc]

    def _answer(self, group: list[_Ask]) -> None:
        """Have *group* answered, whatever happens: who asked waits."""
        try:
            self._call(group)
        except Exception as error:
            _log.exception("%s: %s could not be asked", self.name, group[0].loaded.name)
            for ask in group:
                ask.said, ask.error, ask.records = None, error, []

    def _call(self, group: list[_Ask]) -> None:
        """One model call for the group; when it fails, each request for itself, so that one can't spoil the others."""
        loaded = group[0].loaded
        start = time.perf_counter()
        try:
            said = loaded.say([row for ask in group for row in ask.rows.typed])
        except Exception as error:
            if len(group) == 1:
                group[0].error = error
                if not isinstance(error, RequestError):
                    group[0].records = self._records(group[0])
                return
            for ask in group:
                self._call([ask])
            return
        place = 0
        for ask in group:
            end = place + len(ask.ids)
            ask.said = Said(said.labels[place:end], said.probabilities and said.probabilities[place:end])
            ask.records = self._records(ask)
            place = end
        size = loaded.version.number, place >= SAMPLE_ROWS
        each = (time.perf_counter() - start) / place
        self._row_seconds[size] = 0.9 * self._row_seconds.get(size, each) + 0.1 * each

    def _expected_seconds(self, group: list[_Ask], beside: int = 0) -> float:
        """What *group* takes, answered with the rows of *beside* other requests: a row among many takes less."""
        loaded, rows = group[0].loaded, sum(len(ask.ids) for ask in group)
        many = rows + beside >= SAMPLE_ROWS
        known = self._row_seconds.get((loaded.version.number, many))
        return rows * (loaded.row_seconds[many] if known is None else known)

    # --------------------------------------------------------------------------------------------------- the records

    def _finish(self, group: list[_Ask]) -> None:
        """Record, then answer: a prediction that somebody saw is on record."""
        for ask in group:
            self._in_flight -= 1
            self._seconds_in_flight -= ask.seconds
        recorded = self._record([record for ask in group for record in ask.records])
        for ask in group:
            try:
                self._tell(ask, recorded)
            except Exception:  # the others wait too
                _log.exception("%s: an answer could not be told", self.name)

    def _tell(self, ask: _Ask, recorded: bool) -> None:
        assert ask.settle is not None
        if ask.said is None:
            said = type(ask.error).__name__
            on_record = f"; it is on record as {ask.ids[0]}" if ask.records else ""
            what = f"{ask.loaded.name} failed on these rows ({said}){on_record}"
            ask.settle(ask.error if isinstance(ask.error, RequestError) else ModelFailed(what))
            return
        ask.settle(Answer(ask.loaded, ask.ids, ask.said, ask.rows.extra, recorded))
        if ask.shadow is not None and self.mirror is not None:
            asked = (ask.unit, ask.ids, ask.given, ask.rows.raw, ask.said.labels)
            self.mirror.offer(Mirrored(ask.shadow, ask.revision, self.clock(), *asked))

    def _records(self, ask: _Ask) -> list[PredictionRecord]:
        at, latency = self.clock(), 1000 * (time.perf_counter() - ask.began)
        error = None if ask.error is None else f"{type(ask.error).__name__}: {ask.error}"[:300]
        rows, roles, none = ask.rows.raw, ask.loaded.manifest.roles, [None] * len(ask.ids)
        keys, times = ([row.get(name) for row in rows] if name else none for name in (roles.key, roles.time))
        labels = none if ask.said is None else ask.said.labels
        probabilities: Sequence[Any] = (ask.said and ask.said.probabilities) or none
        return [
            PredictionRecord(
                id=identity, at=at, key=key, time=when, unit=ask.unit, arm=ask.arm,
                version=ask.loaded.version.number, revision=ask.revision, label=label, probabilities=shares,
                latency_ms=latency, error=error, loop=self.name, row=row, propensity=ask.propensity,
            )
            for identity, key, when, row, label, shares in zip(
                ask.ids, keys, times, rows, labels, probabilities, strict=True
            )
        ]  # fmt: skip

    def _record(self, records: list[PredictionRecord]) -> bool:
        if not records:
            return True
        try:
            frame = self.records.append(records)
        except Exception as error:  # a full disk, or a value that no record can hold: the answer is there
            if self.recording:
                _log.error("%s: predictions are answered but not recorded: %s", self.name, error)
            self.recording = False
            self.unrecorded += len(records)
            return False
        if not self.recording:
            _log.error("%s: predictions are recorded again; %d were not", self.name, self.unrecorded)
            self.recording = True
        if self.labels_ready:
            self.labels.add(records, frame)
        return True


def _settle(answered: asyncio.Future[Answer], said: Answer | Exception) -> None:
    if answered.done():  # the client went away
        return
    if isinstance(said, Answer):
        answered.set_result(said)
    else:
        answered.set_exception(said)


def _groups(asks: list[_Ask]) -> list[list[_Ask]]:
    """Requests that may share a model call."""
    groups: dict[int, list[_Ask]] = {}
    for place, ask in enumerate(asks):
        groups.setdefault(ask.loaded.version.number if ask.loaded.joins else -1 - place, []).append(ask)
    return list(groups.values())


def _unit(named: str | None, row: Row, champion: Loaded) -> str | None:
    """What the request sticks to: what it *named* itself, or the column of its *row*, as that may be kept."""
    column = champion.manifest.unit or champion.manifest.roles.key
    value = champion.columns.protection.value(column, named or (row.get(column) if column else None))
    return None if value is None or isinstance(value, dict | list) else str(value)


def no_loop(name: str, known: Sequence[str]) -> NotServed:
    """The error for a loop that isn't here."""
    served = ", ".join(sorted(known)) or "none yet"
    return NotServed(f"no loop {name[:100]!r} is served here; served: {served}")
