"""The data plane over HTTP: predictions by every protocol, feedback, health, metrics and what it says of itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from functools import cache, partial
from importlib import metadata
from typing import Any

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from mainspring.core.errors import (
    Conflict,
    InvalidRequest,
    InvalidRows,
    MethodNotTaken,
    NotServed,
    RequestError,
    TooLarge,
    TooMany,
)
from mainspring.serving import asked, bodies, open_inference, openapi, page
from mainspring.serving.asked import Asked, Body, Read
from mainspring.serving.beside import Beside
from mainspring.serving.bodies import Intake, Refuse, Reply
from mainspring.serving.connection import deliver
from mainspring.serving.door import Door
from mainspring.serving.feedback import Feedback
from mainspring.serving.measures import Measures
from mainspring.serving.quick import UNIT_HEADER, Quick
from mainspring.serving.served import Answer, Routing, ServedLoop, no_loop

_log = logging.getLogger(__name__)
MAX_ROWS = 100_000
MAX_BODY_BYTES = 32 << 20
_BODIES_BYTES = 256 << 20
_LARGE_BODY_BYTES = 100_000

Handle = Callable[[Scope, Receive], Awaitable[Reply]]


class Endpoint:
    """Serves *loops*, a mapping that may change while it serves.

    ready: whether everything that should be served has been loaded. hosts: the names by which it may be called.
    worker, beside: the number of this process, and the others, where there are several.
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
        token_hash: str | None = None,
        worker: str | None = None,
        beside: Beside | None = None,
    ) -> None:
        self.loops, self.measures, self._beside = loops, Measures(worker), beside
        self._threads, self._ready, self._max_rows = threads, ready, max_rows
        self._intake = Intake(max_body_bytes, _BODIES_BYTES)
        self._feedback: dict[str, Feedback] = {}
        door = Door(self._routes(), hosts, self.measures, token_hash)
        self.app: ASGIApp = door
        self.quick = Quick(loops, door.refused, self.measures, max_body_bytes, max_rows)

    def _routes(self) -> ASGIApp:
        """Every path; the ones that are called most come first, for they are tried in this order."""
        by_mlflow, by_kserve, by_v2 = (
            partial(self._predict, read) for read in (asked.mlflow, asked.kserve, open_inference.ask)
        )
        routes = [
            *self._post(partial(self._predict, asked.own), "/predict/{loop}"),
            *self._post(by_v2, "/v2/models/{loop}/infer", "/v2/models/{loop}/versions/{version}/infer", refuse=_V2),
            *self._post(by_kserve, "/v1/models/{loop}:predict"),
            *self._post(by_mlflow, "/invocations", "/loops/{loop}/invocations", "/endpoints/{loop}/invocations"),
            *self._post(self._take_feedback, "/feedback/{loop}"),
            *self._get(self._health, "/healthz", "/ping"),
            *self._get(self._readiness, "/readyz"),
            *self._get(self._metrics, "/metrics"),
            *self._get(self._openapi, "/openapi.json"),
            *self._get(self._docs, "/docs"),
            *self._get(_mlflow_version, "/version"),
            *self._get(_kserve_alive, "/"),
            *self._get(self._kserve_models, "/v1/models"),
            *self._get(self._kserve_model, "/v1/models/{loop}"),
            *self._get(_v2_server, "/v2", "/v2/", refuse=_V2),
            *self._get(_v2_live, "/v2/health/live", refuse=_V2),
            *self._get(self._v2_ready, "/v2/health/ready", refuse=_V2),
            *self._get(self._v2_model, "/v2/models/{loop}", "/v2/models/{loop}/versions/{version}", refuse=_V2),
            *self._get(
                self._v2_model_ready,
                "/v2/models/{loop}/ready",
                "/v2/models/{loop}/versions/{version}/ready",
                refuse=_V2,
            ),
        ]
        elsewhere = _Asgi(_nowhere, self.measures), _Asgi(_nowhere, self.measures, _V2)

        async def default(scope: Scope, receive: Receive, send: Send) -> None:
            await elsewhere[scope["path"].startswith("/v2/")](scope, receive, send)

        return _Remembering(Router(routes, default=default, redirect_slashes=False))

    def _post(self, handle: Handle, *paths: str, refuse: Refuse = bodies.refusal) -> list[Route]:
        return [Route(path, _Asgi(handle, self.measures, refuse, "POST")) for path in paths]

    def _get(self, handle: Handle, *paths: str, refuse: Refuse = bodies.refusal) -> list[Route]:
        return [Route(path, _Asgi(handle, self.measures, refuse, "GET", "HEAD")) for path in paths]

    # -------------------------------------------------------------------------------------------------- predictions

    async def _predict(self, read: Read, scope: Scope, receive: Receive) -> Reply:
        """What every door does: read rows as its protocol writes them, answer them, and say it in its words."""
        served = self._only(scope)
        with _Timed(self.measures, served.name, scope) as timed:
            served.admit()  # before any work is done for it
            body = Body(await self._intake.read(scope, receive), scope["headers"], scope["query_string"])
            began = timed.start()
            given = await self._read(read, body, served.live())
            answer = await self._answer(served, given, scope, began)
            timed.version = answer.loaded.version.number
            return given.tell(answer)

    async def _read(self, read: Read, body: Body, routing: Routing) -> Asked:
        """A large body is read in a thread, so that it doesn't stop the small ones."""
        if len(body.content) < _LARGE_BODY_BYTES:
            return read(body, routing.champion)
        return await asyncio.get_running_loop().run_in_executor(self._threads, read, body, routing.champion)

    async def _answer(self, served: ServedLoop, given: Asked, scope: Scope, began: float) -> Answer:
        rows = given.rows
        if not rows:
            raise InvalidRows("there are no rows; give at least one")
        if len(rows) > self._max_rows:
            raise TooLarge(f"{len(rows):,} rows, at most {self._max_rows:,} are taken at once; send them in parts")
        answer = await served.predict(
            rows,
            unit=(given.unit or bodies.header(scope["headers"], UNIT_HEADER).decode("latin-1"))[:512] or None,
            strict=given.strict,
            began=began,
            version=scope["path_params"].get("version"),
            explain=given.explain,
        )
        version = str(answer.loaded.version.number)
        self.measures.answered(served.name, version, len(rows), answer.extra, answer.recorded)
        return answer

    # ----------------------------------------------------------------------------------------------------- feedback

    async def _take_feedback(self, scope: Scope, receive: Receive) -> Reply:
        served = self._served(scope)
        body = Body(await self._intake.read(scope, receive), scope["headers"], scope["query_string"])
        large = len(body.content) >= _LARGE_BODY_BYTES
        given = await asyncio.get_running_loop().run_in_executor(self._threads, body.json) if large else body.json()
        items = given if isinstance(given, list) else [given]
        if not items:
            raise InvalidRequest('the list is empty; give {"id": ..., "label": ...} or {"id": ..., "event": ...}')
        if len(items) > self._max_rows:
            raise TooLarge(f"{len(items):,} labels, at most {self._max_rows:,} are taken at once; send them in parts")
        feedback = self._feedback.setdefault(served.name, Feedback(served, self._threads))
        taken = await feedback.take(items, each=body.asks_for(b"each"))
        self.measures.count("mainspring_feedback_total", taken.new, loop=served.name)
        self.measures.count("mainspring_feedback_corrected_total", taken.corrected, loop=served.name)
        return Reply(bodies.encode(taken.told()))

    # ------------------------------------------------------------------------------------- what it says of itself

    async def _health(self, scope: Scope, receive: Receive) -> Reply:
        return Reply(bodies.encode({"status": "ok"}))

    def _standing(self, served: ServedLoop) -> dict[str, Any]:
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
            "recording": served.recording,
        }

    async def _readiness(self, scope: Scope, receive: Receive) -> Reply:
        loops = {name: self._standing(served) for name, served in sorted(self.loops.items())}
        ready = self._is_ready()
        return Reply(bodies.encode({"ready": ready, "loops": loops}), 200 if ready else 503)

    def _is_ready(self) -> bool:
        return self._ready() and all(served.routing is not None for served in self.loops.values())

    async def _metrics(self, scope: Scope, receive: Receive) -> Reply:
        others = () if self._beside is None else self._beside.others()
        self.measure()
        return Reply(self.measures.text(others).encode(), content_type=b"text/plain; version=0.0.4; charset=utf-8")

    def measure(self) -> dict[str, list[str]]:
        """The lines of each measure, with what is measured only when it is asked for."""
        for name, served in self.loops.items():
            self.measures.gauge("mainspring_queue", served.queue, loop=name)
            if served.mirror is not None:
                self.measures.gauge("mainspring_shadow_queue", served.mirror.waiting, loop=name)
                self.measures.gauge("mainspring_shadow_dropped", served.mirror.dropped, loop=name)
            self.measures.gauge("mainspring_log_lag_seconds", round(served.records.lag_seconds(), 3), loop=name)
            if served.routing is not None:
                self.measures.forget("mainspring_version_share", loop=name)
                for loaded in served.routing.versions():
                    number = loaded.version.number
                    share = _share(served.routing, number)
                    self.measures.gauge("mainspring_version_share", share, loop=name, version=str(number))
        return self.measures.lines()

    async def _openapi(self, scope: Scope, receive: Receive) -> Reply:
        return Reply(bodies.encode(openapi.document(self.loops, self._max_rows)))

    async def _docs(self, scope: Scope, receive: Receive) -> Reply:
        made = page.made(openapi.document(self.loops, self._max_rows))
        return Reply(made.encode(), headers=page.HEADERS, content_type=b"text/html; charset=utf-8")

    async def _kserve_models(self, scope: Scope, receive: Receive) -> Reply:
        return Reply(bodies.encode({"models": sorted(self.loops)}))

    async def _kserve_model(self, scope: Scope, receive: Receive) -> Reply:
        served = self._served(scope)
        served.live()
        return Reply(bodies.encode({"name": served.name, "ready": True}))

    async def _v2_ready(self, scope: Scope, receive: Receive) -> Reply:
        ready = self._is_ready()
        return Reply(bodies.encode({"ready": ready}), 200 if ready else 503)

    async def _v2_model(self, scope: Scope, receive: Receive) -> Reply:
        served, routing = self._served(scope), self._served(scope).live()
        version = scope["path_params"].get("version")
        loaded = routing.champion if version is None else routing.version(version)
        return Reply(bodies.encode(open_inference.metadata(served.name, loaded, routing.versions())))

    async def _v2_model_ready(self, scope: Scope, receive: Receive) -> Reply:
        served, version = self._served(scope), scope["path_params"].get("version")
        routing = served.live()
        if version is not None:
            routing.version(version)
        return Reply(bodies.encode({"name": served.name, "ready": True}))

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


