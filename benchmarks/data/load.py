"""CSV and Parquet into a checked Delta version, against polars that only reads them and writes them as Parquet.

`python -m benchmarks.data.load [ROWS]`, 5 million unless told. Each side is a process of its own, whose libraries are
loaded before the clock runs.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import polars as pl

from benchmarks.data.rows import rows
from benchmarks.timing import row

ROWS, RUNS, AT_ONCE = 5_000_000, 3, 500_000
_MEASURED = """
import time
{imports}
began = time.perf_counter()
{work}
taken = time.perf_counter() - began
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(taken, int(peak.split()[1]) / 1024)
"""
_OURS = (
    "from pathlib import Path\nfrom mainspring.core import declarations as ms\n"
    "from mainspring.data.ingest import ingest\nfrom mainspring.store.home import Home\n"
    "home = Home.open(Path({home!r}))",
    "made = ingest(source=ms.{kind}({path!r}), roles=ms.Roles('late', key='id', time='at'), home=home, loop='loop')\n"
    "assert made.rows == {rows}, made",
)
_FLOOR = ("import polars as pl", "pl.{read}.write_parquet({out!r})")
_READ = {"csv": "read_csv({path!r}, try_parse_dates=True)", "parquet": "read_parquet({path!r})"}


def main(count: int = ROWS) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = written(folder, count)
        for kind, path in paths.items():
            _compare(kind, path, folder, count)


def written(folder: Path, count: int) -> dict[str, Path]:
    """The same rows as CSV and as Parquet, made piece by piece."""
    frame = pl.concat(rows(min(AT_ONCE, count - start), start=start) for start in range(0, count, AT_ONCE))
    paths = {"csv": folder / "rows.csv", "parquet": folder / "rows.parquet"}
    frame.write_csv(paths["csv"])
    frame.write_parquet(paths["parquet"])
    return paths


def measured(imports: str, work: str) -> tuple[float, float]:
    """Seconds of *work* in a new process, and the most memory that it held (MiB)."""
    script = _MEASURED.format(imports=imports, work=work)
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    return float(told[0]), float(told[1])


def ours(kind: str, path: Path, home: Path, count: int) -> tuple[float, float]:
    imports, work = (part.format(kind=kind, path=str(path), home=str(home), rows=count) for part in _OURS)
    return measured(imports, work)


def _compare(kind: str, path: Path, folder: Path, count: int) -> None:
    read = _READ[kind].format(path=str(path))
    taken: dict[str, list[tuple[float, float]]] = {"floor": [], "ours": []}
    for run in range(RUNS):
        taken["floor"].append(measured(_FLOOR[0], _FLOOR[1].format(read=read, out=str(folder / "floor.parquet"))))
        taken["ours"].append(ours(kind, path, folder / f"{kind}{run}", count))
    floor, mine = (median(seconds for seconds, _ in found) for found in taken.values())
    row(f"{kind}: polars reads and writes {count:,} rows", floor, "s")
    row(f"{kind}: into a checked version", mine, "s")
    row(f"{kind}: of polars' speed", floor / mine, "x", at_least=0.7)
    row(f"{kind}: the most memory, polars", max(memory for _, memory in taken["floor"]), "MiB")
    row(f"{kind}: the most memory, into a version", max(memory for _, memory in taken["ours"]), "MiB", at_most=500)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
