"""What a run does: the right steps, once, and clear words where one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import polars as pl
import pytest

from mainspring.core.errors import DataError, DeclarationError, StepFailed, UsageError
from mainspring.execution.engine import Event, Outcome
from mainspring.pipeline.graph import Selection
from mainspring.pipeline.step import Step, as_step, at_least, step
from mainspring.store.catalog import Catalog
from mainspring.store.home import Home
from mainspring.store.journal import Journal

Run = Callable[..., Outcome]
calls: list[str] = []


@pytest.fixture(autouse=True)
def no_calls() -> Iterator[None]:
    calls.clear()
    yield
    calls.clear()


def rows(count: int = 4) -> list[int]:
    calls.append("rows")
    return list(range(count))


def clean(rows: list[int], least: int = 1) -> list[int]:
    calls.append("clean")
    return [row for row in rows if row >= least]


def model(clean: list[int]) -> float:
    calls.append("model")
    return sum(clean) / len(clean)


def states(outcome: Outcome) -> dict[str, str]:
    return {result.name: result.state for result in outcome.steps}


def test_a_chain_runs_in_order_and_then_comes_from_the_cache(run: Run) -> None:
    first = run(model, clean, rows)
    assert (first.status, dict(first.outputs)) == ("done", {"rows": [0, 1, 2, 3], "clean": [1, 2, 3], "model": 2.0})
    assert calls == ["rows", "clean", "model"]

    second = run(model, clean, rows)
    assert states(second) == {"rows": "cached", "clean": "cached", "model": "cached"}
    assert second.outputs["model"] == 2.0 and second.run_id != first.run_id and len(calls) == 3
    assert second.steps[0].reason == f"from run {first.run_id}"


def test_a_parameter_reruns_what_it_changes_and_going_back_costs_nothing(run: Run) -> None:
    run(rows, clean, model)
    changed = run(rows, clean, model, parameters={"least": 2})

    assert states(changed) == {"rows": "cached", "clean": "run", "model": "run"}
    assert [result.reason for result in changed.steps[1:]] == ["least 1 -> 2", "clean: 1 fewer row"]
    assert set(states(run(rows, clean, model)).values()) == {"cached"}
    with pytest.raises(UsageError, match="did you mean 'least'"):
        run(rows, clean, model, parameters={"lest": 2})


def test_an_edited_step_that_gives_the_same_value_stops_the_wave(run: Run) -> None:
    run(rows, clean, model)

    def edited(rows: list[int], least: int = 1) -> list[int]:
        return sorted(row for row in rows if row > 0)

    outcome = run(rows, Step("clean", edited), model)

    assert states(outcome) == {"rows": "cached", "clean": "run", "model": "cached"}
    assert f"its code, test_engine.py:{edited.__code__.co_firstlineno}, changed" in outcome.steps[1].reason


def test_a_state_outside_belongs_to_the_fingerprint(run: Run) -> None:
    def read(position: Any) -> dict[str, str]:
        return states(run(as_step(rows).with_state(lambda outputs: position), clean))

    assert read({"id": 1})["rows"] == "run" and read({"id": 1})["rows"] == "cached"
    assert read({"id": 2}) == {"rows": "run", "clean": "cached"}
    assert read(None)["rows"] == "run" and read(None)["rows"] == "run"


def test_a_state_sees_the_outputs_of_the_inputs(run: Run) -> None:
    seen = []
    run(rows, as_step(clean).with_state(lambda outputs: seen.append(outputs["rows"])))

    assert seen == [[0, 1, 2, 3]]


def test_services_are_injected_and_dont_count(run: Run, home: Home) -> None:
    def told(home: Home, run: str, flavour: str, progress: Any) -> list[Any]:
        progress("half", 1, 2)
        return [str(home.path), run, flavour]

    events: list[Event] = []
    made = Step("told", told, services=("home", "run", "flavour", "progress"))
    outcome = run(made, services={"flavour": "sweet", "progress": None}, report=events.append)

    assert outcome.outputs["told"] == [str(home.path), outcome.run_id, "sweet"]
    assert [event.kind for event in events] == ["begun", "started", "progress", "run"]
    assert (events[2].step, events[2].message, events[2].done, events[2].of) == ("told", "half", 1, 2)
    assert states(run(made, services={"flavour": "sour"})) == {"told": "cached"}
    with pytest.raises(StepFailed, match="asks for the service 'flavour'; this run has home, run and progress"):
        raise run(made, selection=Selection(force=("told",))).error  # type: ignore[misc]


def test_a_failed_branch_leaves_the_others_alone(run: Run) -> None:
    def broken(rows: list[int]) -> int:
        raise ValueError("no\nluck")

    def after(broken: int) -> int:
        return broken

    outcome = run(rows, broken, after, clean, model)

    assert outcome.status == "failed"
    assert states(outcome) == {"rows": "run", "broken": "failed", "after": "skipped", "clean": "run", "model": "run"}
    assert isinstance(outcome.error, StepFailed) and isinstance(outcome.error.__cause__, ValueError)
    assert str(outcome.error).startswith(
        "step 'broken' failed with rows: list of 4: ValueError: no luck (test_engine.py, line "
    )
    assert str(outcome.error).endswith("mend it and run again: finished steps aren't repeated")
    assert dict(outcome.outputs) == {"rows": [0, 1, 2, 3], "clean": [1, 2, 3], "model": 2.0}


def test_a_mended_step_runs_after_what_was_finished_before(run: Run) -> None:
    def broken(clean: list[int]) -> float:
        raise ValueError

    run(rows, clean, Step("model", broken))

    assert states(run(rows, clean, model)) == {"rows": "cached", "clean": "cached", "model": "run"}


def test_our_own_errors_pass_as_they_are(run: Run, home: Home) -> None:
    error = DataError("column 'age' is text; cast it")

    def strict() -> None:
        raise error

    outcome = run(strict)

    assert outcome.error is error
    record = Journal(home).run(outcome.run_id)
    assert (record.status, record.error) == ("failed", str(error))
    (failed,) = Journal(home).steps(outcome.run_id)
    assert failed.trace is not None and "in strict" in failed.trace


def test_a_step_that_exits_fails_and_takes_nothing_with_it(run: Run) -> None:
    def leaver() -> None:
        raise SystemExit(3)

    assert "SystemExit: 3" in str(run(leaver).error)


def test_a_value_that_cant_be_kept_fails_its_step(run: Run) -> None:
    def lines() -> Iterator[int]:
        yield 1

    assert "gives its content only once" in str(run(lines).error)


def test_retries_go_on_until_it_works_or_attempts_are_over(run: Run, home: Home) -> None:
    @step(retries=2, backoff=0.001)
    def flaky(works_at: int = 3) -> int:
        calls.append("flaky")
        if len(calls) < works_at:
            raise OSError("gone")
        return len(calls)

    events: list[Event] = []
    good = run(flaky, report=events.append)
    assert good.outputs["flaky"] == 3 and Journal(home).steps(good.run_id)[0].attempt == 3
    assert [event.message for event in events if event.kind == "retry"] == [
        "attempt 1 of 3 failed: OSError: gone",
        "attempt 2 of 3 failed: OSError: gone",
    ]
    calls.clear()
    bad = run(flaky, parameters={"works_at": 9})
    assert len(calls) == 3 and "failed at attempt 3 of 3: OSError: gone" in str(bad.error)


def test_a_wrong_call_isnt_tried_again(run: Run) -> None:
    @step(retries=5, backoff=0.001)
    def wrong() -> None:
        calls.append("wrong")
        raise DeclarationError("no")

    run(wrong)

    assert calls == ["wrong"]


def test_a_condition_that_doesnt_hold_skips_the_step_and_its_dependants(run: Run) -> None:
    @step(when=at_least("model", 3))
    def published(clean: list[int]) -> str:
        return "published"

    def told(published: str) -> str:
        return published

    low = run(rows, clean, model, published, told)
    assert (low.status, states(low)["published"], states(low)["told"]) == ("done", "skipped", "skipped")
    assert [result.reason for result in low.steps[-2:]] == [
        "model is 2.0, at least 3 is asked",
        "published was skipped",
    ]
    assert "published" not in low.outputs

    high = run(rows, clean, model, published, told, parameters={"count": 8})
    assert high.outputs["told"] == "published"


def months(last: int = 3) -> list[str]:
    return [f"2013-{month}" for month in range(1, last + 1)]


@step(each={"month": "months"})
def monthly(month: str, tax: int = 0) -> str:
    calls.append(month)
    return f"{month}:{tax}"


def together(monthly: list[str]) -> str:
    return " ".join(monthly)


def test_fan_out_gathers_in_order_and_reruns_only_new_elements(run: Run) -> None:
    first = run(months, monthly, together)
    assert first.outputs["monthly"] == ["2013-1:0", "2013-2:0", "2013-3:0"]
    assert first.outputs["together"] == "2013-1:0 2013-2:0 2013-3:0"

    calls.clear()
    more = run(months, monthly, together, parameters={"last": 4})
    assert calls == ["2013-4"] and more.outputs["monthly"][3] == "2013-4:0"
    calls.clear()
    assert states(run(months, monthly, together))["monthly"] == "cached" and calls == []
    assert sorted(run(months, monthly, parameters={"tax": 1}).outputs["monthly"]) == [
        "2013-1:1",
        "2013-2:1",
        "2013-3:1",
    ]


def test_fan_out_over_a_written_list_calls_equal_elements_once(run: Run) -> None:
    @step(each={"month": ["a", "b", "a"]})
    def monthly(month: str) -> pl.DataFrame:
        calls.append(month)
        return pl.DataFrame({"month": [month]})

    outcome = run(monthly)

    assert [frame["month"][0] for frame in outcome.outputs["monthly"]] == ["a", "b", "a"]
    assert sorted(calls) == ["a", "b"]


def test_fan_out_over_nothing_gives_nothing(run: Run) -> None:
    assert run(months, monthly, together, parameters={"last": 0}).outputs["together"] == ""


def test_a_failed_element_is_named_and_the_finished_ones_are_kept(run: Run) -> None:
    def picky(month: str, bad: str = "2013-2") -> str:
        calls.append(month)
        if month == bad:
            raise ValueError("no data")
        return month

    fan = Step("picky", picky, each={"month": "months"})
    with ThreadPoolExecutor(1) as executor:
        outcome = run(months, fan, executor=executor)
    assert states(outcome)["picky"] == "failed" and "step 'picky[1]' failed with month: '2013-2'" in str(outcome.error)

    calls.clear()
    assert run(months, fan).status == "failed" and "2013-1" not in calls


def test_a_step_whose_output_cant_be_kept_is_named(run: Run) -> None:
    def rows() -> Iterator[int]:
        yield 1

    assert str(run(rows).error).startswith("step 'rows': a generator gives its content only once")


def test_fan_out_over_what_is_no_list_is_said_so(run: Run) -> None:
    assert "which is ''; give a list" in str(run(Step("months", str, inputs=()), monthly).error)


def test_branches_run_at_once(run: Run) -> None:
    meeting = threading.Barrier(2, timeout=10)

    def left() -> int:
        return meeting.wait()

    def right() -> int:
        return meeting.wait()

    def both(left: int, right: int) -> int:
        return left + right

    assert run(left, right, both).outputs["both"] == 1


def test_what_one_step_does_to_its_input_no_other_sees(run: Run) -> None:
    def first(rows: list[int]) -> int:
        rows.clear()
        return 0

    def second(rows: list[int], first: int) -> int:
        return len(rows)

    assert run(rows, first, second).outputs["second"] == 4
    assert run(rows, first, second, parameters={"count": 40_000}).outputs["second"] == 40_000

    def table() -> pl.DataFrame:
        return pl.DataFrame({"n": range(5000)})

    def widened(table: pl.DataFrame) -> int:
        return table.insert_column(0, pl.lit(1).alias("one")).width

    def width(table: pl.DataFrame, widened: int) -> int:
        return table.width

    assert run(table, widened, width).outputs["width"] == 1


def test_a_step_without_cache_runs_in_every_run(run: Run) -> None:
    @step(cache=False)
    def now() -> float:
        return time.perf_counter()

    assert run(now).outputs["now"] != run(now).outputs["now"]


def test_damaged_output_is_made_again(run: Run, home: Home) -> None:
    def table() -> pl.DataFrame:
        calls.append("table")
        return pl.DataFrame({"n": range(1000)})

    def height(table: pl.DataFrame) -> int:
        return table.height

    artifact = run(table, height).outputs.artifact("table")
    path = Catalog(home).files.path(artifact.digest)
    path.write_bytes(path.read_bytes()[:-10])

    outcome = run(table, height)
    assert states(outcome) == {"table": "run", "height": "cached"}
    assert outcome.steps[0].reason == "its kept output is missing or damaged"
    path.unlink()
    assert run(table, height).outputs["table"].height == 1000 and len(calls) == 3


class Renamed:
    """A user's class, whose name the next version changes."""

    def __init__(self) -> None:
        self.filler = "x" * 5000


