"""The command line as a person uses it: exit codes 0, 1, 2 and 3, errors on one line, one JSON object per answer."""

from __future__ import annotations

import fcntl
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer

from mainspring.app import cli
from mainspring.store.home import Home

HELD = """
from sklearn.tree import DecisionTreeClassifier

import mainspring as ms

tumours = ms.Loop(
    "tumours", data=ms.csv("tumours.csv"), target="target", key="patient",
    model=DecisionTreeClassifier(max_depth=2, random_state=0), gate=ms.Gate(at_least=0.999), release=ms.Immediate(),
)
"""

PIPELINE = """
import mainspring as ms

def rows() -> list[int]:
    return [1, 2, 3]

def total(rows: list[int], times: int = 1) -> int:
    return sum(rows) * times

def share(total: int, of: int = 10) -> float:
    return total / of

sums = ms.Pipeline("sums", [rows, total, share])
"""


COMMAND = [sys.executable, "-m", "mainspring.app.cli"]


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)


Call = Callable[..., Answer]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process, in a fresh folder unless told."""
    monkeypatch.setenv("MAINSPRING_EXECUTOR", "here")  # a worker process would load every library anew
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, folder: Path = tmp_path) -> Answer:
        monkeypatch.chdir(folder)
        for name in ("loop", "sums", "lone"):  # another test's FILE
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(sys, "argv", ["mainspring", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return Answer(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    path = tmp_path / "sums.py"
    path.write_text(PIPELINE)
    return path


@pytest.fixture
def lone(tmp_path: Path) -> Path:
    path = tmp_path / "lone.py"
    path.write_text("import mainspring as ms\nlone = ms.Loop('lone', data='lone.csv', target='y')\n")
    return path


def one_line(answer: Answer) -> str:
    """The error, which must be one line of ours."""
    line = answer.err.strip()
    assert line.startswith("mainspring: ") and "\n" not in line and "Traceback" not in line, answer
    return line


# ------------------------------------------------------------------------------------------------- without a home


def test_version_and_help_end_with_0(call: Call) -> None:
    assert call("--version").out.startswith("mainspring, version ")
    assert "writes loop.py" in call("--help").out
    assert call("run", "-h").code == 0


@pytest.mark.parametrize(
    "arguments", [["fly"], ["run"], ["run", "loop.py", "--quick"], ["init", "rows.csv"], ["runs", "--limit", "x"]]
)
def test_a_wrong_call_ends_with_2(call: Call, arguments: list[str]) -> None:
    answer = call(*arguments)

    assert answer.code == 2 and "Error: " in answer.err and "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file: loop.py"),
        ("x = 1\n", "has no Loop or Pipeline"),
        ("def :\n", "SyntaxError"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
        ("raise SystemExit('usage: loop.py DATA')\n", "SystemExit: usage: loop.py DATA"),
        ("import mainspring as ms\nloop = ms.Loop('A B', data='x.csv', target='y')\n", "name 'A B' must match"),
        ("import mainspring as ms\nloop = ms.Loop('a', data='x.csv', target='y', fast=1)\n", "no argument 'fast'"),
        ("import mainspring as ms\na = ms.Pipeline('p', [len])\n", "p"),
        (
            "import mainspring as ms\na, b = (ms.Loop('a', data='x.csv', target=name) for name in 'yz')\n",
            "two of the name 'a'",
        ),
    ],
)  # fmt: skip
def test_a_file_that_declares_nothing_sound_ends_with_2(
    call: Call, tmp_path: Path, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "loop.py").write_text(text)

    answer = call("plan", "loop.py")

    assert answer.code == 2 and said in one_line(answer)


def test_a_name_that_the_file_lacks_is_answered_with_the_nearest(call: Call, sums: Path) -> None:
    answer = call("plan", "sums.py:summs")

    assert answer.code == 2 and "did you mean 'sums'" in one_line(answer)


def test_a_setting_that_can_not_be_ends_with_2(call: Call, tmp_path: Path) -> None:
    (tmp_path / "mainspring.toml").write_text("prot = 1\n")

    answer = call("status")

    assert answer.code == 2 and "did you mean 'port'?" in one_line(answer)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "sums.py", "--host", "0.0.0.0"], "is not loopback"),
        (["up", "sums.py", "--now", "2024-01-01"], "add --clock manual"),
        (["up", "sums.py", "--clock", "manual", "--now", "soon"], "is not an ISO 8601 time"),
        (["up", "nothing.py"], "no such file: nothing.py"),
        (["serve", "--host", "example.org"], "is not loopback"),
        (["why", "sums@first"], "must be a number"),
        (["run", "sums.py", "--set", "times"], "times"),
        (["run", "sums.py", "--only", "totl"], "total"),
        (["run", "sums.py", "--set", "tims=2"], "tims"),
        (["promote", "sums", "--reason", " "], "--reason is empty; say why"),
    ],
)
def test_what_can_not_be_meant_is_refused(call: Call, sums: Path, arguments: list[str], said: str) -> None:
    answer = call(*arguments)

    assert answer.code == 2 and said in one_line(answer)


@pytest.mark.parametrize(
    "verb", ["why", "models", "promote", "rollback", "hold", "approve", "reject", "monitor", "predict", "show"]
)
def test_what_the_home_does_not_have_ends_with_1(call: Call, sums: Path, verb: str) -> None:
    call("run", "sums.py")

    answer = call(verb, "nobody", *(['{"x": 1}'] if verb == "predict" else []))

    assert answer.code == 1 and "nobody" in one_line(answer)


def test_who_only_reads_makes_no_home(call: Call, sums: Path) -> None:
    answer = call("status")

    assert answer.code == 1 and "nothing has been run here yet" in one_line(answer)
    assert not (sums.parent / ".mainspring").exists()


def test_a_port_that_another_program_has_ends_with_1(call: Call, lone: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        answer = call("up", "lone.py", "--port", str(other.getsockname()[1]), "--control-port", "0")

    assert answer.code == 1 and "is taken by another program; stop it, or choose another" in one_line(answer)


def test_a_second_service_on_one_home_ends_with_1(call: Call, lone: Path, tmp_path: Path) -> None:
    with (Home.open(tmp_path / ".mainspring").folder("run") / "up.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = call("up", "lone.py", "--port", "0", "--control-port", "0")

    assert answer.code == 1 and "another `mainspring up` runs on" in one_line(answer)


def test_a_damaged_home_ends_with_1_and_doctor_names_it(call: Call, tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")
    home.database.close()
    for part in home.path.glob("mainspring.db*"):
        part.unlink()

    answer = call("status")
    assert answer.code == 1 and "is empty but" in one_line(answer)

    examined = call("doctor", "--json")
    assert examined.code == 1 and examined.json["status"] == "failed"
    assert [finding["subject"] for finding in examined.json["findings"] if finding["state"] == "wrong"] == ["state"]


def test_what_nobody_foresaw_is_one_line_and_a_traceback_only_with_debug(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: Any) -> int:
        raise ZeroDivisionError("nobody\nforesaw")

    monkeypatch.setattr("mainspring.app.models.status", broken)

    answer = call("status")
    assert answer.code == 1 and "ZeroDivisionError: nobody foresaw; run it again with --debug" in one_line(answer)

    for words in (["--debug", "status"], ["status", "--debug"]):
        monkeypatch.setattr(sys, "argv", ["mainspring", *words])
        with pytest.raises(ZeroDivisionError):
            cli.main()


# ------------------------------------------------------------------------------------------------------ a pipeline


def test_a_file_that_is_no_python_is_not_executed(call: Call, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")

    answer = call("run", "rows.csv")

    assert answer.code == 2 and "rows.csv is no Python file" in one_line(answer)


def test_the_logs_of_a_step_that_isnt_there_are_refused_by_name(call: Call, sums: Path) -> None:
    run = call("run", "sums.py", "--json").json["id"]

    answer = call("logs", run, "totl")

    assert answer.code == 1 and f"run {run} has no step 'totl' (did you mean 'total'?)" in one_line(answer)
    again = call("run", "sums.py", "--json").json["id"]
    assert f"was cached in run {again}; write mainspring logs {run} total" in one_line(call("logs", again, "total"))


def test_a_pipeline_runs_and_is_cached_the_second_time(call: Call, sums: Path) -> None:
    first = call("run", "sums.py", "--json")
    assert first.code == 0 and first.json["status"] == "done" and first.json["schema"] == "mainspring/run@1"
    assert first.json["metrics"] == {"total": 6.0, "share": 0.6}

    plan = call("plan", "sums.py", "--json").json
    assert [step["state"] for step in plan["steps"]] == ["cached"] * 3

    changed = call("plan", "sums.py", "--set", "times=2", "--json").json["steps"]
    assert {step["name"]: step["state"] for step in changed}["rows"] == "cached"
    assert {step["name"]: step["state"] for step in changed}["total"] == "run"
    assert call("run", "sums.py", "--set", "times=2", "--json").json["metrics"]["total"] == 12


def test_runs_and_show_tell_what_was_run(call: Call, sums: Path) -> None:
    run = call("run", "sums.py", "--json").json["id"]

    runs = call("runs", "--json").json["runs"]
    assert [each["id"] for each in runs] == [run] and runs[0]["status"] == "done"
    shown = call("show", run, "--json").json
    assert [step["name"] for step in shown["steps"]] == ["rows", "total", "share"] and shown["run"]["id"] == run
    assert run in call("runs").out and "total" in call("show", run).out


def test_a_step_that_fails_ends_with_1_and_says_where(call: Call, sums: Path) -> None:
    answer = call("run", "sums.py", "--set", "of=0")

    assert answer.code == 1
    assert "step 'share' failed" in answer.err and "ZeroDivisionError" in answer.err and "Traceback" not in answer.err
    assert call("runs", "--json").json["runs"][0]["status"] == "failed"


def test_nan_is_null_in_json(call: Call, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(
        "import mainspring as ms\ndef ratio() -> float:\n    return float('nan')\nodd = ms.Pipeline('odd', [ratio])\n"
    )

    assert call("run", "odd.py", "--json").json["metrics"] == {"ratio": None}


def test_the_home_is_where_it_is_told(call: Call, sums: Path, tmp_path: Path) -> None:
    assert call("--home", "state", "run", "sums.py", "--json").code == 0

    assert (tmp_path / "state" / "mainspring.db").is_file() and not (tmp_path / ".mainspring").exists()


# ----------------------------------------------------------------------------------------------------------- a loop


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a loop whose gate held its first candidate back, by the real command in a process of its own."""
    folder = tmp_path_factory.mktemp("held")
    bunch = load_breast_cancer()
    table = pl.DataFrame(bunch.data, schema=[name.replace(" ", "_") for name in bunch.feature_names])
    table.with_columns(patient=pl.int_range(pl.len()), target=pl.Series(bunch.target)).write_csv(folder / "tumours.csv")
    (folder / "loop.py").write_text(HELD)
    run = [*COMMAND, "run", "loop.py", "--json"]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    (folder / "told.json").write_text(done.stdout)
    return folder


