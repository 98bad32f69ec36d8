"""Labels and business events that come back: each finds its prediction, is checked, and is durable before it is
acknowledged."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from msgspec.structs import replace

from mainspring.core.errors import InvalidRequest, InvalidRows, NotServed, RequestError, StoreError, Unavailable
from mainspring.core.strategies import EVENT_NAMES, is_event_name
from mainspring.core.wording import duration
from mainspring.serving.served import ServedLoop
from mainspring.store.labels import UNLABELLED
from mainspring.store.records import About, FeedbackRecord, event_label
from mainspring.store.turns import Turn

_FIELDS = frozenset({"id", "key", "time", "label", "event", "at", "propensity"})
_FEW = 64
"""So many labels are written at once; more, in a thread."""
_LOOK_SECONDS, _TURN_SECONDS = 0.001, 5.0
_SKEW = timedelta(minutes=5)
"""How far another machine's clock may be ahead."""
_Noted = tuple[FeedbackRecord, Any]
"""A label or an event, and what was known of it before."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a feedback: the predictions that it is about, one for each item; how many of its labels and events
    are new, were known, or correct another label."""

    ids: list[str]
    new: int
    known: int
    corrected: int = 0
    refused: list[dict[str, Any]] | None = None

    def told(self) -> dict[str, Any]:
        told = {"ids": self.ids, "new": self.new, "known": self.known, "corrected": self.corrected}
        return told if self.refused is None else {**told, "refused": self.refused}


class _Busy(Exception):
    """Another label of the same prediction is just being written; the two must not overtake each other."""

    def __init__(self, about: About) -> None:
        self.about = about