class _Remembering:
    """A router that knows the way of a path that it has found before."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._ways: dict[str, tuple[ASGIApp, Mapping[str, str]]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        known = self._ways.get(path)
        if known is None:
            await self._router(scope, receive, send)
            if scope.get(_COUNTED) and len(self._ways) < _MOST_WAYS:  # the path of a loop that is there
                self._ways[path] = scope["endpoint"], scope["path_params"]
            return
        way, scope["path_params"] = known
        await way(scope, receive, send)


class _Asgi:
    """A handler as an ASGI application; refusals are told in the shape of its protocol."""

    def __init__(self, handle: Handle, measures: Measures, refuse: Refuse = bodies.refusal, *methods: str) -> None:
        self._handle, self._measures, self._refuse, self._methods = handle, measures, refuse, methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if self._methods and scope["method"] not in self._methods:
                raise MethodNotTaken(f"{scope['method'][:20]} is not taken here; use {self._methods[0]}")
            reply = await self._handle(scope, receive)
        except RequestError as error:
            reply = self._refuse(error)
            if isinstance(error, MethodNotTaken):
                reply.headers.append((b"allow", ", ".join(self._methods).encode()))
            if not scope.get(_COUNTED):
                self._measures.count("mainspring_refused_total", status=str(error.status))
            if isinstance(error, TooMany):
                await asyncio.sleep(bodies.held_seconds())
        except Exception:
            _log.exception("a request to %s failed", scope["path"])
            reply = Reply(bodies.problem("Failed", "the endpoint failed; its log says why"), 500)
        await deliver(send, reply)


_V2 = open_inference.refusal
_MOST_WAYS = 256
_COUNTED = "mainspring.counted"
"""In a request's scope: it is counted under its loop."""


