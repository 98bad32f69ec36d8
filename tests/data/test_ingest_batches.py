"""Rows that come in many batches: the outcome is that of one batch, in bounded memory, whatever happens on the way."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core import declarations as ms
from mainspring.core.declarations import Roles
from mainspring.core.errors import DeclarationError, DuplicateKeys, MainspringError, SchemaMismatch, TooManyBadRows
from mainspring.data import batches
from mainspring.data.ingest import ingest
from mainspring.data.load import joined
from mainspring.data.versions import Versions
from mainspring.store import row_digest
from mainspring.store.home import Home
from mainspring.store.tables import Table

ROLES = Roles("late", key="id")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 10 to 20 rows, digested by 16."""
    monkeypatch.setattr(batches, "BATCH_ROWS", 10)
    monkeypatch.setattr(row_digest, "BLOCK", 16)


def rows(count: int = 100, start: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"id": range(start, start + count)}).with_columns(
        delay=pl.col("id") / 10, late=pl.col("id") % 3 == 0
    )


def parts(*frames: pl.DataFrame) -> Any:
    return ms.source(lambda: iter(frames))


def known(home: Home, name: str = "rows") -> pl.DataFrame:
    return Table(home, "loop", name).read().drop("_prediction", strict=False)


def texts(values: list[str], start: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"id": range(start, start + len(values)), "x": values, "late": [True] * len(values)})