@dataclass(slots=True)
class Feedback:
    """Takes labels and events for one loop. A list is taken whole or not at all, unless each is to count for itself."""

    served: ServedLoop
    threads: Executor
    _writing: dict[About, asyncio.Future[None]] = field(default_factory=dict)
    _deciding: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def take(self, items: list[Any], *, each: bool = False) -> Taken:
        """Check *items*, write the new labels, and return when all of them are safe from a power cut.

        each: those that can't be taken are left out and told.
        """
        refused: list[dict[str, Any]] | None = [] if each else None
        if not self.served.labels_ready:
            raise Unavailable(f"the records of loop {self.served.name!r} are still being read; try again in a second")
        while True:
            try:
                ids, noted, fresh, written = await self._decide(items, refused)
                break
            except _Busy as busy:
                await asyncio.wait([self._writing[busy.about]])
        earlier = [self._writing[record.about] for record, _ in noted if record.about in self._writing]
        await self._make_safe(fresh, written)
        await asyncio.gather(*earlier)
        new = sum(known is UNLABELLED for _, known in fresh)
        return Taken(ids, new, len(noted) - len(fresh), len(fresh) - new, refused)

    async def _decide(
        self, items: list[Any], refused: list[dict[str, Any]] | None
    ) -> tuple[list[str], list[_Noted], list[_Noted], asyncio.Future[None]]:
        """The predictions of *items*, what is noted of them, and those of it that say something new, which are written;
        not yet durable. No other process takes labels meanwhile, and what it took before is known."""
        async with self._turn():
            self.served.labels.refresh()
            ids, noted = self._note(items, refused)
            fresh = [
                (replace(record, corrects=known is not UNLABELLED), known)
                for record, known in noted
                if known is UNLABELLED or known != record.label
            ]
            return ids, noted, fresh, await self._write(fresh)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        async with self._deciding:
            until = time.monotonic() + _TURN_SECONDS
            while (turn := self._asked()) is None:
                if time.monotonic() > until:
                    raise Unavailable(
                        f"another process takes labels of loop {self.served.name!r}; try again in a second"
                    )
                await asyncio.sleep(_LOOK_SECONDS)
            try:
                yield
            finally:
                turn.end()

    def _asked(self) -> Turn | None:
        try:
            return self.served.records.feedback_turn()
        except StoreError as error:
            raise Unavailable(f"the label can't be taken now: {error}") from error

    def _note(self, items: list[Any], refused: list[dict[str, Any]] | None) -> tuple[list[str], list[_Noted]]:
        """The prediction of each item; each label and event with what was known before it. *refused* takes the items
        that can't be taken.

        Raises _Busy, having noted nothing; without *refused*, what the first refusal is.
        """
        ids: list[str] = []
        noted: list[_Noted] = []
        if refused is not None:
            refused.clear()
        given: dict[About, Any] = {}
        try:
            for number, item in enumerate(items):
                try:
                    records = self._one(number, item, given)
                    for record in records:
                        noted.append((record, self.served.labels.take(record.id, record.label)))
                except RequestError as error:
                    if refused is None or error.status >= 500:
                        raise
                    refused.append({"place": number, "status": error.status, "message": str(error)})
                    continue
                ids.append(records[0].id)
                for record, known in noted[-len(records) :]:
                    if record.about in self._writing and known != record.label:
                        raise _Busy(record.about)
        except (RequestError, _Busy):
            self._put_back(noted)
            raise
        except StoreError as error:
            self._put_back(noted)
            raise Unavailable(f"the label can't be taken now: {error}") from error
        return ids, noted

    def _one(self, number: int, item: Any, given: dict[About, Any]) -> list[FeedbackRecord]:
        records = self._records(number, item)
        for record in records:
            if (label := given.setdefault(record.about, record.label)) != record.label:
                both = f"{json.dumps(label)} and {json.dumps(record.label)}"
                raise InvalidRows(f"feedback {number}: prediction {record.id!r} is given two labels, {both}")
        return records

    def _records(self, number: int, item: Any) -> list[FeedbackRecord]:
        """What *item* says of its prediction: the label, the event, or both."""
        if not isinstance(item, dict) or not {"label", "event"} & set(item) or ("id" in item) == ("key" in item):
            raise InvalidRequest(
                f'feedback {number} must be {{"id": ..., "label": ...}} or {{"key": ..., "label": ...}}, with "event" '
                'beside or instead of "label" for a business event'
            )
        unknown = sorted(set(item) - _FIELDS)
        if unknown:
            raise InvalidRequest(
                f"feedback {number} has the unknown field {unknown[0]!r}; known: {', '.join(sorted(_FIELDS))}"
            )
        said = [(self._label(number, item["label"]), self._propensity(number, item))] if "label" in item else []
        if "event" in item:
            said.append((self._event(number, item), None))
        at, arrived, identity = self._at(number, item), self.served.clock(), self._find(number, item)
        return [
            FeedbackRecord(id=identity, label=label, at=at, arrived=arrived, propensity=propensity)
            for label, propensity in said
        ]

    def _find(self, number: int, item: Mapping[str, Any]) -> str:
        if "id" in item:
            if not isinstance(item["id"], str):
                raise InvalidRows(f"feedback {number}: id {str(item['id'])[:60]!r} is not text as /predict returned it")
            return str(item["id"])
        if item["key"] is None or isinstance(item["key"], dict | list):
            raise InvalidRows(f"feedback {number}: key {str(item['key'])[:60]!r} is not a single value")
        return self._of_row(item["key"], item.get("time"), unlabelled="label" in item)

    def _of_row(self, key: Any, time: Any, *, unlabelled: bool) -> str:
        """The prediction of a row whose key, and time, may be kept only as a pseudonym or another such form."""
        champion = self.served.live().champion
        roles, protection = champion.manifest.roles, champion.columns.protection
        forms, time = protection.forms(roles.key, key), protection.value(roles.time, time)
        for form in forms[:-1]:
            with suppress(NotServed):
                return self.served.labels.find(form, time, unlabelled=unlabelled)
        return self.served.labels.find(forms[-1], time, unlabelled=unlabelled)

    def _label(self, number: int, label: Any) -> Any:
        routing = self.served.live()
        if routing.champion.regression:
            if isinstance(label, int | float) and not isinstance(label, bool) and math.isfinite(_float(label)):
                return _float(label)
            raise InvalidRows(f"feedback {number}: label {str(label)[:60]!r} is not a number")
        classes = {each: each for loaded in routing.versions() for each in loaded.classes}
        found = None if isinstance(label, dict | list) else classes.get(label)
        if found is None or isinstance(found, bool) != isinstance(label, bool):
            known = ", ".join(json.dumps(each, ensure_ascii=False) for each in list(classes)[:20])
            said = json.dumps(label, ensure_ascii=False)[:60]
            raise InvalidRows(f"feedback {number}: label {said} is none of the classes {known}")
        return found

    def _event(self, number: int, item: Mapping[str, Any]) -> dict[str, str]:
        if not is_event_name(item["event"]):
            raise InvalidRows(f"feedback {number}: event {str(item['event'])[:60]!r} is no name ({EVENT_NAMES})")
        if "label" not in item and item.get("propensity") is not None:
            raise InvalidRows(f"feedback {number}: propensity is a label's chance to come; leave it out with an event")
        return event_label(item["event"])

    def _propensity(self, number: int, item: Mapping[str, Any]) -> float | None:
        chance = item.get("propensity")
        if chance is None or (isinstance(chance, int | float) and not isinstance(chance, bool) and 0 < chance <= 1):
            return None if chance is None else float(chance)
        raise InvalidRows(f"feedback {number}: propensity {str(chance)[:60]!r} is not a chance above 0 and up to 1")

    def _at(self, number: int, item: Mapping[str, Any]) -> datetime:
        if item.get("at") is None:
            return self.served.clock()
        try:
            at = datetime.fromisoformat(item["at"])
            zoned = None if at.tzinfo is None else at.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            raise InvalidRows(f"feedback {number}: at {str(item['at'])[:60]!r} is not a time in ISO 8601") from None
        if zoned is None:
            raise InvalidRows(f"feedback {number}: at {item['at']!r} has no time zone; add +00:00")
        if zoned > (now := self.served.clock()) + _SKEW:
            raise InvalidRows(
                f"feedback {number}: at {item['at']!r} is still to come: it is {now:%Y-%m-%dT%H:%M:%S%z} here; "
                f"give when the label became known (clocks may differ by {duration(_SKEW.total_seconds())})"
            )
        return zoned

    async def _write(self, fresh: list[_Noted]) -> asyncio.Future[None]:
        """Append what is *fresh*; the future is done when it is durable."""
        records, loop = [record for record, _ in fresh], asyncio.get_running_loop()
        append = partial(self.served.records.write_feedback, records)
        written: asyncio.Future[None] = loop.create_future()
        self._writing.update((record.about, written) for record in records)
        try:
            if len(records) > _FEW:
                self.served.labels.wrote(await loop.run_in_executor(self.threads, append))
            elif records:
                self.served.labels.wrote(append())
        except StoreError as error:
            self._put_back(fresh)
            raise self._failed(fresh, written, error) from error
        return written

    async def _make_safe(self, fresh: list[_Noted], written: asyncio.Future[None]) -> None:
        """Labels that others wrote, in this process or another, are made safe too: they are told to be known. One that
        can't be made safe stays noted: it is written, and whoever repeats it is answered when it is safe."""
        try:
            await asyncio.get_running_loop().run_in_executor(self.threads, self.served.records.sync_feedback)
        except StoreError as error:
            raise self._failed(fresh, written, error) from error
        self._done(fresh)
        written.set_result(None)

    def _failed(self, fresh: list[_Noted], written: asyncio.Future[None], error: StoreError) -> Unavailable:
        self._done(fresh)
        refusal = Unavailable(f"the label can't be kept now: {error}")
        written.set_exception(refusal)
        written.exception()  # nobody may be waiting for it, and that is no fault
        return refusal

    def _done(self, fresh: list[_Noted]) -> None:
        for record, _ in fresh:
            self._writing.pop(record.about, None)

    def _put_back(self, noted: list[_Noted]) -> None:
        for record, known in reversed(noted):  # one that is there twice has at last what it had at first
            self.served.labels.put_back(record.about, known)


def _float(label: float) -> float:
    try:
        return float(label)
    except OverflowError:
        return math.inf
