"""A million rows of PostgreSQL into a checked version, and read alone, against `pandas.read_sql`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.data.load import measured
from benchmarks.timing import row
from tests.data import servers

ROWS, RUNS = 1_000_000, 3
_FILL = """
create table flights as select i::bigint as id, (i % 5000)::int as distance, i / 10.0::float8 as delay,
    'N' || i % 5000 as tail, timestamp '2013-01-01' + i * interval '30 s' as at, (i % 2)::int as late
from generate_series(0, {last}) i
"""
_PANDAS = (
    "import pandas, sqlalchemy\nengine = sqlalchemy.create_engine({address!r}.replace('://', '+psycopg://', 1))",
    "assert len(pandas.read_sql('select * from flights', engine)) == {count}",
)
_READ = (
    "from mainspring.core import declarations as ms\nfrom mainspring.data.sources import reader\n"
    "import adbc_driver_postgresql.dbapi",
    "assert sum(part.height for part, _ in reader(ms.sql({address!r}, 'flights')).read(None)) == {count}",
)
_OURS = (
    "from pathlib import Path\nfrom mainspring.core import declarations as ms\n"
    "from mainspring.data.ingest import ingest\nfrom mainspring.store.home import Home\n"
    "import adbc_driver_postgresql.dbapi\nhome = Home.open(Path({home!r}))",
    "made = ingest(source=ms.sql({address!r}, 'flights'), roles=ms.Roles('late', key='id'), home=home, loop='loop')\n"
    "assert made.rows == {count}",
)


def main(count: int = ROWS) -> None:
    import psycopg

    with servers.postgres() as address, tempfile.TemporaryDirectory() as folder:
        with psycopg.connect(address) as connection:
            connection.execute(_FILL.format(last=count - 1).encode())
        taken: dict[str, list[tuple[float, float]]] = {"pandas": [], "read": [], "ours": []}
        for run in range(RUNS):
            for name, script in (("pandas", _PANDAS), ("read", _READ), ("ours", _OURS)):
                told = {"address": address, "count": count, "home": str(Path(folder) / str(run))}
                taken[name].append(measured(*(part.format(**told) for part in script)))
        floor, read, ours = (median(seconds for seconds, _ in found) for found in taken.values())
        row(f"postgres: pandas.read_sql of {count:,} rows", floor, "s")
        row("postgres: read in batches", read, "s")
        row("postgres: of pandas' speed", floor / read, "x", at_least=5)
        row("postgres: into a checked version", ours, "s")
        row("postgres: into a checked version, of pandas' speed", floor / ours, "x")
        row("postgres: the most memory, pandas", max(memory for _, memory in taken["pandas"]), "MiB")
        row("postgres: the most memory, into a version", max(memory for _, memory in taken["ours"]), "MiB", at_most=500)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
