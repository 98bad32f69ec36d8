"""Who may speak to the endpoint: exact Host and Origin on loopback, so that no web page can (DNS rebinding, CSRF)."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mainspring.serving import bodies
from mainspring.serving.measures import Measures

_log = logging.getLogger(__name__)


class Door:
    """Refuses foreign hosts and origins, and turns whatever escapes the app into a plain 500.

    hosts: the names and ports by which the endpoint may be called, such as "127.0.0.1:8700"; None: any.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[bytes] | None, measures: Measures) -> None:
        self.app, self._hosts, self._measures = app, hosts, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        why = None if self._hosts is None else refusal(scope["headers"], self._hosts)
        if why:
            self._measures.count("mainspring_refused_total", status="403")
            await bodies.send(send, 403, bodies.problem("Forbidden", why))
            return
        begun: list[bool] = []

        async def watched(message: Message) -> None:
            begun.append(True)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            _log.exception("a request to %s failed", scope["path"])
            if not begun:
                await bodies.send(send, 500, bodies.problem("Failed", "the endpoint failed; its log says why"))

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self.app(scope, receive, send)


def refusal(headers: Iterable[tuple[bytes, bytes]], hosts: frozenset[bytes]) -> str | None:
    """Why a request with these *headers* is not for a server that has the names *hosts*; None when it is.

    >>> refusal([(b"host", b"127.0.0.1:8700")], loopback(8700)) is None
    True
    >>> refusal([(b"host", b"localhost:8700"), (b"origin", b"http://evil.example")], loopback(8700))
    'requests from other sites are refused'
    """
    given = [value.lower() for name, value in headers if name == b"host"]
    if len(given) != 1 or given[0] not in hosts:
        return "this host name is not served; call 127.0.0.1 or localhost with the port of this server"
    origins = [value.lower() for name, value in headers if name == b"origin"]
    if any(not origin.startswith(b"http://") or origin.removeprefix(b"http://") not in hosts for origin in origins):
        return "requests from other sites are refused"
    return None


def loopback(port: int) -> frozenset[bytes]:
    """The names of this machine itself, with *port*.

    >>> sorted(loopback(8700))
    [b'127.0.0.1:8700', b'[::1]:8700', b'localhost:8700']
    """
    names = frozenset(f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost", "[::1]"))
    return names if port != 80 else names | {b"127.0.0.1", b"localhost", b"[::1]"}