@pytest.mark.usefixtures("small")
class TestManyBatches:
    def test_each_is_a_file_of_one_version_in_the_order_of_the_rows(self, home: Home, ingested: Any) -> None:
        dataset = ingested(ms.frame(rows()), ROLES)

        assert (dataset.version, dataset.rows) == (0, 100)
        assert len(Table(home, "loop", "rows").parts()) > 4
        assert known(home).equals(rows()) and Versions(home, "loop").rows(dataset).height == 100

    def test_the_digest_does_not_depend_on_the_batches(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = set()
        for size in (7, 10, 10_000):
            monkeypatch.setattr(batches, "BATCH_ROWS", size)
            home = Home.open(tmp_path / str(size))
            found.add(ingest(source=ms.frame(rows()), roles=ROLES, home=home, loop="loop").digest)

        assert len(found) == 1

    def test_a_key_that_repeats_in_another_batch_is_refused(self, home: Home, ingested: Any) -> None:
        with pytest.raises(
            DuplicateKeys, match=r"1 key in 'id' of the frame comes .* \(1 row too many\), such as id 3"
        ):
            ingested(ms.frame(pl.concat([rows(), rows(1, start=3)])), ROLES)

        assert Table(home, "loop", "rows").version() is None
        assert not list(home.folder("tmp").iterdir())

    def test_bad_rows_are_counted_over_all_and_keep_their_place(self, home: Home, ingested: Any) -> None:
        odd = rows().with_columns(id=pl.when(pl.col("id").is_in([33, 34, 35])).then(None).otherwise("id"))

        with pytest.raises(TooManyBadRows, match=r"3 of 100 rows of the frame .*: row 34: .*; row 35: .*; row 36:"):
            ingested(ms.frame(odd), ROLES, max_bad=0.02)
        dataset = ingested(ms.frame(odd), ROLES, max_bad=0.03)

        assert (dataset.rows, dataset.quarantined_rows) == (97, 3)
        assert known(home, "quarantine")["position"].to_list() == ["row 34", "row 35", "row 36"]
        assert dataset.notes[-1].startswith("3 of 100 rows went to quarantine, the first because column 'id' is empty")

    def test_rows_behind_the_known_ones_are_added_and_the_files_of_those_stay(self, home: Home, ingested: Any) -> None:
        ingested(ms.frame(rows(60)), ROLES)
        before = {part.path for part in Table(home, "loop", "rows").parts()}
        dataset = ingested(ms.frame(rows(95)), ROLES)

        assert (dataset.version, dataset.new_rows) == (1, 35)
        assert before < {part.path for part in Table(home, "loop", "rows").parts()}
        assert known(home).equals(rows(95))

    def test_one_changed_row_rewrites_one_file(self, home: Home, ingested: Any) -> None:
        class Growing:
            def __init__(self) -> None:
                self.given = [rows()]

            def position(self) -> int:
                return len(self.given)

            def read(self, since: Any) -> Iterator[pl.DataFrame]:
                yield from self.given[since or 0 :]

        source = Growing()
        ingested(source, ROLES)
        before = {part.path for part in Table(home, "loop", "rows").parts()}
        source.given.append(rows(3, start=40).with_columns(delay=pl.lit(-1.0)))
        dataset = ingested(source, ROLES)
        after = {part.path for part in Table(home, "loop", "rows").parts()}

        assert (dataset.rows, dataset.new_rows, len(before - after)) == (100, 0, 1)
        assert known(home)["delay"].round(1).to_list()[39:44] == [3.9, -1, -1, -1, 4.3]
        assert Versions(home, "loop").rows(dataset).height == 100
        source.given.append(rows(1, start=42).with_columns(delay=pl.lit(-1.0)))
        assert ingested(source, ROLES) == dataset


@pytest.mark.usefixtures("small")
class TestTypesThatTurnOutWider:
    def test_integers_become_floats_in_all_rows(self, home: Home, ingested: Any) -> None:
        whole = rows(50).with_columns(delay=pl.col("id"))
        dataset = ingested(parts(whole, rows(50, start=50)), ROLES)

        assert str(dataset.schema["delay"].type) == "float" and dataset.schema["delay"].high == 49
        assert Versions(home, "loop").rows(dataset).height == 100
        assert known(home)["delay"].round(1).to_list() == [*range(50), *(i / 10 for i in range(50, 100))]

    @pytest.mark.parametrize("numbers", [(2**53 + 1, 0.5), (0.5, 2**53 + 1)])
    def test_numbers_that_a_float_would_round_become_text(self, numbers: Any, home: Home, ingested: Any) -> None:
        frames = [texts([""] * 30, at).with_columns(x=pl.lit(n)) for at, n in zip((0, 30), numbers, strict=True)]
        dataset = ingested(parts(*frames), ROLES)

        assert known(home)["x"].unique(maintain_order=True).to_list() == list(map(str, numbers))
        assert "column 'x' is taken as text: it has fractions, and whole numbers that no float holds" in dataset.notes

    def test_a_column_that_looks_personal_stays_so(self, home: Home, ingested: Any) -> None:
        mails = texts([f"anna{n}@example.org" for n in range(20)])
        dataset = ingested(parts(mails, mails.with_columns(x=pl.col("id"), id=pl.col("id") + 20)), ROLES)

        assert (str(dataset.schema["x"].type), dataset.schema["x"].personal) == ("text", True)

    def test_dates_that_were_text_become_text_as_it_was(self, home: Home, ingested: Any) -> None:
        days = [f"2013-01-{day:02}" for day in range(1, 31)]
        source = parts(texts(days), texts(["soon"] * 20, start=30))
        dataset = ingested(source, ROLES)

        assert str(dataset.schema["x"].type) == "text"
        assert known(home)["x"].to_list() == [*days, *["soon"] * 20]

    def test_dates_become_instants(self, home: Home, ingested: Any) -> None:
        days, moments = ["2013-01-01"] * 20, ["2013-01-02T10:00:00"] * 20
        ingested(parts(texts(days), texts(moments, start=20)), ROLES)

        assert known(home)["x"].dt.hour().to_list() == [*[0] * 20, *[10] * 20]

    def test_a_column_without_a_value_at_first_gets_the_type_of_its_first_ones(self, home: Home, ingested: Any) -> None:
        nothing = texts(["a"] * 20).with_columns(x=pl.lit(None))
        dataset = ingested(parts(nothing, texts(["b"] * 20, start=20)), ROLES)

        assert dataset.schema["x"].levels == ("b",) and dataset.schema["x"].nullable
        assert known(home)["x"].to_list() == [*[None] * 20, *["b"] * 20]

    def test_a_column_to_ignore_may_come_later_and_one_that_never_comes_is_refused(self, ingested: Any) -> None:
        frames = (rows(20), rows(20, start=20).with_columns(wind=1.5))

        with pytest.raises(DeclarationError, match=r"ignore='wynd' is no column of .*did you mean 'wind'"):
            ingested(parts(*frames), Roles("late", key="id", ignore=("wynd",)))
        assert ingested(parts(*frames), Roles("late", key="id", ignore=("wind",))).rows == 40

    def test_a_column_that_comes_later_or_is_left_out_for_a_while_is_missing_there(
        self, home: Home, ingested: Any
    ) -> None:
        ingested(parts(rows(20), rows(20, start=20).with_columns(wind=1.5), rows(20, start=40)), ROLES)

        assert known(home)["wind"].to_list() == [*[None] * 20, *[1.5] * 20, *[None] * 20]

    def test_codes_of_a_csv_file_that_look_like_numbers_at_first_stay_as_they_are_written(
        self, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mainspring.data.stored.BLOCK_BYTES", 200)
        codes = [*["1.50"] * 60, "n/k-7"] * 3
        path = tmp_path / "rows.csv"
        path.write_text("id,x,late\n" + "".join(f"{i},{code},{i % 2}\n" for i, code in enumerate(codes)))
        ingest(source=ms.csv(str(path)), roles=ROLES, home=home, loop="loop", max_bad=0.001)

        assert known(home)["x"].to_list() == codes

    def test_a_row_is_judged_by_the_contract_of_all(self, home: Home, ingested: Any) -> None:
        numbers = [str(i) for i in range(1, 40)]
        source = parts(texts([*numbers[:19], "oops"]), texts(["2.5"] * 20, start=20))
        dataset = ingested(source, ROLES, max_bad=0.06)

        assert str(dataset.schema["x"].type) in ("float", "text")
        assert dataset.rows + dataset.quarantined_rows == 40
        assert set(known(home)["id"]) | {19} == set(range(40))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(range(5)), st.integers(1, 25)), min_size=1, max_size=6), st.randoms())
