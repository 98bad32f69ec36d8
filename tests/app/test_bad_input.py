"""Bad input as a person meets it: one line that names the value and the mend, the right exit code, nothing lost."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mainspring.app import cli

ROWS = 60
LOOP = """
import polars as pl
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier

import mainspring as ms

{before}

visits = ms.Loop(
    "visits", data=ms.csv("visits.csv"), target={target!r}, model={model}, release=ms.Immediate(), {more}
)
"""


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error: the last line, the only one of ours, and no traceback."""
        lines = self.err.strip().splitlines()
        assert "Traceback" not in self.out + self.err and "mainspring: " not in "".join(lines[:-1]), self
        return lines[-1]


Call = Callable[..., Answer]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process, in *folder*."""
    monkeypatch.setenv("MAINSPRING_EXECUTOR", "here")  # a worker process would load every library anew

    def run(folder: Path, *arguments: str) -> Answer:
        monkeypatch.chdir(folder)
        for name in ("loop", "sums", "lone"):  # another test's FILE
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(sys, "argv", ["mainspring", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Answer(int(ended.value.code or 0), said.out, said.err)

    return run


def table(**changes: Any) -> pl.DataFrame:
    """Visits, some of whom buy; *changes* are columns, None takes one out."""
    random = np.random.default_rng(0)
    minutes, pages = random.exponential(5, ROWS).round(2), random.integers(1, 9, ROWS)
    columns = {
        "visit": [f"v{number}" for number in range(ROWS)],
        "minutes": minutes,
        "pages": pages,
        "browser": random.choice(["fox", "crane"], ROWS),
        "buys": (minutes + pages + random.normal(0, 2, ROWS) > 9).astype(int),
        **changes,
    }
    return pl.DataFrame({name: values for name, values in columns.items() if values is not None})


def declare(
    folder: Path,
    *,
    before: str = "",
    target: str = "buys",
    model: str = "DecisionTreeClassifier(max_depth=2)",
    more: str = "",
) -> None:
    (folder / "loop.py").write_text(LOOP.format(before=before, target=target, model=model, more=more))


def nothing_left(folder: Path) -> bool:
    """No version, no model: what failed left no trace that the next run would build on."""
    home = folder / ".mainspring"
    return not (list(home.glob("tables/visits/rows/_delta_log/*.json")) or list(home.glob("bundles/*")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import mainspring as ms\n\nloop = ms.Loop('x', data='rows.csv', target='')\n", "(lone.py, line 3)"),
        ("def of(rows):\n    return rows['a']\n\nof({})\n", "KeyError: 'a' (lone.py, line 2)"),
        ("import json\n\nx = json.loads('{')\n", "(lone.py, line 3)"),
    ],
)
def test_an_error_while_file_is_loaded_is_told_with_its_line(call: Call, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "lone.py").write_text(text)

    answer = call(tmp_path, "plan", "lone.py")

    assert answer.code == 2 and said in answer.err


# ------------------------------------------------------------------------------------------------------- the source


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, ["no such file: 'visits.csv'", "mend the path"]),
        (b"", ["'visits.csv' is empty", "it needs a header and rows"]),
        (b"\n\n", ["'visits.csv' is empty"]),
        (b"visit,minutes,buys\n", ["visits.csv has no rows, only a header: visit, minutes, buys", "give it some"]),
        (b"visit;minutes;buys\nv1;2;0\n", ["divided by ';'", "separator=';'"]),
        (b"visit,buys\nv1,0\nv2,1,7,8\n", ["'visits.csv' can't be read: a row has more fields than the header"]),
        ("visit,buys\nJosé,0\n".encode("latin-1"), ["'visits.csv' can't be read", "encoding='latin-1'"]),
        (b"\x1b[2J\x1b]0;mine\x07,b\n", ["visits.csv has no rows, only a header"]),
        (b"visit,minutes,buys\nv1,2,0\nv2,3,1\n", ["only 2 rows of 2 have a value of target 'buys'; at least 20"]),
    ],
)
def test_a_file_that_can_not_be_read_is_named_with_the_mend(
    call: Call, tmp_path: Path, content: bytes | None, said: list[str]
) -> None:
    declare(tmp_path)
    if content is not None:
        (tmp_path / "visits.csv").write_bytes(content)

    answer = call(tmp_path, "run", "loop.py")

    assert answer.code == 1 and all(each in answer.error for each in said), answer
    assert answer.error.isprintable()
    if content is None:
        assert not (tmp_path / ".mainspring").exists()
        return
    shown = json.loads(call(tmp_path, "runs", "--json").out)["runs"]
    assert [run["status"] for run in shown] == ["failed"]


@pytest.mark.parametrize(
    ("changes", "more", "said"),
    [
        ({"buys": None}, "", ["target='buys' is no column of visits.csv", "the columns are visit, minutes, pages"]),
        ({"buys": None, "buy": [0, 1] * 30}, "", ["did you mean 'buy'?"]),
        ({"buys": [1] * ROWS}, "", ["target 'buys' is 1 in all 60 labelled rows", "name another target"]),
        ({"buys": pl.Series([None] * ROWS, dtype=pl.Int64)}, "", ["'buys' is empty in all 60 rows", "give some rows"]),
        ({"visit": ["v0", "v1"] * 30}, "key='visit'", ["2 keys in 'visit' of visits.csv come more", "remove the rep"]),
        ({"visit": ["v0"] * ROWS}, "key='visit'", ["1 key in 'visit' of visits.csv comes more", "such as visit v0"]),
        ({}, "key='visitor'", ["key='visitor' is no column of visits.csv", "did you mean 'visit'?"]),
        ({}, "time='browser'", ["time column 'browser' can't be read as times, first 'crane', 'fox'; write them as"]),
        ({}, "time='minutes'", ["time column 'minutes' is float, not a time; convert it"]),
        ({}, "weight='browser'", ["weight column 'browser' is text; it must hold numbers"]),
        ({}, "ignore=['browzer']", ["ignore='browzer' is no column", "did you mean 'browser'?"]),
        ({"_prediction": [1] * ROWS}, "", ["column '_prediction'", "rename it"]),
    ],
)
def test_columns_that_can_not_play_their_role_are_named_with_the_mend(
    call: Call, tmp_path: Path, changes: dict[str, Any], more: str, said: list[str]
) -> None:
    declare(tmp_path, more=more)
    table(**changes).write_csv(tmp_path / "visits.csv")

    answer = call(tmp_path, "run", "loop.py")

    assert answer.code == (2 if "is no column" in answer.error else 1), answer
    assert all(each in answer.error for each in said), answer


def test_a_failed_run_leaves_nothing_that_the_next_one_builds_on(call: Call, tmp_path: Path) -> None:
    declare(tmp_path, more="key='visit'")
    table(visit=["v0"] * ROWS).write_csv(tmp_path / "visits.csv")

    assert call(tmp_path, "run", "loop.py").code == 1

    models = call(tmp_path, "models", "visits")
    assert nothing_left(tmp_path) and models.code == 1
    assert "'visits' has no version yet, its last run is failed: `mainspring show " in models.error


# ----------------------------------------------------------------------------------------------- features and models


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("rows.with_columns(share=1 / 0)", ["'richer' raised ZeroDivisionError: division by zero (loop.py, line 9)"]),
        ("rows.with_columns(pl.col('minute') * 2)", ["unable to find column \"minute\"", "it is given visit, minutes"]),
        ("rows.lazy().with_columns(pl.col('minute') * 2)", ["unable to find column \"minute\""]),
        ("rows.filter(pl.col('pages') > 3)", ["rows of 60; return one row per row"]),
        ("rows.with_columns(pl.col('pages') - pl.col('pages').mean())", ["'richer' isn't row-wise: column 'pages'"]),
        ("rows.with_columns(n=pl.int_range(pl.len()))", ["isn't row-wise: column 'n'", "only the row's own values"]),
        ("rows.with_columns(sure=pl.col('buys') * 2)", ["features ask for column 'buys'", "take it out"]),
        ("None", ["returned NoneType, not a polars frame; return the frame"]),
        ("rows.select('visit').drop('visit')", ["returned a frame without columns; return what the model needs"]),
        ("rows.select(pl.col('visit').alias('v'))", ["no column is left to learn from", "'v'"]),
    ],
)  # fmt: skip
def test_a_features_function_that_breaks_its_promise_is_named_with_the_mend(
    call: Call, tmp_path: Path, body: str, said: list[str]
) -> None:
    declare(tmp_path, before=f"def richer(rows):\n    return {body}\n", more="features=richer")
    table().write_csv(tmp_path / "visits.csv")

    answer = call(tmp_path, "run", "loop.py")

    assert answer.code == 1 and all(each in answer.error for each in said), answer


@pytest.mark.parametrize(
    ("model", "more", "code", "said"),
    [
        ("LinearRegression()", "", 1, ["LinearRegression is a regressor", "model=RandomForestClassifier()"]),
        ("object()", "", 2, ["model=<object object", "has no fit and predict; give a scikit-learn estimator"]),
        ("DecisionTreeClassifier", "", 2, ["is a class; write an instance, DecisionTreeClassifier()"]),
        ("'best'", "", 2, ["model='best' is no estimator; write \"auto\""]),
        ("[]", "", 2, ["model=[] names no estimator"]),
        ("DecisionTreeClassifier(max_depth=-1)", "", 1, ["DecisionTreeClassifier can't be fitted", "mend its param"]),
        ("LogisticRegression()", "gate=ms.Gate('rocauc')", 1, ["no metric 'rocauc'; did you mean 'roc_auc'"]),
        ("LogisticRegression()", "gate=ms.Gate('rmse')", 1, ["metric 'rmse' doesn't fit a binary task"]),
        ("LogisticRegression()", "search=ms.Search({'depth': (1, 3)}, trials=2)", 2, ["depth"]),
        ("LogisticRegression()", "gate=ms.Gate(slices=['browsr'])", 2, ["slice", "'browsr'", "did you mean 'browser'"]),
        ("LogisticRegression()", "split='time'", 2, ["split='time' must be ms.Split(by='time')"]),
        ("LogisticRegression()", "split=ms.Split(test=0.999)", 1, ["60 rows can't be divided with test=0.999"]),
        ("LogisticRegression()", "features='pages'", 2, ["features='pages' must be a function"]),
        ("LogisticRegression()", "features=DecisionTreeClassifier", 2, ["is a class; write an instance"]),
        ("LogisticRegression()", "seed='a'", 2, ["seed='a' must be a whole number from 0"]),
        ("LogisticRegression()", "task='regression'", 1, ["LogisticRegression is a classifier"]),
        ("LogisticRegression()", "retrain=ms.Retrain(window='30d')", 2, ["window='30d' needs a time column"]),
    ],
)  # fmt: skip
def test_what_can_not_learn_the_task_is_named_with_the_mend(
    call: Call, tmp_path: Path, model: str, more: str, code: int, said: list[str]
) -> None:
    declare(tmp_path, model=model, more=more)
    table().write_csv(tmp_path / "visits.csv")

    answer = call(tmp_path, "run", "loop.py")

    assert answer.code == code and all(each in answer.error for each in said), answer


# ------------------------------------------------------------------------------------------------- the second run


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose loop has a champion."""
    folder = tmp_path_factory.mktemp("served")
    declare(folder, more="key='visit', gate=ms.Gate('accuracy')")
    table().write_csv(folder / "visits.csv")
    loop = load(folder)
    assert loop.run(home=folder / ".mainspring", data=str(folder / "visits.csv")).model == "visits@1"
    return folder


