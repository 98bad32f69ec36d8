"""Versioned tables: order, time travel, metadata, damage, digests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import HomeDamaged, NotInStore, Overtaken
from mainspring.store.home import Home
from mainspring.store.parts import Staging
from mainspring.store.tables import Table, digest

ROWS = pl.DataFrame(
    {
        "sepal length (cm)": [2, 1, None],
        "text; with {odd} = name": ["é", None, ""],
        "at": [datetime(2020, 1, 1), None, datetime(2021, 1, 1)],
        "day": [date(2020, 1, 1), None, None],
        "yes": [True, None, False],
        "x": [0.5, None, -1.0],
    }
)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(Home.open(tmp_path / ".mainspring"), "loop", "rows")


def test_rows_come_back_in_their_order_and_types_whatever_their_names(table: Table) -> None:
    table.append(ROWS, metadata={})
    table.append(ROWS.reverse(), metadata={})

    assert table.read().equals(pl.concat([ROWS, ROWS.reverse()]))


def test_every_version_keeps_its_rows_and_what_was_committed_with_them(table: Table) -> None:
    versions = [table.append(ROWS, metadata={"cursor": 3}), table.append(ROWS, metadata={"cursor": [6, "a"]})]
    versions.append(table.replace(ROWS.select("x"), metadata={"cursor": None}))

    assert versions == [0, 1, 2] and table.version() == 2
    assert [table.metadata(version)["cursor"] for version in versions] == [3, [6, "a"], None]
    assert table.metadata() == {"cursor": None}
    assert [table.read(version).shape for version in versions] == [(3, 6), (6, 6), (3, 1)]


def test_columns_can_be_chosen(table: Table) -> None:
    table.append(ROWS, metadata={})

    assert table.read(columns=["x"]).equals(ROWS.select("x"))


def test_a_commit_without_rows_is_a_version(table: Table) -> None:
    table.append(ROWS, metadata={})

    assert table.append(ROWS.head(0), metadata={"cursor": 9}) == 1
    assert table.read().height == 3 and table.metadata()["cursor"] == 9


def test_what_was_never_written_is_not_in_the_store(table: Table) -> None:
    assert table.version() is None
    with pytest.raises(NotInStore, match="no table in"):
        table.read()
    table.append(ROWS, metadata={})
    with pytest.raises(NotInStore, match="has no version 7; its newest is 0"):
        table.read(7)
    with pytest.raises(NotInStore, match="has no version 7"):
        table.metadata(7)


def test_a_damaged_table_is_named(table: Table) -> None:
    table.append(ROWS, metadata={})
    for file in table.path.glob("*.parquet"):
        file.write_bytes(b"no longer")

    with pytest.raises(HomeDamaged, match="can't be read"):
        table.read()


def test_a_damaged_log_is_named(table: Table) -> None:
    table.append(ROWS, metadata={})
    next((table.path / "_delta_log").glob("*.json")).write_text("{nonsense")

    with pytest.raises(HomeDamaged, match="can't be read"):
        table.metadata()


def test_a_digest_depends_on_values_names_types_and_order_only() -> None:
    parts = pl.concat([ROWS.head(1), ROWS.slice(1)], rechunk=False)
    others = [ROWS.reverse(), ROWS.rename({"x": "y"}), ROWS.with_columns(pl.col("x").cast(pl.Float32)), ROWS.head(2)]

    assert digest(parts) == digest(ROWS)
    assert len({digest(frame) for frame in [ROWS, *others]}) == 5


@given(st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=6), st.lists(st.text(max_size=3), max_size=6))
def test_different_texts_have_different_digests(one: list[str | None], two: list[str]) -> None:
    frames = [pl.DataFrame({"a": pl.Series(values, dtype=pl.String)}) for values in (one, two)]

    assert (digest(frames[0]) == digest(frames[1])) == (one == two)


def test_nulls_hide_no_values_and_nan_and_zero_have_one_form() -> None:
    hidden = pl.DataFrame({"x": pl.Series([1.0, 2.0]).set(pl.Series([True, False]), None)})

    assert digest(hidden) == digest(pl.DataFrame({"x": [None, 2.0]}))
    assert digest(pl.DataFrame({"x": [0.0, float("nan")]})) == digest(pl.DataFrame({"x": [-0.0, -float("nan")]}))
    assert digest(pl.DataFrame({"x": [2**70]})) != digest(pl.DataFrame({"x": [2**71]}))
    assert digest(pl.DataFrame({"x": [[1], [2]]})) != digest(pl.DataFrame({"x": [[1], [3]]}))


def _append(folder: Path, number: int) -> None:
    table = Table(Home(folder), "loop", "rows")
    for turn in range(4):
        table.append(pl.DataFrame({"writer": [number] * 3, "turn": [turn] * 3}), metadata={"writer": number})


def test_eight_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    folder = Home.open(tmp_path / ".mainspring").path
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(partial(_append, folder), range(8)))
    table = Table(Home(folder), "loop", "rows")
    rows = table.read()

    assert table.version() == 31 and rows.height == 96
    assert rows.group_by("writer", "turn").len()["len"].to_list() == [3] * 32
    numbers = pl.concat([part.read(["_row"]) for part in table.parts()])
    assert sorted(numbers["_row"]) == list(range(96))


def test_a_commit_on_a_version_that_is_not_the_newest_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    home = Home.open(tmp_path / ".mainspring")
    table = Table(home, "loop", "rows")
    table.append(ROWS, metadata={})
    table.append(ROWS, metadata={})
    with Staging(home) as staging:
        parts = staging.settled([staging.add(ROWS, 0)])
        with pytest.raises(Overtaken):
            table.commit(parts, table.columns(), base=0, metadata={})
        with pytest.raises(Overtaken):
            table.commit(parts, table.columns(), base=None, metadata={})
        assert table.commit(parts, table.columns(), base=1, metadata={"x": 1}) == 2

    assert table.read().equals(ROWS) and table.metadata() == {"x": 1}


def test_instants_may_come_to_a_table_that_had_none(table: Table) -> None:
    table.append(ROWS.select("x"), metadata={"first": True})
    version = table.replace(ROWS.select("x", "at"), metadata={"second": True})

    assert table.read()["at"].to_list() == ROWS["at"].to_list()
    assert table.metadata() == {"second": True} and table.version() == version
