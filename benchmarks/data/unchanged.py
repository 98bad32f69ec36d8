"""An ingest with nothing new: of a database with a cursor, and of a file that hasn't changed."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.data.load import measured
from benchmarks.data.rows import rows
from benchmarks.timing import row

ROWS, RUNS = 1_000_000, 5
_IMPORTS = """
from pathlib import Path
from mainspring.core import declarations as ms
from mainspring.data.ingest import ingest
from mainspring.store.home import Home
home = Home.open(Path({home!r}))
"""
_WORK = "ingest(source={source}, roles=ms.Roles('late', key='id'), home=home, loop='loop')"


def main(count: int = ROWS) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frame = rows(count).drop("at")
        frame.write_parquet(folder / "rows.parquet")
        database = folder / "rows.db"
        with sqlite3.connect(database) as connection:
            connection.execute("create table flights (id, distance, delay, wind, carrier, tail, night, late)")
            connection.executemany("insert into flights values (?, ?, ?, ?, ?, ?, ?, ?)", frame.iter_rows())
            connection.execute("create index ids on flights (id)")
        connection.close()
        sources = {
            "cursor": f"ms.sql({str(database)!r}, 'flights', cursor='id')",
            "file": f"ms.parquet({str(folder / 'rows.parquet')!r})",
        }
        for kind, source in sources.items():
            imports, work = _IMPORTS.format(home=str(folder / kind)), _WORK.format(source=source)
            measured(imports, work)
            taken = median(measured(imports, work)[0] for _ in range(RUNS))
            row(f"{kind}: nothing new beside {count:,} rows", taken, "s", at_most=0.3)


if __name__ == "__main__":
    main()
