"""A stranger's tables and mistakes on the command line: odd folders, codes, types, printing, held versions."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator

import mainspring as ms
from mainspring.app import cli
from mainspring.app.files import load
from mainspring.app.running import Surroundings
from mainspring.core.errors import DeclarationError, StoreError, TrainingError
from mainspring.store.home import Home

Call = Callable[..., tuple[int, str, str]]
ROWS = 200
HEAD = "import mainspring as ms\nfrom sklearn.tree import DecisionTreeClassifier\n"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs a command and its steps in this process, in *folder*: its exit code, output and errors."""
    monkeypatch.setenv("MAINSPRING_EXECUTOR", "here")

    def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["mainspring", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capfd.readouterr()

    return run


def table(**more: Any) -> pl.DataFrame:
    random = np.random.default_rng(0)
    x = random.normal(size=ROWS)
    y = (x + random.normal(scale=0.4, size=ROWS) > 0).astype(int)
    return pl.DataFrame({"x": x, "n": random.integers(0, 9, ROWS), **more, "y": y})


def declare(folder: Path, data: str, more: str = "", before: str = "") -> Path:
    path = folder / "loop.py"
    path.write_text(
        f"{HEAD}{before}\nloop = ms.Loop('shop', data={data!r}, target='y', release=ms.Immediate(), "
        f"model=DecisionTreeClassifier(max_depth=3, random_state=0), {more})\n"
    )
    return path


def test_a_folder_with_spaces_and_umlauts_is_a_home_like_any_other(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "fö lder #1"
    folder.mkdir()
    table().write_csv(folder / "rows.csv")

    code, said, _ = call(folder, "init", "rows.csv", "--target", "y")
    assert code == 0 and 'ms.csv("rows.csv")' in said
    declare(folder, "rows.csv")
    assert call(folder, "plan", "loop.py")[0] == 0
    code, said, _ = call(folder, "run", "loop.py")
    assert code == 0 and "model shop@1" in said and "card: .mainspring/cards/shop@1.html" in said
    pl.concat([table(), table().head(5)]).write_csv(folder / "rows.csv")
    assert call(folder, "run", "loop.py")[0] in (0, 3)
    assert len(call(folder, "predict", "shop", "rows.csv")[1].splitlines()) == ROWS + 5
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("name", ["a%20b", "a[b]", "a?b"])
def test_a_folder_whose_name_would_be_misread_is_refused_when_its_home_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="which Delta Lake or MLflow would misread; rename the folder"):
        Home.open(tmp_path / name / ".mainspring")


def test_under_json_standard_output_is_one_document_whatever_is_printed(call: Call, tmp_path: Path) -> None:
    table().write_csv(tmp_path / "rows.csv")
    loud = "import os\nprint('loading')\nos.system('echo from below')\ndef twice(r):\n    print('rows')\n    return r\n"
    declare(tmp_path, "rows.csv", "features=twice", loud)

    for arguments in (["plan", "loop.py"], ["run", "loop.py"], ["predict", "shop", "rows.csv"], ["monitor", "loop.py"]):
        code, said, aside = call(tmp_path, *arguments, "--json")
        assert code == 0 and json.loads(said)["status"] == "done", (arguments, said, aside)
    assert "loading" in aside and "from below" in aside
    code, said, aside = call(tmp_path, "why", "nobody", "--json")
    assert code == 1 and "nobody" in json.loads(said)["error"] and aside.startswith("mainspring: ")


def test_a_failing_step_shows_its_traceback_on_request_and_its_exit_code(call: Call, tmp_path: Path) -> None:
    table().write_csv(tmp_path / "rows.csv")
    declare(tmp_path, "rows.csv", "features=broken", "def broken(r):\n    return r['nothing'].no\n")

    for arguments in (["run", "loop.py", "--full-traceback"], ["--debug", "run", "loop.py"]):
        code, _, said = call(tmp_path, *arguments)
        assert code == 1 and "Traceback" in said and "return r['nothing'].no" in said


def test_what_ingest_takes_predict_takes_too(call: Call, tmp_path: Path) -> None:
    rows = table(
        zip=[f"0{1230 + row % 4}" for row in range(ROWS)],
        stay=[timedelta(minutes=row % 90) for row in range(ROWS)],
        clock=[time(row % 24, 30) for row in range(ROWS)],
        price=pl.Series([row % 7 for row in range(ROWS)]).cast(pl.Decimal(10, 2)),
        kind=pl.Series(["a", "b"] * (ROWS // 2), dtype=pl.Enum(["a", "b"])),
        words=[f"free text {row}" for row in range(ROWS)],
        parts=[[row] for row in range(ROWS)],
    )
    rows.write_parquet(tmp_path / "rows.parquet")
    declare(tmp_path, "rows.parquet")

    code, said, _ = call(tmp_path, "run", "loop.py")
    assert code == 0 and "'parts'" in said
    assert "column 'zip' is taken as text: '01230' begins with 0" in said and "column 'words' is dropped" in said
    run = json.loads(call(tmp_path, "runs", "--json")[1])["runs"][0]["id"]
    assert "column 'words' is dropped" in (shown := call(tmp_path, "show", run)[1]) and "card: " in shown
    whole = call(tmp_path, "predict", "shop", "rows.parquet")[1].split()
    (loop,) = load("loop.py")
    assert isinstance(loop, ms.Loop)
    bare = rows.drop("words", "y")  # what the model doesn't read needn't be sent
    for given in (bare, bare.drop("parts").to_pandas(), bare.to_arrow()):
        assert [str(label) for label in loop.predict(given).tolist()] == whole


def test_rows_for_predict_come_from_standard_input_as_csv_and_odd_files_are_named(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(code=["007", "12"] * (ROWS // 2)).write_csv(tmp_path / "rows.csv")
    declare(tmp_path, "rows.csv")
    assert call(tmp_path, "run", "loop.py")[0] == 0

    monkeypatch.setattr("sys.stdin", io.StringIO((tmp_path / "rows.csv").read_text()))
    assert call(tmp_path, "predict", "shop")[1] == call(tmp_path, "predict", "shop", "rows.csv")[1]
    (tmp_path / "empty.csv").write_text("x,n,code\n")
    for rows, told in (("loop.py", "loop.py is not valid JSON"), ("empty.csv", "there are no rows, only a header")):
        code, _, said = call(tmp_path, "predict", "shop", rows)
        assert code == 1 and told in said
    (loop,) = load("loop.py")
    assert isinstance(loop, ms.Loop)
    assert len(loop.predict(pd.DataFrame({"x": [0.5], "n": [1], "code": [12.0]}))) == 1


def test_whole_numbers_may_have_fractions_later(call: Call, tmp_path: Path) -> None:
    table().write_csv(tmp_path / "rows.csv")
    declare(tmp_path, "rows.csv")
    assert call(tmp_path, "run", "loop.py")[0] == 0

    pl.concat([table(), table()]).with_columns(pl.col("n") + 0.5).write_csv(tmp_path / "rows.csv")
    code, said, _ = call(tmp_path, "run", "loop.py")

    assert "can't be compared" not in said and "column 'n' was integer and has fractions now" in said and code in (0, 3)


def test_a_version_that_is_held_is_named_by_predict_with_the_way_on(call: Call, tmp_path: Path) -> None:
    table().write_csv(tmp_path / "rows.csv")
    declare(tmp_path, "rows.csv", "gate=ms.Gate('accuracy', at_least=0.999)")
    assert call(tmp_path, "run", "loop.py")[0] == 3

    code, _, said = call(tmp_path, "predict", "shop", "rows.csv")
    assert code == 1 and "its version 1 is held" in said and "mainspring promote shop@1" in said
    assert call(tmp_path, "promote", "shop@1")[0] == 0
    assert call(tmp_path, "run", "loop.py")[0] == 3  # the floor is missed as before
    assert "no run of 'nope'" in call(tmp_path, "runs", "nope")[2]


def test_data_is_looked_for_beside_file_and_then_in_the_current_folder(call: Call, tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    project.mkdir()
    elsewhere.mkdir()
    path = declare(project, "rows.csv")

    code, _, said = call(elsewhere, "run", str(path))
    assert code == 1 and f"no such file: '{project}/rows.csv'" in said and not (elsewhere / ".mainspring").exists()
    table().write_csv(elsewhere / "rows.csv")
    (there,) = load(str(path))
    table().write_csv(project / "rows.csv")
    (beside,) = load(str(path))
    sources = [loop.declaration.source for loop in (there, beside) if isinstance(loop, ms.Loop)]
    assert [(source.path, source.folder) for source in sources] == [("rows.csv", ""), ("rows.csv", str(project))]


@pytest.mark.parametrize(
    ("name", "content", "call_of"),
    [
        ("semicolons.csv", "a;b;y\n1,5;2;0\n2,5;3;1\n" * 20, 'ms.csv("semicolons.csv", separator=";")'),
        ("tabs.csv", "a\tb\ty\n1\t2\t0\n2\t3\t1\n" * 20, 'ms.csv("tabs.csv", separator="\\t")'),
        ("old.csv", "città;y\nForlì;0\nRòma;1\n" * 20, 'ms.csv("old.csv", separator=";", encoding="latin-1")'),
    ],
)
def test_init_writes_the_separator_and_the_encoding_that_it_finds(
    call: Call, tmp_path: Path, name: str, content: str, call_of: str
) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))

    code, said, _ = call(tmp_path, "init", name, "--target", "y")

    assert code == 0 and call_of in said


def test_files_that_are_something_else_are_named_with_the_next_step(call: Call, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("a,y\n1,2\n")
    table().write_parquet(tmp_path / "columns.csv")
    (tmp_path / "twice.csv").write_text("a,y,a\n1,0,2\n2,1,3\n")
    (tmp_path / "rows.json").write_text("[]")

    for name, told in (
        ("text.parquet", "isn't a Parquet file; write ms.csv"),
        ("columns.csv", "is a Parquet file; write ms.parquet"),
        ("twice.csv", "has column 'a' twice"),
        ("rows.json", "is neither CSV"),
    ):
        code, _, said = call(tmp_path, "init", name, "--target", "y", "--output", "made.py")
        assert code in (1, 2) and told in said and "\n" not in said.strip(), said


class Scale:
    """Features that aren't a plain function."""

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows

    def scaled(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows


async def later(rows: pl.DataFrame) -> pl.DataFrame:
    return rows


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"key": "id", "time": "id"}, "key='id' and time='id'; a column has one role"),
        ({"features": Scale().scaled}, "features=Scale.scaled is a method; write a plain function"),
        ({"features": Scale()}, "features=Scale is no plain function"),
        ({"features": later}, "features=later must return a frame"),
        ({"split": 0.3}, r"split=0.3 must be ms.Split\(test=0.3\)"),
    ],
)
def test_arguments_that_no_stage_could_use_are_refused_in_the_declaration(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        ms.Loop("shop", data="rows.csv", target="y", **arguments)


def in_place(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.insert_column(0, (rows["x"] * 2).alias("double"))


class Bare(BaseEstimator):  # type: ignore[misc]
    """A classifier that doesn't say its classes."""

    def fit(self, X: Any, y: Any) -> Bare:
        self.most_ = np.bincount(y).argmax()
        return self

    def predict(self, X: Any) -> Any:
        return np.full(len(X), self.most_)


def test_what_can_not_be_served_is_told_by_the_first_stage_that_knows(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")
    bare = ms.Loop("shop", table(), "y", Bare(), features=in_place, gate=ms.Gate("accuracy"))
    misspelt = ms.Loop("shop", table(), "y", Bare(), gate=ms.Gate("acuracy"))

    with pytest.raises(TrainingError, match=r"Bare has no classes_ after fit; set self\.classes_"):
        bare.run(home=home)
    done = misspelt.start(Surroundings.of(home), {})
    assert {step.name: step.state for step in done.steps}["prepare"] == "failed" and "'accuracy'" in str(done.error)


def test_a_home_that_is_a_file_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("mine")
    said = subprocess.run(
        [sys.executable, "-m", "mainspring.app.cli", "--home", str(tmp_path / "home"), "status"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert said.returncode == 2 and "is a file; name a folder" in said.stderr
