"""FILE isn't executed when nothing that it depends on has changed; any change has it loaded again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mainspring.app.cli import cli
from mainspring.pipeline import running

FILE = """
import mainspring as ms
from helper_of_manifest import fix

CITIES = ms.file("cities.csv")

def rows(count: int = 3_000) -> list[int]:
    return list(range(10_000, 10_000 + count))

def clean(rows: list[int]) -> list[int]:
    return [fix(row) for row in rows]

def total(clean: list[int], times: int = 1) -> int:
    return sum(clean) * times + len(CITIES.read_text())

sums = ms.Pipeline("sums", [rows, clean, total])
"""
Call = Callable[..., tuple[bool, Result]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """A command in a project; gives also whether FILE was loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "installed")])
    monkeypatch.setenv("MAINSPRING_EXECUTOR", "here")
    monkeypatch.setattr(running, "_STARTED", time.time() + 3600)  # the files are written in this process
    (tmp_path / "installed").mkdir()
    (tmp_path / "cities.csv").write_text("a\n1\n")
    (tmp_path / "helper_of_manifest.py").write_text("def fix(x):\n    return x\n")
    write(FILE)

    def called(verb: str, *arguments: str) -> tuple[bool, Result]:
        forget()
        done = CliRunner().invoke(cli, [verb, "file_of_manifest.py", *arguments])
        assert done.exit_code in (0, 4), done.output
        return "file_of_manifest" in sys.modules, done

    yield called
    forget()


def write(text: str) -> None:
    Path("file_of_manifest.py").write_text(text)


def forget() -> None:
    for name in ("file_of_manifest", "helper_of_manifest"):
        sys.modules.pop(name, None)


def damage() -> None:
    for path in Path(".mainspring/objects").iterdir():
        path.write_bytes(b"")


def shadow() -> None:
    Path("helper_of_manifest").mkdir()
    Path("helper_of_manifest/__init__.py").write_text("def fix(x):\n    return -x\n")


def test_an_unchanged_file_is_not_executed(call: Call) -> None:
    assert call("plan")[0] and call("run")[0]

    loaded, planned = call("plan", "--json")
    again, ran = call("run", "--json")

    assert not loaded and not again
    assert [step["state"] for step in json.loads(planned.output)["steps"]] == ["cached"] * 3
    told = json.loads(ran.output)
    assert told["status"] == "done" and told["metrics"] == {"total": float(sum(range(10_000, 13_000)) + 4)}
    assert {step["state"] for step in told["steps"]} == {"cached"}
    runs = json.loads(CliRunner().invoke(cli, ["runs", "--json"]).output)["runs"]
    assert [run["status"] for run in runs] == ["done", "done"] and runs[0]["id"] == told["id"]
    assert "total  12,000\n" in call("run")[1].output.replace(f"{sum(range(10_000, 13_000)) + 4:,}", "12,000")
    assert "nothing to run, 3 steps cached" in call("plan", "--check")[1].output
    assert "3 steps cached" in call("plan", "--markdown")[1].output


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (lambda: write(FILE.replace("len(CITIES", "2 * len(CITIES")), True),
        (lambda: Path("helper_of_manifest.py").write_text("def fix(x):\n    return x + 1\n"), True),
        (shadow, True),
        (lambda: Path("cities.csv").write_text("a\n22\n"), True),
        (lambda: Path("cities.csv").unlink(), True),
        (damage, True),
        (lambda: Path("installed/scikit_learn-99.dist-info").mkdir(), False),
        (lambda: Path("installed/helper_of_manifest.py").write_text(""), False),
        (lambda: Path("mainspring.toml").write_text("max_rows = 10\n"), False),
        (lambda: Path("polars.py").write_text(""), False),
    ],
)
def test_a_change_has_the_file_loaded(call: Call, change: Callable[[], object], stale: bool) -> None:
    call("run")
    assert not call("plan", "--check")[0]

    change()

    forget()
    done = CliRunner().invoke(cli, ["plan", "file_of_manifest.py", "--check"])
    assert "file_of_manifest" in sys.modules or "no file 'cities.csv'" in done.output
    assert (done.exit_code != 0) is stale


