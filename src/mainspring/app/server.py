"""The control plane: `/api/...` on loopback, a token always, Host and Origin always checked."""

from __future__ import annotations

import hmac
import secrets
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from mainspring.core.errors import HomeUnwritable, InvalidRequest, MainspringError, NotInStore, RequestError
from mainspring.core.wording import one_line
from mainspring.serving import bodies
from mainspring.serving.door import refusal
from mainspring.store import durable
from mainspring.store.home import Home

MAX_BODY_BYTES = 64 * 1024


_DECISIONS = ("hold", "approve", "reject")


class Works(Protocol):
    """What the API may ask of the controller."""

    def status(self) -> dict[str, Any]: ...

    def advance(self, now: datetime) -> dict[str, Any]: ...

    def decisions(self, loop: str) -> list[dict[str, Any]]: ...

    def models(self, loop: str) -> list[dict[str, Any]]: ...

    def promote(self, loop: str, version: int | None, reason: str) -> dict[str, Any]: ...

    def rollback(self, loop: str, reason: str) -> dict[str, Any]: ...

    def decide(self, verb: str, loop: str, version: int | None, reason: str) -> dict[str, Any]: ...

    def audit(self) -> list[dict[str, Any]]: ...

    def turn(self, loop: str, reason: str) -> dict[str, Any]: ...

    def erase(self, subject: str, loop: str | None) -> dict[str, Any]: ...


def token(home: Home) -> str:
    """The control token of *home*, made at first use, readable by its owner only."""
    path = home.folder("run") / "token"
    kept = path.read_text().strip() if path.is_file() else ""  # empty: written by who was killed, and would let all in
    if kept:
        return kept
    durable.write(path, secrets.token_urlsafe(32).encode(), mode=0o600)
    return path.read_text().strip()


def api(works: Works, secret: str, hosts: frozenset[bytes]) -> ASGIApp:
    """The ASGI application of the control plane, for who knows *secret* and calls it by one of *hosts*."""

    async def status(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(works.status))

    async def clock(request: Request) -> Response:
        body = await _body(request, {"now"})
        return JSONResponse(await run_in_threadpool(works.advance, _time(body.get("now"))))

    async def decisions(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(works.decisions, request.path_params["loop"]))

    async def audit(_: Request) -> Response:
        return JSONResponse(await run_in_threadpool(works.audit))

    async def models(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(works.models, request.path_params["loop"]))

    async def promote(request: Request) -> Response:
        body = await _body(request, {"version", "reason"})
        loop, version, reason = request.path_params["loop"], _version(body), _reason(body)
        return JSONResponse(await run_in_threadpool(works.promote, loop, version, reason))

    def decided(verb: str) -> Callable[[Request], Awaitable[Response]]:
        async def decide(request: Request) -> Response:
            body = await _body(request, {"version", "reason"})
            asked = (request.path_params["loop"], _version(body), _reason(body))
            return JSONResponse(await run_in_threadpool(works.decide, verb, *asked))

        return decide

    async def rollback(request: Request) -> Response:
        body = await _body(request, {"reason"})
        return JSONResponse(await run_in_threadpool(works.rollback, request.path_params["loop"], _reason(body)))

    async def turn(request: Request) -> Response:
        body = await _body(request, {"reason"})
        return JSONResponse(await run_in_threadpool(works.turn, request.path_params["loop"], _reason(body)))

    async def erase(request: Request) -> Response:
        body = await _body(request, {"subject", "loop"})
        return JSONResponse(await run_in_threadpool(works.erase, _subject(body), body.get("loop")))

    routes = [
        Route("/api/status", status),
        Route("/api/audit", audit),
        Route("/api/clock", clock, methods=["POST"]),
        Route("/api/loops/{loop}/decisions", decisions),
        Route("/api/loops/{loop}/models", models),
        Route("/api/loops/{loop}/promote", promote, methods=["POST"]),
        Route("/api/loops/{loop}/rollback", rollback, methods=["POST"]),
        *(Route(f"/api/loops/{{loop}}/{verb}", decided(verb), methods=["POST"]) for verb in _DECISIONS),
        Route("/api/loops/{loop}/run", turn, methods=["POST"]),
        Route("/api/erase", erase, methods=["POST"]),
    ]
    told = {
        MainspringError: _refusal, HomeUnwritable: _no_room, HTTPException: _elsewhere, OSError: _no_room,
        sqlite3.Error: _no_room,
    }  # fmt: skip
    app = Starlette(routes=routes, exception_handlers=told)
    return Guard(app, secret, hosts)


class Guard:
    """Lets in who has the token and calls this very server; everybody else gets 401 or 403."""

    def __init__(self, app: ASGIApp, secret: str, hosts: frozenset[bytes]) -> None:
        self.app, self.secret, self.hosts = app, secret.encode(), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refused = self._refused(scope["headers"])
        if refused is not None:
            await refused(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _refused(self, headers: Sequence[tuple[bytes, bytes]]) -> Response | None:
        why = refusal(headers, self.hosts)
        if why is not None:
            return _error(403, "forbidden", why)
        given = dict(headers).get(b"authorization", b"").removeprefix(b"Bearer ")
        if not hmac.compare_digest(given, self.secret):
            return _error(401, "unauthorized", "send the token of .mainspring/run/token as 'Authorization: Bearer ...'")
        return None


async def _body(request: Request, known: set[str]) -> dict[str, Any]:
    content = await bodies.Intake(MAX_BODY_BYTES).read(request.scope, request.receive)
    body = bodies.parse(content or b"{}")
    if not isinstance(body, dict) or set(body) - known:
        raise InvalidRequest(f"the body must be an object with {', '.join(sorted(known))}")
    return body


def _version(body: Mapping[str, Any]) -> int | None:
    version = body.get("version")
    if version is None or (isinstance(version, int) and not isinstance(version, bool)):
        return version
    raise InvalidRequest(f"version {version!r} must be a whole number")


def _reason(body: Mapping[str, Any]) -> str:
    reason = body.get("reason", "by hand")
    if not isinstance(reason, str) or not reason.strip():
        raise InvalidRequest(f"reason {reason!r} must be text, such as 'better on the weekend'")
    return reason


def _subject(body: Mapping[str, Any]) -> str:
    subject, loop = body.get("subject"), body.get("loop")
    if not isinstance(subject, str) or not subject.strip() or not isinstance(loop, str | None):
        raise InvalidRequest('the body must say whom: {"subject": "..."}, and may name one "loop"')
    return subject


def _time(text: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise InvalidRequest(f"now={text!r} is not an ISO 8601 time such as '2013-04-01T00:00:00+00:00'") from None
    if moment.tzinfo is None:
        raise InvalidRequest(f"now={text!r} has no time zone; add +00:00")
    if not 1900 < moment.year < 3000:
        raise InvalidRequest(f"now={text!r} is in no time that a loop lives in; give a year from 1901 to 2999")
    return moment


async def _refusal(_: Request, error: Exception) -> Response:
    status = error.status if isinstance(error, RequestError) else 404 if isinstance(error, NotInStore) else 409
    return _error(status, type(error).__name__, str(error))


async def _no_room(_: Request, error: Exception) -> Response:
    return _error(503, "store", f"the home can't be read or written now ({one_line(error)}); try again, or see doctor")


async def _elsewhere(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return _error(405, "method", f"{request.method} is not taken here; use {(error.headers or {}).get('Allow')}")
    return _error(error.status_code, "not found", f"no such path: {request.url.path}; there is GET /api/status")


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status)
