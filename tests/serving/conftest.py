"""Makes `stand_in` importable for the tests of this room: a tiny real model, and processes that serve it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_spec = importlib.util.spec_from_file_location("stand_in", Path(__file__).with_name("stand_in.py"))
assert _spec is not None and _spec.loader is not None
stand_in = importlib.util.module_from_spec(_spec)
sys.modules["stand_in"] = stand_in
_spec.loader.exec_module(stand_in)
