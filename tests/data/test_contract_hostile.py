"""Hostile rows end as good rows, rows in quarantine, or one line of an error: none is lost, none is there twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mainspring as ms
from mainspring.core import sources
from mainspring.core.declarations import Roles
from mainspring.core.errors import MainspringError
from mainspring.core.schema import Schema
from mainspring.core.values import Dataset
from mainspring.data import batches, contract
from mainspring.data.contract import contract_file
from mainspring.data.ingest import ingest
from mainspring.data.quarantine import Quarantine
from mainspring.store.home import Home
from mainspring.store.tables import Table

ROLES = Roles("y")
CONTRACT = "[columns.n]\ntype='integer'\n[columns.x]\ntype='float'\n[columns.y]\ntype='integer'"


def frozen(home: Home, text: str = CONTRACT) -> Schema:
    schema = contract_file.parsed(text, "x")
    contract.save(home, "loop", schema)
    return schema


def told(home: Home) -> tuple[set[int], set[int]]:
    """The numbers of the rows in the table and in quarantine, none of them twice."""
    good = Table(home, "loop", "rows").read(columns=["n"])["n"].to_list()
    bad = [int(row.row["n"]) for row in Quarantine(home, "loop").rows()]
    assert len(set(good)) == len(good) and len(set(bad)) == len(bad)
    return set(good), set(bad)


def load(home: Home, source: Any, max_bad: float = 0.2) -> Dataset:
    return ingest(source=source, roles=ROLES, home=home, loop="loop", max_bad=max_bad)


@pytest.mark.parametrize(
    ("value", "good"),
    [
        ("9223372036854775808", True), ("1e400", True), ("NaN", True), ("inf", True), ("-Infinity", False),
        ('"1,5"', False), ("0x1F", False), ("true", False), ('"a""b"', False), ('"\n"', False),
    ],
)  # fmt: skip
def test_each_odd_cell_is_a_number_missing_or_a_row_in_quarantine(
    home: Home, tmp_path: Path, value: str, good: bool
) -> None:
    lines = [f"{n},{value if n in (3, 40) else n / 2},{n % 2}" for n in range(50)]
    (tmp_path / "odd.csv").write_text("n,x,y\n" + "\n".join(lines) + "\n", encoding="utf-8")
    frozen(home)

    dataset = load(home, ms.csv(str(tmp_path / "odd.csv")))

    bad = set() if good else {3, 40}
    assert told(home) == (set(range(50)) - bad, bad) and dataset.quarantined_rows == len(bad)


def test_integers_beyond_64_bits_are_set_aside_whole(home: Home) -> None:
    values = [2**64 if n == 5 else -(2**63) if n == 6 else n for n in range(30)]
    frame = pl.DataFrame({"n": range(30), "big": [str(value) for value in values], "y": [0, 1] * 15})
    frozen(home, CONTRACT.replace("columns.x", "columns.big").replace("float", "integer"))

    load(home, ms.frame(frame))

    assert told(home) == (set(range(30)) - {5}, {5})
    assert Quarantine(home, "loop").rows()[0].row["big"] == str(2**64)
    assert Table(home, "loop", "rows").read(columns=["big"])["big"].min() == -(2**63)


def test_a_field_of_50_megabytes_is_kept_and_never_shown(home: Home, tmp_path: Path) -> None:
    huge = "z" * (50 << 20)
    lines = [f"{n},{huge if n == 7 else n / 2},{n % 2}" for n in range(20)]
    (tmp_path / "huge.csv").write_text("n,x,y\n" + "\n".join(lines) + "\n")
    frozen(home)

    dataset = load(home, ms.csv(str(tmp_path / "huge.csv")))

    (kept,) = Quarantine(home, "loop").rows()
    assert dataset.rows == 19 and len(kept.text) > 50 << 20 and len(kept.reason) < 200
    assert all(len(note) < 400 for note in dataset.notes)
    (tmp_path / "huge.csv").write_text("n,x,y\n" + "\n".join(lines) + "\n20,1,1\n")
    with pytest.raises(MainspringError) as raised:
        load(home, ms.csv(str(tmp_path / "huge.csv")), max_bad=0.0)
    assert len(str(raised.value)) < 600


def test_ten_thousand_columns_are_checked(home: Home) -> None:
    frame = pl.DataFrame({f"c{n}": range(40) for n in range(10_000)} | {"y": [0, 1] * 20, "n": range(40)})
    wrong = frame.with_columns(
        c77=pl.when(pl.col("n") == 9).then(pl.lit("oops")).otherwise(pl.col("c77").cast(pl.String))
    )

    schema = contract.infer(frame, ROLES)[0]
    checked = contract.check(wrong, schema, ROLES)

    assert checked.good["n"].to_list() == [n for n in range(40) if n != 9]
    assert checked.bad[contract.REASON].to_list() == ["column 'c77': 'oops' is no integer"]
    assert contract_file.parsed(contract_file.written(schema, "loop"), "x") == schema


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 64 rows."""
    monkeypatch.setattr(batches, "BATCH_ROWS", 64)


def parts(kinds: list[Any]) -> Iterator[pl.DataFrame]:
    for number, kind in enumerate(kinds):
        numbers = range(100 * number, 100 * number + 100)
        yield pl.DataFrame({"n": numbers, "y": [n % 2 for n in numbers], "x": [kind(n) for n in numbers]})


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (lambda n: n, lambda n: n + 0.5), (lambda n: n + 0.5, lambda n: n), (lambda n: None, lambda n: "a"),
        (lambda n: n, lambda n: "oops" if n % 50 == 0 else str(n)), (lambda n: "a", lambda n: n),
        (lambda n: "oops" if n % 50 == 3 else str(n), lambda n: str(n + 0.5)), (lambda n: n % 2 == 0, lambda n: n),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("small")
def test_a_schema_that_changes_in_mid_stream_loses_no_row(home: Home, first: Any, later: Any) -> None:
    dataset = load(home, sources.source(lambda: parts([first, first, later, first])))

    good, bad = told(home)
    assert good | bad == set(range(400)) and not good & bad
    assert (dataset.rows, dataset.quarantined_rows) == (len(good), len(bad))


@pytest.mark.usefixtures("small")
def test_bad_rows_of_an_earlier_batch_stay_when_a_later_one_widens_a_frozen_type(home: Home) -> None:
    frozen(home, CONTRACT.replace("float", "integer"))

    kinds = [lambda n: "oops" if n % 50 == 3 else str(n), lambda n: str(n + 0.5)]
    load(home, sources.source(lambda: parts(kinds)))

    assert told(home) == (set(range(200)) - {3, 53}, {3, 53})


cells = st.one_of(
    st.none(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=4), st.booleans(),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.sampled_from("ab"), st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(cells, min_size=1, max_size=30), st.booleans())
def test_any_json_rows_are_all_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], known: bool
) -> None:
    folder = tmp_path_factory.mktemp("json")
    home = Home.open(folder / ".mainspring")
    rows = [{"n": n, "x": n / 2, "y": n % 2} for n in range(40)]
    rows += [{"n": 40 + n, "x": value, "y": n % 2} for n, value in enumerate(values)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    if known:
        frozen(home)

    try:
        dataset = load(home, sources.json(str(folder / "rows.jsonl")), max_bad=1.0)
    except MainspringError as error:
        assert str(error) and "\n" not in str(error)
        assert Table(home, "loop", "rows").version() is None
    else:
        good, bad = told(home)
        assert good | bad == set(range(len(rows))) and dataset.rows + dataset.quarantined_rows == len(rows)
