"""Who may speak to the endpoint: exact Host and Origin on loopback, so that no web page can (DNS rebinding, CSRF), and
whoever has the token, where there is one."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256

from starlette.types import ASGIApp, Receive, Scope, Send

from mainspring.core.errors import Unauthorized
from mainspring.serving import bodies
from mainspring.serving.bodies import Headers, Reply
from mainspring.serving.connection import deliver
from mainspring.serving.measures import Measures


class Door:
    """Refuses foreign hosts and origins, and who has no token.

    hosts: the names and ports by which the endpoint may be called, such as "127.0.0.1:8700"; None: any. token_hash: of
    the token that every request but one for its health must carry; None: no token.
    """

    def __init__(
        self, app: ASGIApp, hosts: frozenset[bytes] | None, measures: Measures, token_hash: str | None = None
    ) -> None:
        self.app, self._hosts, self._measures, self._token_hash = app, hosts, measures, token_hash

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        refused = self.refused(scope["headers"], scope["scheme"], scope["path"])
        if refused is not None:
            self._measures.count("mainspring_refused_total", status=str(refused.status))
            await deliver(send, refused)
            return
        await self.app(scope, receive, send)

    def refused(self, headers: Headers, scheme: str, path: str) -> Reply | None:
        """What a request is told that may not come in; None where it may."""
        why = None if self._hosts is None else refusal(headers, self._hosts, scheme.encode())
        if why:
            return Reply(bodies.problem("Forbidden", why), 403)
        if self._token_hash is None or path in OPEN or carries(headers, self._token_hash):
            return None
        unknown = Unauthorized("send the endpoint's token as 'Authorization: Bearer ...'")
        return bodies.refusal(unknown, flat=path.startswith("/v2"))

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self.app(scope, receive, send)


OPEN = frozenset({"/", "/healthz", "/ping", "/v2/health/live", "/v2/health/ready"})
"""What a load balancer asks, which has no token; these answers name nothing."""


def token_hash(token: str) -> str:
    """What the serving process knows of the token."""
    return sha256(token.encode()).hexdigest()


def carries(headers: Iterable[tuple[bytes, bytes]], known: str) -> bool:
    """Whether *headers* have the token whose hash is *known*; it takes as long for any wrong token.

    >>> carries([(b"authorization", b"Bearer abc")], token_hash("abc"))
    True
    """
    given = [value for name, value in headers if name == b"authorization"]
    scheme, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
    return hmac.compare_digest(sha256(token.strip()).hexdigest(), known) and scheme.lower() == b"bearer"


def refusal(headers: Iterable[tuple[bytes, bytes]], hosts: frozenset[bytes], scheme: bytes = b"http") -> str | None:
    """Why a request with these *headers* is not for a server that has the names *hosts*; None when it is.

    scheme: of the server's own pages.

    >>> refusal([(b"host", b"127.0.0.1:8700")], loopback(8700)) is None
    True
    >>> refusal([(b"host", b"localhost:8700"), (b"origin", b"http://evil.example")], loopback(8700))
    'requests from other sites are refused'
    """
    given = [value.lower() for name, value in headers if name == b"host"]
    if len(given) != 1 or given[0] not in hosts:
        return "this host name is not served; call 127.0.0.1 or localhost with the port of this server"
    origins = [value.lower() for name, value in headers if name == b"origin"]
    if any(origin.partition(b"://")[::2] not in ((scheme, host) for host in hosts) for origin in origins):
        return "requests from other sites are refused"
    return None


def loopback(port: int) -> frozenset[bytes]:
    """The names of this machine itself, with *port*.

    >>> sorted(loopback(8700))
    [b'127.0.0.1:8700', b'[::1]:8700', b'localhost:8700']
    """
    names = frozenset(f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost", "[::1]"))
    return names if port != 80 else names | {b"127.0.0.1", b"localhost", b"[::1]"}