@pytest.mark.filterwarnings("ignore:.*is kept as a pickle")
def test_an_output_that_no_longer_loads_is_made_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def thing() -> Any:
        calls.append("thing")
        return Renamed() if "Renamed" in globals() else "plain"

    def used(thing: Any, more: int = 0) -> str:
        return type(thing).__name__

    assert run(thing, used).outputs["used"] == "Renamed"
    monkeypatch.delitem(globals(), "Renamed")

    outcome = run(thing, used, parameters={"more": 1})
    assert outcome.status == "done" and outcome.outputs["used"] == "str" and calls == ["thing", "thing"]


def test_a_part_can_be_run_with_what_was_there_before(run: Run) -> None:
    assert "isn't selected and has no kept output" in str(
        run(rows, clean, model, selection=Selection(start="model")).error
    )
    run(rows, clean, model)
    calls.clear()

    part = run(rows, clean, model, parameters={"count": 9}, selection=Selection(start="clean", force=("clean",)))
    assert calls == ["clean"] and states(part) == {"clean": "run", "model": "cached"}
    until = run(rows, clean, model, parameters={"count": 9}, selection=Selection(until="clean"))
    assert states(until) == {"rows": "run", "clean": "run"} and set(until.outputs) == {"rows", "clean"}


def test_the_status_can_be_concluded_from_the_outputs(run: Run, home: Home) -> None:
    outcome = run(rows, conclude=lambda outputs: "held" if len(outputs["rows"]) == 4 else "done")

    assert outcome.status == "held" and Journal(home).run(outcome.run_id).status == "held"


