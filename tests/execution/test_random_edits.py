"""Random edits to generated projects: a cached run gives what a full run gives, and runs no more than it must."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mainspring.pipeline.bytecode import import_current
from mainspring.store.home import Home
from tests.execution.generated import Made

pytestmark = pytest.mark.filterwarnings("ignore:.*is kept as a pickle")

_EDITS = 25


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    import_current()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "made"]:
        del sys.modules[name]


def load() -> ModuleType:
    forget()
    importlib.invalidate_caches()
    return importlib.import_module("made.main")


def in_full(main: ModuleType) -> dict[str, Any]:
    """What the steps give when they are called as plain functions."""
    known: dict[str, Any] = {}
    for node in main.pipeline.graph.nodes.values():
        known[node.name] = node.step.function(*(known[name] for name in node.inputs))
    return known


def numbers(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Without the functions, classes and objects, which are told by what others do with them."""
    return {name: value for name, value in outputs.items() if isinstance(value, int)}


def check(seed: int, folder: Path, home: Home) -> None:
    made, before = Made.of(seed), {}
    for number in range(_EDITS + 1):
        how, changed = made.edit() if number else ("none", None)
        made.write(folder)
        main = load()
        done = main.pipeline.run(home=home, durability="fast")
        wanted = in_full(main)
        told = f"seed {seed}, edit {number}: {how} of thing {changed}"
        assert numbers(done.outputs) == numbers(wanted), f"false hit: {told}"
        for step in done.steps:
            touched = changed is not None and changed in made.needs(step.name)
            inputs = main.pipeline.graph.nodes[step.name].inputs
            same = number > 0 and all(before.get(name) == numbers(wanted).get(name) for name in inputs)
            if same and not touched and step.state != "cached":
                widened = {planned.name for planned in main.pipeline.plan(home=home) if planned.widened}
                assert step.name in widened, f"false miss: {told}: {step.name} ran, {step.reason}"
        before = numbers(wanted)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_cached_run_gives_what_a_full_run_gives(seed: int, folder: Path, home: Home) -> None:
    check(seed, folder, home)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 130))
def test_750_random_edits_give_no_false_hit(seed: int, folder: Path, home: Home) -> None:
    check(seed, folder, home)
