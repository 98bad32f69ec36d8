"""Makes `living` importable for the tests of this room, and a loop with a champion, made once and copied for each."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from mainspring.app.running import Surroundings
from mainspring.store.home import Home

_spec = importlib.util.spec_from_file_location("living", Path(__file__).with_name("living.py"))
assert _spec is not None and _spec.loader is not None
living = importlib.util.module_from_spec(_spec)
sys.modules["living"] = living
_spec.loader.exec_module(living)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose loop has its first champion, since START."""
    folder = tmp_path_factory.mktemp("trained") / ".mainspring"
    where = Surroundings(Home.open(folder), clock=lambda: living.START)
    run = living.loop().start(where, {})
    assert run.error is None and run.model == "late@1", run
    where.home.database.close()
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Home:
    """A home of the test's own in which the loop has its first champion."""
    shutil.copytree(trained, tmp_path / ".mainspring")
    return Home.open(tmp_path / ".mainspring")


@pytest.fixture
def empty(tmp_path: Path) -> Home:
    """A home without anything."""
    return Home.open(tmp_path / ".mainspring")
