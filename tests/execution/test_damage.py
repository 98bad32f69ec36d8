"""Damaged state: any file of a home cut, flipped, emptied, exchanged, removed. A run then heals it or names it on one
line: never a wrong answer, a traceback or a hang. And a disk that is full, and has room again."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from soak import Soak
from ten import Watch, damaged, look, one_line, write
from warm import Answer, Warm

SAMPLE = 16


@dataclass(frozen=True)
class Whole:
    """A project with a run that is done, before anything happens to it."""

    warm: Warm
    project: Path
    outputs: dict[str, str]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("damage")
    with Warm(folder / "warm") as warm:
        project = write(folder / "project", large=50_000)
        assert warm.run(project, "run", "ten.py").code == 0
        seen = Watch(warm.run, project).look()
        assert seen is not None
        yield Whole(warm, project, seen.outputs)


def flip(path: Path, chance: random.Random, others: list[Path]) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    for _ in range(chance.choice([1, 1, 20])):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut(path: Path, chance: random.Random, others: list[Path]) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content) + 1)])


def scribble(path: Path, chance: random.Random, others: list[Path]) -> None:
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content) + 1)
    content[place : place + chance.randrange(1, 5000)] = chance.randbytes(chance.randrange(1, 5000))
    path.write_bytes(content)


def empty(path: Path, chance: random.Random, others: list[Path]) -> None:
    path.write_bytes(b"")


def remove(path: Path, chance: random.Random, others: list[Path]) -> None:
    path.unlink()


def exchange(path: Path, chance: random.Random, others: list[Path]) -> None:
    shutil.copyfile(chance.choice(others), path)


def block(path: Path, chance: random.Random, others: list[Path]) -> None:
    """A folder where a file was."""
    path.unlink()
    path.mkdir()


DAMAGES: list[Callable[[Path, random.Random, list[Path]], None]] = [flip, cut, scribble, empty, remove, exchange, block]


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=(pytest.mark.soak, pytest.mark.timeout(7200)))])
def test_damaged_state_is_healed_or_named(whole: Whole, tmp_path: Path, full: bool) -> None:
    soak = Soak("damage", short=not full)
    for point in soak.points(f"damage {number}" for number in range(1000 if full else SAMPLE)):
        project = tmp_path / "project"
        shutil.copytree(whole.project, project)
        what = "nothing"
        try:
            what = damage(project / ".mainspring", random.Random(point))
            healed_or_named(whole, project)
        except AssertionError as error:
            soak.failed(f"{point} ({what})", error)
        shutil.rmtree(project)
    soak.assert_passed()


def damage(home: Path, chance: random.Random) -> str:
    """One file of the home, the database more often than others, is damaged; says what was done."""
    files = sorted(path for path in home.rglob("*") if path.is_file())
    weights = [8 if path.name.startswith("mainspring.db") else 1 for path in files]
    (path,) = chance.choices(files, weights)
    how = chance.choice(DAMAGES)
    others = [other for other in files if other != path]
    how(path, chance, others)
    return f"{how.__name__} {path.relative_to(home)}"


def healed_or_named(whole: Whole, project: Path) -> None:
    for command in (["plan", "ten.py"], ["run", "ten.py"], ["runs"]):
        answer = whole.warm.run(project, *command, timeout=30)
        assert answer.code is not None, f"{command[0]} hung"
        assert "Traceback" not in answer.err + answer.out, f"{command[0]}: {answer.err[-600:]}"
        assert answer.code == 0 or one_line(answer), f"{command[0]}: code {answer.code}, {answer.err[-600:]}"
        if command[0] == "run" and answer.code == 0:
            right(whole, project)


def right(whole: Whole, project: Path) -> None:
    seen = look(whole.warm.run, project)[0]
    assert (seen.status, seen.outputs) == ("done", whole.outputs), "a wrong answer"
    assert not [path for path in damaged(project) if path.name in seen.outputs.values()], "an unsound object is used"


def test_an_emptied_and_a_foreign_database_are_named(whole: Whole, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(whole.project, project)
    for path in (project / ".mainspring").glob("mainspring.db*"):
        path.unlink()
    emptied = whole.warm.run(project, "run", "ten.py")
    assert emptied.code == 1 and one_line(emptied) and "is empty but" in emptied.err

    other = write(tmp_path / "other", large=50_000)
    assert whole.warm.run(other, "run", "ten.py").code == 0
    for path in (project / ".mainspring").glob("mainspring.db*"):
        path.unlink()
    for path in (other / ".mainspring").glob("mainspring.db*"):
        shutil.copyfile(path, project / ".mainspring" / path.name)
    swapped = whole.warm.run(project, "run", "ten.py")
    assert swapped.code == 1 and one_line(swapped) and "belongs to another home" in swapped.err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small tmpfs can't be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_full_disk_a_run_says_so_and_goes_on_once_there_is_room(
    whole: Whole, small_disk: Path, tmp_path: Path
) -> None:
    project = write(tmp_path / "project", large=300_000)
    ballast = small_disk / "ballast"
    full: Answer | None = None
    for room in (3_000_000, 1_500_000, 1_000_000, 500_000, 100_000):
        home = small_disk / f"home{room}"
        ballast.write_bytes(bytes(max(0, 4_000_000 - room)))
        full = whole.warm.run(project, "--home", str(home), "run", "ten.py")
        if full.code != 0:
            break
        shutil.rmtree(home)
    assert full is not None and full.code == 1 and one_line(full), full
    before = whole.warm.run(project, "--home", str(home), "runs", "--json")
    assert before.code == 0 or one_line(before)

    ballast.unlink()
    again = whole.warm.run(project, "--home", str(home), "run", "ten.py")

    assert again.code == 0, again
    assert not whole.warm.left()
