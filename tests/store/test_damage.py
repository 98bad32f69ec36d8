"""Damage at random places of a home: each ends healed, with the same values, or in one line that says what to do."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from mainspring.app.config import Settings
from mainspring.app.doctor import examine
from mainspring.core.errors import HomeDamaged, MainspringError
from mainspring.execution import planning
from mainspring.execution.code import Code
from mainspring.execution.engine import execute
from mainspring.pipeline.graph import Graph
from mainspring.pipeline.step import Step
from mainspring.store.deployments import Deployments
from mainspring.store.gc import collect
from mainspring.store.home import Home
from mainspring.store.journal import Journal
from mainspring.store.tables import Table

LONGEST_SECONDS = 60
pytestmark = pytest.mark.filterwarnings("ignore:.*is kept as a pickle")


def count() -> int:
    return 600


def frame(count: int) -> pl.DataFrame:
    return pl.DataFrame({"n": range(count), "t": [str(number % 7) for number in range(count)]})


def array(frame: pl.DataFrame) -> Any:
    return frame.select("n", pl.col("t").cast(pl.Int64)).to_numpy().astype(float)


def model(array: Any) -> LogisticRegression:
    return LogisticRegression().fit(array / 600, array[:, 1] > 3)


def parts(count: int) -> list[Any]:
    return [Fraction(number, 7) for number in range(count)] + [{"name": "x" * 2000}]


def total(array: Any, model: LogisticRegression) -> dict[str, float]:
    return {"sum": float(array.sum()), "share": float(model.predict(array / 600).mean())}


GRAPH = Graph([count, frame, array, model, parts, total])


def code(step: Step) -> Code:
    """Where the code is followed is no matter here, and it takes its time."""
    return Code({step.name: step.name}, {})


def values(outputs: Any) -> list[Any]:
    """All outputs, comparable."""
    fitted = outputs["model"]
    return [
        outputs["count"], outputs["frame"].to_dict(as_series=False), outputs["array"].tolist(), fitted.coef_.tolist(),
        outputs["parts"], outputs["total"],
    ]  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A home that was used and closed, and the values that every later run must give."""
    home = Home.open(tmp_path_factory.mktemp("sound") / "home")
    outcome = execute(GRAPH, home=home, pipeline="p", code=code)
    assert outcome.error is None
    expected = values(outcome.outputs)
    Deployments(home)
    Table(home, "p", "rows").replace(frame(50), metadata={"cursor": 1})
    Table(home, "p", "rows").append(frame(70), metadata={"cursor": 2})
    home.database.close()
    return home.path, expected


@contextmanager
def in_time() -> Iterator[None]:
    def late(number: int, where: FrameType | None) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damage(home: Path, chance: random.Random) -> str:
    """Hurt one file of *home*; what was done."""
    kinds = {
        "objects": home.glob("objects/*"), "database": home.glob("mainspring.db*"), "marker": [home / "id"],
        "key": [home / "pickle.key"], "table": home.glob("tables/p/rows/**/*.*"), "lease": home.glob("run/*"),
    }  # fmt: skip
    kind = chance.choices(list(kinds), weights=[6, 8, 1, 1, 3, 1])[0]
    path = chance.choice(sorted(path for path in kinds[kind] if path.is_file()))
    content = bytearray(path.read_bytes())
    how = chance.choice(["flip", "flip", "burst", "cut", "empty", "delete", "other", "folder", "longer", "zeros"])
    if how in ("flip", "burst") and content:
        at = chance.randrange(len(content))
        if how == "flip":
            content[at] ^= 1 << chance.randrange(8)
        else:
            content[at : at + 64] = chance.randbytes(len(content[at : at + 64]))
    elif how == "cut":
        del content[chance.randrange(len(content) or 1) :]
    elif how == "empty":
        content.clear()
    elif how == "other":
        content = bytearray(chance.choice(sorted(home.glob("objects/*"))).read_bytes())
    elif how == "longer":
        content += chance.randbytes(chance.randrange(1, 5000))
    elif how == "zeros":
        at = chance.randrange(len(content) or 1)
        content[at : at + 4096] = bytes(len(content[at : at + 4096]))
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how != "delete":
        path.write_bytes(content)
    return f"{how} {path.relative_to(home)}"


def use(path: Path) -> list[Any]:
    """Everything a person might ask of a home, and a run; the values of that run."""
    home = Home.open(path)
    try:
        planning.plan(GRAPH, home=home, pipeline="p", code=code)
        outcome = execute(GRAPH, home=home, pipeline="p", code=code)
        if outcome.error is not None:
            raise outcome.error
        found = values(outcome.outputs)
        journal = Journal(home)
        for run in journal.runs():
            journal.steps(run.id)
        collect(home, dry_run=True)
        Deployments(home).routes()
        return found
    finally:
        home.database.close()


