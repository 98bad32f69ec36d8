"""`mainspring doctor`: what is wrong with an installation or a home, and the command or edit that mends it."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from mainspring.app.config import Settings
from mainspring.core.errors import HomeDamaged, MainspringError
from mainspring.store import gc
from mainspring.store.audit import Audit
from mainspring.store.bundles import Bundles
from mainspring.store.catalog import Catalog
from mainspring.store.deployments import Deployments
from mainspring.store.files import Files
from mainspring.store.home import Database, Home
from mainspring.store.journal import Journal
from mainspring.store.registry import Registry

State = Literal["ok", "warning", "wrong"]
NEEDED = {
    "polars": "2.1", "deltalake": "1.6", "scikit-learn": "1.7", "optuna": "5", "mlflow-skinny": "3.17",
    "onnxruntime": "1.22", "skl2onnx": "1.19", "skops": "0.13", "starlette": "0.48", "uvicorn": "0.35",
}  # fmt: skip
LOW_DISK_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; *mend* is what to do when it isn't ok."""

    subject: str
    state: State
    detail: str
    mend: str = ""


def examine(settings: Settings) -> list[Finding]:
    """All findings, the installation's first; never raises for what it is there to find."""
    findings = [_python(), *_libraries()]
    if settings.home.exists() and not settings.home.is_dir():
        findings.append(
            Finding("home", "wrong", f"{settings.home} is no folder", "move it away, or give another --home")
        )
        return [*findings, *_ports(settings)]
    if not settings.home.is_dir():
        findings.append(Finding("home", "ok", f"{settings.home} is not there yet; the first run makes it"))
        return [*findings, *_ports(settings)]
    findings += [_disk(settings.home), _writable(settings.home)]
    try:
        home = Home.open(settings.home)
    except (MainspringError, sqlite3.DatabaseError, OSError) as error:
        said, _, mend = str(error).rpartition("; ")
        return [*findings, Finding("state", "wrong", said or mend, mend), *_ports(settings)]
    checks: tuple[Callable[[Home], Iterator[Finding]], ...] = (
        _database, _runs, _objects, _leftovers, _bundles, _aliases, _token, _audit,
    )  # fmt: skip
    for check in checks:
        try:
            findings += list(check(home))
        except (MainspringError, sqlite3.DatabaseError, OSError) as error:
            findings.append(
                Finding(check.__name__.strip("_"), "wrong", f"{type(error).__name__}: {error}", "see the message")
            )
    return [*findings, *_ports(settings)]


def _python() -> Finding:
    return Finding("python", "ok", ".".join(map(str, sys.version_info[:3])))


def _libraries() -> Iterator[Finding]:
    for name, least in NEEDED.items():
        mend = f"pip install '{name}>={least}'"
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name == "mlflow-skinny" and _installed("mlflow"):
                continue
            yield Finding(name, "wrong", "not installed", mend)
            continue
        if _numbers(version) < _numbers(least):
            yield Finding(name, "wrong", f"{version}, {least} or newer is needed", mend)
        else:
            yield Finding(name, "ok", version)
    protobuf = metadata.version("protobuf") if _installed("protobuf") else "0"
    if _numbers(protobuf) >= (7,):
        yield Finding(
            "protobuf", "wrong", f"{protobuf}: histogram boosting can't become ONNX", "pip install 'protobuf<7'"
        )


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(path).free
    if free < LOW_DISK_BYTES:
        return Finding(
            "disk", "warning", f"{free >> 20} MB free under {path}", "make room; runs need it for artifacts and records"
        )
    return Finding("disk", "ok", f"{free >> 30} GB free")


def _writable(path: Path) -> Finding:
    if not os.access(path, os.W_OK | os.X_OK):
        return Finding(
            "home", "wrong", f"{path} can't be written", f"chown or chmod {path}, or choose another with --home"
        )
    return Finding("home", "ok", str(path))