def test_ctrl_c_leaves_the_run_interrupted_and_the_next_goes_on(run: Run, home: Home) -> None:
    interrupted = [True]

    def impatient(rows: list[int]) -> int:
        if interrupted:
            raise KeyboardInterrupt
        return len(rows)

    with pytest.raises(KeyboardInterrupt):
        run(rows, impatient)
    (record,) = Journal(home).runs()
    assert record.status == "interrupted"

    interrupted.clear()
    outcome = run(rows, impatient)
    assert (outcome.run_id, outcome.resumed, outcome.status) == (record.id, True, "done") and calls == ["rows"]


def test_a_resumed_run_repeats_no_finished_step_even_one_without_cache(run: Run) -> None:
    interrupted = [True]

    @step(cache=False)
    def paid() -> int:
        calls.append("paid")
        return 1

    def next_step(paid: int) -> int:
        if interrupted:
            raise KeyboardInterrupt
        return paid

    with pytest.raises(KeyboardInterrupt):
        run(paid, next_step, selection=Selection(force=("paid",)))
    interrupted.clear()
    run(paid, next_step, selection=Selection(force=("paid",)))

    assert calls == ["paid"]


@pytest.mark.parametrize("beside", [False, True])
def test_another_process_can_cancel(run: Run, home: Home, beside: bool) -> None:
    begun = threading.Event()

    def long(progress: Any) -> None:
        begun.set()
        for at in range(2000):
            progress("waiting", at, 2000)
            time.sleep(0.005)

    def cancel() -> None:
        begun.wait(10)
        journal = Journal(home)
        journal.cancel(journal.runs()[0].id)

    canceller = threading.Thread(target=cancel)
    canceller.start()
    steps: list[Any] = [Step("long", long, services=("progress",)), Step("after", rows, inputs=("long",))]
    outcome = run(*steps, *([clean, rows] if beside else []))
    canceller.join()

    assert outcome.status == "cancelled" and outcome.error is None
    assert "after" not in states(outcome) and Journal(home).runs()[0].status == "cancelled"
    assert next(row.status for row in Journal(home).steps(outcome.run_id) if row.name == "long") == "interrupted"


def test_one_function_may_be_two_steps(run: Run) -> None:
    def count(start: int) -> int:
        return start + 1

    steps = [Step("one", count, parameters={"start": 1}), Step("two", count, parameters={"start": 2})]

    assert dict(run(*steps).outputs) == {"one": 2, "two": 3}
    assert states(run(*steps)) == {"one": "cached", "two": "cached"}
