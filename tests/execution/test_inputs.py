"""What steps get from each other: values of their own, let go when nobody needs them, made again when they are lost."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from mainspring.core.errors import NotInStore
from mainspring.execution.engine import Outcome
from mainspring.pipeline.step import Step, step
from mainspring.store.catalog import Catalog
from mainspring.store.home import Home
from mainspring.store.journal import Journal

Run = Callable[..., Outcome]
tried: list[float] = []


def table() -> Any:
    return np.ones(1000)


def doubled(table: Any) -> float:
    table *= 2
    return float(table.sum())


def test_an_element_does_not_see_what_another_has_altered(run: Run) -> None:
    part = step(each={"number": [1, 2, 3]})(_part)
    assert run(table, part).outputs["part"] == [2000.0, 2000.0, 2000.0]


def _part(table: Any, number: int) -> float:
    return doubled(table)


_part.__name__ = "part"


def test_another_try_does_not_see_what_the_first_has_altered(run: Run) -> None:
    tried.clear()

    @step(retries=1)
    def once_more(table: Any) -> float:
        tried.append(doubled(table))
        if len(tried) == 1:
            raise OSError("not yet")
        return tried[-1]

    assert run(table, once_more).outputs["once_more"] == 2000.0 and tried == [2000.0, 2000.0]


def test_equal_values_of_two_steps_are_not_one_object(run: Run) -> None:
    def other() -> Any:
        return np.ones(1000)

    def reader(other: Any, doubled: float) -> float:
        return float(other.sum())

    outputs = run(table, other, doubled, reader).outputs
    assert outputs["reader"] == 1000.0 and outputs["table"].sum() == 1000.0


def test_values_that_nobody_needs_any_more_are_let_go(run: Run) -> None:
    alive: list[weakref.ref[Any]] = []

    def rows() -> pl.DataFrame:
        made = pl.DataFrame({"n": range(5000)})
        alive.append(weakref.ref(made))
        return made

    @step(each={"number": [1, 2, 3]})
    def parts(rows: pl.DataFrame, number: int) -> pl.DataFrame:
        made = rows.with_columns(pl.col("n") + number)
        alive.append(weakref.ref(made))
        return made

    def last(parts: list[pl.DataFrame]) -> int:
        gc.collect()
        return sum(each() is not None for each in alive)

    assert run(rows, parts, last).outputs["last"] == 0 and len(alive) == 4


@pytest.mark.parametrize("consumers", [1, 2, 6])
def test_an_output_that_is_lost_in_mid_run_is_made_again_for_all_who_need_it(
    run: Run, home: Home, consumers: int
) -> None:
    def spoil(round: int = 0) -> int:
        if round:
            lose_all(home)
        return round

    def total(table: Any, spoil: int) -> float:
        return float(table.sum()) + spoil

    readers = [Step(f"reader{number}", total, inputs=("table", "spoil")) for number in range(consumers)]
    run(table, spoil, *readers)
    again = run(table, spoil, *readers, parameters={"round": 1})

    assert again.error is None and {again.outputs[reader.name] for reader in readers} == {1001.0}
    assert {step.name: step.state for step in again.steps}["table"] == "run"


def test_an_output_that_is_lost_twice_is_an_error(run: Run, home: Home) -> None:
    @step(effects=True)  # so all before it is on disk
    def first(table: Any) -> float:
        lose_all(home)
        return float(table.sum())

    @step(effects=True)
    def second(table: Any, first: float) -> float:
        lose_all(home)
        return float(table.sum())

    def third(table: Any, second: float) -> float:
        return float(table.sum())

    def fourth(table: Any, third: float) -> float:
        return float(table.sum())

    outcome = run(table, first, second, third, fourth)
    assert outcome.status == "failed" and isinstance(outcome.error, NotInStore)
    assert {result.name: result.state for result in outcome.steps} == {
        "table": "run", "first": "run", "second": "run", "third": "failed", "fourth": "skipped",
    }  # fmt: skip


def lose_all(home: Home) -> None:
    for path in Catalog(home).files.folder.rglob("*"):
        if path.is_file():
            path.unlink()


def test_what_is_no_exception_fails_its_step_too(run: Run) -> None:
    def cancelled() -> None:
        raise asyncio.CancelledError

    def beside() -> int:
        return 1

    outcome = run(cancelled, beside)
    assert outcome.status == "failed" and "step 'cancelled' failed: CancelledError" in str(outcome.error)
    assert outcome.outputs["beside"] == 1


def test_elements_beside_one_that_fails_go_on_and_are_not_repeated(run: Run, home: Home) -> None:
    @step(each={"number": [1, 2, 3, 4]}, retries=1, backoff=0.01)
    def broken(number: int, bad: int = 2) -> int:
        tried.append(number)
        if number % 2 == bad % 2 and bad:
            raise OSError(f"number {number}")
        return number

    def after(broken: list[int]) -> int:
        return sum(broken)

    tried.clear()
    outcome = run(broken, after)
    rows = {row.name: row for row in Journal(home).steps(outcome.run_id)}
    assert outcome.status == "failed" and sorted(tried) == [1, 2, 2, 3, 4, 4]
    assert {name: row.status for name, row in rows.items()} == {
        "broken": "failed", "after": "skipped",
        "broken[0]": "done", "broken[1]": "failed", "broken[2]": "done", "broken[3]": "failed",
    }  # fmt: skip
    assert rows["broken"].reason == str(outcome.error) and "number: 2" in str(outcome.error)
    assert rows["broken"].attempt == 2

    tried.clear()
    run(broken, after)
    assert set(tried) == {2, 4}


def test_a_finished_step_is_written_before_the_next_one_begins_to_take_long(run: Run, home: Home) -> None:
    seen: list[str] = []
    told: list[str] = []

    def first() -> int:
        return 1

    def second(first: int) -> int:
        until = time.monotonic() + 20  # the disk may be busy with others' work
        while time.monotonic() < until:
            seen[:] = [row.status for row in Journal(home).steps(Journal(home).runs()[0].id)]
            if seen == ["done", "running"] and "run" in told:
                break
        return first

    run(first, second, report=lambda event: told.append(event.kind))
    assert seen == ["done", "running"]


def test_a_finished_step_is_written_while_one_beside_it_takes_long(run: Run, home: Home) -> None:
    seen: list[str] = []

    def long() -> int:
        until = time.monotonic() + 20
        while time.monotonic() < until and seen != ["running", "done"]:
            seen[:] = [row.status for row in Journal(home).steps(Journal(home).runs()[0].id)]
            time.sleep(0.01)
        return 1

    def short() -> int:
        time.sleep(0.1)  # nothing is started after its end
        return 2

    run(long, short)
    assert seen == ["running", "done"]


def test_steps_with_a_seed_draw_the_same_beside_others(run: Run) -> None:
    def draw(number: int) -> float:
        drawn = []
        for _ in range(20):
            drawn.append(float(np.random.random()))
            time.sleep(0.001)
        return sum(drawn)

    seeded = [Step(f"s{number}", draw, parameters={"number": number}, seed=7) for number in range(3)]
    other = Step("other", draw, parameters={"number": 9})
    outputs = run(*seeded, other).outputs
    assert outputs["s0"] == outputs["s1"] == outputs["s2"]