def _database(home: Home) -> Iterator[Finding]:
    answer = _soundness(home.database)
    if answer != "ok":
        yield Finding("state", "wrong", f"{home.database.path}: {answer}", "restore it from a backup")
    else:
        yield Finding("state", "ok", f"{home.database.path} is sound")
    for path in sorted(home.folder("records").glob("*/compacted.db")):
        with closing(Database(path)) as index:
            if (answer := _soundness(index)) != "ok":
                yield Finding("records", "wrong", f"{path}: {answer}", "`mainspring gc` makes it anew")


def _soundness(database: Database) -> str:
    try:
        return " ".join(str(database.query("pragma integrity_check(1)")[0][0]).split())
    except HomeDamaged as error:
        return str(error).partition(";")[0]


def _runs(home: Home) -> Iterator[Finding]:
    interrupted = [run.id for run in Journal(home).runs() if run.status == "interrupted"]
    if interrupted:
        yield Finding(
            "runs",
            "warning",
            f"interrupted: {', '.join(interrupted[:5])}",
            "`mainspring run FILE` goes on with the newest",
        )
    else:
        yield Finding("runs", "ok", "none is interrupted")


def _objects(home: Home) -> Iterator[Finding]:
    """What lies in the object store has its name's digest, and what the newest outputs name lies there."""
    files, journal = Files(home), Journal(home)
    damaged = [path.name for path in files.folder.iterdir() if not files.sound(path.name)]
    if damaged:
        names = ", ".join(name[:12] for name in damaged[:5])
        yield Finding("objects", "warning", f"{_count(damaged, 'object')} damaged: {names}", _MADE_AGAIN)
    lost = [
        f"{name} of {pipeline}"
        for pipeline in journal.pipelines()
        for name, record in journal.latest(pipeline).items()
        if record.output is not None and not Catalog(home).sound(record.output)
    ]
    if lost:
        yield Finding("outputs", "warning", f"{_count(lost, 'output')} lost: {', '.join(lost[:5])}", _MADE_AGAIN)
    if not (damaged or lost):
        yield Finding("objects", "ok", "all are there and undamaged")


_MADE_AGAIN = "nothing to do: the next run that needs them makes them again"


def _count(things: list[str], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _leftovers(home: Home) -> Iterator[Finding]:
    leftovers = gc.leftovers(home)
    if leftovers.count:
        detail = f"{leftovers.count} of processes that were killed, {leftovers.bytes:,} bytes"
        yield Finding("leftovers", "warning", detail, "`mainspring gc` removes them")


def _bundles(home: Home) -> Iterator[Finding]:
    deployments, bundles = Deployments(home), Bundles(home)
    for loop, route in deployments.routes().items():
        for number in filter(None, (route.champion, route.canary)):
            version = deployments.version(loop, number)
            try:
                bundles.path(version.digest)
            except MainspringError as error:
                yield Finding(
                    version.name,
                    "wrong",
                    str(error),
                    f"`mainspring rollback {loop}`, then run the loop again with --force package",
                )
            else:
                yield Finding(version.name, "ok", "the package is signed and unchanged")


def _aliases(home: Home) -> Iterator[Finding]:
    if not (home.path / "mlflow.db").is_file():
        return
    for alias in Registry(home).moved_aliases():
        yield Finding(
            "mlflow", "warning", str(alias), "`mainspring promote NAME@VERSION` takes it over, or move it back"
        )


def _token(home: Home) -> Iterator[Finding]:
    path = home.path / "run" / "token"
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield Finding("token", "wrong", f"{path} can be read by others", f"chmod 600 {path}")


def _audit(home: Home) -> Iterator[Finding]:
    faults = Audit(home).faults()
    if faults:
        mend = "`mainspring audit verify` shows all; restore the database from a backup made before that"
        yield Finding("audit", "wrong", faults[0], mend)


def _ports(settings: Settings) -> Iterator[Finding]:
    for name, port in (("port", settings.port), ("control_port", settings.control_port)):
        with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
            probe.settimeout(0.3)
            if probe.connect_ex((settings.host, port)) == 0:
                yield Finding(
                    name,
                    "warning",
                    f"{port} is in use",
                    f"fine when `mainspring up` runs; else choose another with --{name.replace('_', '-')}",
                )
