"""`mainspring up`: owns the sockets, starts serving process and controller, restarts what dies, drains at the end."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO, Any

from mainspring.app.access import access
from mainspring.app.asking import lock_of
from mainspring.app.compaction import Compaction
from mainspring.app.config import Settings
from mainspring.app.spare import Spare, begin, tell
from mainspring.core.errors import PortTaken, ServiceError
from mainspring.serving.beside import shared_memory
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home

DRAIN_SECONDS = 15.0
BACKOFF_SECONDS = (0.0, 0.2, 1.0, 5.0)
CALM_SECONDS = 30.0
_SO_ATTACH_FILTER = 26
_WORKER = "mainspring.serving.worker"


@dataclass(slots=True)
class Child:
    """A process that the supervisor keeps alive. Its settings go in as JSON on its standard input."""

    name: str
    module: str
    settings: Mapping[str, Any]
    listener: socket.socket
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    started: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[int, ...] = ()
    spare: Spare | None = None

    @property
    def files(self) -> tuple[int, ...]:
        return (self.listener.fileno(), *self.shared)

    def told(self) -> dict[str, Any]:
        """Its settings, as it gets them."""
        return {**self.settings, "fd": self.listener.fileno(), "parent": os.getpid()}

    def start(self) -> None:
        self.started = time.monotonic()
        ready = None if self.spare is None else self.spare.take()
        self.process = ready or begin(self.module, self.files, self.environment)
        tell(self.process, self.told())

    def terminate(self) -> None:
        if self.process is not None and self.process.poll() is None:
            refuse(self.listener)
            self.process.terminate()

    def wait(self) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def up(
    files: Sequence[str],
    loops: Sequence[str],
    settings: Settings,
    *,
    manual_clock: bool = False,
    now: str | None = None,
    once: bool = False,
    seeds: Mapping[str, int] | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Serve *loops*, those of *files*, until a signal or, with *once*, until one turn and one report are done.

    seeds: each loop's, which make its predictions' ids repeatable, for history that is lived through by a manual clock.
    """
    doors = access(settings)
    home = Home.open(settings.home)
    with (
        _only_one(home) as only,
        listen(settings.host, settings.port) as data,
        listen("127.0.0.1", settings.control_port, "--control-port") as control,
    ):
        endpoint, api = _url(settings.host, data, settings), _url("127.0.0.1", control)
        only.tell(api)
        _set_clock(home, now, manual=manual_clock)  # before anybody is served by it
        controlling = {
            "home": str(home.path),
            "files": list(files),
            "mlflow": settings.mlflow,
            "manual_clock": manual_clock,
            "once": once,
            "endpoint": endpoint,
        }
        children = [
            *_serving(home, settings, doors, data, list(loops), manual_clock=manual_clock, seeds=seeds),
            Child("controller", "mainspring.app.control", controlling, control),
        ]
        say(f"endpoint {endpoint}   api {api}/api   home {home.path}")
        return _supervise(children, once, say)