def load(folder: Path) -> Any:
    spec = importlib.util.spec_from_file_location("visits_loop", folder / "loop.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["visits_loop"] = module
    spec.loader.exec_module(module)
    return module.visits


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pages": None}, ["column 'pages' of the contract is gone", "put it back"]),
        ({"pages": ["many"] * ROWS}, ["column 'pages' is text, such as 'many'; the contract says integer; cast it"]),
        ({"visit": None}, ["key='visit' is no column"]),
        ({"buys": None}, ["target='buys' is no column"]),
        ({"visit": ["v1"] * ROWS}, ["1 key in 'visit'"]),
        ({"minutes": ["long"] * 6 + ["1.0"] * 54}, ["6 of 60 rows of visits.csv break the contract", "row 1: column"]),
    ],
)
def test_a_source_that_has_changed_is_refused_and_the_champion_stays(
    call: Call, served: Path, changes: dict[str, Any], said: list[str]
) -> None:
    table(**changes).write_csv(served / "visits.csv")

    answer = call(served, "run", "loop.py")

    assert answer.code == 1 and all(each in answer.error for each in said), answer
    assert json.loads(call(served, "models", "visits", "--json").out)["route"]["champion"] == 1
    assert call(served, "predict", "visits", json.dumps(table().row(0, named=True))).code == 0


