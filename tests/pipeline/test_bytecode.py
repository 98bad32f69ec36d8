"""Two edits within a second that leave the size: Python runs the first one's bytecode."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = """
import mainspring as ms
import rates


@ms.step
def rate() -> int:
    return rates.rate()


pipeline = ms.Pipeline("rates", [rate])
"""
SHOW = "from mainspring.pipeline.bytecode import import_current; import_current(); import rates; print(rates.rate())"
RUN = "import file; print(file.pipeline.run(home='home').outputs['rate'])"


def write(path: Path, text: str, moment: float) -> None:
    """Write *text* as it would be at *moment*, by the file's own times."""
    path.write_text(text)
    os.utime(path, (moment, moment))


def python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose helper was imported, so that its bytecode lies there, and then edited at the same second."""
    moment = float(int((tmp_path / "..").stat().st_mtime))
    write(tmp_path / "rates.py", "def rate():\n    return 1\n", moment + 0.2)
    (tmp_path / "file.py").write_text(FILE)
    assert python(tmp_path, "import rates").returncode == 0
    write(tmp_path / "rates.py", "def rate():\n    return 2\n", moment + 0.8)
    assert python(tmp_path, "import rates; print(rates.rate())").stdout == "1\n"  # what this is about
    return tmp_path


def test_an_import_runs_the_text_that_is_there(folder: Path) -> None:
    assert python(folder, SHOW).stdout == "2\n"


def test_a_process_that_has_imported_the_older_code_is_refused_once(folder: Path) -> None:
    first, second = python(folder, RUN), python(folder, RUN)
    assert "CodeChanged" in first.stderr and "rates.py" in first.stderr
    assert second.stdout.endswith("2\n"), second.stderr


def test_where_bytecode_cannot_be_removed_the_text_is_compiled(folder: Path) -> None:
    (cache,) = (folder / "__pycache__").glob("rates.*")
    locked = f"import os; os.unlink = lambda path: (_ for _ in ()).throw(PermissionError(path)); {SHOW}"
    assert python(folder, locked).stdout == "2\n"
    assert cache.exists()
