"""Batch scoring: every source, every output, and a job that is killed goes on without a lost or doubled row."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from living import loop, table

from mainspring.core.errors import SourceError, StoreError, UsageError
from mainspring.data import outputs
from mainspring.loop.scoring import Scored, score
from mainspring.store.home import Home

KILLED = """
import os, sys
from pathlib import Path
from mainspring.loop.scoring import score
from mainspring.store.home import Home

def tell(rows, rate):
    if rows >= 120:
        os.kill(os.getpid(), 9)

score(Home.open(Path(sys.argv[1])), "late", None, sys.argv[2], sys.argv[3], tell=tell)
"""


def rows() -> pl.DataFrame:
    return table(300).drop("late")


def silent(done: int, rate: float) -> None:
    """Nobody waits."""


def scored(home: Home, source: Path | str, out: Path | str, **options: Any) -> Scored:
    return score(home, "late", options.pop("version", None), str(source), str(out), tell=silent, **options)


def in_parts(folder: Path) -> Path:
    """The rows as five files, each of which is a part."""
    folder.mkdir()
    for place, part in enumerate(rows().iter_slices(60)):
        part.write_csv(folder / f"{place}.csv")
    return folder / "*.csv"


def in_sqlite(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table trains (train integer, delay real, load real, city text)")
        database.executemany("insert into trains values (?, ?, ?, ?)", rows().rows())
    return f"sqlite:///{path}#trains"


def written(made: pl.DataFrame, suffix: str) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        path = folder / f"rows{suffix}"
        {".parquet": made.write_parquet, ".csv": made.write_csv, ".jsonl": made.write_ndjson,
         ".arrow": made.write_ipc, "": made.write_delta}[suffix](path)  # type: ignore[operator]  # fmt: skip
        return str(path)

    return write


SOURCES: dict[str, Callable[[Path], Any]] = {
    "Parquet": written(rows(), ".parquet"),
    "CSV": written(rows(), ".csv"),
    "JSON lines": written(rows(), ".jsonl"),
    "Arrow": written(rows(), ".arrow"),
    "Delta": written(rows(), ""),
    "SQL": lambda folder: in_sqlite(folder / "in.db"),
    "several files": lambda folder: in_parts(folder / "parts"),
}
OUTPUTS: dict[str, Callable[[Path], str]] = {
    "Parquet": lambda folder: str(folder / "out.parquet"),
    "CSV": lambda folder: str(folder / "out.csv"),
    "Delta": lambda folder: str(folder / "out.delta"),
    "SQL": lambda folder: f"sqlite:///{folder / 'out.db'}#scores",
}


def read(out: str) -> pl.DataFrame:
    if "#" in out:
        with closing(sqlite3.connect(out.removeprefix("sqlite:///").partition("#")[0])) as database:
            return pl.read_database("select * from scores order by train", database).with_columns(
                pl.col("prediction").cast(pl.Boolean)
            )
    if out.endswith(".csv"):
        return pl.read_csv(out)
    made = pl.read_parquet(out) if out.endswith(".parquet") else pl.DataFrame(DeltaTable(out).to_pyarrow_table())
    return made.sort("train")


def is_right(out: str, home: Home) -> bool:
    """Each row once, with the key, the class and the probabilities that the loop gives."""
    made = read(out)
    said = loop().predict(rows(), home=home).tolist()
    chances = made["probability_True"] + made["probability_False"]
    return (
        made.columns == ["train", "prediction", "probability_False", "probability_True"]
        and made["train"].to_list() == list(range(300))
        and made["prediction"].to_list() == said
        and bool(((chances - 1).abs() < 1e-6).all())
        and ((made["probability_True"] > 0.5) == made["prediction"]).all()
    )


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_of_every_source_are_scored(home: Home, tmp_path: Path, kind: str) -> None:
    done = scored(home, SOURCES[kind](tmp_path), tmp_path / "out.parquet")

    assert (done.model, done.rows, done.resumed) == ("late@1", 300, 0)
    assert is_right(str(tmp_path / "out.parquet"), home)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_job_that_broke_off_goes_on_where_it_was(home: Home, tmp_path: Path, kind: str) -> None:
    source, out = in_parts(tmp_path / "parts"), OUTPUTS[kind](tmp_path)

    def break_off(done: int, rate: float) -> None:
        if done >= 120:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(home, "late", 1, str(source), out, tell=break_off)
    if kind == "CSV":  # a part was being written when the power went
        with (tmp_path / ".out.csv.growing").open("a") as growing:
            growing.write("120,tr")
    done = scored(home, source, out)

    assert (done.rows, done.resumed) == (300, 120)
    assert is_right(out, home)
    assert not [path.name for path in tmp_path.glob(".out*")]


@pytest.mark.parametrize(("name", "last"), [("out.csv", ".out.csv.progress"), ("out.parquet", "0-000000000000060")])
def test_a_job_that_broke_off_while_it_tidied_up_is_done(
    home: Home, tmp_path: Path, name: str, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out, unlink = in_parts(tmp_path / "parts"), tmp_path / name, Path.unlink

    def broken(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".parquet":
            unlink(path)
        if last in path.name:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", broken)
    with pytest.raises(KeyboardInterrupt):
        scored(home, source, out)
    monkeypatch.undo()

    assert out.exists() and scored(home, source, out).rows == 300
    assert is_right(str(out), home) and not [path.name for path in tmp_path.glob(".out*")]


def test_kill_9_loses_and_doubles_nothing(home: Home, tmp_path: Path) -> None:
    source, out = in_parts(tmp_path / "parts"), tmp_path / "out.parquet"

    killed = subprocess.run([sys.executable, "-c", KILLED, home.path, str(source), out], capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    assert not out.exists()
    done = scored(home, source, out)

    assert done.resumed >= 120 and done.rows == 300
    assert is_right(str(out), home)


def test_a_source_that_changed_meanwhile_is_scored_from_its_start(home: Home, tmp_path: Path) -> None:
    source, out = in_parts(tmp_path / "parts"), tmp_path / "out.csv"

    def break_off(done: int, rate: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(home, "late", None, str(source), str(out), tell=break_off)
    rows().head(60).reverse().write_csv(tmp_path / "parts" / "0.csv")
    done = scored(home, source, out)

    assert done.resumed == 0 and pl.read_csv(out)["train"].to_list() == [*range(59, -1, -1), *range(60, 300)]


@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_stands_in_the_place_stays_unless_told(home: Home, tmp_path: Path, kind: str) -> None:
    rows().write_parquet(tmp_path / "rows.parquet")
    rows().head(10).write_parquet(tmp_path / "few.parquet")
    out = OUTPUTS[kind](tmp_path)
    scored(home, tmp_path / "few.parquet", out)

    with pytest.raises(UsageError, match="--overwrite"):
        scored(home, tmp_path / "rows.parquet", out)
    assert read(out).height == 10
    scored(home, tmp_path / "rows.parquet", out, overwrite=True)

    assert is_right(out, home)


def test_two_jobs_dont_write_one_file(home: Home, tmp_path: Path) -> None:
    rows().write_parquet(tmp_path / "rows.parquet")
    out = tmp_path / "out.csv"

    with outputs.opened(str(out), "another", overwrite=False), pytest.raises(StoreError, match="another"):
        scored(home, tmp_path / "rows.parquet", out)


def test_other_columns_are_kept_on_request_and_without_a_key_the_rows_are_numbered(home: Home, tmp_path: Path) -> None:
    rows().drop("train").write_parquet(tmp_path / "rows.parquet")
    scored(home, tmp_path / "rows.parquet", tmp_path / "a.parquet")
    scored(home, tmp_path / "rows.parquet", tmp_path / "b.parquet", keep=("city", "delay"))

    assert pl.read_parquet(tmp_path / "a.parquet")["row"].to_list() == list(range(300))
    assert pl.read_parquet(tmp_path / "b.parquet").columns[:3] == ["city", "delay", "prediction"]
    with pytest.raises(UsageError, match="nowhere"):
        scored(home, tmp_path / "rows.parquet", tmp_path / "c.parquet", keep=("nowhere",))


def test_a_select_is_scored(home: Home, tmp_path: Path) -> None:
    url = in_sqlite(tmp_path / "in.db").partition("#")[0]

    assert scored(home, url, tmp_path / "out.csv", query="select * from trains where train < 7").rows == 7


@pytest.mark.parametrize("out", ["out.xlsx", "sqlite:///x.db", "sqlite:///x.db#a b", "nofolder/out.csv"])
def test_an_output_that_cannot_be_is_refused(home: Home, tmp_path: Path, out: str) -> None:
    rows().write_parquet(tmp_path / "rows.parquet")
    place = out if "://" in out else str(tmp_path / out)

    with pytest.raises(UsageError, match="OUT"):
        scored(home, tmp_path / "rows.parquet", place)


def test_a_source_without_the_models_columns_is_refused_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    rows().drop("delay").write_csv(tmp_path / "rows.csv")

    with pytest.raises(Exception, match="'delay'"):
        scored(home, tmp_path / "rows.csv", tmp_path / "out.csv")
    with pytest.raises(SourceError):
        scored(home, tmp_path / "nothing.csv", tmp_path / "out.csv")
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '[".mainspring", "rows.csv"]'
