"""Every test session has keys and caches of its own: the person's are never touched. A process computes on one core."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.warm import LIBRARIES, Warm

# Several processes test at once. OpenMP's threads wait by spinning: where there are more of them than cores, a small
# boosting costs thirty times its work. Processes that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=200, help="How many kills the soak makes (make soak KILLS=1000).")


LONG = (
    "test_flights.py",
    "test_examples.py",
    "test_strangers.py",
    "test_up.py",
    "test_executors.py",
    "test_recovery.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that the processes end together."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session", autouse=True)
def own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("person")
    names = {"XDG_CONFIG_HOME": folder / "config", "XDG_CACHE_HOME": folder / "cache"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(path) for name, path in names.items()})
    yield
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def loaded(own_configuration: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Forks commands and Python from a process that has loaded the big libraries."""
    source = str(Path(__file__).parents[1] / "src")
    with Warm(tmp_path_factory.mktemp("loaded"), load=LIBRARIES, PYTHONPATH=source) as warm:
        yield warm


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """A test ends with its threads: pytest's filters for warnings would otherwise change under MLflow's import."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("mainspring-registry"):
            thread.join(30)
