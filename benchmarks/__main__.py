"""`python -m benchmarks [NAME...]`: all benchmarks, or those named."""

from __future__ import annotations

import importlib
import sys

NAMES = ("startup", "chain", "seed")

for name in sys.argv[1:] or NAMES:
    print(f"\n{name}")
    importlib.import_module(f"benchmarks.{name}").main()
