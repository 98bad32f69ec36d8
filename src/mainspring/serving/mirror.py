"""Requests that the champion has answered, shown to a shadowing candidate afterwards and beside the answering path."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mainspring.core.errors import StoreError
from mainspring.serving.loaded import Loaded
from mainspring.store.shadows import ShadowBatch, ShadowRecord, Shadows

_log = logging.getLogger(__name__)
MOST_WAITING = 2_000
"""Rows; what comes when so many wait is dropped, and counted."""
_MOST_AT_ONCE = 256
_BREATH_SECONDS = 0.002
_PARTING_SECONDS = 2.0
"""How long what waits is still shown when the process ends; the rest is counted as dropped."""
_LONGEST_SECONDS = 3.0
"""How much longer than that a call to a candidate is waited for."""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """An answered request: its rows as they came and as they were recorded, and what they were answered with."""

    candidate: Loaded
    revision: int
    at: datetime
    unit: str
    ids: Sequence[str]
    given: Sequence[Mapping[str, Any]]
    rows: Sequence[Mapping[str, Any]]
    labels: Sequence[Any]


class Mirror:
    """A bounded queue and the thread that empties it. `offer` costs the answering path an append to a list.

    dropped: rows that found no place. The thread asks the candidate in batches and rests between them, so that answers
    come first; a candidate that fails or dawdles harms only its own evidence.
    """

    def __init__(self, shadows: Shadows, most_waiting: int = MOST_WAITING) -> None:
        self.dropped = 0
        self._shadows, self._most = shadows, most_waiting
        self._queue: deque[Mirrored] = deque()
        self._waiting = self._untold = 0
        self._there, self._counting = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping, self._until = False, float("inf")
        self._asking: list[Mirrored] = []
        self._abandoned = False

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return self._waiting

    def offer(self, asked: Mirrored) -> None:
        """Show *asked* to its candidate later, if there is a place; from the event loop only."""
        many = len(asked.ids)
        with self._counting:
            if self._waiting + many > self._most:
                self.dropped += many
                self._untold += many
                return
            self._waiting += many
        self._queue.append(asked)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
            self._thread.start()
        self._there.set()

    def part(self) -> None:
        """From now on what waits is shown as far as there is time, and the rest counted."""
        self._until, self._stopping = min(self._until, time.monotonic() + _PARTING_SECONDS), True
        self._there.set()

    def stop(self) -> None:
        """Part, count what a candidate at work for longer keeps waiting, and close the records."""
        self.part()
        if self._thread is not None:
            self._thread.join(max(0.0, self._until + _LONGEST_SECONDS - time.monotonic()))
            if self._thread.is_alive():
                self._abandon()
        self._shadows.close()

    def _abandon(self) -> None:
        self._abandoned = True
        left = [*self._asking, *self._queue]
        if left and self._waiting:
            version, revision = left[0].candidate.version.number, left[0].revision
            many = self._untold + self._waiting
            self._told(ShadowBatch(version=version, revision=revision, dropped=many, records=[]))
            self.dropped += self._waiting

    def _work(self) -> None:
        while (self._queue and not self._abandoned) or not self._stopping:
            self._there.wait()
            self._there.clear()
            while self._queue and not self._abandoned:
                self._asking = self._take()
                self._show(self._asking)
                if not self._stopping:
                    time.sleep(_BREATH_SECONDS)

    def _take(self) -> list[Mirrored]:
        """The next requests of one candidate, enough for one call."""
        taken, rows = [self._queue.popleft()], 0
        while self._queue and rows < _MOST_AT_ONCE:
            following = self._queue[0]
            if (following.candidate, following.revision) != (taken[0].candidate, taken[0].revision):
                break
            taken.append(self._queue.popleft())
            rows += len(following.ids)
        return taken

    def _show(self, asked: list[Mirrored]) -> None:
        many, first, late = sum(len(each.ids) for each in asked), asked[0], time.monotonic() > self._until
        untold, records = self._untold, [] if late else _said(asked)
        if self._abandoned:
            return
        batch = ShadowBatch(
            version=first.candidate.version.number,
            revision=first.revision,
            dropped=untold + (many if late else 0),
            records=records,
        )
        told = self._told(batch)
        with self._counting:
            self._waiting -= many
            self.dropped += 0 if told and not late else many
            self._untold += -untold if told else many

    def _told(self, batch: ShadowBatch) -> bool:
        try:
            self._shadows.append(batch)
        except StoreError as error:
            _log.error("a shadow's batch is lost: %s", error)
            return False
        return True


def _said(asked: list[Mirrored]) -> list[ShadowRecord]:
    """What the candidate says to all of *asked*; when that fails, to each by itself."""
    candidate, began = asked[0].candidate, time.perf_counter()
    try:
        typed = candidate.columns.read(
            [{**given, **row} for each in asked for given, row in zip(each.given, each.rows, strict=True)]
        ).typed
        labels, error = candidate.say(typed).labels, None
    except Exception as raised:  # the candidate's model and the user's code in it: that is its evidence
        if len(asked) > 1:
            return [record for each in asked for record in _said([each])]
        labels, error = [None] * len(asked[0].ids), f"{type(raised).__name__}: {raised}"[:300]
    latency = 1000 * (time.perf_counter() - began)
    rows = [
        (each, identity, row, label)
        for each in asked
        for identity, row, label in zip(each.ids, each.rows, each.labels, strict=True)
    ]
    return [
        ShadowRecord(
            id=identity, at=each.at, unit=each.unit, label=label, said=said, error=error, latency_ms=latency, row=row
        )
        for (each, identity, row, label), said in zip(rows, labels, strict=True)
    ]
