"""The short way of a prediction: from a small body's bytes to its answer without a task, a scope or a router.

Whatever isn't plain (a large or packed body, an explanation, a door that would refuse) takes the long way, by
`Endpoint`, where it is answered or refused in the same words.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

import msgspec

from mainspring.core.errors import RequestError, TooMany
from mainspring.serving import asked, bodies, open_inference
from mainspring.serving.asked import Asked, Body, Read
from mainspring.serving.bodies import Headers, Refuse, Reply
from mainspring.serving.measures import Measures
from mainspring.serving.served import MANY_ROWS, Answer, ServedLoop

_log = logging.getLogger(__name__)
MOST_BYTES = 64_000
UNIT_HEADER = b"mainspring-unit"
_LONG = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"})

Tell = Callable[[Reply], None]
Door = Callable[[Headers, str, str], Reply | None]


class Way(msgspec.Struct, frozen=True):
    """Where a path leads: how its body is read, for which loop, and how a refusal is told."""

    loop: str
    read: Read
    refuse: Refuse
    query: bytes


_DOORS: tuple[tuple[bytes, bytes, Read, Refuse], ...] = (
    (b"/predict/", b"", asked.own, bodies.refusal),
    (b"/v2/models/", b"/infer", open_inference.ask, open_inference.refusal),
    (b"/v1/models/", b":predict", asked.kserve, bodies.refusal),
    (b"/loops/", b"/invocations", asked.mlflow, bodies.refusal),
    (b"/endpoints/", b"/invocations", asked.mlflow, bodies.refusal),
)


class Quick:
    """Answers from *loops*, and counts it in *measures*. door: what a request is told, by its headers, scheme and path,
    that may not come in. closed: all take the long way."""

    def __init__(
        self, loops: Mapping[str, ServedLoop], door: Door, measures: Measures, max_body_bytes: int, max_rows: int
    ) -> None:
        self._loops, self._door, self._measures = loops, door, measures
        self._most_bytes, self._most_rows = min(MOST_BYTES, max_body_bytes), min(MANY_ROWS - 1, max_rows)
        self._ways: dict[bytes, Way] = {}
        self.closed = False

    def way(self, url: bytes) -> Way | None:
        """The way of a request for *url*; None where it is the long one."""
        return None if self.closed else self._ways.get(url) or self._found(url)

    def _found(self, url: bytes) -> Way | None:
        path, _, query = url.partition(b"?")
        for before, after, read, refuse in _DOORS:
            if path.startswith(before) and path.endswith(after):
                name = path[len(before) : len(path) - len(after)].decode("latin-1")
                if name in self._loops:
                    way = Way(name, read, refuse, query)
                    if not query:  # of loops that are served there are only so many
                        self._ways[url] = way
                    return way
        return None

    def takes(self, headers: Headers, scheme: str) -> bool:
        """Whether requests with these *headers* may come in, and are plain."""
        length = b""
        for name, value in headers:
            if name in _LONG or (name == b"connection" and value.lower() != b"keep-alive"):
                return False
            if name == b"content-length":
                length = value
        small = length.isdigit() and int(length) <= self._most_bytes
        return small and self._door(headers, scheme, "") is None

    def ask(self, way: Way, headers: Headers, content: bytes, tell: Tell) -> bool:
        """Have *content* answered: *tell* is called once, now or later. False: it is for the long way."""
        served = self._loops.get(way.loop)
        if served is None:
            return False
        began = time.perf_counter()
        try:
            served.admit()
            given = way.read(Body(content, headers, way.query), served.live().champion)
            if given.explain or not 0 < len(given.rows) <= self._most_rows:
                return False
            named = given.unit or bodies.header(headers, UNIT_HEADER).decode("latin-1")
            settle = partial(self._told, way, given, began, tell)
            served.ask(given.rows, unit=named[:512] or None, strict=given.strict, began=began, settle=settle)
        except Exception as error:
            self._told(way, None, began, tell, error)
        return True

    def _told(self, way: Way, given: Asked | None, began: float, tell: Tell, said: Answer | Exception) -> None:
        version = ""
        try:
            if not isinstance(said, Answer):
                raise said
            assert given is not None
            version = str(said.loaded.version.number)
            self._measures.answered(way.loop, version, len(given.rows), said.extra, said.recorded)
            reply, status = given.tell(said), 200
        except RequestError as error:
            reply, status = way.refuse(error), error.status
        except Exception:
            _log.exception("a prediction of %s failed", way.loop)
            reply, status = Reply(bodies.problem("Failed", "the endpoint failed; its log says why"), 500), 500
        self._measures.request(way.loop, version, status, time.perf_counter() - began)
        if status == TooMany.status:
            asyncio.get_running_loop().call_later(bodies.held_seconds(), tell, reply)
        else:
            tell(reply)