def test_no_row_is_lost_whatever_the_types_of_the_parts(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, int]], chance: random.Random
) -> None:
    kinds: list[Any] = [
        lambda: chance.randint(-9, 9), lambda: chance.random(), lambda: chance.random() < 0.5, lambda: None,
        lambda: chance.choice(["a", "7", "007", "2013-01-01", "2013-01-01T10:00:00", "1.5"]),
    ]  # fmt: skip
    frames, start = [], 0
    for kind, count in shapes:
        values = pl.Series("x", [kinds[kind]() for _ in range(count)], strict=False)
        numbers = range(start, start + count)
        frames.append(pl.DataFrame({"id": numbers, "x": values, "late": [i % 2 for i in numbers]}))
        start += count
    home = Home.open(tmp_path_factory.mktemp("home") / ".mainspring")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batches, "BATCH_ROWS", 5)
        try:
            dataset = ingest(source=parts(*frames), roles=ROLES, home=home, loop="loop", max_bad=1.0)
        except SchemaMismatch as error:
            assert "\n" not in str(error)
            return
    good = known(home)
    assert good.height == dataset.rows and dataset.rows + dataset.quarantined_rows == start
    given = {number: value for frame in frames for number, value in zip(frame["id"], frame["x"], strict=True)}
    for number, value in good.select("id", "x").rows():
        assert (value is None) == (given[number] is None), (number, value, given[number])


def test_the_join_of_two_contracts_holds_the_rows_of_both() -> None:
    from mainspring.core.schema import Column, Schema, Type

    one = Schema((Column("x", Type.INTEGER, False, 1, 2), Column("y", Type.TEXT, levels=("a",))))
    two = Schema((Column("x", Type.FLOAT, True, 0.5, 1.5), Column("z", Type.BOOLEAN, False)))
    both = joined(one, two)

    assert both["x"] == Column("x", Type.FLOAT, True, 0.5, 2)
    assert both["y"].nullable and both["z"].nullable


LOADING = """
import sys
from pathlib import Path
from mainspring.core import declarations as ms
from mainspring.data import batches
from mainspring.data.ingest import ingest
from mainspring.store.home import Home
batches.BATCH_ROWS = 20_000
home = Home.open(Path(sys.argv[1]))
print("started", flush=True)
ingest(source=ms.sql(sys.argv[2], "flights", cursor="id"), roles=ms.Roles("late", key="id"), home=home, loop="loop")
"""


def test_a_load_that_is_killed_leaves_the_last_version_and_the_next_goes_on(tmp_path: Path) -> None:
    import sqlite3

    database, folder = tmp_path / "airline.db", tmp_path / ".mainspring"
    home = Home.open(folder)
    with sqlite3.connect(database) as connection:
        connection.execute("create table flights (id integer primary key, delay real, late integer)")
        connection.execute(
            "with recursive n(i) as (select 0 union all select i + 1 from n where i < 199999) "
            "insert into flights select i, i / 10.0, i % 2 from n"
        )
    connection.close()
    chance, kills = random.Random(7), 0
    for _ in range(6):
        child = subprocess.Popen([sys.executable, "-c", LOADING, str(folder), str(database)], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.5))
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.wait()
        child.stdout.close()
        version = Versions(home, "loop").newest()
        if version is not None:
            dataset = Versions(home, "loop").pinned(version)
            assert Versions(home, "loop").rows(dataset).height == 200_000
    subprocess.run([sys.executable, "-c", LOADING, str(folder), str(database)], check=True, stdout=subprocess.DEVNULL)

    assert kills and known(home)["id"].to_list() == list(range(200_000))
    assert Versions(home, "loop").newest() == 0


def test_runs_of_one_loop_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    import sqlite3

    home, database = Home.open(tmp_path / ".mainspring"), tmp_path / "airline.db"

    def run(statement: str) -> None:
        with sqlite3.connect(database) as connection:
            connection.execute(statement)
        connection.close()

    run("create table flights (id integer, late integer)")
    for start in (0, 50):
        run(f"insert into flights values {', '.join(f'({i}, {i % 2})' for i in range(start, start + 50))}")
        source = ms.sql(str(database), "flights", cursor="id")
        work = partial(ingest, source=source, roles=Roles("late"), home=home, loop="loop")
        with ThreadPoolExecutor(8) as pool:
            made = [future.result() for future in [pool.submit(work) for _ in range(8)]]
        assert {dataset.version for dataset in made} == {start // 50}
        assert known(home)["id"].to_list() == list(range(start + 50))


def test_a_first_load_that_fails_leaves_nothing(home: Home, ingested: Any) -> None:
    def broken() -> Iterator[pl.DataFrame]:
        yield rows(300_000)
        raise RuntimeError("the line is cut")

    with pytest.raises(MainspringError, match="the line is cut"):
        ingested(ms.source(broken), ROLES)

    assert Versions(home, "loop").newest() is None and not list(home.folder("tmp").iterdir())
    assert not list(home.folder("tables").glob("loop/rows/*"))
