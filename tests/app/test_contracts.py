"""`mainspring schema` and `mainspring quarantine`, from a changed source to the next version."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mainspring.app import cli

Call = Callable[..., tuple[int, str, str]]

LOOP = """
import mainspring as ms
from sklearn.linear_model import LogisticRegression

trips = ms.Loop("trips", ms.csv("trips.csv"), "late", LogisticRegression(), key="id", release=ms.Immediate())
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process, in a fresh folder: its exit code, output and errors."""
    monkeypatch.setenv("MAINSPRING_EXECUTOR", "here")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "loop.py").write_text(LOOP)
    write(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mainspring", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def write(folder: Path, city: str = "city", wrong: int | None = None) -> None:
    draw = random.Random(0)
    lines = [f"id,dist,{city},email,late"]
    for n in range(200):
        far = draw.random() * 100
        shown = "far" if n == wrong else f"{far:.2f}"
        late = int(far + draw.gauss(0, 30) > 50)
        lines.append(f"{n},{shown},{draw.choice(['Oslo', 'Rome'])},a{n}@x.org,{late}")
    (folder / "work" / "trips.csv").write_text("\n".join(lines) + "\n")


def test_a_contract_is_shown_written_edited_and_honoured(call: Call, tmp_path: Path) -> None:
    assert call("run", "work/loop.py")[0] == 0
    code, out, _ = call("schema", "trips", "--json")
    told = json.loads(out)
    assert code == 0 and [column["name"] for column in told["columns"]] == ["id", "dist", "city", "email", "late"]
    assert "'Oslo' and 'Rome'" in call("schema", "trips")[1]

    assert "edit and commit it" in call("schema", "trips", "write")[1]
    file = tmp_path / "work" / "trips.schema.toml"  # beside FILE
    steps = {step["name"]: step["state"] for step in json.loads(call("run", "work/loop.py", "--json")[1])["steps"]}
    assert [name for name, state in steps.items() if state != "cached"] == ["ingest"]  # the rules are as they were
    text = file.read_text().replace("[columns.dist]", "[columns.dist]\nmaximum = 95")
    assert "personal = true" in text  # of a column that looks so
    file.write_text(text)
    assert call("run", "work/loop.py")[0] in (0, 3)
    assert file.read_text().count("maximum = 95") == 1  # no run writes it

    code, out, _ = call("quarantine", "trips")
    assert code == 0 and "column 'dist' is above 95, the contract's maximum" in out
    assert "@x.org" not in out + call("quarantine", "trips", "--json")[1]

    file.write_text(file.read_text().replace("personal", "persnal"))
    for command in (("run", "work/loop.py"), ("schema", "trips"), ("quarantine", "trips")):
        code, _, error = call(*command)
        assert code == 2 and "column 'email' has 'persnal', which isn't known; did you mean 'personal'?" in error


def test_a_changed_source_is_a_diff_that_is_accepted(call: Call, tmp_path: Path) -> None:
    call("run", "work/loop.py")
    assert call("schema", "trips", "accept")[0] == 2  # nothing to accept
    write(tmp_path, city="town")

    code, _, error = call("run", "work/loop.py")
    assert code == 1 and "column 'city' of the contract is gone" in error and "mainspring schema trips accept" in error
    changes = json.loads(call("schema", "trips", "diff", "--json")[1])["changes"]
    assert [(change["kind"], change["column"]) for change in changes] == [("gone", "city"), ("new", "town")]
    code, _, error = call("schema", "trips", "accept", "dist")
    assert code == 2 and "column 'dist' has no change to accept" in error
    assert call("schema", "trips", "accept", "--json")[0] == 0

    assert call("run", "work/loop.py")[0] in (0, 3)  # the gate may hold the new model
    assert "as the contract says" in call("schema", "trips", "diff")[1]


def test_bad_rows_are_repaired_and_replayed(call: Call, tmp_path: Path) -> None:
    write(tmp_path, wrong=7)
    call("run", "work/loop.py")
    assert "no row of trips" not in call("quarantine", "trips")[1]

    tried = call("quarantine", "trips", "--fix", "dist=replace(dist,'far','99')")[1]
    assert "1 row of 1 keeps the contract" in tried and "add --replay" in tried
    code, out, _ = call("quarantine", "trips", "--fix", "dist=replace(dist,'far','99')", "--replay", "--json")
    told = json.loads(out)
    assert code == 0 and (told["mended"], told["left"], told["version"]) == (1, {}, 1)

    assert "what it reads outside has changed" in call("plan", "work/loop.py")[1]
    assert call("run", "work/loop.py")[0] in (0, 3)
    assert "no row of trips is in quarantine" in call("quarantine", "trips")[1]
    card = (tmp_path / ".mainspring" / "cards" / "trips@2.md").read_text()
    assert "Version 1 of the data has 200 rows" in card and "moved since version 0" in card


@pytest.mark.parametrize("command", [("schema", "none"), ("quarantine", "none")])
def test_a_loop_without_a_contract_is_named(call: Call, command: tuple[str, ...]) -> None:
    call("run", "work/loop.py")

    code, _, error = call(*command)

    assert code == 1 and "'none' has no contract" in error
