"""gc frees what nobody needs, says how much, and never takes anything from a run, whenever that begins or writes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.values import Bundle
from mainspring.execution.engine import Outcome, execute
from mainspring.pipeline.graph import Graph
from mainspring.store import gc
from mainspring.store.catalog import Catalog
from mainspring.store.deployments import Deployments
from mainspring.store.gc import Amount, Garbage, collect
from mainspring.store.home import Home
from mainspring.store.journal import Journal

LATER = datetime.now(UTC) + timedelta(days=400)
BUNDLE = Bundle("", "l", "Forest", "onnx", "binary", (), "roc_auc", 1)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / "a home ü")


def rows(size: int = 1) -> list[int]:
    return list(range(size))


def text(rows: list[int]) -> str:
    return "x" * len(rows)


@pytest.fixture
def run(home: Home) -> Callable[..., Outcome]:
    def run(size: int = 20_000, pipeline: str = "p", *steps: Any) -> Outcome:
        outcome = execute(Graph(steps or (rows, text)), home=home, pipeline=pipeline, parameters={"size": size})
        assert outcome.error is None
        return outcome

    return run


def objects(home: Home) -> set[str]:
    return {path.name for path in home.folder("objects").iterdir()}


def states(outcome: Outcome) -> list[str]:
    return [step.state for step in outcome.steps]


def test_the_last_run_s_outputs_stay_and_older_ones_go(home: Home, run: Callable[..., Outcome]) -> None:
    run(20_000), run(30_000)
    foreseen = collect(home, now=LATER, dry_run=True)
    assert len(objects(home)) == 4

    found = collect(home, now=LATER)

    assert found == foreseen and (found.objects.count, found.cache.count, found.kept.count) == (2, 2, 2)
    assert found.objects.bytes > 100_000 and found.bytes == found.objects.bytes
    assert states(run(30_000)) == ["cached", "cached"] and run(30_000).outputs["text"] == "x" * 30_000
    assert states(run(20_000)) == ["run", "run"]
    assert len(Journal(home).runs()) == 5


def test_what_was_used_within_the_days_to_keep_stays(home: Home, run: Callable[..., Outcome]) -> None:
    run(20_000), run(30_000)

    assert collect(home).objects == Amount()
    assert collect(home, keep_days=500, now=LATER).cache == Amount()
    assert collect(home, keep_days=0).objects.count == 2


def test_a_cached_output_that_a_young_run_used_stays(home: Home, run: Callable[..., Outcome]) -> None:
    run(20_000), run(30_000), run(20_000)
    _age(home, keep=1)

    found = collect(home)

    assert (found.objects.count, found.cache.count) == (2, 2)
    assert states(run(20_000)) == ["cached", "cached"]


def _age(home: Home, keep: int) -> None:
    """All runs but the last *keep* were long ago."""
    old = (datetime.now(UTC) - timedelta(days=90)).isoformat()
    with home.database.transaction() as connection:
        numbers = [row[0] for row in connection.execute("select number from runs order by number desc")][keep:]
        for number in numbers:
            connection.execute("update runs set created = ?, ended = ? where number = ?", (old, old, number))
            connection.execute("update cache set created = ? where run = (select id from runs where number = ?)",
                               (old, number))  # fmt: skip


def test_every_pipeline_keeps_its_last_run(home: Home, run: Callable[..., Outcome]) -> None:
    run(20_000, "first"), run(30_000, "second")

    assert collect(home, now=LATER).objects == Amount()


def test_the_outputs_of_a_version_s_run_and_its_bundle_stay_while_it_matters(
    home: Home, run: Callable[..., Outcome]
) -> None:
    made = run(20_000).run_id
    run(30_000)
    for digest in ("aa", "bb"):
        (home.folder("bundles") / digest).mkdir()
        (home.folder("bundles") / digest / "model.onnx").write_bytes(b"m" * 100)
    deployments = Deployments(home)
    bundle = replace(BUNDLE, digest="aa")
    number = deployments.register("l", bundle, run=made, champion_digest=None, metrics={}, at=LATER)
    deployments.set_state("l", number, "champion")

    found = collect(home, now=LATER)
    assert (found.objects, found.bundles) == (Amount(), Amount(1, 100)) and (home.folder("bundles") / "aa").is_dir()

    deployments.set_state("l", number, "retired")
    assert (collect(home, now=LATER).objects.count, (home.folder("bundles") / "aa").is_dir()) == (2, True)


def package(digest: str = "") -> Bundle:
    return replace(BUNDLE, digest=digest)


def test_a_bundle_that_a_kept_output_names_stays(home: Home) -> None:
    (home.folder("bundles") / "cafe01").mkdir()
    execute(Graph([package]), home=home, pipeline="l", parameters={"digest": "cafe01"})

    assert collect(home, now=LATER).bundles == Amount()


def test_leftovers_of_killed_processes_go_when_they_are_old(home: Home) -> None:
    for path in (home.folder("tmp") / "object-1", home.path / ".id.12.ab", home.folder("tmp") / "object-2"):
        path.write_bytes(b"12345")
    for name in ("tmp/object-1", ".id.12.ab"):
        os.utime(home.path / name, (time.time() - 200_000,) * 2)

    assert collect(home).leftovers == Amount(2, 10)
    assert [path.name for path in home.folder("tmp").iterdir()] == ["object-2"]


def test_while_a_run_is_under_way_nothing_is_taken(
    home: Home, run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gc, "_WAIT_SECONDS", 0.2)
    journal = Journal(home)
    run(20_000), run(30_000)
    claim = journal.begin("other", {})
    before = objects(home)

    found = collect(home, now=LATER)

    assert found.busy == f"run {claim.run} of other" and found.objects.count == 2 and objects(home) == before
    journal.end(claim, "done")
    assert collect(home, now=LATER).busy == "" and len(objects(home)) == 2


def test_a_run_that_begins_after_the_look_makes_gc_look_again(
    home: Home, run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the worst moment: all was looked at, nothing was removed, and a run takes up what seemed to be garbage."""
    run(20_000), run(30_000)
    looked, outcomes = gc._Found.of, []

    def of(home: Home, oldest: datetime) -> Any:
        found = looked(home, oldest)
        if not outcomes:
            thread = threading.Thread(target=lambda: outcomes.append(run(20_000)))
            thread.start(), thread.join()
        return found

    monkeypatch.setattr(gc._Found, "of", of)
    found = collect(home, now=LATER)

    assert states(outcomes[0]) == ["cached", "cached"] and found.objects.count == 2
    assert outcomes[0].outputs["text"] == "x" * 20_000
    assert states(run(20_000)) == ["cached", "cached"]


