"""A bundle from the command line: verified, scored with, served from its folder alone."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mainspring.app import cli
from tests.execution.warm import Warm

LOOP = """
import mainspring as ms
from sklearn.tree import DecisionTreeClassifier

def rows():
    return [{"n": n, "a": n % 17, "b": n % 11, "y": int(n % 17 + n % 11 > 13)} for n in range(200)]

loop = ms.Loop("demo", data=rows, target="y", key="n", model=DecisionTreeClassifier(max_depth=3))
"""
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, loaded: Warm) -> Path:
    """A folder whose home has the champion demo@1."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "loop.py").write_text(LOOP)
    assert loaded.run(folder, "run", "loop.py", "--executor", "here").code == 0
    return folder


@pytest.fixture
def call(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process, in a copy of the trained folder: its exit code, output and errors."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mainspring", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def told(call: Call, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(call(*arguments, "--json")[1])
    return found


def test_a_version_is_verified_by_name_number_and_folder(call: Call) -> None:
    code, said, _ = call("verify", "demo")
    found = told(call, "verify", "demo@1")

    assert code == 0 and said.startswith("ok: ") and "with its model card" in said
    assert (found["status"], found["loop"], found["signed_here"], found["faults"]) == ("done", "demo", True, [])
    assert told(call, "verify", found["folder"]) == found


def test_every_file_of_a_real_bundle_is_watched(call: Call) -> None:
    folder = Path(told(call, "verify", "demo")["folder"])

    for path in [each for each in folder.rglob("*") if each.is_file()]:
        sound = path.read_bytes()
        path.write_bytes(sound[:-2] + bytes([sound[-2] ^ 1]) + sound[-1:])
        code, said, _ = call("verify", "demo")
        assert code == 1 and (path.name in said or "refused" in said), path
        assert told(call, "verify", "demo")["status"] == "failed"
        path.write_bytes(sound)
    assert call("verify", "demo")[0] == 0


@pytest.mark.parametrize(
    ("bundle", "code", "words"),
    [("nobody", 1, "no champion"), ("demo@9", 1, "no version 9"), ("demo@x", 2, "number"), ("./none", 1, "no folder")],
)
def test_what_cannot_be_verified_is_told(call: Call, bundle: str, code: int, words: str) -> None:
    exit_code, _, errors = call("verify", bundle)

    assert exit_code == code and words in errors


def test_rows_are_scored_from_the_command_line(call: Call, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("n,a,b\n1,2,3\n2,16,10\n")

    code, said, _ = call("score", "demo@1", "in.csv", "out.csv")
    assert code == 0 and "demo@1 has answered 2 rows: out.csv" in said
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("1,0,")
    assert call("score", "demo", "in.csv", "out.csv")[0] == 2
    assert told(call, "score", "demo", "in.csv", "out.csv", "--overwrite")["scored"]["rows"] == 2


def test_a_folder_is_served_without_a_home(call: Call, tmp_path: Path) -> None:
    shutil.copytree(told(call, "verify", "demo")["folder"], tmp_path / "edge" / "bundle")
    command = [sys.executable, "-m", "mainspring.app.cli", "serve", "bundle", "--port", "0"]
    before = sorted((tmp_path / "edge").rglob("*"))

    with subprocess.Popen(command, cwd=tmp_path / "edge", stdout=subprocess.PIPE, text=True) as served:
        assert served.stdout is not None
        endpoint = served.stdout.readline().split()[1]
        answer = asked(f"{endpoint}/predict/demo", {"rows": [{"n": 1, "a": 16, "b": 10}]})
        feedback = asked(f"{endpoint}/feedback/demo", {"id": answer["ids"][0], "label": 1})
        with urllib.request.urlopen(f"{endpoint}/readyz", timeout=10) as said:
            standing = json.load(said)["loops"]["demo"]
        served.send_signal(signal.SIGINT)
        served.communicate(timeout=30)

    assert served.returncode == 0
    assert answer["predictions"] == [1] and "keeps no records" in feedback["error"]["message"]
    assert (standing["ready"], standing["recording"], standing["feedback"]) == (True, False, False)
    assert sorted((tmp_path / "edge").rglob("*")) == before


def test_a_folder_that_was_changed_is_not_served(call: Call, tmp_path: Path) -> None:
    shutil.copytree(told(call, "verify", "demo")["folder"], tmp_path / "bundle")
    (tmp_path / "bundle" / "model.onnx").write_bytes(b"another")

    code, _, errors = call("serve", "bundle", "--port", "0")

    assert code == 1 and "model.onnx was changed" in errors
    assert call("--home", "x", "serve", "bundle")[0] == 2


def test_an_import_names_its_loop(call: Call) -> None:
    code, _, errors = call("import", "./no folder")
    assert code == 2 and "--loop" in errors
    code, _, errors = call("import", "./nothing", "--loop", "demo")
    assert code == 1 and "is no model" in errors


def asked(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer, as soon as the endpoint is up."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            refused: dict[str, Any] = json.load(error)
            return refused
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError("the endpoint doesn't answer")
