"""What the commands do beyond one loop and one file: several loops, written reasons without a version, odd texts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mainspring.app import cli
from mainspring.store.deployments import Deployments
from mainspring.store.home import Home

Call = Callable[..., tuple[int, str, str]]

TWO = """
import mainspring as ms
from sklearn.tree import DecisionTreeClassifier

def rows():
    return [{{"a": n % 17, "b": n % 11, "y": int(n % 17 + n % 11 > 13)}} for n in range(100)]

def loop(name, model, **more):
    return ms.Loop(name, data=rows, target="y", model=model, release=ms.Immediate(), **more)

one = loop("one", {one})
two = loop("two", {two})
"""
TREE, STRICT = "DecisionTreeClassifier(max_depth=2)", "DecisionTreeClassifier(max_depth=1), gate=ms.Gate(at_least=1.0)"
OBJECT, DEEP = "object()", "DecisionTreeClassifier(max_depth=-1)"
ODD = """
import mainspring as ms

def shown(text: str = "[/red] [bold]x[/bold] [") -> str:
    return text

def failing(shown) -> str:
    raise ValueError("column [/x] is [gone]\\n\\x1b[31m and more")

odd = ms.Pipeline("odd", [shown, failing])
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Runs a command in this process, in a fresh folder: its exit code, output and errors."""
    monkeypatch.setenv("MAINSPRING_EXECUTOR", "here")  # a worker process would load every library anew
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mainspring", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    yield run
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("one", "two", "code"), [(TREE, STRICT, 3), (STRICT, OBJECT, 2), (OBJECT, DEEP, 1), (TREE, DEEP, 1)]
)
def test_of_several_loops_the_gravest_end_is_the_exit_code(
    call: Call, tmp_path: Path, one: str, two: str, code: int
) -> None:
    (tmp_path / "loops.py").write_text(TWO.format(one=one, two=two))

    ended, out, _ = call("run", "loops.py", "--json")

    assert ended == code
    assert len(out.splitlines()) == 1 and json.loads(out)["schema"].startswith("mainspring/run")


def test_two_files_with_loops_of_one_name_are_refused_before_anything_is_served(call: Call, tmp_path: Path) -> None:
    for file in ("a.py", "b.py"):
        (tmp_path / file).write_text(TWO.format(one=TREE, two=TREE))

    code, _, err = call("up", "a.py", "b.py")

    assert code == 2 and "a.py, b.py: two Loops of the name 'one'; give each its own" in err


def test_why_tells_of_a_first_turn_that_failed_though_there_is_no_version(call: Call, tmp_path: Path) -> None:
    Deployments(Home.open(tmp_path / ".mainspring")).decide(
        "late", at=datetime(2024, 1, 1, tzinfo=UTC), kind="retrain", decision="failed", version=None,
        reason="the turn failed: no such file: 'x.csv'",
    )  # fmt: skip

    code, out, _ = call("why", "late")

    assert code == 0 and "no such file: 'x.csv'" in out
    assert call("why", "early")[0] == 1
    code, _, err = call("why", "late@9")
    assert code == 1 and "late has no version 9" in err


def test_texts_that_look_like_markup_or_move_the_cursor_are_shown_as_they_are(call: Call, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    assert "Traceback" not in "".join(call("plan", "odd.py")[1:])

    code, out, err = call("run", "odd.py")

    assert code == 1 and "column [/x] is [gone]" in err.splitlines()[-1]
    assert "\x1b[31m" not in out + err
    run = json.loads(call("runs", "--json")[1])["runs"][0]["id"]
    assert "[/x]" in call("show", run)[1]
    again = call("plan", "odd.py", "--set", "text=[/blue]")
    assert again[0] == 0 and "[/blue]" in again[1] and "[bold]x[/bold]" in again[1]


def test_a_report_is_written_only_where_there_is_a_folder(call: Call, tmp_path: Path) -> None:
    (tmp_path / "loops.py").write_text(TWO.format(one=TREE, two=TREE))
    assert call("run", "loops.py:one")[0] == 0

    code, _, err = call("monitor", "one", "--html", "no/where.html")
    assert code == 2 and "no folder 'no'; make it first" in err
    assert call("monitor", "one", "--html", "report.html")[0] == 0
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
