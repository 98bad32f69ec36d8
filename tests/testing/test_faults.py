"""Faults on purpose: a test makes a step fail, wait, die, or its output rot; the cache doesn't notice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import mainspring as ms
from mainspring.core.errors import MainspringError, StepFailed, UsageError
from mainspring.store.home import Home
from mainspring.testing import assert_runs, damage, failing, killed, run, slow, with_faults


def rows() -> list[int]:
    return list(range(20_000))


@ms.step(retries=2, backoff=0)
def total(rows: list[int]) -> int:
    return sum(rows)


PIPELINE = ms.Pipeline("p", [rows, total])


def test_a_step_fails_as_often_as_told_and_its_retries_are_tried() -> None:
    assert run(with_faults(PIPELINE, failing("total", times=2)))["total"] == 199_990_000
    with pytest.raises(OSError, match="disk"):
        run(with_faults(PIPELINE, failing("total", times=3, error=OSError("disk"))))


def test_a_run_that_failed_goes_on_where_it_was_without_the_fault(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="total fails on purpose"):
        with_faults(PIPELINE, failing("total", times=3)).run(home=tmp_path)

    assert_runs(PIPELINE, ["total"], home=tmp_path)
    assert PIPELINE.run(home=tmp_path).outputs["total"] == 199_990_000


def test_fingerprints_stay_as_they_are(tmp_path: Path) -> None:
    PIPELINE.run(home=tmp_path)

    assert_runs(with_faults(PIPELINE, failing("total")), [], home=tmp_path)


def test_a_slow_step_waits_first() -> None:
    began = time.monotonic()
    run(with_faults(PIPELINE, slow("rows", 0.05)))

    assert time.monotonic() - began >= 0.05


@pytest.mark.parametrize("step", ["rows", "total"])
def test_killing_this_very_process_is_refused_also_where_the_step_is_tried_again(step: str, tmp_path: Path) -> None:
    pipeline = with_faults(PIPELINE, killed(step))

    with pytest.raises(UsageError, match="would end this very process"):
        run(pipeline)
    with pytest.raises(UsageError, match="would end this very process"):
        pipeline.run(home=tmp_path)


def test_a_step_that_isnt_there_is_told() -> None:
    with pytest.raises(UsageError, match=r"no step 'row' .did you mean 'rows'"):
        with_faults(PIPELINE, slow("row", 1))


def small() -> int:
    return 41


def more(small: int) -> int:
    return small + 1


@pytest.mark.parametrize(("pipeline", "step"), [(PIPELINE, "rows"), (ms.Pipeline("s", [small, more]), "small")])
def test_a_damaged_output_is_made_again(tmp_path: Path, pipeline: ms.Pipeline, step: str) -> None:
    before = pipeline.run(home=tmp_path).outputs
    values = {name: before[name] for name in before}
    damage(pipeline, step, home=Home.open(tmp_path))

    done = pipeline.run(home=tmp_path)

    assert {name: done.outputs[name] for name in done.outputs} == values
    assert [each.state for each in done.steps] == ["run", "cached"]


def test_nothing_to_damage_is_told(tmp_path: Path) -> None:
    with pytest.raises(MainspringError, match="has no kept output"):
        damage(PIPELINE, "rows", home=tmp_path)
