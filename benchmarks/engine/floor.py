"""The floor: SQLite in WAL mode with `synchronous=FULL`, one commit and one fsynced file per step, nothing else."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path


def loop(folder: Path, steps: int) -> float:
    """Seconds for *steps* steps of a chain."""
    folder.mkdir()
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=full")
    connection.execute("create table steps (name, value)")
    began = time.perf_counter()
    for number in range(steps):
        with open(folder / f"{number}.json", "w") as file:
            file.write(str(number + 1))
            file.flush()
            os.fsync(file.fileno())
        connection.execute("insert into steps values (?, ?)", (number, number + 1))
    taken = time.perf_counter() - began
    connection.close()
    return taken
