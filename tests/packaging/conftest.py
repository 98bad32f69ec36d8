"""Makes `candidates` importable for the tests of this room."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("candidates", Path(__file__).with_name("candidates.py"))
assert _spec is not None and _spec.loader is not None
candidates = importlib.util.module_from_spec(_spec)
sys.modules["candidates"] = candidates
_spec.loader.exec_module(candidates)