def _set_clock(home: Home, now: str | None, *, manual: bool) -> None:
    """A manual clock starts at *now* once; after a restart it goes on from where it stood."""
    deployments = Deployments(home)
    if not manual:
        deployments.set_clock(None)
    elif deployments.clock() is None:
        moment = datetime.now(UTC) if now is None else datetime.fromisoformat(now)
        deployments.set_clock(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def serve(settings: Settings, *, say: Callable[[str], None] = print) -> int:
    """The endpoint alone, until a signal: every loop of the home, as its route says."""
    doors = access(settings)
    home = Home.open(settings.home)
    with listen(settings.host, settings.port) as data:
        say(f"endpoint {_url(settings.host, data, settings)}   home {home.path}")
        return _supervise(_serving(home, settings, doors, data, "all"), False, say, Compaction(home))


def serve_bundle(settings: Settings, folder: Path, loop: str, *, say: Callable[[str], None] = print) -> int:
    """The endpoint for the bundle of *loop* in *folder* alone, until a signal. It keeps nothing and needs no home."""
    doors = access(settings)
    told = {"bundle": str(folder.resolve()), "max_rows": settings.max_rows, "host": settings.host, **doors}
    with listen(settings.host, settings.port) as data:
        say(f"endpoint {_url(settings.host, data, settings)}   bundle {folder} of {loop}")
        return _supervise(_workers(told, data, settings.workers), False, say)


def _url(host: str, sock: socket.socket, settings: Settings | None = None) -> str:
    scheme = "https" if settings is not None and settings.cert is not None else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"


def listen(host: str, port: int, flag: str = "--port") -> socket.socket:
    """A listening socket; raises PortTaken, with what to do, when another program has the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"port {port} of {host} is taken by another program; stop it, or choose another with {flag}"
            ) from error
        raise ServiceError(f"can't listen on {host}:{port} ({error.strerror}); check --host and --port") from error
    return sock


def refuse(sock: socket.socket) -> None:
    """Let no new connection come to a listening socket, which ends soon: who is let in is answered. Only on Linux.

    Every new connection would else be made by the kernel and cut off when the last process closes the socket. A packet
    filter that drops connection requests leaves the caller to ask again, and to learn then that nobody listens.
    """
    if sys.platform != "linux":
        return
    flags = (0x30, 0, 0, 13)  # the byte of the TCP header with SYN (2) and ACK (16)
    program = [flags, (0x54, 0, 0, 18), (0x15, 0, 1, 2), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    with contextlib.suppress(OSError):  # a kernel without it: as everywhere else
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(buffer)))


class _only_one:
    """A kernel lock, gone with its process: two services on one home would both retrain."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.file: IO[str] | None = None

    def __enter__(self) -> _only_one:
        self.file = open(lock_of(self.home), "a+", encoding="utf-8")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.file.close()
            raise ServiceError(
                f"another `mainspring up` runs on {self.home.path}; stop it first, or choose another --home"
            ) from error
        self.tell("")
        return self

    def tell(self, api: str) -> None:
        """Write down where the API is, for the commands that ask it."""
        assert self.file is not None
        self.file.truncate(0)
        self.file.write(api)
        self.file.flush()

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()


def _serving(
    home: Home,
    settings: Settings,
    doors: Mapping[str, Any],
    data: socket.socket,
    loops: list[str] | str,
    *,
    manual_clock: bool = False,
    seeds: Mapping[str, int] | None = None,
) -> list[Child]:
    told = {
        "home": str(home.path),
        "loops": loops,
        "max_rows": settings.max_rows,
        "manual_clock": manual_clock,
        "host": settings.host,
        "seeds": {} if seeds is None else dict(seeds),
        **doors,
    }
    return _workers(told, data, settings.workers)


def _workers(told: Mapping[str, Any], data: socket.socket, many: int) -> list[Child]:
    """The serving processes; all accept on *data*, so that what waits there when one dies goes to another."""
    one_core = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    names: list[str] = ["serving"]
    shared: tuple[int, ...] = ()
    if many > 1:
        names, shared = [f"serving {number}" for number in range(many)], (shared_memory(),)
        told = {**told, "workers": many, "measures_fd": shared[0]}
    serving = [
        Child(name, _WORKER, {**told, "worker": number}, data, environment=one_core, shared=shared)
        for number, name in enumerate(names)
    ]
    spare = Spare(_WORKER, serving[0].files, one_core, serving[0].told())
    for child in serving:
        child.spare = spare
    return serving


def _supervise(
    children: list[Child], once: bool, say: Callable[[str], None], compaction: Compaction | None = None
) -> int:
    stopping: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        stopping.append(number)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for child in children:
            child.start()
        while not stopping:
            for child in children:
                code = _restart_if_dead(child, say, final=once and child.name == "controller")
                if code is not None:
                    return code
            if not once:
                _keep_spare(children)
            if compaction is not None:
                compaction.keep()
            time.sleep(0.05)
        say("draining: requests in flight are answered, the step that runs is finished or taken up at the next start")
        return 0
    finally:
        if compaction is not None:
            compaction.end()
        last = [child for child in children if child.module == _WORKER]
        first = [child for child in children if child not in last]
        for child in last:
            if child.spare is not None:
                child.spare.end()
        for group in (first, last):  # the controller first: nobody may change routes while serving drains
            for child in group:
                child.terminate()
            for child in group:
                child.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _keep_spare(children: Sequence[Child]) -> None:
    serving = [child for child in children if child.spare is not None]
    serving[0].spare.keep(calm_since=max(child.started for child in serving))  # type: ignore[union-attr]


def _restart_if_dead(child: Child, say: Callable[[str], None], *, final: bool) -> int | None:
    """The exit code when *child* is gone for good; None while it runs or was started again."""
    assert child.process is not None
    code = child.process.poll()
    if code is None:
        return None
    if final or code == 2:
        return code
    lived = time.monotonic() - child.started
    killed = code == -signal.SIGKILL and lived > 1  # by a person or the system: no fault that comes again at once
    child.deaths = 1 if killed or lived > CALM_SECONDS else child.deaths + 1
    if child.deaths > 8:
        say(
            f"{child.name} process died {child.deaths} times in a row (exit {code}); see above, and `mainspring doctor`"
        )
        return 1
    say(f"{child.name} process died (exit {code}); starting it again")
    time.sleep(BACKOFF_SECONDS[min(child.deaths, len(BACKOFF_SECONDS)) - 1])
    try:
        child.start()
    except OSError as error:  # no memory, or no more processes: the others go on, and there may be room soon
        child.deaths = min(child.deaths, len(BACKOFF_SECONDS))
        say(f"{child.name} process can't be started now ({error.strerror}); trying again")
    return None