def test_a_candidate_that_the_gate_holds_back_ends_with_3(held: Path) -> None:
    told = json.loads((held / "told.json").read_text())

    assert told["status"] == "held" and told["verdict"]["decision"] == "hold" and told["error"] is None
    assert any("0.999 that the gate asks for" in reason for reason in told["reasons"])


def test_the_reasons_are_kept(held: Path, call: Call) -> None:
    decisions = call("why", "tumours", "--json", folder=held).json["decisions"]

    assert ("gate", "hold") in {(each["kind"], each["decision"]) for each in decisions}
    assert "0.999" in call("why", "tumours", folder=held).out


def test_without_a_champion_nothing_is_predicted_and_the_mend_is_named(held: Path, call: Call) -> None:
    answer = call("predict", "tumours", "tumours.csv", folder=held)

    assert answer.code == 1 and "has no champion" in one_line(answer)


def test_a_person_rejects_what_was_held_for_good_and_the_page_tells_who(held: Path, call: Call, tmp_path: Path) -> None:
    answer = call("reject", "tumours@1", "--reason", "biased", "--json", folder=held)
    again = call("approve", "tumours@1", folder=held)
    told = call("why", "tumours", "--html", str(tmp_path / "why.html"), "--json", folder=held)

    assert answer.json["reason"] == "tumours@1 is rejected"
    assert again.code == 1 and "tumours@1 is rejected, so there is nothing to approve" in one_line(again)
    last = told.json["decisions"][-1]
    assert (last["decision"], last["reason"]) == ("reject", "biased") and last["data"]["by"]
    acts = call("audit", "--json", folder=held).json["entries"]
    assert [(each["act"], each["version"], each["reason"]) for each in acts] == [("reject", 1, "biased")]
    assert acts[0]["by"] == last["data"]["by"] and acts[0]["by"] in call("audit", folder=held).out
    assert call("audit", "verify", folder=held).out.startswith("1 entry: the log is as it was written")
    page = (tmp_path / "why.html").read_text()
    assert "Release of tumours@1" in page and last["data"]["by"] in page and "biased" in page