def test_after_the_mend_the_same_file_runs_again(call: Call, served: Path) -> None:
    table().write_csv(served / "visits.csv")
    assert call(served, "run", "loop.py").code == 0  # the file by the path that FILE has, not by the fixture's
    before = json.loads(call(served, "models", "visits", "--json").out)["versions"]
    table(pages=None).write_csv(served / "visits.csv")
    assert call(served, "run", "loop.py").code == 1
    table().write_csv(served / "visits.csv")

    answer = call(served, "run", "loop.py", "--json")

    assert answer.code == 0 and json.loads(answer.out)["status"] == "done"
    assert json.loads(call(served, "models", "visits", "--json").out)["versions"] == before


# ---------------------------------------------------------------------------------------------- rows to be predicted

ROW = {"visit": "v9", "minutes": 4.0, "pages": 3, "browser": "fox"}


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        ({"minutes": 4.0, "pages": 3}, 1, ["row 0 lacks column 'browser'", "a missing value is written null"]),
        ([ROW, {**ROW, "pages": "three"}], 1, ["column 'pages', row 1: 'three' is not a whole number"]),
        ({**ROW, "browser": ["fox"]}, 1, ["column 'browser', row 0: ['fox'] is not text"]),
        ({**ROW, "minutes": 10**400}, 1, ["column 'minutes', row 0: 1000", "beyond a 64-bit float"]),
        ({"rows": []}, 1, ["give one row as an object, or several"]),
        ({**ROW, "minutes": float("nan")}, 1, ["the rows are not valid JSON"]),
        ("{", 1, ["the rows are not valid JSON"]),
        ("nothing.json", 2, ["'nothing.json' is neither JSON rows nor a file"]),
        ("nothing.csv", 1, ["no such file: 'nothing.csv'", "mend the path"]),
    ],
)
def test_rows_that_can_not_be_predicted_are_named_with_the_mend(
    call: Call, served: Path, rows: Any, code: int, said: list[str]
) -> None:
    answer = call(served, "predict", "visits", rows if isinstance(rows, str) else json.dumps(rows))

    assert answer.code == code and all(each in answer.error for each in said), answer
    assert len(answer.err.splitlines()) == 1


