"""The package as a whole: what it gives to users, how little a start loads, that the rooms import downwards only."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import mainspring as ms

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mainspring"
BIG = {"polars", "pandas", "numpy", "pyarrow", "scipy", "sklearn", "mlflow", "optuna", "sqlalchemy", "rich"}
PUBLIC = {
    "Loop", "Pipeline", "step", "at_least", "register_format",
    "Azure", "Gcs", "Http", "Paging", "S3", "arrow", "csv", "delta", "excel", "file", "frame", "iceberg", "join",
    "json", "parquet", "rest", "sql",
    "Clean", "Split", "Search", "log", "Gate", "Monitor", "Privacy", "Retrain",
    "ABTest", "Bandit", "Canary", "Immediate", "Manual", "Shadow",
    "MainspringError", "__version__",
}  # fmt: skip


def loaded(arguments: list[str]) -> set[str]:
    """The top-level modules that a fresh process imports, as Python itself tells."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=True)
    lines = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert "mainspring" in lines, done.stderr
    return {line.partition(".")[0] for line in lines}


def test_import_loads_no_big_library() -> None:
    assert not loaded([sys.executable, "-c", "import mainspring; dir(mainspring)"]) & BIG


def test_help_loads_no_big_library() -> None:
    assert not loaded([str(Path(sys.executable).parent / "mainspring"), "--help"]) & BIG


def test_the_help_of_a_command_loads_no_big_library() -> None:
    assert not loaded([sys.executable, "-m", "mainspring.app.cli", "run", "--help"]) & BIG


def test_a_loop_is_declared_without_the_libraries_of_its_stages() -> None:
    declare = "import mainspring as ms; ms.Loop('churn', data=ms.csv('rows.csv'), target='y', search=ms.Search())"

    assert not loaded([sys.executable, "-c", declare]) & BIG


def test_the_public_names_are_these() -> None:
    assert set(ms.__all__) == set(dir(ms)) == PUBLIC
    assert all(getattr(ms, name) is not None for name in ms.__all__)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'Loops'; it has ABTest, .*Loop"):
        _ = ms.Loops  # type: ignore[attr-defined]


def test_the_typed_face_names_the_same_things_from_the_same_rooms() -> None:
    face = {
        alias.asname: (statement.module, alias.name)
        for statement in ast.parse((PACKAGE / "__init__.pyi").read_text()).body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }

    assert face == {name: (module, name) for name, module in ms._MODULES.items()}  # type: ignore[attr-defined]
    assert (PACKAGE / "py.typed").is_file()


def test_the_version_is_the_installed_one() -> None:
    assert ms.__version__ == metadata.version("mainspring")


def test_rooms_import_downwards_only() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout


def test_no_room_imports_the_package_itself() -> None:
    """But for its version: the package is the face of the rooms, not one of their words."""
    imports = [
        (path.name, alias.name)
        for path in PACKAGE.rglob("*.py")
        for statement in ast.walk(ast.parse(path.read_text()))
        if isinstance(statement, ast.ImportFrom) and statement.module == "mainspring"
        for alias in statement.names
    ]

    assert [entry for entry in imports if entry[1] != "__version__"] == []
