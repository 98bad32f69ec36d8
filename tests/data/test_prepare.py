"""From a dataset to the frame that is learnt from: tasks, classes, features that keep their promise, leaks."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.preprocessing import StandardScaler

from mainspring.core import declarations as ms
from mainspring.core.declarations import Roles
from mainspring.core.errors import DataError, DeclarationError, DuplicateKeys, FeaturesError, LeakFound, TargetUnusable
from mainspring.data import contract, contract_file
from mainspring.data.features import checked_features
from mainspring.data.targets import target
from mainspring.store.home import Home

RANDOM = np.random.default_rng(1)
ROWS = 400
DATA = pl.DataFrame(
    {
        "id": [f"k{i}" for i in range(ROWS)],
        "at": pl.datetime_range(
            pl.datetime(2020, 1, 1), pl.datetime(2020, 1, 1) + pl.duration(days=ROWS - 1), "1d", eager=True
        ),
        "x": RANDOM.normal(size=ROWS),
        "city": RANDOM.choice(["Oslo", "Rome"], ROWS),
        "weight": RANDOM.random(ROWS) + 0.5,
        "after": RANDOM.normal(size=ROWS),
        "late": RANDOM.choice(["no", "yes"], ROWS),
    }
)
ALL = Roles("late", key="id", time="at", weight="weight", ignore=("after",))


def test_the_frame_has_labelled_rows_and_the_contract_of_a_request(prepared: Any) -> None:
    data = DATA.with_columns(late=pl.when(pl.col("x") < 1).then("late"), x=pl.when(pl.col("x") > -1).then("x"))
    frame = prepared(ms.frame(data), ALL)
    unlabelled = data["late"].null_count()

    assert frame.data.columns == ["id", "at", "x", "city", "weight", "late"]
    assert frame.data.height == ROWS - unlabelled
    assert (frame.task, frame.classes) == ("binary", ("no", "yes"))
    assert [(column.name, column.nullable) for column in frame.inputs] == [
        ("id", True), ("at", True), ("x", True), ("city", False),
    ]  # fmt: skip
    assert frame.notes == (
        f"{unlabelled} rows without a value of 'late' are left out",
        "'yes' is the positive class of 'late' (name another by positive=)",
    )


def test_a_window_keeps_the_newest_rows(prepared: Any) -> None:
    frame = prepared(ms.frame(DATA), ALL, window="30d")

    assert frame.data.height == 30 and frame.data["at"].max() == DATA["at"].max()
    assert "370 rows older than window='30d' are left out" in frame.notes
    with pytest.raises(DeclarationError, match="window='30d' needs a time column"):
        prepared(ms.frame(DATA), Roles("late", ignore=("after", "at", "id")), window="30d")
    with pytest.raises(DataError, match="only 3 rows of 3"):
        prepared(ms.frame(DATA.with_columns(late=pl.Series(["no", "yes"] * 200))), ALL, window="3d")


def test_a_row_without_weight_weighs_as_the_mean(prepared: Any) -> None:
    data = DATA.with_columns(weight=pl.Series([None, 1.0, 3.0, *[2.0] * (ROWS - 3)]))

    assert prepared(ms.frame(data), ALL).data["weight"].head(3).to_list() == [2.0, 1.0, 3.0]


def test_a_running_number_is_ignored_unless_features_need_it(prepared: Any) -> None:
    data = DATA.with_columns(number=pl.int_range(7, ROWS + 7))

    def by_number(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(weekday=pl.col("number") % 7)

    frame = prepared(ms.frame(data), ALL, features=[lambda rows: rows.with_columns(y=pl.col("x") * 2)])
    needed = prepared(ms.frame(data), ALL, features=[by_number])

    assert frame.roles.ignore == ("after", "number") and "number" not in frame.inputs
    assert "column 'number' only counts the rows: it is ignored" in frame.notes
    assert "number" in needed.inputs


def test_a_running_number_that_is_all_there_is_stays_a_feature(prepared: Any) -> None:
    data = DATA.select("late", number=pl.int_range(pl.len()))

    assert "number" in prepared(ms.frame(data), Roles("late")).inputs


def test_a_leak_stops_with_the_line_to_write(prepared: Any) -> None:
    data = DATA.with_columns(status=pl.when(pl.col("late") == "yes").then(pl.lit("missed")).otherwise(pl.lit("kept")))

    with pytest.raises(
        LeakFound, match=r"'status' alone is the target in other words.*ignore=\[\"after\", \"status\"\]"
    ):
        prepared(ms.frame(data), ALL)


def test_a_leak_that_the_features_make_stops_too(prepared: Any) -> None:
    odd = DATA.select("late", "x", code=pl.col("x") // 0.001 * 2 + (pl.col("late") == "yes"))

    with pytest.raises(LeakFound, match=r"'odd' alone is the target in other words.*take odd out of the"):
        prepared(ms.frame(odd), Roles("late"), features=[lambda rows: rows.with_columns(odd=pl.col("code") % 2)])


def test_a_leak_that_no_feature_uses_stops_too_for_no_request_could_carry_it(prepared: Any) -> None:
    data = DATA.with_columns(status=pl.col("late") == "yes")

    with pytest.raises(LeakFound, match=r'write ignore=\["after", "status"\]'):
        prepared(ms.frame(data), ALL, features=[lambda rows: rows.select("x")])


def test_no_column_left_is_an_error(prepared: Any) -> None:
    with pytest.raises(DataError, match=r"no column is left as a feature: all of them are special \(id, late\)"):
        prepared(ms.frame(DATA.select("id", "late")), Roles("late", key="id"))


def test_flights_from_the_installed_files_are_ready_to_learn_from(prepared: Any, flights_csv: Path) -> None:
    roles = Roles("arr_delay", time="time_hour", ignore=("arr_time",))

    def features(flights: pl.DataFrame) -> pl.DataFrame:
        return flights.with_columns(planned=pl.col("sched_arr_time") - pl.col("sched_dep_time"))

    frame = prepared(ms.csv(str(flights_csv)), roles, features=[features], window="90d")

    assert frame.task == "regression" and frame.data.height > 70_000
    assert frame.inputs["dep_delay"].type.value == "integer" and frame.inputs["dep_delay"].nullable


class TestTargets:
    @pytest.mark.parametrize(
        ("values", "task", "classes"),
        [
            ([True, False] * 10, "binary", (False, True)),
            ([0, 1] * 10, "binary", (0, 1)),
            ([1.0, 0.0] * 10, "binary", (0, 1)),
            (["late", "early"] * 10, "binary", ("early", "late")),
            (["Yes", "unknown"] * 10, "binary", ("unknown", "Yes")),
            (["a", "b", "c"] * 10, "multiclass", ("a", "b", "c")),
            ([3, 1, 2] * 10, "multiclass", (1, 2, 3)),
            ([i / 2 for i in range(30)], "regression", ()),
            (list(range(30)), "regression", ()),
        ],
    )
    def test_the_task_and_classes_follow_from_the_values(self, values: list[Any], task: str, classes: Any) -> None:
        made = target(pl.Series("y", values), "auto")

        assert (made.task, made.classes) == (task, classes)
        assert made.notes or task == "multiclass"

    def test_the_user_may_name_task_and_positive_class(self) -> None:
        assert target(pl.Series("y", [1, 2, 3] * 9), "regression").values.dtype == pl.Float64
        assert target(pl.Series("y", ["a", "b"] * 9), "auto", positive="a").classes == ("b", "a")
        assert target(pl.Series("y", [1.0, 0.0] * 9), "binary", positive=0).classes == (1, 0)

    @pytest.mark.parametrize(
        ("values", "task", "positive", "error", "said"),
        [
            (
                ["a", "b"] * 9,
                "auto",
                "c",
                DeclarationError,
                "positive='c' is no class of target 'y'; it has 'a' and 'b'",
            ),
            ([1, 2, 3] * 9, "auto", 1, DeclarationError, "positive=1 needs two classes; target 'y' has 3"),
            ([1, 2, 3] * 9, "binary", None, TargetUnusable, "task='binary' but target 'y' has 3 classes: 1, 2 and 3"),
            (
                ["a", "b"],
                "regression",
                None,
                TargetUnusable,
                "task='regression' but target 'y' is no number, such as 'a'",
            ),
            ([f"n{i}" for i in range(9)], "auto", None, TargetUnusable, "target 'y' has 9 classes in 9 rows, such as"),
            ([DATA["at"][0]] * 3, "auto", None, TargetUnusable, "target 'y' holds times"),
        ],
    )
    def test_what_can_not_be_is_refused(
        self, values: list[Any], task: Any, positive: Any, error: type[Exception], said: str
    ) -> None:
        with pytest.raises(error, match=said):
            target(pl.Series("y", values), task, positive)


def good(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(double=pl.col("x") * 2, length=pl.col("city").str.len_chars())


class TestFeatures:
    def check(self, *functions: Any) -> pl.DataFrame:
        return checked_features(functions, DATA, frozenset({"late", "after"}))

    def test_row_wise_functions_and_transformers_pass(self) -> None:
        made = self.check(good, StandardScaler())

        assert made.columns == ["id", "at", "x", "city", "weight", "double", "length"]

    @pytest.mark.parametrize(
        "function",
        [
            lambda rows: rows.with_columns(z=pl.col("x") - pl.col("x").mean()),
            lambda rows: rows.with_columns(z=pl.col("x").shift()),
            lambda rows: rows.with_columns(z=pl.col("x").rank().over("city")),
            lambda rows: rows.with_columns(z=pl.Series([random.random() for _ in range(rows.height)])),
            lambda rows: rows.sort("x"),
            lambda rows: rows.to_dummies("city"),
        ],
    )
    def test_a_feature_that_depends_on_other_rows_is_named(self, function: Any) -> None:
        with pytest.raises(FeaturesError, match=r"isn't row-wise: column '|makes other columns when"):
            self.check(function)

    def test_asking_for_the_target_is_named(self) -> None:
        for function in (
            lambda rows: rows.with_columns(z=pl.col("late") == "yes"),
            lambda rows: rows.with_columns(z=rows["after"] * 2),
        ):
            with pytest.raises(
                FeaturesError, match=r"features ask for column '(late|after)', which no request carries"
            ):
                self.check(function)

    def test_a_function_that_raises_or_loses_rows_is_named(self) -> None:
        def broken(rows: pl.DataFrame) -> pl.DataFrame:
            raise ValueError("no such zone")

        with pytest.raises(FeaturesError, match="'broken' raised ValueError: no such zone"):
            self.check(broken)
        with pytest.raises(FeaturesError, match=r"made .* rows of 400"):
            self.check(lambda rows: rows.filter(pl.col("x") > 0))


def test_a_column_that_the_contract_calls_unique_may_not_repeat(home: Home, prepared: Any) -> None:
    source = pl.DataFrame({"x": [1.5, 2.5] * 30, "code": [*range(59), 7], "late": [0, 1] * 30})
    text = "[columns.x]\ntype='float'\n[columns.code]\ntype='integer'\nunique=true\n[columns.late]\ntype='integer'"
    contract.save(home, "loop", contract_file.parsed(text, "x"))

    with pytest.raises(
        DuplicateKeys, match="column 'code' is unique by its contract, but its values repeat in 1 row, such as 7"
    ):
        prepared(ms.frame(source), Roles("late"))