def test_extra_columns_and_a_missing_key_are_no_error(call: Call, served: Path) -> None:
    bare = {name: value for name, value in ROW.items() if name != "visit"}

    said = {call(served, "predict", "visits", json.dumps(row)).out for row in (ROW, {**bare, "noise": {"a": [1]}})}

    assert len(said) == 1 and said <= {"0\n", "1\n"}


def test_a_csv_of_rows_is_read_in_the_models_types(call: Call, served: Path) -> None:
    table(buys=None, visit=range(ROWS), minutes=pl.Series([None] * ROWS, dtype=pl.Float64)).write_csv(
        served / "new.csv"
    )

    answer = call(served, "predict", "visits", "new.csv")

    assert answer.code == 0 and len(answer.out.split()) == ROWS


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["monitor", "visits", "--html", "no/where.html"], 2, ["--html 'no/where.html': no folder 'no'; make it"]),
        (["promote", "visits@9"], 1, ["visits has no version 9", "`mainspring models visits`"]),
        (["models", "visit"], 1, ["no loop 'visit'", "this home has visits"]),
        (["show", "nothing"], 1, ["nothing"]),
        (["run", "loop.py", "--only", "trian"], 2, ["trian"]),
        (["init", "visits.csv", "--target", "buy", "-o", "two.py"], 1, ["no column 'buy'; did you mean 'buys'?"]),
        (["init", "nothing.csv", "--target", "buys", "-o", "two.py"], 1, ["no such file: 'nothing.csv'"]),
        (["up", "loop.py", "--port", "70000"], 2, ["70000"]),
    ],
)
def test_what_does_not_exist_is_named_with_the_mend(
    call: Call, served: Path, arguments: list[str], code: int, said: list[str]
) -> None:
    table().write_csv(served / "visits.csv")

    answer = call(served, *arguments)

    assert answer.code == code and all(each in answer.error for each in said), answer