def test_a_person_promotes_what_was_held_and_it_predicts(held: Path, call: Call) -> None:
    assert call("promote", "tumours@9", folder=held).code == 1
    promoted = call("promote", "tumours@1", "--reason", "good enough for us", "--json", folder=held)
    assert promoted.code == 0 and promoted.json["reason"] == "tumours@1 has all traffic"

    assert call("models", "tumours", "--json", folder=held).json["route"]["champion"] == 1
    assert "good enough for us" in call("why", "tumours@1", folder=held).out
    (loop,) = call("status", "--json", folder=held).json["loops"]
    assert loop["champion"] == 1 and loop["versions"] == 1

    answer = call("predict", "tumours", "tumours.csv", "--json", folder=held).json
    truth = pl.read_csv(held / "tumours.csv")["target"]
    assert answer["model"] == "tumours@1" and (pl.Series(answer["predictions"]) == truth).mean() > 0.9

    row = pl.read_csv(held / "tumours.csv").row(0, named=True)
    assert call("predict", "tumours", json.dumps(row), folder=held).out == f"{answer['predictions'][0]}\n"
    for name in ("tumours", "loop.py", "loop.py:tumours"):
        assert call("monitor", name, "--json", folder=held).json["report"]["loop"] == "tumours"
    assert call("monitor", "tumours", "--html", "report.html", folder=held).code == 0
    assert "<html" in (held / "report.html").read_text()


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_home_in_use_is_sound(held: Path, call: Call) -> None:
    examined = call("doctor", "--json", folder=held)

    assert examined.code == 0, examined.out
    assert {"state", "runs"} <= {finding["subject"] for finding in examined.json["findings"]}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("{", "not valid JSON"),
        ("[]", "one row as an object"),
        ('{"mean_radius": 1}', "row 0 lacks columns 'area_error'"),
        ("rows.txt", "neither JSON rows nor a file"),
    ],
)
def test_rows_that_can_not_be_predicted_are_told(held: Path, call: Call, rows: str, said: str) -> None:
    call("promote", "tumours@1", folder=held)

    answer = call("predict", "tumours", rows, folder=held)

    assert answer.code in (1, 2) and said in one_line(answer)
