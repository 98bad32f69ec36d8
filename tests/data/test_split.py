"""A holdout that no fit ever sees."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import datasets
from sklearn.model_selection import GroupShuffleSplit, KFold, ShuffleSplit, TimeSeriesSplit, train_test_split

from mainspring.core import declarations as ms
from mainspring.core.declarations import Roles, Split
from mainspring.core.errors import DataError, TargetUnusable
from mainspring.core.schema import Schema
from mainspring.core.values import Frame, Onset
from mainspring.data.split import split

RANDOM = np.random.default_rng(0)
ROWS = 300
DATA = pl.DataFrame(
    {
        "id": range(ROWS),
        "at": [datetime(2020, 1, 1 + i % 30, i % 24) for i in range(ROWS)],
        "who": [f"p{i % 40}" for i in range(ROWS)],
        "y": RANDOM.integers(0, 2, ROWS),
    }
)


def frame(roles: Roles, data: pl.DataFrame = DATA) -> Frame:
    return Frame(data, roles, "binary", (0, 1), Schema(()), 0, ("a note",))


def divided(roles: Roles, rule: Any = None, data: pl.DataFrame = DATA, seed: int = 0, loop: str = "loop") -> Any:
    return split(frame(roles, data), rule=rule or Split(), seed=seed, loop=loop)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "diabetes"])
@pytest.mark.parametrize("stratify", [True, False])
def test_the_rows_are_those_of_train_test_split_in_its_order(prepared: Any, name: str, stratify: bool) -> None:
    data = getattr(datasets, f"load_{name}")(as_frame=True).frame
    made = split(prepared(ms.frame(data), Roles("target")), rule=Split(stratify=stratify, seed=42), seed=0, loop="loop")
    target = data.target if stratify and name != "diabetes" else None

    train, test = train_test_split(np.arange(len(data)), test_size=0.2, random_state=42, stratify=target)

    rows = pl.from_pandas(data)
    assert made.train.data.select(rows.columns).equals(rows[train].cast({"target": made.train.data["target"].dtype}))
    assert made.holdout.data["target"].to_list() == rows[test]["target"].to_list()


def test_by_time_the_newest_rows_are_the_holdout_and_the_rule_says_so() -> None:
    made = divided(Roles("y", key="id", time="at", group="who"))

    assert made.train.data["at"].max() < made.holdout.data["at"].min()
    start = made.holdout.data["at"].min()
    assert made.rule == f"time: 240 rows before {start:%Y-%m-%d %H:%M} train, 60 from then on are the holdout"


@pytest.mark.parametrize(("place", "test", "held"), [(150, 0.2, 60), (192, 0.2, 54), (150, 0.4, 75)])
def test_since_an_onset_the_holdout_is_at_most_half_of_the_rows_from_then_on(
    place: int, test: float, held: int
) -> None:
    roles, at = Roles("y", time="at"), DATA["at"].sort()[place]
    since = Onset(DATA.filter(pl.col("at") == at)["at"].to_physical()[0], "then", 150)
    made = split(frame(roles), rule=Split(test=test), seed=0, loop="loop", onset=since)

    recent = DATA.filter(pl.col("at") >= at)
    assert made.onset == since and "only rows since then" in made.rule
    assert made.holdout.data.height == pytest.approx(held, abs=3) and held <= recent.height / 2
    assert made.train.data["at"].max() < made.holdout.data["at"].min()
    assert made.train.data.height + made.holdout.data.height == recent.height


@pytest.mark.parametrize("changes", [{"onset": "late"}, {"rule": Split(by="random")}, {"onset": "first"}])
def test_an_onset_with_few_rows_since_or_before_and_other_splits_change_nothing(changes: dict[str, Any]) -> None:
    place = {"late": -60, "first": 0}.get(changes.get("onset", ""), 150)
    since, rule = Onset(int(DATA["at"].to_physical().sort()[place]), "then", 1), changes.get("rule", Split())
    frames = frame(Roles("y", time="at"))
    made, plain = (split(frames, rule=rule, seed=0, loop="loop", onset=each) for each in (since, None))

    assert made.holdout_id == plain.holdout_id and made.rule == plain.rule and made.onset is None


def test_by_group_nobody_is_on_both_sides() -> None:
    made = divided(Roles("y", key="id", group="who"), Split(test=0.3))

    assert not set(made.train.data["who"]) & set(made.holdout.data["who"])
    assert made.rule.startswith("group: ") and made.rule.endswith("by a salted hash of 'who'")


def test_by_key_sides_stay_when_rows_are_added_and_differ_between_loops_and_seeds() -> None:
    roles = Roles("y", key="id")
    before, after = divided(roles, data=DATA.head(200)), divided(roles)

    assert set(before.holdout.data["id"]) == {key for key in after.holdout.data["id"] if key < 200}
    assert before.holdout_id != after.holdout_id == divided(roles).holdout_id
    assert len({divided(roles, seed=seed, loop=loop).holdout_id for seed in (0, 1) for loop in ("a", "b")}) == 4


def test_at_random_a_class_too_small_is_noted() -> None:
    data = DATA.with_columns(y=pl.when(pl.col("id") == 0).then(2).otherwise("y"))

    made = divided(Roles("y"), data=data)

    assert made.train.notes[:2] == ("a note", "not stratified: class 2 has 1 of 300 rows, too few for both sides")
    assert made.rule == "random: 240 rows train, 60 are the holdout, stratified, seed 0"


def test_a_class_that_only_the_holdout_has_is_noted() -> None:
    data = DATA.with_columns(y=pl.when(pl.col("at") == DATA["at"].max()).then(2).otherwise("y"))

    made = divided(Roles("y", time="at"), data=data)

    assert "class 2 is in the holdout but in no training row: no model can know it" in made.holdout.notes


@pytest.mark.parametrize("rule", [TimeSeriesSplit(3), ShuffleSplit(1, test_size=0.25, random_state=0), KFold(4)])
def test_a_scikit_learn_splitter_gives_its_last_fold(rule: Any) -> None:
    made = divided(Roles("y", time="at"), rule)
    train, test = list(rule.split(np.zeros(ROWS)))[-1]
    ordered = DATA.sort("at", maintain_order=True)

    assert made.train.data.equals(ordered[train]) and made.holdout.data.equals(ordered[test])
    assert repr(rule) in made.rule


def test_a_splitter_that_mixes_groups_or_sides_is_refused() -> None:
    class Both:
        def split(self, rows: Any, target: Any = None, groups: Any = None) -> Any:
            yield np.arange(200), np.arange(100, 300)

    with pytest.raises(DataError, match=r"puts group 'p0', 'p1', .* of 'who' on both sides; use a group splitter"):
        divided(Roles("y", group="who"), KFold(2))
    with pytest.raises(DataError, match="puts 100 rows on both sides"):
        divided(Roles("y"), Both())
    made = divided(Roles("y", group="who"), GroupShuffleSplit(1, test_size=0.25, random_state=0))
    assert made.holdout.data["who"].n_unique() == 10


def test_a_side_with_one_class_or_no_row_is_refused() -> None:
    sorted_by_class = DATA.with_columns(y=(pl.col("at") < datetime(2020, 1, 20)).cast(pl.Int64))

    with pytest.raises(TargetUnusable, match=r"target 'y' is 0 in all 60 rows of the holdout .*by='random'"):
        divided(Roles("y", time="at"), data=sorted_by_class)
