"""`python -m benchmarks [NAME...]`: all benchmarks, or those named; a figure that misses its target says SHORT."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(
    {path.stem for path in HERE.glob("[a-z]*.py")} - {"timing"}
    | {path.parent.name for path in HERE.glob("*/__init__.py")}
)

for name in sys.argv[1:] or NAMES:
    print(f"\n{name}")
    importlib.import_module(f"benchmarks.{name}").main()
