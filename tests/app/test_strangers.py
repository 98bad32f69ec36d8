"""A stranger's data, from a script, a notebook and the command line; and a run that somebody ends in its middle."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import polars as pl
import pytest
from nbclient import NotebookClient
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mainspring as ms
from mainspring.app import cli
from mainspring.app.files import load
from mainspring.app.project import Loop
from mainspring.store.home import Home
from mainspring.store.journal import Journal
from tests.execution.warm import Warm

COMMAND = [sys.executable, "-m", "mainspring.app.cli"]
CELLS = (
    "import numpy as np, pandas as pd, polars as pl, mainspring as ms\n"
    "from sklearn.tree import DecisionTreeClassifier\n"
    "random = np.random.default_rng(0)\n"
    "frame = pd.DataFrame({'alcohol': random.normal(12, 1, 300), 'colour': random.choice(['red', 'white'], 300)})\n"
    "frame['grape'] = np.where(frame.alcohol + random.normal(0, 0.5, 300) > 12, 'gamay', 'airén')",
    "SHIFT = 12.0\n"
    "def above(wine):\n    return wine['alcohol'] - SHIFT\n"
    "def features(wine: pl.DataFrame) -> pl.DataFrame:\n    return wine.with_columns(above=above(wine))",
    "loop = ms.Loop('wine', data=frame, target='grape', features=features,\n"
    "               model=DecisionTreeClassifier(max_depth=2), release=ms.Immediate())\n"
    "run = loop.run()\nprint(run.model, run.status)",
    "print(len(repr(run)) < 2000, [step.state for step in loop.run().steps] == ['cached'] * 9)",
    "said = loop.predict(frame.drop(columns='grape'))\nprint(type(said).__name__, (said == frame.grape).mean() > 0.8)",
    "SHIFT = 11.0\nprint([step.name for step in loop.plan() if step.state == 'run'])",
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command and its steps in this process, in *folder*: its exit code, output and errors."""
    monkeypatch.setenv("MAINSPRING_EXECUTOR", "here")  # a worker process would load every library anew

    def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["mainspring", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def customers(rows: int = 300) -> pl.DataFrame:
    """A table as it comes: text, dates, gaps, names with spaces and accents."""
    random = np.random.default_rng(1)
    age, city = random.normal(40, 12, rows).round(), random.choice(["Zürich", "São Paulo", "Łódź"], rows)
    days = random.integers(0, 700, rows)
    stays = random.random(rows) < 1 / (1 + np.exp((age - 40) / 6 - (city == "Zürich")))
    return pl.DataFrame(
        {
            "Customer ID": [f"C{number:05}" for number in range(rows)],
            "signed up": [f"{2022 + day // 365}-{1 + day % 12:02}-{1 + day % 28:02}" for day in days.tolist()],
            "Age": age,
            "city": city,
            "note": random.choice(["called; twice", 'said "no"', "ok, fine", ""], rows),
            "Stays?": np.where(stays, "yes", "no"),
        }
    ).with_columns(
        pl.when(pl.int_range(pl.len()) % 7 > 0).then(pl.col("Age")), pl.when(pl.col("note") != "").then(pl.col("note"))
    )


def test_a_csv_with_text_dates_and_gaps_becomes_a_served_model_by_two_commands(
    tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    customers().write_csv(tmp_path / "my customers.csv")

    assert call(tmp_path, "init", "my customers.csv", "--target", "Stays?")[0] == 0
    loop = (tmp_path / "loop.py").read_text()
    assert 'key="Customer ID"' in loop and 'time="signed up"' in loop
    (tmp_path / "loop.py").write_text(loop.replace("trials=12, folds=4", "trials=2, folds=2"))
    code, out, err = call(tmp_path, "run", "loop.py", "--json")

    assert code == 0, err
    assert json.loads(out)["model"] == "my-customers@1" and json.loads(out)["metrics"]["roc_auc"] > 0.7
    row = {"signed up": "2023-05-01", "Age": None, "city": "Bern", "note": None}
    code, out, err = call(tmp_path, "predict", "my-customers", json.dumps(row))
    assert code == 0 and out in ("yes\n", "no\n"), err


def test_several_classes_from_a_pandas_frame_in_a_script(home: Home) -> None:
    random = np.random.default_rng(2)
    frame = pd.DataFrame({"x": random.normal(size=300), "y": random.normal(size=300)})
    frame["size"] = pd.Categorical(np.select([frame.x < -0.5, frame.x < 0.5], ["small", "middle"], "large"))
    frame.loc[frame.sample(40, random_state=0).index, "size"] = "middle"
    frame.loc[::9, "y"] = np.nan
    frame["seen"] = pd.date_range("2023-01-01", periods=300, freq="7h", tz="Europe/Zurich")

    loop = ms.Loop(
        "sizes", data=frame, target="size", time="seen", model=RandomForestClassifier(10), release=ms.Immediate()
    )
    run, said = loop.run(home=home), loop.predict(frame.drop(columns="size"), home=home)

    assert run.model == "sizes@1" and run.outputs["train"].classes == ("large", "middle", "small")
    assert isinstance(said, np.ndarray) and (said == frame["size"].to_numpy()).mean() > 0.7


@pytest.mark.parametrize("way", ["frame", "parquet"])
def test_a_number_from_a_polars_frame_or_parquet(home: Home, tmp_path: Path, way: str) -> None:
    random = np.random.default_rng(3)
    frame = pl.DataFrame({"rooms": random.integers(1, 7, 300), "district": random.choice(["a", "b", "c"], 300)})
    frame = frame.with_columns(
        rent=pl.col("rooms") * 350 + (pl.col("district") == "a") * 400 + pl.Series(random.normal(0, 60, 300))
    )
    frame.write_parquet(tmp_path / "flats.parquet")
    data = frame if way == "frame" else str(tmp_path / "flats.parquet")

    loop = ms.Loop("rents", data=data, target="rent", model=[Ridge(), make_pipeline(StandardScaler(), Ridge())])
    run, said = loop.run(home=home), loop.predict(frame.drop("rent"), home=home)

    assert run.model == "rents@1" and run.outputs["train"].task == "regression"
    assert np.corrcoef(said, frame["rent"])[0, 1] > 0.95


def test_two_versions_with_other_features_files_answer_rightly_in_one_process(home: Home, tmp_path: Path) -> None:
    def declare(factor: int) -> Loop:
        (tmp_path / "own_features.py").write_text(
            f"import polars as pl\nFACTOR = {factor}\n"
            "def features(rows):\n    return rows.select(x=pl.col('x') * FACTOR)\n"
        )
        (tmp_path / "own_loop.py").write_text(
            "import mainspring as ms, numpy as np, polars as pl\nfrom own_features import features\n"
            "from sklearn.linear_model import LinearRegression\n"
            "def rows():\n    x = np.random.default_rng(0).normal(size=200)\n"
            "    return pl.DataFrame({'x': x, 'y': 3 * x + np.random.default_rng(1).normal(0, 0.1, 200)})\n"
            "own = ms.Loop('own', data=rows, target='y', features=features, model=LinearRegression(),"
            " release=ms.Manual())\n"
        )
        sys.modules.pop("own_features", None)
        importlib.invalidate_caches()
        (found,) = load(str(tmp_path / "own_loop.py"))
        assert isinstance(found, Loop)
        return found

    rows, said = pl.DataFrame({"x": [1.0, -2.0]}), []
    for version, factor in ((1, 1), (2, 100)):
        loop = declare(factor)
        assert loop.run(home=home).model == f"own@{version}"
        if version == 2:
            from mainspring.loop import champion

            said.append(loop.predict(rows, home=home))  # version 1 answers, whose module has changed since
            champion.promote(home, "own", 2, reason="to compare", mlflow=None)
        said.append(loop.predict(rows, home=home))

    assert all(np.allclose(each, [3.0, -6.0], atol=0.2) for each in said) and np.array_equal(said[0], said[1])


def test_a_notebook_with_its_features_in_a_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}})

    client.execute()

    printed = [
        "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout").strip()
        for cell in notebook.cells
    ]
    assert printed[2:5] == ["wine@1 done", "True True", "ndarray True"]
    assert "prepare" in printed[5] and "ingest" not in printed[5]