async def _nowhere(scope: Scope, receive: Receive) -> Reply:
    raise NotServed("no such path; there are POST /predict/{loop}, POST /feedback/{loop}, GET /docs and others")


async def _mlflow_version(scope: Scope, receive: Receive) -> Reply:
    return Reply(_installed("mlflow-skinny").encode(), content_type=b"text/plain; charset=utf-8")


async def _kserve_alive(scope: Scope, receive: Receive) -> Reply:
    return Reply(bodies.encode({"status": "alive"}))


async def _v2_server(scope: Scope, receive: Receive) -> Reply:
    told = {"name": "mainspring", "version": _installed("mainspring"), "extensions": ["binary_tensor_data"]}
    return Reply(bodies.encode(told))


async def _v2_live(scope: Scope, receive: Receive) -> Reply:
    return Reply(bodies.encode({"live": True}))


@cache
def _installed(distribution: str) -> str:
    return metadata.version(distribution)


class _Timed:
    """Counts a request of a loop by its status, and its latency from the last byte of its body."""

    def __init__(self, measures: Measures, loop: str, scope: Scope) -> None:
        self._measures, self._loop = measures, loop
        self._began = time.perf_counter()
        self.version = 0
        scope[_COUNTED] = True

    def start(self) -> float:
        self._began = time.perf_counter()
        return self._began

    def __enter__(self) -> _Timed:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        status = 200 if error is None else error.status if isinstance(error, RequestError) else 500
        version = str(self.version) if self.version else ""
        self._measures.request(self._loop, version, status, time.perf_counter() - self._began)


def _share(routing: Routing, number: int) -> float:
    canary = routing.route.share if routing.canary else 0.0
    if routing.canary and routing.canary.version.number == number:
        return canary
    return 1.0 - canary if routing.champion.version.number == number else 0.0
