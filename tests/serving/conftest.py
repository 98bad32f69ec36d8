"""Makes `stand_in`, `answering` and `bundled` importable for the tests of this room: tiny real models, served."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for name in ("stand_in", "answering", "bundled"):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Any]:
    """An endpoint over one healthy version."""
    made = sys.modules["answering"].serving(tmp_path, sys.modules["stand_in"].Logistic())
    yield made
    made.pool.shutdown()
