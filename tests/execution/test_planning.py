"""The plan says what would run and why, and runs nothing."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mainspring.core.errors import CodeChanged
from mainspring.execution import code
from mainspring.execution.engine import Outcome, execute
from mainspring.execution.planning import PlannedStep, plan
from mainspring.pipeline.graph import Graph, Selection
from mainspring.pipeline.step import Step, as_step, at_least, step
from mainspring.store.home import Home

Run = Callable[..., Outcome]
HELPERS = "def fix(age):\n    return max(age, 0)\n\n\ndef unused():\n    return 1\n"
STEPS = """
from helpers_of_plan import fix

def rows(count: int = 3):
    return list(range(-count, count))

def clean(rows):
    return [fix(row) for row in rows]

def model(clean, trees: int = 100):
    return sum(clean) * trees

def published(model):
    return f"{model}"
"""


class Scale:
    def __init__(self, by: int) -> None:
        self.by = by

    def scaled(self) -> int:
        return self.by


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    write(tmp_path, HELPERS, STEPS)
    yield tmp_path
    for name in ("helpers_of_plan", "steps_of_plan"):
        sys.modules.pop(name, None)


def write(project: Path, helpers: str, steps: str) -> None:
    (project / "helpers_of_plan.py").write_text(helpers)
    (project / "steps_of_plan.py").write_text(steps)


def load() -> ModuleType:
    for name in ("helpers_of_plan", "steps_of_plan"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module("steps_of_plan")


def steps(module: ModuleType) -> list[Any]:
    return [module.rows, module.clean, module.model, module.published]


def told(planned: list[PlannedStep]) -> dict[str, tuple[str, list[str]]]:
    return {step.name: (step.state, [str(reason) for reason in step.reasons]) for step in planned}


def test_first_everything_is_new_then_cached(project: Path, home: Home, run: Run) -> None:
    graph = Graph(steps(load()))
    assert {step.state for step in plan(graph, home=home, pipeline="seed")} == {"run"}
    assert told(plan(graph, home=home, pipeline="seed"))["model"] == ("run", ["has never run"])

    run(*steps(load()))

    after = plan(Graph(steps(load())), home=home, pipeline="seed")
    assert {step.state for step in after} == {"cached"} and all(step.seconds is None for step in after)


def test_an_edited_helper_in_another_module_is_named_and_what_follows_may_stop_early(
    project: Path, home: Home, run: Run
) -> None:
    run(*steps(load()))
    write(project, HELPERS.replace("max(age, 0)", "max(0, age)"), STEPS)

    planned = plan(Graph(steps(load())), home=home, pipeline="seed")

    assert told(planned) == {
        "rows": ("cached", []),
        "clean": ("run", ["helper fix, helpers_of_plan.py:1, changed"]),
        "model": ("maybe", ["input clean may change"]),
        "published": ("maybe", ["input model may change"]),
    }
    assert planned[1].seconds is not None
    outcome = run(*steps(load()))
    assert [step.state for step in outcome.steps] == ["cached", "run", "cached", "cached"]


def test_comments_and_unreached_code_change_nothing(project: Path, home: Home, run: Run) -> None:
    run(*steps(load()))
    write(project, "# a comment\n" + HELPERS.replace("return 1", "return 2"), STEPS)

    assert {step.state for step in plan(Graph(steps(load())), home=home, pipeline="seed")} == {"cached"}


def test_a_parameter_is_named_with_its_values_behind_a_stale_step_too(project: Path, home: Home, run: Run) -> None:
    run(*steps(load()))

    planned = plan(Graph(steps(load())), home=home, pipeline="seed", parameters={"trees": 200, "count": 4})

    assert told(planned)["rows"] == ("run", ["count 3 -> 4"])
    assert told(planned)["clean"] == ("maybe", ["input rows may change"])
    assert told(planned)["model"] == ("run", ["trees 100 -> 200"])
    assert planned[2].to_json()["reasons"] == [{"kind": "parameter", "where": "trees", "old": "100", "new": "200"}]


def test_a_changed_state_outside_is_told(project: Path, home: Home, run: Run) -> None:
    module = load()
    position = {"id": 3}
    graph = Graph([as_step(module.rows).with_state(lambda outputs: position), module.clean])
    run(*[node.step for node in graph.nodes.values()])
    position["id"] = 5

    assert told(plan(graph, home=home, pipeline="seed"))["rows"] == ("run", ["state {'id': 3} -> {'id': 5}"])


def test_a_source_that_only_reading_can_tell_runs(project: Path, home: Home, run: Run) -> None:
    module = load()
    blind = as_step(module.rows).with_state(lambda outputs: None)
    run(blind, module.clean)

    planned = told(plan(Graph([blind, module.clean]), home=home, pipeline="seed"))
    assert planned["rows"] == ("run", ["only reading can tell whether there is something new"])
    assert planned["clean"] == ("maybe", ["input rows may change"])


def test_a_condition_that_cant_be_judged_is_told_and_the_others_are_planned(home: Home, run: Run) -> None:
    def words() -> str:
        return "text"

    @step(when=at_least("words", 1))
    def asked() -> int:
        return 1

    def beside() -> int:
        return 2

    run(words, asked, beside)

    planned = told(plan(Graph([words, asked, beside]), home=home, pipeline="seed"))

    assert planned["words"] == planned["beside"] == ("cached", [])
    assert planned["asked"][0] == "run" and "needs a number, but 'words' gave 'text'" in planned["asked"][1][0]


def test_a_step_behind_a_stale_one_that_cant_be_fingerprinted_is_told(home: Home, run: Run) -> None:
    def first(by: int = 1) -> int:
        return by

    def second(first: int, guard: Any) -> int:
        return first

    def graph(guard: object) -> Graph:
        return Graph([first, Step("second", second, inputs=("first",), parameters={"guard": guard})])

    execute(graph(1), home=home, pipeline="seed")

    planned = told(plan(graph(threading.Lock()), home=home, pipeline="seed", parameters={"by": 2}))

    assert planned["first"][0] == "run"
    assert planned["second"][0] == "run" and "parameter guard=" in planned["second"][1][0]


def test_a_condition_that_doesnt_hold_is_told(project: Path, home: Home, run: Run) -> None:
    module = load()
    told_step = Step("told", module.published, inputs=("model",), when=at_least("model", 1e9))
    last = Step("last", "json:dumps", inputs=("told",))
    run(module.rows, module.clean, module.model, told_step, last)

    planned = told(plan(Graph([*steps(module)[:3], told_step, last]), home=home, pipeline="seed"))
    assert planned["told"] == ("skip", ["model is 300, at least 1000000000.0 is asked"])
    assert planned["last"] == ("skip", ["told is skipped"])


def test_a_step_whose_condition_asks_a_stale_one_may_run(project: Path, home: Home, run: Run) -> None:
    module = load()
    told_step = Step("told", module.published, inputs=("model",), when=at_least("model", 1e9))
    graph = Graph([*steps(module)[:3], told_step])

    assert told(plan(graph, home=home, pipeline="seed"))["told"] == (
        "maybe",
        ["has never run", "input model may change"],
    )


def test_lost_output_forced_steps_and_a_selection_are_told(project: Path, home: Home, run: Run) -> None:
    module = load()
    text = as_step(module.published)
    outcome = run(module.rows, module.clean, module.model, text, parameters={"count": 20_000})
    path = home.path / "objects" / outcome.outputs.artifact("rows").digest
    path.write_bytes(b"")
    graph = Graph([module.rows, module.clean, module.model, text])

    def planned(**options: Any) -> dict[str, tuple[str, list[str]]]:
        return told(plan(graph, home=home, pipeline="seed", parameters={"count": 20_000}, **options))

    assert planned()["rows"] == ("run", ["its kept output is missing or damaged"])
    assert planned(selection=Selection(force=("model",)))["model"] == ("run", ["forced"])
    assert set(planned(selection=Selection(start="model"))) == {"model", "published"}


def test_a_step_that_is_edited_itself_and_a_changed_constant_are_told(project: Path, home: Home, run: Run) -> None:
    rated = STEPS.replace("sum(clean) * trees", "sum(clean) * trees * RATE") + "\nRATE = 1\n"
    write(project, HELPERS, rated)
    run(*steps(load()))
    write(project, HELPERS, rated.replace("RATE = 1", "RATE = 2").replace("range(-count, count)", "range(count)"))

    planned = told(plan(Graph(steps(load())), home=home, pipeline="seed"))

    assert planned["rows"] == ("run", ["its code, steps_of_plan.py:4, changed"])
    assert planned["model"] == ("run", ["constant RATE, steps_of_plan.py:16, changed"])


def test_new_rows_of_a_changed_input_are_counted(project: Path, home: Home, run: Run) -> None:
    module = load()
    run(module.rows, module.clean)

    outcome = run(module.rows, module.clean, parameters={"count": 1_000})

    planned = plan(Graph([module.rows, module.clean]), home=home, pipeline="seed", parameters={"count": 3})
    assert outcome.steps[1].reason == "rows: 1,994 new rows"
    assert {step.state for step in planned} == {"cached"}


def test_a_data_file_that_a_step_names_is_told(project: Path, home: Home, run: Run) -> None:
    (project / "cities.csv").write_text("a\n1\n")
    named = "import mainspring\nCITIES = mainspring.file('cities.csv')\n" + STEPS.replace(
        "return [fix(row) for row in rows]", "return CITIES.read_text()"
    ).replace("sum(clean) * trees", "clean")
    write(project, HELPERS, named)
    run(*steps(load()))
    assert {step.state for step in plan(Graph(steps(load())), home=home, pipeline="seed")} == {"cached"}

    (project / "cities.csv").write_text("a\n2\n")

    planned = plan(Graph(steps(load())), home=home, pipeline="seed")
    assert told(planned)["clean"] == ("run", ["file cities.csv changed"])
    assert [step.state for step in run(*steps(load())).steps] == ["cached", "run", "run", "run"]


SAME_FILE = """
import pickle
import mainspring

