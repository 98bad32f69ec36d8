"""One connection to the endpoint: uvicorn's, that doesn't wait for ever for a request to come whole, writes an answer
that is there as a whole at once, and takes plain predictions the short way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

import httptools
from starlette.types import Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mainspring.serving import bodies
from mainspring.serving.bodies import Headers, Reply
from mainspring.serving.quick import Quick, Way

REQUEST_SECONDS = 20.0
"""How long a request, header and body, may take to come."""
MOST_HEADER_BYTES = 65_536
"""Of a request's first line and headers, and of what stands behind its body."""
_TOO_LONG = f"the first line and the headers, or trailers, take more than {MOST_HEADER_BYTES:,} bytes; send less"
_NO_HTTP = "this is no HTTP request; send method, path and headers as in HTTP/1.1"
_LOOK_SECONDS = 0.5
_CLOSE = (b"connection", b"close")


class _Short:
    """A request on the short way, as uvicorn looks at the one under way."""

    __slots__ = ("disconnected", "keep_alive", "more_body", "response_complete", "response_started")

    def __init__(self) -> None:
        self.disconnected = self.more_body = self.response_complete = self.response_started = False
        self.keep_alive = True

    @property
    def message_event(self) -> _Short:
        return self

    def set(self) -> None:
        """Nobody waits for it."""


class _Flow(FlowControl):
    """uvicorn's, but nothing is read while requests that have come whole wait for those before them: a client that
    asks without end would fill the memory with them."""

    def __init__(self, transport: Any, waiting: Collection[Any]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """Knows since when it has been waiting for the rest of a request, and since when for the next one; None while it
    isn't. quick: the short way, where there is one; uvicorn's own is the long one."""

    waiting_since: float | None = None
    idle_since: float | None = None
    quick: Quick | None = None
    _way: Way | None = None
    _content = b""
    _plain: Headers | None = None
    _head = 0
    """How many bytes have come since the last of a body or, in a header, of a message."""
    _answering: RequestResponseCycle | _Short | None = None
    """The request that is being answered, or was last."""
    _asked_away = False
    """Whether the request whose header has come asks for another protocol."""
    _last = b""
    """The refusal that ends the connection, once all requests before it are answered."""

    def connection_made(self, transport: Any) -> None:
        self.waiting_since = time.monotonic()
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)

    def connection_lost(self, exc: Exception | None) -> None:
        """uvicorn tells only the last of the requests that have come, which may still wait for its turn."""
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._last:
            return
        self._head += len(data)
        self._parse(data)
        if self._head > MOST_HEADER_BYTES:
            self._refuse(431, "TooLarge", _TOO_LONG)
        if self._content and not self._is_ending():  # the rest of the body comes later: it is bounded there
            self._way, content = None, self._taken()
            self._go_long()
            super().on_body(content)

    def _parse(self, data: bytes) -> None:
        """Java's clients ask with each request whether HTTP/2 is spoken here. Such a header is read again without the
        question, for the parser takes all behind it, the body too, for another protocol."""
        rest = memoryview(data)
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    rest = rest[upgrade.args[0] :]
                kept = [b"%b: %b\r\n" % each for each in self.headers if each[0] != b"upgrade"]
                method, version = self.parser.get_method(), self.parser.get_http_version().encode()
                head = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(kept))
                self.parser, self._asked_away = httptools.HttpRequestParser(self), False
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
                self.parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # the latter: CONNECT, asked again
            self._refuse(400, "InvalidRequest", _NO_HTTP)

    def on_message_begin(self) -> None:
        self.idle_since = None
        if self.waiting_since is None:
            self.waiting_since = time.monotonic()
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_body(self, body: bytes) -> None:
        self._head = 0
        if self._way is None:
            super().on_body(body)
        else:
            self._content += body

    def on_headers_complete(self) -> None:
        came, self._head = self._head, 0
        self._asked_away = self.parser.should_upgrade()
        if came > MOST_HEADER_BYTES and self._header_bytes() > MOST_HEADER_BYTES:
            self._refuse(431, "TooLarge", _TOO_LONG)
            raise ValueError(_TOO_LONG)  # the parser stops
        if self._asked_away:
            return
        self._way, self._content = self._short_way(), b""
        if self._way is None:
            self._go_long()

    def on_message_complete(self) -> None:
        if self._asked_away:
            return
        self.waiting_since, self.idle_since, self._head = None, None, 0
        way, self._way = self._way, None
        if way is not None:
            content = self._taken()
            earlier, short = self.cycle, _Short()
            self.cycle = self._answering = short  # type: ignore[assignment]
            assert self.quick is not None
            if self.quick.ask(way, self.headers, content, partial(self._answer, short)):
                return
            self.cycle = earlier
            self._go_long()
            super().on_body(content)
        self.cycle.more_body = False  # also of one that was answered before it had come whole
        super().on_message_complete()

    def shutdown(self) -> None:
        """As uvicorn's, which answers what has begun: a request whose body is yet to come has."""
        if self._way is not None:
            self._way, content = None, self._taken()
            self._go_long()
            if content:
                super().on_body(content)
        super().shutdown()

    def _taken(self) -> bytes:
        content, self._content = self._content, b""
        return content

    def _header_bytes(self) -> int:
        return len(self.url) + sum(
            len(name) + len(value) + 4 for name, value in self.headers
        )  # ": " and the line's end

    def _short_way(self) -> Way | None:
        """The way of the request whose headers have come; None where it is the long one."""
        quick, parser, under_way = self.quick, self.parser, self.cycle
        if quick is None or parser.get_method() != b"POST" or (way := quick.way(self.url)) is None:
            return None
        if self.headers != self._plain:  # most requests on a connection have the same
            if not quick.takes(self.headers, self.scheme or "http"):
                return None
            self._plain = self.headers
        alone = under_way is None or under_way.response_complete
        calm = not self.flow.write_paused and parser.should_keep_alive() and parser.get_http_version() == "1.1"
        return way if alone and calm else None

    def _go_long(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _answer(self, short: _Short, reply: Reply) -> None:
        if short.disconnected:
            return
        closing = [] if short.keep_alive else [_CLOSE]
        self.transport.write(_written(reply, [*self.server_state.default_headers, *closing]))
        short.response_started = short.response_complete = True
        if closing:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, but `watch` looks after idle connections: timers for all answers cost as much as parsing."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        following = self.pipeline.pop() if self.pipeline else None
        self.flow.resume_reading()
        if following is not None:
            self._start_asgi_task(*following)
        elif self._last:
            self._end(self._last)
        else:
            self.idle_since = time.monotonic()

    def give_up(self) -> None:
        """Say why, unless an answer has begun, and close."""
        self._refuse(408, "TooSlow", f"the request did not come whole within {REQUEST_SECONDS:g} seconds")

    def _refuse(self, status: int, code: str, message: str) -> None:
        """End with a refusal of the request that is coming, when those before it are answered."""
        if self._is_ending():
            return
        self.waiting_since = self._way = None
        body = bodies.problem(code, message)
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        refusal = STATUS_LINE[status] + head + body
        if self.pipeline and self.pipeline[0][0].more_body:
            self.pipeline.popleft()  # it is the one; its turn has not come
            self._last = refusal
        elif self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body):
            self._end(refusal)
        elif self.cycle.more_body:
            self._end(b"" if self.cycle.response_started else refusal)
        else:
            self._last = refusal

    def _is_ending(self) -> bool:
        return bool(self._last) or self.transport.is_closing()

    def _end(self, refusal: bytes) -> None:
        self.transport.write(refusal)
        self.transport.close()


