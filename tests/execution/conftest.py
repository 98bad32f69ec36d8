"""A home, and a short way to run functions in it; makes the modules beside this one importable for the tests."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mainspring.execution.engine import Outcome, execute
from mainspring.pipeline.graph import Graph
from mainspring.store.home import Home

for _name in ("soak", "syscalls", "power", "ten", "warm"):
    _spec = importlib.util.spec_from_file_location(_name, Path(__file__).with_name(f"{_name}.py"))
    assert _spec is not None and _spec.loader is not None
    sys.modules[_name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_name])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


@pytest.fixture
def run(home: Home) -> Callable[..., Outcome]:
    def run(*steps: Any, **options: Any) -> Outcome:
        return execute(Graph(steps), home=home, pipeline="seed", **options)

    return run
