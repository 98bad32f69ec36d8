"""The stages that know who is champion: whom a bundle is judged against, and how often a holdout has been used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from living import START, TRAINED_ROWS, loop
from sklearn.tree import DecisionTreeClassifier

import mainspring as ms
from mainspring.app.running import Run, Surroundings
from mainspring.core.errors import DeclarationError
from mainspring.loop import champion, stages
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home

TREE = DecisionTreeClassifier(max_depth=2)


def run(home: Home, declared: ms.Loop) -> Run:
    return declared.start(Surroundings(home, clock=lambda: START), {})


def test_the_first_bundle_has_no_rival_and_keeps_none(home: Home) -> None:
    first = Deployments(home).version("late", 1)

    assert champion.rival(home, "late", first.digest) is None
    assert champion.rival(home, "late", "f" * 64) == first.digest
    assert champion.rival(home, "early", "f" * 64) is None


def test_a_second_bundle_is_judged_against_the_champion_of_its_time_for_ever(home: Home) -> None:
    deployments = Deployments(home)
    first = deployments.version("late", 1).digest
    done = run(home, loop(model=TREE, release=ms.Manual()))

    second = deployments.version("late", 2)
    assert second.champion_digest == first and done.outputs["evaluate"].champion_digest == first
    champion.promote(home, "late", 2, reason="by hand", mlflow=None)

    assert champion.rival(home, "late", second.digest) == first
    again = run(home, loop(model=TREE, release=ms.Manual()))
    assert [step.state for step in again.steps] == ["cached"] * 9


def test_each_bundle_uses_the_holdout_once_and_a_new_holdout_begins_anew(home: Home) -> None:
    uses = []
    for model in (None, TREE, DecisionTreeClassifier(max_depth=3), TREE):
        declared = loop(release=ms.Manual()) if model is None else loop(model=model, release=ms.Manual())
        verdict = run(home, declared).verdict
        assert verdict is not None
        uses.append(next(reason for reason in verdict.reasons if reason.startswith("Use ")).split(" of ")[0])
    assert uses == ["Use 1", "Use 2", "Use 3", "Use 2"]

    other = run(home, loop(TRAINED_ROWS + 60, release=ms.Manual())).verdict
    assert other is not None and any(reason.startswith("Use 1 of") for reason in other.reasons)


def test_the_same_use_is_not_counted_twice_when_the_gate_runs_again(home: Home) -> None:
    evaluation = run(home, loop()).outputs["evaluate"]

    verdicts = [stages.gate(evaluation, rule=ms.Gate(), home=home) for _ in range(3)]

    assert verdicts[0] == verdicts[1] == verdicts[2]


def test_a_release_leaves_the_model_card_beside_the_home(home: Home) -> None:
    markdown, html = stages.card_paths(home, "late", 1)

    assert "# Model card: late" in markdown.read_text() and "<html" in html.read_text()
    assert (markdown, html) == (home.path / "cards" / "late@1.md", home.path / "cards" / "late@1.html")


def test_a_release_that_is_repeated_after_a_kill_changes_nothing(home: Home) -> None:
    done, deployments = run(home, loop()), Deployments(home)
    before = deployments.decisions("late")
    given: dict[str, Any] = {name: done.outputs[name] for name in ("gate", "train", "evaluate")}

    released = stages.release(
        **given, strategy=ms.Immediate(), loop="late", home=home, run=done.id, seed=0, clock=lambda: START
    )

    assert (released.version, released.state, released.share) == (1, "champion", 1.0)
    assert deployments.decisions("late") == before and len(deployments.versions("late")) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gate": ms.Gate(slices=["citty"])}, r"Gate\(slices=.*'citty', which no request carries; did you mean 'city'"),
        ({"unit": "trian"}, r"unit= names 'trian', which no request carries; did you mean 'train'"),
        ({"gate": ms.Gate("accuracy", at_least=2)}, r"Gate\(at_least=2\) can't be reached: accuracy is never above 1"),
        ({"unit": "late"}, r"unit= names 'late', which no request carries"),
    ],
)
def test_columns_that_later_stages_need_are_checked_before_training(
    empty: Home, changes: dict[str, Any], said: str
) -> None:
    done = run(empty, loop(**changes))

    assert isinstance(done.error, DeclarationError) and done.status == "failed"
    with pytest.raises(DeclarationError, match=said):
        raise done.error
    assert {step.name: step.state for step in done.steps}["train"] == "skipped"


def test_a_division_of_a_persons_own_is_named_by_its_holdout(home: Home) -> None:
    frame = run(home, loop()).outputs["prepare"]
    sides = [replace(frame, data=frame.data.head(150)), replace(frame, data=frame.data.tail(50))]

    one, two, other = (stages.divided(pair) for pair in (tuple(sides), tuple(sides), tuple(sides[::-1])))

    assert one.holdout_id == two.holdout_id != other.holdout_id
    assert stages.divided(one) is one


def test_the_home_may_lie_anywhere(trained: Path, home: Home) -> None:
    assert home.path != trained and loop().predict(loop().declaration.source.data.head(3), home=home).shape == (3,)
