"""A declaration as a graph of stages: ours, a person's in place of ours, and a person's after ours."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from living import loop, table

import mainspring as ms
from mainspring.core.errors import DeclarationError
from mainspring.core.values import Bundle, Dataset, Frame, Release, Verdict
from mainspring.loop import turn
from mainspring.pipeline.graph import Graph
from mainspring.store.home import Home

BUNDLE = Bundle("d" * 64, "late", "LogisticRegression", "onnx", "binary", (False, True), "roc_auc", 1_000)
VERDICT = Verdict("promote", "release", ("better",), (), BUNDLE, None, {"roc_auc": 0.8})


def split(prepare: Frame) -> SimpleNamespace:
    """The first rows train."""
    return SimpleNamespace(
        train=replace(prepare, data=prepare.data.head(150)), holdout=replace(prepare, data=prepare.data.tail(50))
    )


def as_pair(prepare: Frame) -> tuple[Frame, Frame]:
    divided = split(prepare)
    return divided.train, divided.holdout


def rows_told(ingest: Dataset, release: Release) -> dict[str, Any]:
    """A step of the person's own, after ours."""
    return {"rows": ingest.rows, "model": f"{release.loop}@{release.version}"}


def test_the_stages_come_in_their_order_with_the_declared_arguments() -> None:
    stages = turn.steps(loop(gate=ms.Gate("f1"), seed=7, max_bad=0.2).declaration)

    assert tuple(stage.name for stage in stages) == turn.STAGES
    of = {stage.name: stage for stage in stages}
    assert of["train"].parameters["metric"] == "f1" and of["train"].parameters["seed"] == 7
    assert of["ingest"].parameters["max_bad"] == 0.2
    assert [name for name, stage in of.items() if stage.effects] == ["release"]
    assert Graph(stages).names == turn.STAGES


def test_a_step_of_the_same_name_takes_a_stages_place_and_any_other_comes_after() -> None:
    stages = turn.steps(loop(steps=[rows_told, split]).declaration)

    assert tuple(stage.name for stage in stages) == (*turn.STAGES, "rows_told")
    assert next(stage for stage in stages if stage.name == "split").function is split


def test_only_our_own_stages_watch_the_source_and_the_champion(empty: Home) -> None:
    def evaluate(package: Bundle) -> str:
        return package.digest

    declared = loop(steps=[evaluate]).declaration

    bound = {step.name: step.state for step in turn.bind(turn.steps(declared), declared, empty)}

    assert bound["ingest"] is not None and bound["evaluate"] is None and bound["train"] is None


@pytest.mark.filterwarnings("ignore:.*is kept as a pickle")
@pytest.mark.parametrize("function", [split, as_pair])
def test_a_loop_runs_with_a_split_and_a_step_of_its_own(empty: Home, function: Any) -> None:
    own = ms.step(function) if function is split else replace(turn.as_step(as_pair), name="split")

    run = loop(steps=[own, rows_told]).run(home=empty)

    assert run.model == "late@1" and run.outputs["rows_told"] == {"rows": 200, "model": "late@1"}
    assert run.outputs["train"].train_rows == 150 and run.outputs["evaluate"].rows == 50
    assert "own split step: 150 rows train, 50 are the holdout" in run.outputs["evaluate"].facts["split"]
    assert [step.state for step in loop(steps=[own, rows_told]).run(home=empty).steps] == ["cached"] * 10


def test_a_split_of_ones_own_that_gives_something_else_is_named_with_the_mend(empty: Home) -> None:
    def split(prepare: Frame) -> Any:
        return {"train": prepare, "holdout": prepare}

    with pytest.raises(DeclarationError, match="'split' gave dict; return an object with train and holdout"):
        loop(steps=[split]).run(home=empty)


def test_a_step_that_takes_what_no_step_gives_is_refused_before_anything_runs(empty: Home) -> None:
    def told(relaese: Release) -> str:
        return str(relaese)

    with pytest.raises(DeclarationError, match="relaese"):
        loop(steps=[told]).run(home=empty)
    assert not (empty.path / "tables" / "late").exists()


@pytest.mark.parametrize(
    ("outputs", "status", "model", "reasons"),
    [
        ({}, "done", None, ()),
        ({"gate": VERDICT}, "done", None, ("better",)),
        ({"gate": replace(VERDICT, decision="hold", next="hold")}, "held", None, ("better",)),
        (
            {"gate": VERDICT, "release": Release("late", 3, BUNDLE, "champion", 1.0, ("better", "it serves"))},
            "done", "late@3", ("better", "it serves"),
        ),
        ({"gate": VERDICT, "release": Release("late", 3, BUNDLE, "held", 0.0, ("no",))}, "held", "late@3", ("no",)),
        ({"gate": 0.9, "release": "mine"}, "done", None, ()),
    ],
)  # fmt: skip
def test_a_turn_comes_to_what_its_gate_and_its_release_say(
    outputs: dict[str, Any], status: str, model: str | None, reasons: tuple[str, ...]
) -> None:
    summary = turn.summarise(outputs)

    assert turn.conclude(outputs) == status
    assert (summary.model, summary.reasons) == (model, reasons)


def test_a_turn_does_not_depend_on_where_it_lives(empty: Home) -> None:
    digests = []
    for home in (empty, Home.open(empty.path.parent / "other")):
        run = loop().on(table()).run(home=home)
        digests.append([run.outputs.artifact(name).digest for name in ("ingest", "prepare", "split", "package")])

    assert digests[0] == digests[1]
