"""Rows that broke the contract: shown by reason, repaired, replayed once, whatever is interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import mainspring as ms
from mainspring.core.declarations import Roles
from mainspring.core.errors import DuplicateKeys, MainspringError, TooManyBadRows, UsageError
from mainspring.core.schema import Schema
from mainspring.core.values import Dataset
from mainspring.data import contract, ingest
from mainspring.data.quarantine import Quarantine, kind_of
from mainspring.data.repairs import Repairs
from mainspring.store.deployments import DECLARED, Deployments
from mainspring.store.home import Home
from mainspring.store.tables import Table

ROLES = Roles("late", key="id")
WRONG = {7: "1,5", 50: "2,5", 90: "far"}
Rows = Callable[[], pl.DataFrame]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    lines = [f"{n},{WRONG.get(n, n / 10)},{n % 2}" for n in range(100)]
    lines = [line if '"' in line or line.count(",") == 2 else _quoted(line) for line in lines]
    (tmp_path / "trips.csv").write_text("id,dist,late\n" + "\n".join(lines) + "\n")
    return tmp_path / "trips.csv"


def _quoted(line: str) -> str:
    first, *middle, last = line.split(",")
    return f'{first},"{",".join(middle)}",{last}'


@pytest.fixture
def load(home: Home, csv: Path) -> Callable[[], Dataset]:
    """Ingests the file under a contract that says float."""
    schema = Schema(tuple(contract.contract_file.parsed(
        "[columns.id]\ntype='integer'\n[columns.dist]\ntype='float'\n[columns.late]\ntype='integer'", "x"
    )))  # fmt: skip
    contract.save(home, "loop", schema)
    Deployments(home).save_state("loop", DECLARED, {"roles": {"target": "late", "key": "id", "time": None}})
    return lambda: ingest.ingest(source=ms.csv(str(csv)), roles=ROLES, home=home, loop="loop")


def rows(home: Home) -> dict[int, float]:
    return dict(Table(home, "loop", "rows").read(columns=["id", "dist"]).iter_rows())


def test_of_several_files_each_row_knows_its_own(home: Home, csv: Path, load: Any) -> None:
    folder = csv.parent / "months"
    folder.mkdir()
    for place, name in enumerate(("may", "june", "july")):
        lines = [f"{200 + place * 40 + n},{'far' if n == 3 else n},1" for n in range(0 if name == "june" else 40)]
        (folder / f"{name}.csv").write_text("\n".join(["id,dist,late", *lines]) + "\n")
    source = ms.csv(str(folder / "*.csv"))

    ingest.ingest(source=source, roles=ROLES, home=home, loop="loop")
    (folder / "later.csv").write_text(
        "id,dist,late\n900,1.5,0\n901,near,0\n" + "".join(f"{n},1,0\n" for n in range(99))
    )
    ingest.ingest(source=source, roles=ROLES, home=home, loop="loop")

    kept = [(Path(row.source).name, row.position) for row in Quarantine(home, "loop").rows()]
    assert kept == [("july.csv", "row 4"), ("may.csv", "row 4"), ("later.csv", "row 2")]
    contract.save(home, "loop2", contract.load(home, "loop") or Schema(()))
    with pytest.raises(TooManyBadRows, match=r"months/\*\.csv break .*: row 4 of .*july\.csv: column 'dist': 'far'"):
        ingest.ingest(source=source, roles=ROLES, home=home, loop="loop2", max_bad=0.001)


def test_rows_are_grouped_by_what_they_broke(home: Home, load: Any) -> None:
    load()

    (group,) = Quarantine(home, "loop").groups(examples=2)

    assert (group.reason, group.rows) == ("column 'dist' is no float", 3)
    assert [(row.position, row.row["dist"]) for row in group.examples] == [("row 8", "1,5"), ("row 51", "2,5")]


@pytest.mark.parametrize("value", ["' is no float", "a; column 'b': 'c", "'", "", "\n", "isn't"])
def test_a_reason_without_its_value_is_the_same_whatever_the_value(value: str) -> None:
    assert kind_of(f"column 'x': '{value}' is no float") == "column 'x' is no float" or "; column" in value


def test_a_repair_is_tried_before_it_is_replayed(home: Home, load: Any) -> None:
    before, quarantine = load(), Quarantine(home, "loop")

    tried = quarantine.mended(["dist=replace(dist, ',', '.')"])

    assert (len(tried.repairs), tried.left, tried.version) == (2, ("column 'dist': 'far' is no float",), None)
    assert len(quarantine.rows()) == 3 and len(rows(home)) == before.rows == 97


def test_replayed_rows_are_in_the_next_version_once_and_their_source_gives_them_mended(
    home: Home, csv: Path, load: Any
) -> None:
    load()
    quarantine, stood = Quarantine(home, "loop"), contract.stamp(home, "loop")

    done = quarantine.replay(["dist=replace(dist, ',', '.')"])

    assert done.version == Table(home, "loop", "rows").version()
    assert rows(home) == {n: {7: 1.5, 50: 2.5}.get(n, n / 10) for n in range(100) if n != 90}
    assert [row.row["id"] for row in quarantine.rows()] == [90]
    assert contract.stamp(home, "loop") != stood  # so that the next run takes it up
    assert Table(home, "loop", "rows").metadata()["run"] == "replay-0"
    assert not quarantine.replay(["dist=replace(dist, ',', '.')"]).repairs
    assert load().version == done.version

    csv.write_text(csv.read_text() + "100,10,1\n")
    again = load()
    assert (again.rows, again.quarantined_rows) == (100, 1) and rows(home)[7] == 1.5
    csv.write_text(csv.read_text().replace("\n1,0.1,1", "\n1,0.2,1"))
    assert (load().rows, rows(home)[1], rows(home)[50]) == (100, 0.2, 2.5)


def test_an_edited_file_is_taken_back(home: Home, tmp_path: Path, load: Any) -> None:
    load()
    quarantine, file = Quarantine(home, "loop"), tmp_path / "bad.csv"
    assert quarantine.write(file) == 3
    file.write_text(file.read_text().replace(",far,", ",88.5,"))

    done = quarantine.replay(edited=file)

    assert len(done.repairs) == 1 and rows(home)[90] == 88.5 and len(quarantine.rows()) == 2
    with pytest.raises(UsageError, match="which isn't in quarantine"):
        quarantine.replay(edited=file)


def test_a_contract_that_was_relaxed_lets_rows_back(home: Home, load: Any) -> None:
    schema = contract.load(home, "loop")
    assert schema is not None
    strict = [replace(column, maximum=9.0) if column.name == "dist" else column for column in schema]
    contract.save(home, "loop", replace(schema, columns=tuple(strict)))
    with pytest.raises(MainspringError, match="12 of 100 rows"):
        load()
    contract.save(home, "loop", replace(schema, columns=tuple(replace(c, maximum=9.8 if c.maximum else None)
                                                              for c in strict)))  # fmt: skip
    load()
    assert 99 not in rows(home)

    contract.save(home, "loop", schema)
    assert len(Quarantine(home, "loop").replay().repairs) == 1

    assert rows(home)[99] == 9.9


@pytest.mark.parametrize("where", ["commit", "_without"])
def test_an_interrupted_replay_is_finished_by_the_next(
    home: Home, load: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    load()
    fix, stop = ["dist=replace(dist, ',', '.')"], KeyboardInterrupt()

    def interrupted(*arguments: Any, **more: Any) -> None:
        raise stop

    with monkeypatch.context() as patched:
        target = (
            "mainspring.data.versions.Versions.commit"
            if where == "commit"
            else f"{Quarantine.__module__}.Quarantine.{where}"
        )
        patched.setattr(target, interrupted)
        with pytest.raises(KeyboardInterrupt):
            Quarantine(home, "loop").replay(fix)
    Quarantine(home, "loop").replay(fix)

    assert len(rows(home)) == Table(home, "loop", "rows").read().height == 99
    assert [row.row["id"] for row in Quarantine(home, "loop").rows()] == [90]


def test_a_row_whose_key_came_meanwhile_stays(home: Home, csv: Path, load: Any) -> None:
    load()
    edited = csv.with_name("bad.csv")
    Quarantine(home, "loop").write(edited)
    edited.write_text(edited.read_text().replace('7,"1,5"', '8,"1.5"').replace("90,far", "7,1.5"))

    done = Quarantine(home, "loop").replay(edited=edited)

    assert len(done.repairs) == 1 and "a row with its key is there already" in done.left and rows(home)[8] == 0.8
    edited.write_text(edited.read_text().replace('50,"2,5"', "200,1").replace('8,"1.5"', "200,2"))
    Quarantine(home, "loop").write(csv.with_name("left.csv"))
    left = csv.with_name("left.csv")
    left.write_text(left.read_text().replace('50,"2,5"', "200,1").replace('7,"1,5"', "200,2"))
    with pytest.raises(DuplicateKeys, match="1 key in 'id' of the rows to replay"):
        Quarantine(home, "loop").replay(edited=left)


@pytest.mark.parametrize(
    ("fix", "said"),
    [
        ("dist", "must be COLUMN=EXPRESSION"),
        ("dst=1", "no column 'dst'; the rows have id, dist and late"),
        ("dist=nothing(", "can't be computed"),
        ("dist=other + 1", "can't be computed"),
    ],
)
def test_a_repair_that_can_not_be_computed_is_named(home: Home, load: Any, fix: str, said: str) -> None:
    load()

    with pytest.raises(UsageError, match=said) as raised:
        Quarantine(home, "loop").mended([fix])
    assert "\n" not in str(raised.value)


def test_nothing_in_quarantine_is_nothing_to_replay(home: Home) -> None:
    contract.save(home, "loop", contract.contract_file.parsed("[columns.id]\ntype='integer'", "x"))

    assert Quarantine(home, "loop").groups() == [] and Quarantine(home, "loop").replay().repairs == ()
    assert Repairs(home, "loop").version() is None