def read_table(path: Path) -> pl.DataFrame:
    return Table(Home(path), "p", "rows").read(version=1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rounds", [50, pytest.param(250, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))])
def test_each_damage_is_healed_or_named(sound: tuple[Path, list[Any]], tmp_path: Path, seed: int, rounds: int) -> None:
    template, expected = sound
    chance = random.Random(f"{seed} {rounds}")
    healed = named = 0
    for turn in range(rounds):
        home = tmp_path / str(turn)
        shutil.copytree(template, home)
        done = damage(home, chance)
        try:
            with in_time():
                found = use(home)
        except MainspringError as error:
            named += 1
            assert "\n" not in str(error) and len(str(error)) < 600 and ";" in str(error), done
        except BaseException as error:
            raise AssertionError(f"{done}: {type(error).__name__}: {error}") from error
        else:
            healed += 1
            assert found == expected, done
        try:
            read_table(home)  # Delta Lake sees what breaks its structure; a loop compares digests too
        except MainspringError as error:
            assert "table" in done and "\n" not in str(error), f"{done}: {error}"
        if turn % 5 == 0:
            with in_time():
                assert all("\n" not in finding.detail for finding in examine(Settings(home))), done
        shutil.rmtree(home)
    assert healed > rounds / 4 and named > 0


def emptied(home: Path) -> None:
    for part in home.glob("mainspring.db*"):
        part.unlink()
    (home / "mainspring.db").touch()


def swapped(home: Path) -> None:
    other = Home.open(home.parent / "other")
    other.database.close()
    shutil.copy(other.path / "mainspring.db", home / "mainspring.db")


def overwritten(home: Path) -> None:
    (home / "id").write_text("no id\n" * 10_000)


def gone(home: Path) -> None:
    (home / "mainspring.db").unlink()


def gone_with_its_marker(home: Path) -> None:
    gone(home)
    (home / "id").unlink()


@pytest.mark.parametrize(
    ("hurt", "words"),
    [
        (emptied, "is empty but .* is not new; restore it from a backup, or move"),
        (gone, "is empty but .* is not new"),
        (gone_with_its_marker, "is empty but .* is not new"),
        (swapped, "belongs to another home .* put the right file back"),
        (overwritten, r"belongs to another home .*, not 'no id.{55,70}put the right file back"),
    ],
)
def test_a_lost_database_is_one_clear_line_and_nothing_is_written(
    sound: tuple[Path, list[Any]], tmp_path: Path, hurt: Any, words: str
) -> None:
    home = tmp_path / "a home"
    shutil.copytree(sound[0], home)
    hurt(home)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}

    for _ in range(2):
        with pytest.raises(MainspringError, match=words):
            Home.open(home)

    after = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    new = {path.name for path in set(after) - set(before)} - {"mainspring.db-wal", "mainspring.db-shm"}
    assert not new and all(after[path] == content for path, content in before.items())


def test_a_row_that_can_t_be_read_is_named(sound: tuple[Path, list[Any]], tmp_path: Path) -> None:
    """A time with a flipped bit, or of another type: SQLite's own checks don't see it."""
    home = tmp_path / "home"
    shutil.copytree(sound[0], home)
    for statement in ("update steps set ended = 5", "update runs set created = replace(created, ':', char(24))"):
        with Home(home).database.transaction() as connection:
            connection.execute(statement)
        with pytest.raises(HomeDamaged, match=r"holds a row that can't be read .*; see"):
            use(home)


def test_a_home_of_a_newer_version_is_named(sound: tuple[Path, list[Any]], tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(sound[0], home)
    with Home(home).database.transaction() as connection:
        connection.execute("update instance set schema_version = 99")

    with pytest.raises(MainspringError, match=r"written by a newer mainspring .*99.*upgrade"):
        Home.open(home)


def test_a_database_marked_as_another_program_s_is_named(sound: tuple[Path, list[Any]], tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(sound[0], home)
    Home(home).database.query("pragma application_id=77")

    with pytest.raises(MainspringError, match="another program's; restore"):
        Home.open(home)


def test_a_lost_marker_is_made_again(sound: tuple[Path, list[Any]], tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(sound[0], home)
    identity = (home / "id").read_text()
    (home / "id").unlink()

    assert Home.open(home).id == identity == (home / "id").read_text()


def test_doctor_names_damaged_objects_and_lost_outputs(sound: tuple[Path, list[Any]], tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(sound[0], home)
    first, second, *_ = sorted(home.glob("objects/*"))
    first.write_bytes(b"damaged"), second.unlink()
    os.utime(home / "tmp", None)

    found = {finding.subject: finding for finding in examine(Settings(home))}

    assert found["objects"].state == "warning" and first.name[:12] in found["objects"].detail
    assert "2 outputs lost" in found["outputs"].detail and " of p" in found["outputs"].detail
    assert "the next run" in found["objects"].mend
