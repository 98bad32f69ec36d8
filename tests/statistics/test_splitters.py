"""Holdouts and folds by time, group, key and at random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, TimeSeriesSplit, train_test_split

from mainspring.core.declarations import Roles, Split
from mainspring.core.errors import DataError, DeclarationError
from mainspring.statistics.splitters import folds, holdout_mask, kind, own_folds, shuffled


@pytest.mark.parametrize(
    ("roles", "by"),
    [
        (Roles("y", key="id", time="at", group="who"), "time"),
        (Roles("y", key="id", group="who"), "group"),
        (Roles("y", key="id"), "key"),
        (Roles("y"), "random"),
    ],
)
def test_auto_takes_time_then_group_then_key_then_chance(roles: Roles, by: str) -> None:
    assert kind(Split(), roles) == by
    assert kind(Split(by="random"), roles) == "random"
    assert kind(KFold(2), roles) == "own"


def test_a_rule_without_its_column_or_without_sense_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"Split\(by='time'\) needs a column for it; write time='COLUMN'"):
        kind(Split(by="time"), Roles("y"))
    with pytest.raises(DeclarationError, match=r"split=0.2 can't divide rows"):
        kind(0.2, Roles("y"))


@given(st.lists(st.integers(0, 20), min_size=2, max_size=80), st.floats(0.05, 0.9))
def test_the_newest_rows_are_held_out_and_equal_times_never_straddle(times: list[int], test: float) -> None:
    values = np.array(times)
    if len(set(times)) == 1:
        with pytest.raises(DataError, match="same time"):
            holdout_mask("time", values, test)
        return
    held = holdout_mask("time", values, test)

    assert held.any() and not held.all()
    assert values[held].min() > values[~held].max()


def test_a_row_without_a_time_is_no_part_of_the_holdout() -> None:
    times = np.array(["2020-01-01", "NaT", "2020-01-02", "2020-01-03"], dtype="datetime64[us]")

    assert holdout_mask("time", times, 0.25).tolist() == [False, False, False, True]


@given(st.sets(st.text(min_size=1, max_size=5), min_size=60, max_size=90), st.integers(30, 50))
def test_a_key_stays_on_its_side_when_rows_are_added(keys: set[str], before: int) -> None:
    values = np.array(sorted(keys), dtype=object)

    few, all_of_them = (holdout_mask("key", part, 0.5, salt="s") for part in (values[:before], values))

    assert few.tolist() == all_of_them[:before].tolist()


def test_a_hash_holds_out_the_asked_share_and_another_salt_other_keys() -> None:
    keys = np.arange(20_000)

    one, other = holdout_mask("key", keys, 0.2, salt="a"), holdout_mask("key", keys, 0.2, salt="b")

    assert abs(one.mean() - 0.2) < 0.01
    assert abs((one & other).mean() - 0.04) < 0.01


def test_a_group_is_never_on_both_sides() -> None:
    groups = np.random.default_rng(0).integers(0, 40, 500)

    held = holdout_mask("group", groups, 0.3, salt="s")

    assert not set(groups[held]) & set(groups[~held])


def test_too_few_groups_to_keep_some_apart_are_named() -> None:
    with pytest.raises(DataError, match="1 different values are too few to keep 20% of them apart"):
        holdout_mask("group", np.array(["a", "a"]), 0.2)


@pytest.mark.parametrize("stratified", [True, False])
def test_shuffled_rows_are_those_of_train_test_split_in_its_order(stratified: bool) -> None:
    target = np.random.default_rng(0).integers(0, 3, 151)

    division = shuffled(151, 0.2, 42, target if stratified else None)
    train, test = train_test_split(
        np.arange(151), test_size=0.2, random_state=42, stratify=target if stratified else None
    )

    assert division.train.tolist() == train.tolist() and division.test.tolist() == test.tolist()
    assert not division.note


def test_a_class_too_small_to_stratify_is_noted_and_rows_are_divided_anyway() -> None:
    target = np.array([0] * 20 + [1] * 9 + [2])

    division = shuffled(30, 0.2, 0, target)

    assert division.note == "not stratified: class 2 has 1 of 30 rows, too few for both sides"
    assert sorted([*division.train, *division.test]) == list(range(30))


def columns(**values: Any) -> Any:
    return lambda name: values[name]


@given(st.lists(st.integers(0, 30), min_size=10, max_size=80), st.integers(2, 6))
def test_folds_by_time_are_tested_on_what_comes_later(times: list[int], count: int) -> None:
    values = np.array(times)
    if len(set(times)) < 2:
        with pytest.raises(DataError, match="1 different times can't be divided"):
            folds(Split(), Roles("y", time="at"), columns(at=values), len(values), count=count, seed=0)
        return

    parts = folds(Split(), Roles("y", time="at"), columns(at=values), len(values), count=count, seed=0)

    assert 1 <= len(parts) <= count
    for train, test in parts:
        assert len(train) and len(test) and values[train].max() < values[test].min()


def test_folds_by_time_are_of_about_equal_size() -> None:
    times = np.arange(600)[::-1]

    parts = folds(Split(), Roles("y", time="at"), columns(at=times), 600, count=5, seed=0)

    assert [len(test) for _, test in parts] == [100] * 5
    assert [len(train) for train, _ in parts] == [100, 200, 300, 400, 500]


def test_folds_by_group_keep_groups_whole_and_are_no_more_than_groups() -> None:
    groups = np.array(["a", "b", "c"] * 10)

    parts = folds(Split(), Roles("y", group="who"), columns(who=groups), 30, count=5, seed=0)

    assert len(parts) == 3
    assert all(not set(groups[train]) & set(groups[test]) for train, test in parts)


def test_other_folds_are_stratified_where_classes_allow_it_and_repeatable() -> None:
    target = np.array([0] * 40 + [1] * 10)
    split = {"count": 5, "seed": 3}

    parts = folds(Split(), Roles("y"), columns(), 50, target=target, **split)
    again = folds(Split(), Roles("y"), columns(), 50, target=target, **split)
    rare = folds(Split(), Roles("y"), columns(), 50, target=np.array([0] * 48 + [1] * 2), **split)

    assert [target[test].sum() for _, test in parts] == [2] * 5
    assert all(
        np.array_equal(one, two) for a, b in zip(parts, again, strict=True) for one, two in zip(a, b, strict=True)
    )
    assert sorted(row for _, test in rare for row in test) == list(range(50))
    assert len(folds(Split(), Roles("y", key="id"), columns(), 3, count=5, seed=0)) == 3


def test_a_splitter_of_the_users_gives_its_own_folds() -> None:
    parts = folds(TimeSeriesSplit(3), Roles("y"), columns(), 40, count=5, seed=0)

    assert [len(test) for _, test in parts] == [10, 10, 10]
    with pytest.raises(DataError, match=r"KFold.* can't divide 3 rows: .*n_splits=5.*; choose other settings"):
        own_folds(KFold(5), 3, None, None)


def test_one_row_can_not_be_divided() -> None:
    with pytest.raises(DataError, match="1 rows can't be divided into folds"):
        folds(Split(), Roles("y"), columns(), 1, count=5, seed=0)