def named():
    return mainspring.file("cities.csv").read_text()

def given(asked):
    return asked()

def untold(doubled=lambda x: 2 * x):
    return pickle.loads(b"cmainspring\\nfile\\n.")("cities.csv").read_text()
"""


def test_a_data_file_that_another_steps_parameter_names_is_not_told_by_this_step(
    project: Path, home: Home, run: Run
) -> None:
    (project / "cities.csv").write_text("1")
    write(project, HELPERS, SAME_FILE)

    def both() -> list[Any]:
        made = load()
        return [Step("given", made.given, inputs=(), parameters={"asked": made.named}), made.untold]

    run(*both())
    assert [step.state for step in plan(Graph(both()), home=home, pipeline="seed")] == ["cached", "run"]


INNER = """
import mainspring

NAME = "cities.csv"

def inner():
    return mainspring.file(NAME).read_text()
"""


def test_a_computed_path_in_another_module_does_not_tell_the_data_file_of_this_one(
    project: Path, home: Home, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pyproject.toml").touch()
    (project / "cities.csv").write_text("1")
    (project / "inner_of_plan").mkdir()
    (project / "inner_of_plan" / "__init__.py").write_text(INNER)
    write(project, HELPERS, INNER.replace("inner", "outer"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def both() -> list[Any]:
        sys.modules.pop("inner_of_plan", None)
        return [load().outer, importlib.import_module("inner_of_plan").inner]

    run(*both())
    (project / "cities.csv").write_text("22")

    assert dict(run(*both()).outputs) == {"outer": "22", "inner": "22"}
    sys.modules.pop("inner_of_plan", None)


UNTOLD = """
import pickle

