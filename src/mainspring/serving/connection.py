"""One connection to the endpoint: uvicorn's, that doesn't wait for ever for a request to come whole, and writes an
answer that is there as a whole at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from mainspring.serving import bodies
from mainspring.serving.bodies import Reply

REQUEST_SECONDS = 20.0
"""How long a request, header and body, may take to come."""
_LOOK_SECONDS = 0.5


class Connection(HttpToolsProtocol):
    """Knows since when it has been waiting for the rest of a request, and since when for the next one; None while it
    isn't."""

    waiting_since: float | None = None
    idle_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        self.waiting_since = time.monotonic()
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        self.idle_since = None
        if self.waiting_since is None:
            self.waiting_since = time.monotonic()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self.waiting_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, but `watch` looks after idle connections: timers for all answers cost as much as parsing."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = time.monotonic()

    def give_up(self) -> None:
        """Say why, unless an answer has begun, and close."""
        if self.transport.is_closing():
            return
        if self.cycle is None or not self.cycle.response_started:
            message = f"the request did not come whole within {REQUEST_SECONDS:g} seconds"
            body = bodies.problem("TooSlow", message)
            head = f"HTTP/1.1 408 Request Timeout\r\ncontent-length: {len(body)}\r\n"
            fixed = "content-type: application/json\r\nconnection: close\r\n\r\n"
            self.transport.write((head + fixed).encode() + body)
        self.transport.close()


async def watch(connections: Iterable[Any], seconds: float = REQUEST_SECONDS) -> None:
    """Close, for as long as this runs, the *connections* whose request takes too long to come, and idle ones."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        now = time.monotonic()
        for each in list(connections):
            if not isinstance(each, Connection):
                continue
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
    head = [STATUS_LINE[reply.status], b"content-type: ", reply.content_type, b"\r\ncontent-length: "]
    more = [b"\r\n%b: %b" % each for each in (*cycle.default_headers, *reply.headers)]
    cycle.transport.write(b"".join([*head, b"%d" % len(reply.body), *more, b"\r\n\r\n", reply.body]))
    cycle.response_started = cycle.response_complete = True
    cycle.message_event.set()
    cycle.on_response()
