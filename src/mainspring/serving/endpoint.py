"""The data plane over HTTP: predictions, feedback, health, metrics, MLflow's scoring protocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from mainspring.core.errors import Conflict, InvalidRequest, InvalidRows, NotServed, RequestError, TooLarge
from mainspring.serving import bodies, invocations, openapi
from mainspring.serving.door import Door
from mainspring.serving.feedback import Feedback
from mainspring.serving.measures import Measures
from mainspring.serving.served import Answer, ServedLoop, no_loop

MAX_ROWS = 100_000
MAX_BODY_BYTES = 32 << 20
_LARGE_BODY_BYTES = 100_000
_UNIT_HEADER = b"mainspring-unit"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is sent."""

    body: bytes
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    content_type: bytes = b"application/json"


Handle = Callable[[Scope, Receive], Awaitable[Reply]]


class Endpoint:
    """Serves *loops*, a mapping that may change while it serves.

    ready: whether everything that should be served has been loaded. hosts: the names by which it may be called.
    """

    def __init__(
        self,
        loops: Mapping[str, ServedLoop],
        *,
        threads: Executor,
        ready: Callable[[], bool] = lambda: True,
        max_rows: int = MAX_ROWS,
        max_body_bytes: int = MAX_BODY_BYTES,
        hosts: frozenset[bytes] | None = None,
    ) -> None:
        self.loops, self.measures = loops, Measures()
        self._threads, self._ready = threads, ready
        self._max_rows, self._max_body_bytes = max_rows, max_body_bytes
        self._feedback: dict[str, Feedback] = {}
        self.app: ASGIApp = Door(self._routes(), hosts, self.measures)

    def _routes(self) -> Router:
        post, get = [
            ("/predict/{loop}", self._predict),
            ("/feedback/{loop}", self._take_feedback),
            ("/invocations", self._invoke),
            ("/loops/{loop}/invocations", self._invoke),
        ], [
            ("/healthz", self._health),
            ("/ping", self._health),
            ("/readyz", self._readiness),
            ("/metrics", self._metrics),
            ("/openapi.json", self._openapi),
        ]  # fmt: skip
        routes = [Route(path, _Asgi(handle, "POST")) for path, handle in post]
        routes += [Route(path, _Asgi(handle, "GET", "HEAD")) for path, handle in get]
        return Router(routes, default=_Asgi(_nowhere), redirect_slashes=False)

    # -------------------------------------------------------------------------------------------------- predictions

    async def _predict(self, scope: Scope, receive: Receive) -> Reply:
        served = self._served(scope)
        with _Timed(self.measures, served.name) as timed:
            body = await bodies.read(scope, receive, self._max_body_bytes)
            began = timed.start()
            rows, strict = _rows(await self._parse(body))
            strict = strict or b"strict=true" in scope["query_string"]
            answer = await self._answer(served, rows, scope, strict, began)
            timed.version = answer.loaded.version.number
        return Reply(bodies.encode(_told(answer)), headers=_recorded(answer))

    async def _invoke(self, scope: Scope, receive: Receive) -> Reply:
        served = self._only(scope)
        with _Timed(self.measures, served.name) as timed:
            body = await bodies.read(scope, receive, self._max_body_bytes)
            began = timed.start()
            inputs = served.live().champion.manifest.inputs
            if _header(scope, b"content-type").partition(b";")[0].strip() == b"text/csv":
                rows = invocations.rows_of_csv(_text(body), inputs)
            else:
                rows = invocations.rows_of(await self._parse(body), inputs.names)
            answer = await self._answer(served, rows, scope, False, began)
            timed.version = answer.loaded.version.number
        return Reply(bodies.encode({"predictions": answer.said.labels}), headers=_recorded(answer))

    async def _parse(self, body: bytes) -> Any:
        """A large body is read in a thread, so that it doesn't stop the small ones."""
        if len(body) < _LARGE_BODY_BYTES:
            return bodies.parse(body)
        return await asyncio.get_running_loop().run_in_executor(self._threads, bodies.parse, body)

    async def _answer(self, served: ServedLoop, rows: list[Any], scope: Scope, strict: bool, began: float) -> Answer:
        if not rows:
            raise InvalidRows("there are no rows; give at least one")
        if len(rows) > self._max_rows:
            raise TooLarge(f"{len(rows):,} rows, at most {self._max_rows:,} are taken at once; send them in parts")
        unit = _header(scope, _UNIT_HEADER).decode("latin-1")[:512] or None
        answer = await served.predict(rows, unit=unit, strict=strict, began=began)
        version = str(answer.loaded.version.number)
        self.measures.count("mainspring_rows_total", len(rows), loop=served.name, version=version)
        if answer.extra:
            self.measures.count("mainspring_extra_columns_total", answer.extra, loop=served.name)
        if not answer.recorded:
            self.measures.count("mainspring_unrecorded_total", len(rows), loop=served.name)
        return answer

    # ----------------------------------------------------------------------------------------------------- feedback

    async def _take_feedback(self, scope: Scope, receive: Receive) -> Reply:
        served = self._served(scope)
        given = await self._parse(await bodies.read(scope, receive, self._max_body_bytes))
        items = given if isinstance(given, list) else [given]
        if not items:
            raise InvalidRequest('the list is empty; give {"id": ..., "label": ...}')
        if len(items) > self._max_rows:
            raise TooLarge(f"{len(items):,} labels, at most {self._max_rows:,} are taken at once; send them in parts")
        feedback = self._feedback.setdefault(served.name, Feedback(served, self._threads))
        taken = await feedback.take(items)
        self.measures.count("mainspring_feedback_total", taken.new, loop=served.name)
        return Reply(bodies.encode({"ids": taken.ids, "new": taken.new, "known": len(taken.ids) - taken.new}))

    # ------------------------------------------------------------------------------------- what it says of itself

    async def _health(self, scope: Scope, receive: Receive) -> Reply:
        return Reply(bodies.encode({"status": "ok"}))

    async def _readiness(self, scope: Scope, receive: Receive) -> Reply:
        loops = {name: _standing(served) for name, served in sorted(self.loops.items())}
        ready = self._ready() and all(served.routing is not None for served in self.loops.values())
        return Reply(bodies.encode({"ready": ready, "loops": loops}), 200 if ready else 503)

    async def _metrics(self, scope: Scope, receive: Receive) -> Reply:
        shares: dict[tuple[str, str], float] = {}
        for name, served in self.loops.items():
            if served.routing is not None:
                for loaded in served.routing.versions():
                    shares[name, str(loaded.version.number)] = _share(served, loaded.version.number)
        return Reply(self.measures.text(shares).encode(), content_type=b"text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, scope: Scope, receive: Receive) -> Reply:
        return Reply(bodies.encode(openapi.document(self.loops, self._max_rows)))

    # ------------------------------------------------------------------------------------------------------- loops

    def _served(self, scope: Scope) -> ServedLoop:
        name = scope["path_params"]["loop"]
        served = self.loops.get(name)
        if served is None:
            raise no_loop(name, list(self.loops))
        return served

    def _only(self, scope: Scope) -> ServedLoop:
        if "loop" in scope["path_params"]:
            return self._served(scope)
        if len(self.loops) == 1:
            return next(iter(self.loops.values()))
        paths = ", ".join(f"/loops/{name}/invocations" for name in sorted(self.loops)) or "none yet"
        raise Conflict(f"{len(self.loops)} loops are served here; name one by its path: {paths}")


class _Asgi:
    """A handler as an ASGI application; refusals are told in one shape."""

    def __init__(self, handle: Handle, *methods: str) -> None:
        self._handle, self._methods = handle, methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._methods and scope["method"] not in self._methods:
                raise MethodNotTaken(f"{scope['method']} is not taken here; use {self._methods[0]}")
            reply = await self._handle(scope, receive)
        except RequestError as error:
            status, body, headers = bodies.failure(error)
            reply = Reply(body, status, headers)
        await bodies.send(send, reply.status, reply.body, reply.headers, reply.content_type)


class MethodNotTaken(RequestError):
    """The path is right, the method isn't."""

    status = 405


async def _nowhere(scope: Scope, receive: Receive) -> Reply:
    raise NotServed("no such path; there are POST /predict/{loop}, POST /feedback/{loop}, GET /openapi.json and others")


class _Timed:
    """Counts a request of a loop by its status, and its latency from the last byte of its body."""

    def __init__(self, measures: Measures, loop: str) -> None:
        self._measures, self._loop = measures, loop
        self._began = time.perf_counter()
        self.version = 0

    def start(self) -> float:
        self._began = time.perf_counter()
        return self._began

    def __enter__(self) -> _Timed:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        status = 200 if error is None else error.status if isinstance(error, RequestError) else 500
        version = str(self.version) if self.version else ""
        self._measures.count("mainspring_requests_total", loop=self._loop, version=version, status=str(status))
        self._measures.latency(time.perf_counter() - self._began, self._loop)


def _rows(given: Any) -> tuple[list[Any], bool]:
    """The rows of a /predict body, and whether it asks for strictness."""
    if not isinstance(given, dict | list):
        raise InvalidRequest('the body must be {"rows": [{...}]}, a list of rows, or one row as an object')
    if isinstance(given, dict) and not isinstance(given.get("rows"), list):
        if set(given) <= {"rows", "strict"} and isinstance(given.get("rows"), str | dict | None) and "rows" in given:
            raise InvalidRows(f"rows must be a list of objects, not {str(given['rows'])[:60]!r}")
        return [given], False
    strict = isinstance(given, dict) and given.get("strict") is True
    rows = given["rows"] if isinstance(given, dict) else given
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise InvalidRows(f"row {number} is {str(row)[:60]!r}, not an object with a value for each column")
    return rows, strict


def _told(answer: Answer) -> dict[str, Any]:
    said = answer.said
    told: dict[str, Any] = {"model": answer.loaded.name, "ids": answer.ids, "predictions": said.labels}
    if not answer.loaded.regression:
        told["classes"] = answer.loaded.classes
        if said.probabilities is not None:
            told["probabilities"] = said.probabilities
    return told


def _recorded(answer: Answer) -> list[tuple[bytes, bytes]]:
    return [] if answer.recorded else [(b"mainspring-recorded", b"no")]


def _standing(served: ServedLoop) -> dict[str, Any]:
    if served.routing is None:
        return {"ready": False, "reason": served.why_not}
    routing = served.routing
    return {
        "ready": True,
        "champion": routing.champion.version.number,
        "canary": routing.canary.version.number if routing.canary else None,
        "share": routing.route.share if routing.canary else 0.0,
        "revision": routing.route.revision,
        "feedback": served.labels_ready,
    }


def _share(served: ServedLoop, number: int) -> float:
    routing = served.live()
    canary = routing.route.share if routing.canary else 0.0
    if routing.canary and routing.canary.version.number == number:
        return canary
    return 1.0 - canary if routing.champion.version.number == number else 0.0


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8: {error}") from None
