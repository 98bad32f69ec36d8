"""`mainspring score` beside scikit-learn that reads the whole file and predicts in memory; forests on 10,000 rows."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.ensemble import RandomForestClassifier

from benchmarks.serving.model import COLUMNS, home
from benchmarks.timing import row
from mainspring.loop.scoring import score
from mainspring.packaging.onnx_model import convert
from mainspring.serving import runtime
from mainspring.store.bundles import Bundles
from mainspring.store.deployments import Deployments
from mainspring.store.estimators import load
from mainspring.store.home import Home
from mainspring.store.usercode import UserCode

ROWS = 1_000_000
_MEMORY = r"""
import re, sys
from pathlib import Path
from mainspring.loop.scoring import score
from mainspring.store.home import Home
score(Home.open(Path(sys.argv[1])), "bench", None, sys.argv[2], sys.argv[3], overwrite=True,
      tell=lambda rows, rate: None)
print(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
        draw = np.random.default_rng(1)
        rows = pl.DataFrame({name: draw.normal(size=ROWS) for name in COLUMNS})
        rows.write_parquet(folder / "rows.parquet")
        for kind in ("linear", "forest"):
            _compare(folder, home(folder / kind, kind), kind)
        small, large = (_memory(folder, times) for times in (2, 8))  # of fewer rows not all buffers are full
        row(f"memory of scoring {2 * ROWS:,} rows", small, "MB")
        row(f"memory of scoring {8 * ROWS:,} rows / that", large / small, "x", at_most=1.2)
        _forests()


def _compare(folder: Path, path: Path, kind: str) -> None:
    store = Home.open(path)
    sealed = Bundles(store).open(Deployments(store).version("bench", 1).digest)
    model = load(sealed.read("model.skops"), "skops", UserCode("", {}), (), signed_here=True)
    encoding = runtime.load(sealed.folder)._encoding

    def in_memory() -> None:
        model.predict_proba(encoding.transform(pl.read_parquet(folder / "rows.parquet")))

    def scored() -> None:
        score(store, "bench", None, str(folder / "rows.parquet"), str(folder / "out.parquet"), overwrite=True,
              tell=lambda done, rate: None)  # fmt: skip

    taken = _seconds({"in memory": in_memory, "score": scored})
    row(f"{kind}: scikit-learn in memory, reading included", ROWS / taken["in memory"], "rows/s")
    row(f"{kind}: score, reading and writing included", ROWS / taken["score"], "rows/s")
    row(f"{kind}: score / in memory", taken["in memory"] / taken["score"], "x", at_least=0.9)


def _forests() -> None:
    draw = np.random.default_rng(0)
    matrix, many = draw.normal(size=(4_000, 20)), draw.normal(size=(10_000, 20))
    label = (matrix[:, 0] + matrix[:, 1] * matrix[:, 2] > 0).astype(int)
    for depth in (8, 12, None):
        model = RandomForestClassifier(100, max_depth=depth, random_state=0).fit(matrix, label)
        content, why = convert(model, matrix)
        assert content is not None, why
        answer = runtime._onnx(content, measured=True)
        taken = _seconds({"sklearn": partial(model.predict_proba, many), "onnx": partial(answer, many)}, 7)
        row(f"100 trees, depth {depth}, 10,000 rows: ONNX / scikit-learn", taken["sklearn"] / taken["onnx"], "x",
            at_least=1)  # fmt: skip


def _seconds(calls: Mapping[str, Callable[[], object]], runs: int = 3) -> dict[str, float]:
    """The least seconds of each call over *runs* interleaved runs."""
    taken = dict.fromkeys(calls, float("inf"))
    for _ in range(runs):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            taken[name] = min(taken[name], time.perf_counter() - began)
    return taken


def _memory(folder: Path, times: int) -> float:
    """Megabytes at the peak of scoring all rows *times* over."""
    many = folder / "many.parquet"
    pl.concat([pl.scan_parquet(folder / "rows.parquet")] * times).sink_parquet(many)
    command = [sys.executable, "-c", _MEMORY, str(folder / "linear"), str(many), str(folder / "out.parquet")]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
