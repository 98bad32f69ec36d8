"""The serving process: `python -m mainspring.serving.worker`, its settings as JSON on standard input."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mainspring.core.errors import MainspringError
from mainspring.serving import runtime
from mainspring.serving.alone import Alone, AloneEndpoint
from mainspring.serving.beside import Beside
from mainspring.serving.connection import REQUEST_SECONDS, Connection, watch
from mainspring.serving.door import loopback
from mainspring.serving.endpoint import MAX_BODY_BYTES, MAX_ROWS, Endpoint
from mainspring.serving.loaded import Open, opener
from mainspring.serving.push import notify
from mainspring.serving.quick import Quick
from mainspring.serving.switchboard import Switchboard, Versions, prepared
from mainspring.store.home import Home

__all__ = ["Settings", "let_go_of_code", "main", "notify", "serve"]

DRAIN_SECONDS = 10
SWITCH_SECONDS = 0.0002
"""How long a thread that loads a version may keep Python from the one that answers (Python's own figure: 5 ms)."""
PARTING_SECONDS = 0.25
"""How long a process that was told to stop still takes connections: who is connected is answered, not reset."""

Beginning = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the supervisor tells the process.

    fd: the listening socket. bundle: a folder that is served without a home. loops: names, or "all". host: the address
    that the socket is bound to; any but loopback takes every Host. seeds: of loops whose prediction ids are repeatable.
    parent: the process to die with. token_hash: of the token that requests must carry. cert, key: files for TLS.
    request_seconds: how long one may take to come. worker, workers: which of how many processes this is; measures_fd:
    where they tell each other what they count. reserve: to get ready, not to serve yet.
    """

    fd: int
    home: str = ""
    bundle: str | None = None
    loops: list[str] | str = "all"
    max_rows: int = MAX_ROWS
    max_body_bytes: int = MAX_BODY_BYTES
    manual_clock: bool = False
    seeds: dict[str, int] = field(default_factory=dict)
    host: str = "127.0.0.1"
    parent: int | None = None
    token_hash: str | None = None
    cert: str | None = None
    key: str | None = None
    request_seconds: float = REQUEST_SECONDS
    worker: int = 0
    workers: int = 1
    measures_fd: int | None = None
    reserve: bool = False


def main(open: Open | None = None) -> None:
    """Read the settings, a line, and serve until SIGTERM; requests in flight are answered first.

    In reserve it loads what it would serve and reads on, for the settings of a process whose place it takes.
    """
    loaded: Versions = {}
    for line in sys.stdin:
        settings = Settings(**json.loads(line))
        die_with(settings.parent)
        try:
            if settings.reserve:
                loaded = _prepared(settings, open)
                let_go_of_code()
            else:
                serve(settings, open, loaded)
        except MainspringError as error:
            print(f"mainspring: {error}", file=sys.stderr, flush=True)
            sys.exit(1)


def serve(settings: Settings, open: Open | None = None, loaded: Versions | None = None) -> None:
    """Serve in this process; *open* loads a bundle by its digest (None: from the home), *loaded* are there already."""
    sys.setswitchinterval(SWITCH_SECONDS)
    with ThreadPoolExecutor(2, "model") as models, ThreadPoolExecutor(8, "feedback") as feedback:
        board = _alone(settings, models) or _board(settings, open, models, loaded)
        sock = socket.socket(fileno=settings.fd)
        beside = _beside(settings)
        endpoint = (AloneEndpoint if settings.bundle else Endpoint)(
            board.loops,
            threads=feedback,
            ready=board.complete,
            max_rows=settings.max_rows,
            max_body_bytes=settings.max_body_bytes,
            hosts=_hosts(settings.host, sock),
            token_hash=settings.token_hash,
            worker=str(settings.worker) if beside else None,
            beside=beside,
        )
        connection = type("Plain", (Connection,), {"quick": endpoint.quick})
        config = uvicorn.Config(
            endpoint.app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            http=connection,
            ws="none",
            ssl_certfile=settings.cert,
            ssl_keyfile=settings.key,
        )
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            telling = [partial(beside.keep_telling, endpoint.measure)] if beside else []
            runner.run(_run(Parting(config, endpoint.quick), board, sock, settings.request_seconds, telling))


def _beside(settings: Settings) -> Beside | None:
    if settings.measures_fd is None:
        return None
    return Beside(settings.measures_fd, settings.worker, settings.workers)


def _alone(settings: Settings, threads: Executor) -> Alone | None:
    return None if settings.bundle is None else Alone(Path(settings.bundle), threads=threads)


def _board(settings: Settings, open: Open | None, threads: Executor, loaded: Versions | None) -> Switchboard:
    home = Home.open(Path(settings.home))
    return Switchboard(
        home,
        open or opener(home),
        wanted=_wanted(settings),
        loaded=loaded,
        seeds=settings.seeds,
        manual_clock=settings.manual_clock,
        threads=threads,
        worker=settings.worker,
        workers=settings.workers,
    )


def _wanted(settings: Settings) -> list[str] | None:
    return None if isinstance(settings.loops, str) else settings.loops


def _prepared(settings: Settings, open: Open | None) -> Versions:
    """What `serve` will need, or as much of it as can be loaded now: its faults are told when it is to be served."""
    with suppress(Exception):
        if settings.bundle is not None:
            runtime.load(Path(settings.bundle))
            return {}
        home = Home.open(Path(settings.home))
        return prepared(home, open or opener(home), _wanted(settings))
    return {}


class Parting(uvicorn.Server):
    """Ends without a reset: for a moment each answer closes its connection; only then are idle ones closed."""

    def __init__(self, config: uvicorn.Config, quick: Quick) -> None:
        answer: ASGIApp = config.app  # type: ignore[assignment]
        self._quick = quick

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await answer(scope, receive, _closing(send) if self.should_exit else send)

        config.app = app
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._quick.closed = True
        await asyncio.sleep(PARTING_SECONDS)
        await super().shutdown(sockets)


def _closing(send: Send) -> Send:
    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
        await send(message)

    return closing


async def _run(
    server: uvicorn.Server,
    board: Switchboard | Alone,
    sock: socket.socket,
    request_seconds: float,
    besides: Sequence[Beginning],
) -> None:
    def stop(*_: object) -> None:
        """Before uvicorn has its own handlers, and after: it raises the signal again once it has drained."""
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    board.start(asyncio.get_running_loop())
    await asyncio.to_thread(board.ready.wait)  # who calls meanwhile waits in the socket's queue, not for a refusal
    _leave_alone_what_stays()
    begun: list[Beginning] = [partial(watch, server.server_state.connections, request_seconds), *besides]
    tasks = [asyncio.create_task(begin()) for begin in begun]
    try:
        await server.serve(sockets=[sock])
    finally:
        for task in tasks:
            task.cancel()
        board.stop()


def _leave_alone_what_stays() -> None:
    """The garbage collector needn't look at modules and models again; what requests leave is freed at once."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    let_go_of_code()


def let_go_of_code() -> None:
    """Most of the libraries' code was needed to start; what is called again comes from the system's cache (Linux)."""
    if sys.platform != "linux":
        return
    advise = ctypes.CDLL(None, use_errno=True).madvise
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            where, may, _, _, inode, *_ = line.split(maxsplit=5)
            if may == "r-xp" and inode != "0":  # a file's code, never written here, so nothing is lost
                start, end = (int(each, 16) for each in where.split("-"))
                advise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_DONTNEED)


def _hosts(host: str, sock: socket.socket) -> frozenset[bytes] | None:
    if host not in ("127.0.0.1", "localhost", "::1"):
        return None
    return loopback(sock.getsockname()[1])


def die_with(parent: int | None) -> None:
    """End when process *parent* ends, where the system can do that (Linux): a killed supervisor leaves no orphan."""
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it has died already
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
