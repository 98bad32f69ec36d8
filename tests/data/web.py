"""A real web server on this machine that answers as a test says: late, cut off, with any status and headers."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """An answer. cut: the body ends after so many bytes; late: seconds before it begins; trickle: between its bytes."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    cut: int | None = None
    length: bool = True
    late: float = 0.0
    trickle: float = 0.0


def answer(value: Any, **how: Any) -> Answer:
    """*value* as JSON."""
    return Answer(json.dumps(value).encode(), **how)


class Script:
    """Answers in their order; the last one again and again."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers, self._next = answers, 0

    def __call__(self, asked: Asked) -> Answer:
        self._next += 1
        return self._answers[min(self._next, len(self._answers)) - 1]


@dataclass
class Server:
    """Where it listens, and all that it was asked."""

    url: str
    asked: list[Asked]


@contextmanager
def serving(say: Callable[[Asked], Answer], certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """A server that answers each request with what *say* makes of it; with *certificate* and its key, by TLS."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            got = Asked(self.command, parts.path, dict(parse_qsl(parts.query, True)), _lower(self.headers), body)
            asked.append(got)
            said = say(got)
            time.sleep(said.late)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if said.length:
                self.send_header("Content-Length", str(len(said.body)))
            self.send_header("Connection", "close")
            self.end_headers()
            content = said.body if self.command != "HEAD" else b""
            self._write(content if said.cut is None else content[: said.cut], said.trickle)
            self.close_connection = True

        def _write(self, content: bytes, trickle: float) -> None:
            try:
                for piece in [content] if not trickle else [content[at : at + 1] for at in range(len(content))]:
                    self.wfile.write(piece)
                    time.sleep(trickle)
            except OSError:  # who asked has gone
                return

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing is logged."""

        do_GET = do_HEAD = do_POST = _reply

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Server(f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