SLOW = """
import time
from collections.abc import Callable
from pathlib import Path

import mainspring as ms
from sklearn.tree import DecisionTreeClassifier

def rows():
    with Path("reads").open("a") as file:
        file.write("x")
    return [{"a": n % 17, "b": n % 11, "y": int(n % 17 + n % 11 > 13)} for n in range(100)]

class Patient(DecisionTreeClassifier):
    def fit(self, *arguments, **named):
        Path("training").touch()
        while not Path("go").exists():
            time.sleep(0.02)
        return super().fit(*arguments, **named)

slow = ms.Loop("slow", data=rows, target="y", model=Patient(max_depth=2), release=ms.Immediate())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_while_it_trains_goes_on_where_it_was(tmp_path: Path, loaded: Warm, number: int) -> None:
    (tmp_path / "loop.py").write_text(SLOW)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*COMMAND, "run", "loop.py"], cwd=tmp_path, stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    while not (tmp_path / "training").exists():
        assert time.monotonic() < deadline and process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.02)
    os.kill(process.pid, number)
    if number == signal.SIGINT:  # once drains: the training would end first
        time.sleep(0.5)
        assert process.poll() is None
        os.kill(process.pid, number)
    code, said = process.wait(30), (tmp_path / "log").read_text()
    assert code == (130 if number == signal.SIGINT else -number) and "Traceback" not in said, said
    assert number == signal.SIGKILL or "run the same command again to go on" in said

    (tmp_path / "go").touch()
    again = loaded.run(tmp_path, "run", "loop.py", "--executor", "here", timeout=120)

    assert again.code == 0, again.err
    assert "goes on with the interrupted run" in again.err and "slow@1" in again.out
    runs = Journal(Home.open(tmp_path / ".mainspring")).runs()
    assert [run.status for run in runs] == ["done"] and (tmp_path / "reads").read_text() == "x"


def test_a_model_of_ones_own_whose_module_needs_its_file_is_refused_with_the_mend(
    tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    needy = SLOW.replace("class Patient", "LEVELS = Path(__file__).parent\n\nclass Patient")
    (tmp_path / "loop.py").write_text(needy.replace("return super()", "self.at_ = str(LEVELS)\n        return super()"))
    (tmp_path / "go").touch()

    code, _, err = call(tmp_path, "run", "loop.py")

    assert code == 1 and "Traceback" not in err
    assert "NameError: name '__file__' is not defined" in err.splitlines()[-1]
    assert "must work without the project's other files" in err.splitlines()[-1]
