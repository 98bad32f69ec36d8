"""Many runs on one home at once, and runs on a machine that is busy with other things."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest
from ten import Seen, finished, look, write
from warm import Answer, Warm


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm(tmp_path_factory.mktemp("warm")) as warm:
        yield warm


def at_once(warm: Warm, project: Path, *files: str) -> list[Answer]:
    return [started.end(120) for started in [warm.start(project, "run", file) for file in files]]


def sound(answers: list[Answer]) -> bool:
    said = "".join(answer.err + answer.out for answer in answers)
    assert "locked" not in said and "Traceback" not in said, said
    return [answer.code for answer in answers] == [0] * len(answers)


@pytest.mark.parametrize("rounds", [1, pytest.param(25, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_eight_runs_of_one_pipeline_on_one_home_all_end_well(warm: Warm, tmp_path: Path, rounds: int) -> None:
    for number in range(rounds):
        project = write(tmp_path / f"project {number}", large=200_000)

        answers = at_once(warm, project, *["ten.py"] * 8)

        assert sound(answers), answers
        runs = look(warm.run, project)
        assert [run.status for run in runs] == ["done"] * 8
        assert len({tuple(sorted(run.outputs.items())) for run in runs}) == 1
        assert max(finished(project).values()) <= 8  # what others are computing at that moment is computed again
        assert not warm.left()


@pytest.mark.parametrize("rounds", [1, pytest.param(25, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_eight_different_pipelines_on_one_home_do_each_step_once(warm: Warm, tmp_path: Path, rounds: int) -> None:
    for number in range(rounds):
        project = write(tmp_path / f"project {number}", large=200_000)
        text = (project / "ten.py").read_text()
        files = [f"ten{index}.py" for index in range(8)]
        for index, file in enumerate(files):
            (project / file).write_text(text.replace('Pipeline("ten"', f'Pipeline("ten{index}"'))

        answers = at_once(warm, project, *files)

        assert sound(answers), answers
        runs: list[Seen] = look(warm.run, project)
        assert [run.status for run in runs] == ["done"] * 8
        assert set(finished(project).values()) == {8}
        assert not warm.left()


def spin(number: int) -> None:
    while True:
        number += 1


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_runs_pass_beside_eight_busy_loops(warm: Warm, tmp_path: Path, rounds: int) -> None:
    busy = [multiprocessing.get_context("spawn").Process(target=spin, args=(0,), daemon=True) for _ in range(8)]
    for process in busy:
        process.start()
    try:
        for number in range(rounds):
            project = write(tmp_path / f"project {number}")
            answer = warm.run(project, "run", "ten.py", timeout=120)
            assert answer.code == 0, answer
            assert set(finished(project).values()) == {1}
    finally:
        for process in busy:
            process.terminate()
            process.join()
            process.close()
