"""A home, and a short way to run functions in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mainspring.execution.engine import Outcome, execute
from mainspring.pipeline.graph import Graph
from mainspring.store.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


@pytest.fixture
def run(home: Home) -> Callable[..., Outcome]:
    def run(*steps: Any, **options: Any) -> Outcome:
        return execute(Graph(steps), home=home, pipeline="seed", **options)

    return run
