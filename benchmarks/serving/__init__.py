"""One-row and 100-row predictions a second over keep-alive connections, beside a server that only says "ok".

The server has one core, the load generator (C, compiled here) the other. Needs a C compiler and two cores.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving import change, peers, score
from benchmarks.serving.model import COLUMNS, home
from benchmarks.timing import row

HERE = Path(__file__).parent
SECONDS = 4.0
_SERVER_CORE, _LOAD_CORE = 0, 1


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
        program = folder / "load"
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", str(program), str(HERE / "load.c")], check=True)
        onnx, python = home(folder / "onnx", "linear"), home(folder / "python", "forest")
        with _floor() as floor, _endpoint(onnx) as endpoint, _endpoint(python) as slower:
            _compare(program, folder, floor, endpoint, slower)
            _overload(program, folder, endpoint)
        with _endpoint(onnx) as endpoint:
            _beside_peers(program, folder, endpoint)
        several = home(folder / "several", "linear", change.VERSIONS)
        with _endpoint(several) as port:
            request, rate = folder / "one", str(change.RATE)
            change.compare(several, lambda seconds: _run(program, port, 64, seconds, request, rate))
    score.main()


def _overload(program: Path, folder: Path, endpoint: int) -> None:
    few, many = (_run(program, endpoint, clients, SECONDS, folder / "one") for clients in (64, 640))
    row("640 clients, p99 of what is answered / that of 64 clients", many[2] / few[2], "x", at_most=2)
    row("640 clients, refused", many[4] / SECONDS, "/s")


def _compare(program: Path, folder: Path, floor: int, endpoint: int, slower: int) -> None:
    one, many = _request(folder, "one", 1), _request(folder, "many", 100)
    tensors = _request(folder, "tensors", 1, "/v2/models/bench/infer")
    for clients, least in ((64, 0.5), (8, 0.3), (1, None)):
        empty = _load(program, floor, clients, one)
        said = _load(program, endpoint, clients, one)
        row(f"{clients} clients, empty reply", empty[0], "/s")
        row(f"{clients} clients, one row, ONNX", said[0], "/s", at_least=15_000 if clients == 64 else None)
        row(f"{clients} clients, one row / empty reply", said[0] / empty[0], "x", at_least=least)
        row(f"{clients} clients, p99", said[2], "ms")
        if clients == 1:
            row("1 client, p50 above the empty reply", said[1] - empty[1], "ms", at_most=0.15)
    row("64 clients, one row, V2 tensors, ONNX", _load(program, endpoint, 64, tensors)[0], "/s")
    row("64 clients, one row, forest in Python", _load(program, slower, 64, one)[0], "/s")
    row("8 clients, 100 rows, ONNX", 100 * _load(program, endpoint, 8, many)[0], "rows/s")


def _beside_peers(program: Path, folder: Path, endpoint: int) -> None:
    """Rate at 64 clients, p99 at 8, and 100-row requests, each beside the best of the others."""
    ours = _three(program, endpoint, *(_request(folder, f"{rows} rows", rows) for rows in (1, 100)))
    model = peers.saved(folder / "peers")
    theirs = []
    for name in peers.names():
        key = "dataframe_records" if name == "mlflow" else "rows"
        one, many = (_request(folder, f"{name} {rows}", rows, peers.PATHS[name], key) for rows in (1, 100))
        with _peer(name, model) as port:
            told = _three(program, port, one, many)
        theirs.append(told)
        row(f"{name}: 64 clients, one row", told[0], "/s")
        row(f"{name}: 8 clients, p99", told[1], "ms")
        row(f"{name}: 8 clients, 100 rows", 100 * told[2], "rows/s")
    row("64 clients, one row / the best of these", ours[0] / max(told[0] for told in theirs), "x", at_least=80)
    row("8 clients, p99 / the best of these", ours[1] / min(told[1] for told in theirs), "x", at_most=0.05)
    row("8 clients, 100 rows / the best of these", ours[2] / max(told[2] for told in theirs), "x", at_least=40)


def _three(program: Path, port: int, one: Path, many: Path) -> tuple[float, float, float]:
    return _load(program, port, 64, one)[0], _load(program, port, 8, one)[2], _load(program, port, 8, many)[0]


@contextmanager
def _peer(name: str, model: Path) -> Iterator[int]:
    with _listening() as sock:
        port = sock.getsockname()[1]
    program = f"from benchmarks.serving import peers; peers.serve({name!r}, {port}, {str(model)!r})"
    process = subprocess.Popen(_pinned("-c", program), stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        time.sleep(2)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _load(program: Path, port: int, clients: int, request: Path) -> tuple[float, float, float, float]:
    """Answers a second, and p50, p99 and the largest latency in milliseconds."""
    _run(program, port, clients, 0.5, request)
    rate, median, late, last, failed = _run(program, port, clients, SECONDS, request)
    if failed:
        raise SystemExit(f"{failed:.0f} answers weren't 200")
    return rate, median, late, last


def _run(
    program: Path, port: int, clients: int, seconds: float, request: Path, *rate: str
) -> tuple[float, float, float, float, float]:
    command = ["taskset", "-c", str(_LOAD_CORE), str(program), str(port), str(clients), str(seconds), str(request)]
    said = subprocess.run([*command, *rate], check=True, capture_output=True, text=True).stdout.split()
    told, median, late, last, failed = map(float, said)
    return told, median, late, last, failed


def _request(folder: Path, name: str, rows: int, path: str = "/predict/bench", key: str = "rows") -> Path:
    values = {column: place / 7 for place, column in enumerate(COLUMNS)}
    body: Any = {key: [values] * rows}
    if path.startswith("/v2"):
        body = {
            "inputs": [
                {"name": name, "datatype": "FP64", "shape": [1], "data": [value]} for name, value in values.items()
            ]
        }
    content = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: {{}}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    file = folder / name
    file.write_text(f"{head}\r\n\r\n{content}".replace("{}", "localhost", 1))
    return file


@contextmanager
def _floor() -> Iterator[int]:
    with _listening() as sock:
        process = subprocess.Popen(
            _pinned("-m", "benchmarks.serving.floor", str(sock.fileno())), pass_fds=(sock.fileno(),)
        )
        yield from _serving(process, sock)


@contextmanager
def _endpoint(path: Path) -> Iterator[int]:
    with _listening() as sock:
        process = subprocess.Popen(
            _pinned("-m", "mainspring.serving.worker"), stdin=subprocess.PIPE, pass_fds=(sock.fileno(),)
        )
        assert process.stdin is not None
        told = {"home": str(path), "fd": sock.fileno(), "host": "any"}  # any Host: the request file names none
        process.stdin.write(json.dumps(told).encode())
        process.stdin.close()
        yield from _serving(process, sock)


def _serving(process: subprocess.Popen[bytes], sock: socket.socket) -> Iterator[int]:
    port = sock.getsockname()[1]
    try:
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as asking:
                asking.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if asking.recv(12).endswith(b"200"):
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def _pinned(*arguments: str) -> list[str]:
    return ["taskset", "-c", str(_SERVER_CORE), sys.executable, *arguments]


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
        yield sock
