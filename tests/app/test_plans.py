"""`plan`, `run --explain` and `show --diff`: what a person, a review comment and a CI job get to read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mainspring.app import show
from mainspring.app.cli import cli
from mainspring.execution.planning import PlannedStep

FILE = """
import mainspring as ms
from helpers_of_plans import fix

def rows(count: int = 3) -> list[int]:
    return list(range(count))

def clean(rows: list[int]) -> list[int]:
    return [fix(row) for row in rows]

def total(clean: list[int], times: int = 1) -> int:
    return sum(clean) * times

sums = ms.Pipeline("sums", [rows, clean, total])
"""
Call = Callable[..., Result]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """A command line in a project of two files, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("MAINSPRING_EXECUTOR", "here")
    (tmp_path / "sums_of_plans.py").write_text(FILE)
    (tmp_path / "helpers_of_plans.py").write_text("def fix(x):\n    return x\n")

    def called(*arguments: str) -> Result:
        for name in ("sums_of_plans", "helpers_of_plans"):
            sys.modules.pop(name, None)
        verb, *rest = arguments
        return CliRunner().invoke(cli, [verb, "sums_of_plans.py", *rest] if verb in ("plan", "run") else arguments)

    return called


def edit(text: str) -> None:
    Path("helpers_of_plans.py").write_text(text)


def test_check_tells_by_its_exit_code_whether_something_would_run(call: Call) -> None:
    assert call("plan").exit_code == 0
    assert call("plan", "--check").exit_code == 4
    assert call("run").exit_code == 0
    assert call("plan", "--check").exit_code == 0

    edit("def fix(x):\n    return x + 1\n")

    assert call("plan", "--check").exit_code == 4


def test_the_plan_names_file_line_and_name_and_the_expected_time(call: Call) -> None:
    assert "expected time unknown: 3 steps never timed" in call("plan").output
    call("run")
    assert "nothing to run" in call("plan").output

    edit("# why\n\ndef fix(x):\n    return x + 1\n")
    told = call("plan").output

    assert "helper fix, helpers_of_plans.py:3, changed" in told and "expected under 0.1 s\n" in told


def test_the_plan_as_json_has_state_reasons_and_places(call: Call) -> None:
    call("run")
    edit("def fix(x):\n    return x + 1\n")

    told = json.loads(call("plan", "--json", "--set", "times=2").output)

    assert told["schema"] == "mainspring/plan@1" and [step["state"] for step in told["steps"]] == [
        "cached",
        "run",
        "run",
    ]
    (reason,) = told["steps"][1]["reasons"]
    assert (reason["kind"], reason["where"]) == ("code", "helpers_of_plans:fix")
    assert (reason["file"], reason["line"]) == ("helpers_of_plans.py", 1)
    assert told["steps"][2]["reasons"] == [{"kind": "parameter", "where": "times", "old": "1", "new": "2"}]


def test_the_plan_as_markdown_is_a_table_of_what_would_run(call: Call) -> None:
    call("run")
    edit("def fix(x):\n    return eval('x | 1')\n")

    told = call("plan", "--markdown").output

    assert "### Plan of `sums`" in told and "1 of 3 steps cached" in told
    assert "| `clean` | runs | " in told and "helper fix, helpers_of_plans.py:1, changed" in told
    assert "| `total` | may stop early | input clean may change |" in told
    assert "- counts more than needed: the whole project" in told
    both = call("plan", "--markdown", "--json")
    assert both.exit_code == 2 and "--markdown can't be combined with --json; choose one" in both.output


def test_explain_says_why_before_the_run(call: Call) -> None:
    first = call("run", "--explain")
    edit("def fix(x):\n    return x + 1\n")

    second = call("run", "--explain")

    assert "rows: runs: has never run" in first.output and first.output.split()[-2:] == ["total", "3"]
    assert "  clean: runs: helper fix, helpers_of_plans.py:1, changed\n" in second.output
    assert "  total: may stop early: input clean may change\n" in second.output


def test_the_difference_of_two_runs_is_told(call: Call) -> None:
    def newest() -> str:
        return str(json.loads(call("runs", "--json").output)["runs"][0]["id"])

    call("run")
    first = newest()
    edit("def fix(x):\n    return x + 1\n")
    call("run", "--set", "times=2")
    second = newest()

    told = json.loads(call("show", second, "--diff", first, "--json").output)

    assert told["parameters"] == [{"name": "times", "old": None, "new": 2}]
    assert told["metrics"] == [{"name": "total", "old": 3.0, "new": 12.0}]
    clean, total = told["steps"]
    assert clean["reasons"][0]["where"] == "helpers_of_plans:fix" and clean["digest"]["old"] != clean["digest"]["new"]
    assert {reason["where"] for reason in total["reasons"]} == {"times", "clean"}
    text = call("show", second, "--diff", first).output
    assert "times 1 -> 2" in text and "12.0" in text
    assert "differs in nothing" in call("show", first, "--diff", first).output


def test_of_a_long_plan_the_cached_steps_are_only_counted(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [PlannedStep(f"step{number}", "run" if number == 70 else "cached", (), 1.0) for number in range(100)]
    show.plan("long", steps)

    said = capsys.readouterr().out
    assert "step70" in said and "step7 " not in said and "expected 1.0 s; 99 steps are cached" in said