def test_damaged_outputs_stop_nothing(home: Home, run: Callable[..., Outcome]) -> None:
    run(20_000)
    for name in objects(home):
        (home.folder("objects") / name).write_bytes(b"")

    assert collect(home, now=LATER).busy == "" and states(run(20_000)) == ["run", "run"]


WRITER = """
import random, sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from mainspring.execution.engine import execute
from mainspring.pipeline.graph import Graph
from mainspring.store.home import Home

def rows(size: int = 1): return list(range(size))
def text(rows): return "x" * len(rows)

home = Home.open(Path({home!r}))
for turn in range({turns}):
    size = 20_000 + turn % 3
    outcome = execute(Graph([rows, text]), home=home, pipeline="p{number}", parameters={{"size": size}})
    assert outcome.status == "done", outcome.error
    assert outcome.outputs["text"] == "x" * size and len(outcome.outputs["rows"]) == size
    home.database.close()
    time.sleep(random.uniform(0.0, 0.3))
"""


@pytest.mark.parametrize("turns", [12, pytest.param(300, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_runs_and_gc_at_once_lose_nothing(home: Home, turns: int) -> None:
    """Three processes make the same few objects over and over, which gc takes for garbage whenever it may."""
    children = []
    for number in range(3):
        script = home.path.parent / f"writer{number}.py"
        script.write_text(WRITER.format(path=sys.path, home=str(home.path), turns=turns, number=number))
        children.append(subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True))
    found: list[Garbage] = []
    while any(child.poll() is None for child in children):
        found.append(collect(home, keep_days=0))
    for child in children:
        assert child.communicate()[1] == "" and child.returncode == 0

    assert sum(each.objects.count for each in found if not each.busy) > 0
    kept = {name for name in objects(home) if Catalog(home).files.sound(name)}
    assert kept == objects(home) and kept


def test_the_command_says_what_it_would_free(home: Home, run: Callable[..., Outcome], capsys: Any) -> None:
    import json

    from mainspring.app import commands

    run(20_000), run(30_000)
    arguments = {"home": str(home.path), "keep_days": 0.0}
    assert commands.gc(**arguments, dry_run=True, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["status"], told["garbage"]["objects"]["count"]) == ("mainspring/gc@1", "done", 2)

    assert commands.gc(**arguments, dry_run=False, as_json=False) == 0
    assert "freed" in (said := capsys.readouterr().out) and "cache entries" in said and "kB" in said
    assert len(objects(home)) == 2
