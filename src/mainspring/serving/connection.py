"""One connection to the endpoint: uvicorn's, that doesn't wait for ever for a request to come whole."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mainspring.serving import bodies

REQUEST_SECONDS = 20.0
"""How long a request, header and body, may take to come."""
_LOOK_SECONDS = 0.5


class Connection(HttpToolsProtocol):
    """Knows since when it has been waiting for the rest of a request; None while it is answering or idle."""

    waiting_since: float | None = None

    def connection_made(self, transport: Any) -> None:
        self.waiting_since = time.monotonic()
        super().connection_made(transport)

    def on_message_begin(self) -> None:
        if self.waiting_since is None:
            self.waiting_since = time.monotonic()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self.waiting_since = None
        super().on_message_complete()

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
    """Close, for as long as this runs, the *connections* whose request takes too long to come."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        latest = time.monotonic() - seconds
        for each in list(connections):
            if isinstance(each, Connection) and each.waiting_since is not None and each.waiting_since < latest:
                each.give_up()