def test_other_parameters_and_selections_have_the_file_loaded(call: Call) -> None:
    call("run")

    assert not call("plan")[0]
    assert call("plan", "--set", "times=2", "--check")[1].exit_code == 4
    for options in (["--set", "times=2"], ["--force", "total"], ["--until", "clean"]):
        assert call("plan", *options)[0], options
    call("run", "--set", "times=2")
    assert not call("run", "--set", "times=2")[0] and not call("run")[0]


def test_a_file_that_reads_outside_as_it_is_loaded_is_always_loaded(call: Call) -> None:
    write(f"import os\nRATE = float(os.environ.get('RATE', 1))\n{FILE}")
    call("run")

    loaded, planned = call("plan")

    assert loaded and call("run")[0]
    assert f"FILE is loaded each time: {Path('file_of_manifest.py').resolve()}, line 2" in planned.output


def test_the_plan_of_an_unchanged_file_tells_what_counts_more_than_needed(call: Call) -> None:
    write(FILE.replace("return [fix(row) for row in rows]", "return [globals()['fix'](row) for row in rows]"))
    call("run")
    loaded, first = call("plan", "--json", "--until", "total")
    again, second = call("plan", "--json")
    assert loaded and not again
    assert json.loads(second.stdout) == json.loads(first.stdout)
    assert any(step.get("widened") for step in json.loads(second.stdout)["steps"])
    assert "counts more than needed: the whole module file_of_manifest" in call("plan")[1].stdout


def test_an_edit_of_the_code_that_a_kept_value_holds_has_the_file_loaded(call: Call) -> None:
    Path("helper_of_manifest.py").write_text("class Model:\n    def predict(self, x):\n        return x + 1\n")
    write(
        "import mainspring as ms\n"
        "def train():\n    from helper_of_manifest import Model\n    return Model()\n"
        "def score(train):\n    return train.predict(1)\n"
        "models = ms.Pipeline('models', [train, score])\n"
    )
    with pytest.warns(match="kept as a pickle"):
        call("run")
    assert not call("plan")[0]
    Path("helper_of_manifest.py").write_text("class Model:\n    def predict(self, x):\n        return x + 2\n")

    loaded, planned = call("plan", "--json")

    steps = json.loads(planned.stdout)["steps"]
    assert loaded and [step["state"] for step in steps] == ["run", "run"]
    assert steps[1]["reasons"][0]["where"] == "helper_of_manifest:Model"


def test_a_step_that_runs_each_time_has_the_file_loaded(call: Call) -> None:
    write(FILE.replace("def total", "@ms.step(cache=False)\ndef total"))
    call("run")

    assert call("plan")[0] and call("run")[0]


@pytest.mark.soak  # it trains a model
def test_nothing_big_is_imported_for_an_unchanged_loop(tmp_path: Path) -> None:
    rows = "\n".join(f"{number},{number % 7},{(number * 7) % 10 > 4}" for number in range(300))
    (tmp_path / "rows.csv").write_text(f"a,b,y\n{rows}\n")
    (tmp_path / "loop_of_manifest.py").write_text(
        "import mainspring as ms\nfrom sklearn.tree import DecisionTreeClassifier\n"
        "loop = ms.Loop('small', ms.csv('rows.csv'), 'y', DecisionTreeClassifier(random_state=0))\n"
    )

    def run(*more: str) -> tuple[int, set[str], str]:
        script = (
            "import sys\nfrom mainspring.app import cli\nsys.argv = ['mainspring', *sys.argv[1:]]\n"
            "try:\n    cli.main()\nexcept SystemExit as end:\n    code = end.code\n"
            "print('LOADED', code, *[n for n in ('sklearn', 'polars', 'mlflow', 'rich') if n in sys.modules])\n"
        )
        command = [sys.executable, "-c", script, "run", "loop_of_manifest.py", *more]
        told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        code, *big = told.rpartition("LOADED")[2].split()
        return int(code), set(big), told

    time.sleep(1.1)  # a manifest isn't written of files that may have changed since the process began
    first, _, _ = run()
    again, loaded, told = run()
    assert ((again, loaded) == (first, set()) and "balanced" in told) or "model" in told or "held" in told

    (tmp_path / "rows.csv").write_text(f"a,b,y\n{rows}\n1,2,True\n")
    assert "polars" in run()[1]
