"""Real database servers, each started in a folder of its own by a user who isn't root, and ended with the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SECONDS = 60.0


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty PostgreSQL database."""
    with _folder() as folder:
        port, data = _free_port(), folder / "data"
        _run(_postgres("initdb"), "-D", str(data), "-A", "trust", "-U", "tester", "--no-sync")
        server = _started(
            _postgres("postgres"), "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1",
            "-k", str(folder), "-F", log=folder / "log",
        )  # fmt: skip
        with _ended(server):
            _wait(lambda: _run(_postgres("psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "tester", "-c", "select 1",
                               "postgres"), server, folder / "log")  # fmt: skip
            yield f"postgresql://tester:s3cret-word@127.0.0.1:{port}/postgres"


@contextmanager
def mariadb() -> Iterator[str]:
    """The address of an empty MariaDB database."""
    with _folder() as folder:
        port, data = _free_port(), folder / "data"
        install = [_found("mariadb-install-db"), "--no-defaults", f"--datadir={data}"]
        _run(*install, "--auth-root-authentication-method=normal", "--skip-test-db")
        server = _started(
            _found("mariadbd"), "--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1",
            f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}", "--innodb-flush-log-at-trx-commit=0",
            log=folder / "log",
        )  # fmt: skip
        client = [_found("mariadb"), "--no-defaults", f"--socket={folder / 'socket'}", "-u", "root", "-e"]
        setup = ("create database airline; create user 'tester'@'%' identified by 's3cret-word'; "
                 "grant all on airline.* to 'tester'@'%'")  # fmt: skip
        with _ended(server):
            _wait(lambda: _run(*client, "select 1"), server, folder / "log")
            _run(*client, setup)
            yield f"mysql+pymysql://tester:s3cret-word@127.0.0.1:{port}/airline"


def _postgres(name: str) -> str:
    """Debian keeps a version's programs in a folder of their own."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((str(folder / name) for folder in folders if (folder / name).is_file()), "") or _found(name)


def _found(name: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    assert path, f"{name} isn't installed: apt-get install postgresql mariadb-server"
    return path


def _user() -> int | None:
    """Who runs a server: PostgreSQL refuses root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ms-server-"))
    if (user := _user()) is not None:
        os.chown(folder, user, -1)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command: str) -> None:
    subprocess.run(command, user=_user(), check=True, capture_output=True, cwd="/", timeout=_SECONDS)


def _started(*command: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(command, user=_user(), stdout=file, stderr=file, cwd="/")


@contextmanager
def _ended(server: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait(answers: Callable[[], None], server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            answers()
            return
        except (subprocess.SubprocessError, OSError):
            ended = server.poll() is not None
            assert not ended and time.monotonic() < deadline, log.read_text(errors="replace")[-2000:]
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])