def rows():
    return ["a", "b"]

def clean(rows):
    return pickle.loads(b"cmainspring\\nfile\\n.")("cities.csv").read_text()

def model(clean):
    return pickle.loads(b"cmainspring\\nfile\\n.")("data/known.csv").read_text() + clean

def published(row):
    return row + pickle.loads(b"cmainspring\\nfile\\n.")("cities.csv").read_text()

def told():
    import mainspring
    return [mainspring.file(f"{name}.csv").read_text() for name in ("cities", "data/known")]
"""


def test_a_data_file_named_in_a_way_that_code_does_not_tell_has_its_step_run_each_time(
    project: Path, home: Home, run: Run
) -> None:
    (project / "data").mkdir()
    (project / "data" / "known.csv").write_text("k")
    (project / "cities.csv").write_text("1")
    write(project, HELPERS, UNTOLD)

    def all_of_it() -> list[Any]:
        made = load()
        return [made.rows, made.clean, made.model, step(each={"row": "rows"})(made.published), made.told]

    run(*all_of_it())
    (project / "cities.csv").write_text("2")
    planned = plan(Graph(all_of_it()), home=home, pipeline="seed")
    again = run(*all_of_it())

    told_of = f"names {project}/cities.csv in a way that its code doesn't tell, so it runs each time"
    why = f"{told_of}; give mainspring.file a literal path"
    assert told(planned)["clean"] == told(planned)["published"] == ("run", [why])
    assert [step.state for step in again.steps] == ["cached", "run", "run", "run", "run"]
    assert again.outputs["clean"] == "2" and again.outputs["published"] == ["a2", "b2"]
    assert told(plan(Graph(all_of_it()), home=home, pipeline="seed"))["told"] == ("cached", [])


def test_an_interrupted_run_that_goes_on_still_knows_of_a_data_file_that_no_code_tells(
    project: Path, home: Home, run: Run
) -> None:
    (project / "cities.csv").write_text("1")
    write(project, HELPERS, UNTOLD.replace("return row +", "return row if row == 'b' else row +"))
    stopping = [True]

    def last(clean: str, published: list[str]) -> None:
        if stopping:
            raise KeyboardInterrupt

    def all_of_it() -> list[Any]:
        made = load()
        return [made.rows, made.clean, step(each={"row": "rows"})(made.published), last]

    with pytest.raises(KeyboardInterrupt):
        run(*all_of_it())
    with home.database.transaction() as connection:  # as if the end had come before the last element
        connection.execute("delete from steps where name in ('published', 'published[1]')")
    stopping.clear()
    assert run(*all_of_it()).resumed
    (project / "cities.csv").write_text("2")

    planned = plan(Graph(all_of_it()), home=home, pipeline="seed")
    assert [reason.kind for step in planned[1:3] for reason in step.reasons] == ["file", "file"]
    assert run(*all_of_it()).outputs["published"] == ["a2", "b"]


def test_code_that_cannot_be_followed_is_told(project: Path, home: Home) -> None:
    write(project, HELPERS, STEPS.replace("return [fix(row) for row in rows]", "return eval('rows')"))

    planned = plan(Graph(steps(load())), home=home, pipeline="seed")

    assert planned[0].widened == () and "the whole project" in " ".join(planned[1].widened)
    assert planned[1].to_json()["widened"] == list(planned[1].widened)


def test_an_upgraded_library_is_named_as_it_is_installed(
    project: Path, home: Home, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, HELPERS, "import sklearn\n" + STEPS.replace("sum(clean)", "bool(sklearn) * sum(clean)"))
    run(*steps(load()))
    old = code.versions(["sklearn"])["scikit-learn"]
    monkeypatch.setattr(code, "_version", lambda name: ("scikit-learn", "99.1"))

    planned = told(plan(Graph(steps(load())), home=home, pipeline="seed"))

    assert planned["model"] == ("run", [f"scikit-learn {old} -> 99.1"])


def test_a_module_edited_after_it_was_imported_is_refused(project: Path, home: Home, run: Run) -> None:
    module = load()
    run(*steps(module))
    write(project, HELPERS.replace("max(age, 0)", "max(age, 1)"), STEPS)

    refused = run(*steps(module))

    assert isinstance(refused.error, CodeChanged) and "importlib.reload(helpers_of_plan)" in str(refused.error)
    importlib.reload(sys.modules["helpers_of_plan"])
    again = importlib.reload(module)
    assert [step.state for step in run(*steps(again)).steps] == ["cached", "run", "run", "run"]


def test_the_values_of_a_methods_object_count(project: Path, home: Home) -> None:
    def state(by: int) -> str:
        graph = Graph([Step("scaled", Scale(by).scaled, inputs=())])
        outcome = execute(graph, home=home, pipeline="scale")
        assert outcome.error is None
        return outcome.steps[0].state

    assert [state(1), state(1), state(2)] == ["run", "cached", "run"]


def test_a_comment_changes_nothing_where_a_step_reaches_hundreds_of_functions(
    project: Path, home: Home, run: Run
) -> None:
    many = "".join(f"def fix{number}(age):\n    return fix{number - 1}(age)\n" for number in range(1, 150))
    helpers = f"def fix0(age):\n    return max(age, 0)\n{many}fix = fix149\n"
    write(project, helpers, STEPS)
    run(*steps(load()))
    write(project, helpers.replace("    return fix7", "    # a comment\n    return fix7"), STEPS)
    assert {step.state for step in plan(Graph(steps(load())), home=home, pipeline="seed")} == {"cached"}
    write(project, helpers.replace("max(age, 0)", "max(age, 1)"), STEPS)

    assert told(plan(Graph(steps(load())), home=home, pipeline="seed"))["clean"] == (
        "run", ["helpers_of_plan changed"]
    )  # fmt: skip


def test_the_code_that_a_functions_parameter_reaches_is_named(project: Path, home: Home, run: Run) -> None:
    helpers = f"{HELPERS}\n\ndef features(age):\n    return fix(age)\n"

    def applied() -> list[Step]:
        module = load()
        features = sys.modules["helpers_of_plan"].features  # type: ignore[attr-defined]
        return [as_step(module.rows), Step("made", made, inputs=("rows",), parameters={"features": [features]})]

    write(project, helpers, STEPS)
    run(*applied())
    write(project, helpers.replace("max(age, 0)", "max(age, 1)"), STEPS)

    planned = plan(Graph(applied()), home=home, pipeline="seed")

    assert told(planned)["made"] == ("run", ["helper fix, helpers_of_plan.py:1, changed"])


def made(rows: list[int], features: list[Callable[[int], int]]) -> list[int]:
    return [feature(row) for row in rows for feature in features]