async def watch(connections: Iterable[Any], seconds: float = REQUEST_SECONDS) -> None:
    """Close, for as long as this runs, the *connections* whose request takes too long to come, and idle ones."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        now = time.monotonic()
        for each in list(connections):
            if not isinstance(each, Connection):
                continue
            if each.waiting_since is not None and each.flow.read_paused:
                each.waiting_since = now  # it is we who don't read
            if each.waiting_since is not None and each.waiting_since < now - seconds:
                each.give_up()
            elif each.idle_since is not None and each.idle_since < now - each.timeout_keep_alive:
                each.timeout_keep_alive_handler()


async def deliver(send: Send, reply: Reply) -> None:
    """Send *reply*; by one write and without looking at each of its headers where *send* is a connection's own."""
    cycle = getattr(send, "__self__", None)
    if type(cycle) is not RequestResponseCycle or not cycle.keep_alive or cycle.scope["method"] == "HEAD":
        await bodies.send(send, reply)
        return
    if cycle.flow.write_paused and not cycle.disconnected:
        await cycle.flow.drain()
    if cycle.disconnected:
        return
    cycle.transport.write(_written(reply, cycle.default_headers))
    cycle.response_started = cycle.response_complete = True
    cycle.message_event.set()
    cycle.on_response()


def _written(reply: Reply, headers: Headers) -> bytes:
    head = [STATUS_LINE[reply.status], b"content-type: ", reply.content_type, b"\r\ncontent-length: "]
    more = [b"\r\n%b: %b" % each for each in (*headers, *reply.headers)]
    return b"".join([*head, b"%d" % len(reply.body), *more, b"\r\n\r\n", reply.body])
