"""Half a year of flights in minutes: train on January to March, then live through April to September.

`make demo` runs it. The real service (`mainspring up`) answers real HTTP requests; only its clock is moved by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from socket import socket
from typing import Any

import polars as pl

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import airline  # noqa: E402
import summary  # noqa: E402

LOOP = "late-flights"
IDLE_SECONDS = 10.0
CLIENTS = 8
"""So many flights are asked about at a time; each is a request of its own."""
NOT_KNOWN_YET = ("dep_time", "arr_time", "arr_delay", "air_time", "late")


@dataclass
class Service:
    """The running `mainspring up`: its endpoint and its API."""

    home: Path
    port: int
    control_port: int
    process: subprocess.Popen[bytes]
    connections: dict[tuple[int, int], HTTPConnection] = field(default_factory=dict)
    used: dict[tuple[int, int], float] = field(default_factory=dict)

    def post(self, path: str, body: Any) -> Any:
        return self._call(self.port, "POST", path, body)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        return self._call(self.control_port, method, path, body)

    def _call(self, port: int, method: str, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        if port == self.control_port:
            headers["Authorization"] = f"Bearer {(self.home / 'run' / 'token').read_text().strip()}"
        place = port, threading.get_ident()
        connection = self.connections.setdefault(place, HTTPConnection("127.0.0.1", port, timeout=600))
        if time.monotonic() - self.used.get(place, 0.0) > IDLE_SECONDS:
            connection.close()  # the endpoint closes a connection that is idle for long; the next request opens another
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        self.used[place] = time.monotonic()
        content = json.loads(answer.read() or b"null")
        if answer.status != 200:
            raise SystemExit(f"{method} {path} answered {answer.status}: {content}")
        return content

    def wait_until_ready(self, seconds: float = 180.0) -> None:
        """Until the first champion is served."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"mainspring up ended with exit code {self.process.returncode}; see the lines above")
            try:
                probe = HTTPConnection("127.0.0.1", self.port, timeout=2)
                probe.request("GET", "/readyz")
                if probe.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"nothing was released within {seconds:.0f} s; see the lines above")


@contextmanager
def service(folder: Path, database: str, start: date) -> Iterator[Service]:
    """`mainspring up loop.py` with a manual clock that starts at *start*."""
    port, control_port = _free_port(), _free_port()
    command = [
        sys.executable, "-m", "mainspring.app.cli", "--home", str(folder / ".mainspring"), "up", str(HERE / "loop.py"),
        "--port", str(port), "--control-port", str(control_port), "--clock", "manual",
        "--now", _midnight(start).isoformat(),
    ]  # fmt: skip
    environment = {**os.environ, "FLIGHTS_DB": database}
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        yield Service(folder / ".mainspring", port, control_port, process)
    finally:
        process.terminate()
        process.wait(30)


def live(service: Service, database: str, flights: pl.DataFrame, start: date, until: date) -> pl.DataFrame:
    """Each day add its weather, move the clock, send the labels of yesterday's flights, predict today's; what was
    served."""
    served, day, landed = [], start, list[dict[str, Any]]()
    days = dict(iter(flights.with_columns(day=pl.col("scheduled").dt.date()).group_by("day", maintain_order=True)))
    with ThreadPoolExecutor(CLIENTS) as clients:
        while day < until:
            airline.add(database, day, day + timedelta(days=1), ["weather"])
            service.control("POST", "/api/clock", {"now": _morning(day).isoformat()})
            if landed:
                service.post(f"/feedback/{LOOP}", landed)
            rows = days[(day,)].drop("day").to_dicts() if (day,) in days else []
            answers = list(clients.map(lambda row: _predict(service, row), rows))
            served += answers
            landed = [
                {"id": answer["id"], "label": row["late"]}
                for row, answer in zip(rows, answers, strict=True)
                if row["late"] is not None
            ]
            day += timedelta(days=1)
            _show(day, len(served))
    service.control("POST", "/api/clock", {"now": _morning(until).isoformat()})
    return pl.DataFrame(served)


def _predict(service: Service, row: dict[str, Any]) -> dict[str, Any]:
    known = {name: value for name, value in row.items() if name not in NOT_KNOWN_YET}
    known["scheduled"] = row["scheduled"].isoformat()
    answer = service.post(f"/predict/{LOOP}", known)
    return {
        "id": answer["ids"][0],
        "flight": row["id"],
        "scheduled": row["scheduled"],
        "model": answer["model"],
        "probability": answer["probabilities"][0][-1],
        "late": row["late"],
    }


def _show(day: date, served: int) -> None:
    if day.day == 1 or day.day == 15:
        print(f"  {day:%d %B}: {served:,} flights predicted", flush=True)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _morning(day: date) -> datetime:
    """When a day's flights are predicted, and yesterday's have landed."""
    return _midnight(day) + timedelta(hours=6)


def _free_port() -> int:
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/flights"), help="where everything is written")
    parser.add_argument("--database", help="an empty one, as postgresql://...; default: SQLite in the folder")
    parser.add_argument("--per-day", type=int, default=150, help="flights a day, drawn at random with a fixed seed")
    parser.add_argument("--since", type=date.fromisoformat, default=date(2013, 1, 1), help="first day to learn from")
    parser.add_argument("--start", type=date.fromisoformat, default=date(2013, 4, 1))
    parser.add_argument("--until", type=date.fromisoformat, default=date(2013, 10, 1))
    arguments = parser.parse_args()
    folder, start, until = arguments.folder.resolve(), arguments.start, arguments.until
    database = arguments.database or f"sqlite:///{folder / 'airline.db'}"
    began = time.monotonic()

    print(f"1. the airline's database: flights and weather from {arguments.since} to {start}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    airline.create(database)
    airline.add(database, arguments.since, start)
    ahead = airline.flights().filter(pl.col("scheduled").dt.date().is_between(start, until, closed="left"))
    sample = _sample(ahead, arguments.per_day)
    print(
        "2. mainspring up: trains, gates and releases; "
        f"then {sample.height:,} of {ahead.height:,} flights will be predicted"
    )
    with service(folder, database, start) as running:
        running.wait_until_ready()
        print(f"3. living through {start} to {until}, {arguments.per_day} flights a day", flush=True)
        served = live(running, database, sample, start, until)
        decisions = running.control("GET", f"/api/loops/{LOOP}/decisions")
    served.write_parquet(folder / "served.parquet")
    print("4. what happened", flush=True)
    summary.write(folder, decisions, served, sample)
    print(f"done in {time.monotonic() - began:.0f} s")


def _sample(flights: pl.DataFrame, per_day: int) -> pl.DataFrame:
    """At most *per_day* flights of each day, the same ones every time, in their order."""
    day = pl.col("scheduled").dt.date()
    drawn = flights.filter(pl.int_range(pl.len()).shuffle(seed=13).over(day) < per_day)
    return drawn.sort("scheduled", "id")


if __name__ == "__main__":
    main()
