"""The main job on a smaller sample: it closes the loop, and does so the same way twice. In the soak it lives longer."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "flights" / "demo.py"
SAMPLE = ("--since", "2013-03-12", "--until", "2013-04-18")
LONGER = ("--since", "2013-03-01", "--until", "2013-05-03")


def start(folder: Path, span: tuple[str, ...]) -> subprocess.Popen[str]:
    command = [sys.executable, str(DEMO), "--folder", str(folder), "--per-day", "80", *span]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module", params=[SAMPLE, pytest.param(LONGER, marks=pytest.mark.soak)], ids=["sample", "longer"])
def span(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def folders(span: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [tmp_path_factory.mktemp("flights") / "a", tmp_path_factory.mktemp("flights") / "b"]


@pytest.fixture(scope="module")
def timelines(span: tuple[str, ...], folders: list[Path]) -> list[list[dict[str, Any]]]:
    """The same weeks, lived through twice at once."""
    running = [start(folder, span) for folder in folders]
    for each in running:
        said, _ = each.communicate(timeout=500)
        assert each.returncode == 0, said[-5000:]
    return [json.loads((folder / "timeline.json").read_text()) for folder in folders]


def test_the_loop_closes(timelines: list[list[dict[str, Any]]], folders: list[Path]) -> None:
    taken = [(entry["kind"], entry["decision"]) for entry in timelines[0]]

    assert taken[:2] == [("gate", "promote"), ("release", "promote")]
    assert ("retrain", "retrain") in taken
    assert taken.count(("gate", "promote")) + taken.count(("gate", "inconclusive")) >= 2
    assert ("release", "canary") in taken
    for name in ("timeline.png", "months.json", "served.parquet"):
        assert (folders[0] / name).stat().st_size > 0


def test_history_repeats_itself(timelines: list[list[dict[str, Any]]]) -> None:
    assert timelines[0] == timelines[1]
