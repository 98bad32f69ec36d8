"""Versioned tables: order, time travel, metadata, damage, digests."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import HomeDamaged, NotInStore
from mainspring.store.home import Home
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
