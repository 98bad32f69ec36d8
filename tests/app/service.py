"""A `mainspring up` of its own for a test: real processes, real sockets, a manual clock or the system's."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any


class Up:
    """The service on *file*, in *folder*; *now*: of its manual clock, None for the system's."""

    def __init__(self, folder: Path, file: str, *, now: str | None = "2024-01-01T00:00:00+00:00") -> None:
        self.folder, self.file, self.now = folder, file, now
        self.port, self.control_port = _free_port(), _free_port()
        self.log = folder / "up.log"
        self.process = self._start()

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-m", "mainspring.app.cli", "up", self.file, "--port", str(self.port),
            "--control-port", str(self.control_port),
            *([] if self.now is None else ["--clock", "manual", "--now", self.now]),
        ]  # fmt: skip
        with self.log.open("ab") as log:
            return subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)

    def stop(self) -> int:
        """Ctrl-C, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(40)

    def kill(self) -> None:
        """kill -9 of the supervisor; its children notice by themselves."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        deadline = time.monotonic() + 10
        while _listens(self.port) and time.monotonic() < deadline:
            time.sleep(0.05)

    def again(self) -> None:
        """Start again on the same home."""
        self.process = self._start()

    def ready(self, seconds: float = 120.0) -> Up:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.get("/readyz")[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not ready: {self.log.read_text()}")

    def get(self, path: str) -> tuple[int, Any]:
        return _call(f"http://127.0.0.1:{self.port}{path}", None, {})

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        return _call(f"http://127.0.0.1:{self.port}{path}", body, {})

    def api(self, path: str, body: Any = None, *, token: str | None = None) -> tuple[int, Any]:
        secret = (self.folder / ".mainspring" / "run" / "token").read_text().strip() if token is None else token
        return _call(f"http://127.0.0.1:{self.control_port}{path}", body, {"Authorization": f"Bearer {secret}"})


def _call(url: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            status, content = answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        status, content = refused.code, refused.read()
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content.decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
