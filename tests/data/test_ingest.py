"""From a source to versions: order, cursors, quarantine, labelled predictions, and nothing committed on error."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.core import declarations as ms
from mainspring.core.declarations import Roles
from mainspring.core.errors import (
    DeclarationError,
    DuplicateKeys,
    HomeDamaged,
    MainspringError,
    NotInStore,
    SchemaMismatch,
    SourceEmpty,
    SourceError,
    TooManyBadRows,
)
from mainspring.data import contract
from mainspring.data.files import Files
from mainspring.data.ingest import ingest, new_rows, position
from mainspring.data.versions import Versions
from mainspring.store.home import Home
from mainspring.store.records import FeedbackRecord, PredictionRecord, Records
from mainspring.store.tables import Table

ROLES = Roles("late", key="id")
ROWS = pl.DataFrame({"id": range(100), "delay": [i / 10 for i in range(100)], "late": [i % 3 == 0 for i in range(100)]})


def rows(home: Home, name: str = "rows") -> pl.DataFrame:
    return Table(home, "loop", name).read().drop("_prediction", strict=False)


class Database:
    """An airline's database that grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = ms.sql(str(path), "flights", cursor="seen")
        self.run("create table flights (id integer, seen integer, delay, late integer)")

    def run(self, sql: str, *parameters: Any) -> None:
        with sqlite3.connect(self.path) as connection:
            connection.execute(sql, parameters)
        connection.close()

    def add(self, start: int, stop: int, delay: Any = None) -> None:
        for number in range(start, stop):
            value = number / 10 if delay is None else delay
            self.run("insert into flights values (?, ?, ?, ?)", number, number, value, number % 3 == 0)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(tmp_path / "airline.db")


def label(home: Home, key: int | None, label: Any, *, identity: str = "", delay: float = 0.0) -> None:
    """A served prediction whose label came."""
    records, at = Records(home, "loop"), datetime(2020, 1, 1, tzinfo=UTC)
    row = {"delay": delay} if key is None else {"id": key, "delay": delay}
    record = PredictionRecord(id=identity or f"p-{key}", at=at, key=key, row=row)
    records.append([record])
    records.append_feedback([FeedbackRecord(id=record.id, label=label, at=at)])
    records.close()


class TestWholeSources:
    def test_the_first_version_keeps_the_rows_their_order_and_types(self, home: Home, ingested: Any) -> None:
        dataset = ingested(ms.frame(ROWS), ROLES)

        assert (dataset.version, dataset.rows, dataset.new_rows, dataset.notes) == (0, 100, 100, ())
        assert dataset.schema.names == ("id", "delay", "late")
        assert rows(home).equals(ROWS)
        assert contract.load(home, "loop") == dataset.schema

    def test_without_anything_new_the_value_is_the_same_and_nothing_is_committed(
        self, home: Home, ingested: Any, tmp_path: Path
    ) -> None:
        path = tmp_path / "rows.csv"
        ROWS.write_csv(path)
        first = ingested(ms.csv(str(path)), ROLES)
        path.touch()

        assert ingested(ms.csv(str(path)), ROLES) == first
        assert Table(home, "loop", "rows").version() == 0

    def test_rows_behind_those_known_are_appended_and_changed_ones_replace_all(self, home: Home, ingested: Any) -> None:
        ingested(ms.frame(ROWS.head(60)), ROLES)
        more = ingested(ms.frame(ROWS), ROLES)
        changed = ingested(ms.frame(ROWS.with_columns(delay=-pl.col("delay")).reverse()), ROLES)

        assert (more.version, more.new_rows, changed.version, changed.new_rows) == (1, 40, 2, 0)
        assert rows(home)["id"].to_list() == list(range(99, -1, -1))
        assert len({more.digest, changed.digest}) == 2

    def test_the_digest_depends_on_the_rows_and_not_on_when_they_came(self, tmp_path: Path) -> None:
        def digest(name: str, parts: list[int]) -> str:
            home = Home.open(tmp_path / name)
            return [ingest(source=ms.frame(ROWS.head(part)), roles=ROLES, home=home, loop="loop") for part in parts][
                -1
            ].digest

        assert digest("one", [100]) == digest("two", [20, 70, 100])

    def test_another_source_starts_over(self, home: Home, ingested: Any, tmp_path: Path) -> None:
        ROWS.head(50).write_csv(tmp_path / "a.csv")
        ROWS.slice(30).write_csv(tmp_path / "b.csv")
        ingested(ms.csv(str(tmp_path / "a.csv")), ROLES)
        ingested(ms.csv(str(tmp_path / "b.csv")), ROLES)

        assert rows(home)["id"].to_list() == list(range(30, 100))

    def test_text_of_the_contract_stays_text_when_a_file_has_only_digits(self, home: Home, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv"
        for codes in (["A1", "007"], ["008", "007"]):
            path.write_text("code,late\n" + "".join(f"{code},{i}\n" for i, code in enumerate(codes)))
            ingest(source=ms.csv(str(path)), roles=Roles("late"), home=home, loop="loop")

        assert rows(home)["code"].to_list() == ["008", "007"]

    def test_parts_of_a_function_are_united_and_progress_is_told(self, ingested: Any) -> None:
        told: list[tuple[str, int, int]] = []

        def parts() -> Iterator[pl.DataFrame]:
            yield ROWS.head(10)
            yield ROWS.slice(10).cast({"late": pl.Int8})

        with pytest.raises(SourceError, match=r"the parts of function .* don't fit.*give each column one type"):
            ingested(ms.source(lambda: iter([ROWS, ROWS.with_columns(late=pl.lit([1]))])), ROLES)
        dataset = ingested(ms.source(parts), ROLES, progress=lambda *what: told.append(what))

        assert dataset.rows == 100
        assert [done for _, done, _ in told] == [10, 100] and "parts" in told[0][0]

    def test_a_file_that_was_only_touched_is_read_once_more(
        self, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ROWS.write_csv(tmp_path / "rows.csv")
        source, read = ms.csv(str(tmp_path / "rows.csv")), []
        known = ingest(source=source, roles=ROLES, home=home, loop="loop")
        monkeypatch.setattr(Files, "_refuse_change", lambda self, stored: read.append(stored.name))
        os.utime(tmp_path / "rows.csv", (1, 1))

        assert [ingest(source=source, roles=ROLES, home=home, loop="loop") for _ in range(3)] == [known] * 3
        assert len(read) == 1 and new_rows(source, home, "loop") == 0
        assert [each.version for each in Versions(home, "loop").all()] == [0]


class TestCursors:
    def test_only_what_is_beyond_the_cursor_is_read_and_committed_with_it(
        self, home: Home, ingested: Any, database: Database
    ) -> None:
        database.add(0, 30)
        first = ingested(database.source, ROLES)
        database.run("delete from flights where id < 20")  # a second reading of the old rows would show
        database.add(30, 40)
        second = ingested(database.source, ROLES)

        assert (first.rows, second.rows, second.new_rows) == (30, 40, 10)
        assert rows(home)["id"].to_list() == list(range(40))
        assert ingested(database.source, ROLES) == second
        assert Table(home, "loop", "rows").metadata()["cursor"] == 39

    def test_a_row_that_comes_again_takes_the_old_ones_place(
        self, home: Home, ingested: Any, database: Database
    ) -> None:
        database.add(0, 30)
        ingested(database.source, ROLES)
        database.run("update flights set delay = -1, seen = 30 where id = 5")
        dataset = ingested(database.source, ROLES)

        assert (dataset.rows, dataset.new_rows, dataset.version) == (30, 0, 1)
        assert rows(home)["id"].to_list() == list(range(30)) and rows(home)["delay"][5] == -1

    def test_rows_set_aside_alone_move_the_cursor_without_a_version(
        self, home: Home, ingested: Any, database: Database
    ) -> None:
        database.add(0, 30)
        first = ingested(database.source, ROLES)
        database.add(30, 31, delay="oops")
        database.add(31, 40)
        database.run("delete from flights where id > 30")
        with pytest.raises(TooManyBadRows, match=r"1 of 2 rows .* 'oops' is no float"):  # row 29 comes again
            ingested(database.source, ROLES)
        database.run("delete from flights")
        database.run("insert into flights values (null, 41, 0.5, 1)")

        assert ingested(database.source, ROLES, max_bad=1) == first == ingested(database.source, ROLES)
        assert rows(home, "quarantine")["reason"].to_list() == ["column 'id' is empty but names the row"]
        assert new_rows(database.source, home, "loop") == 0

    def test_new_rows_are_counted_without_ingesting_them(self, home: Home, ingested: Any, database: Database) -> None:
        database.add(0, 30)
        assert new_rows(database.source, home, "loop") == 30
        ingested(database.source, ROLES)
        assert new_rows(database.source, home, "loop") == 0
        database.add(30, 37)
        assert new_rows(database.source, home, "loop") == 7

    def test_a_source_without_cursor_counts_the_rows_that_it_has_more(self, home: Home, ingested: Any) -> None:
        ingested(ms.frame(ROWS), Roles("late"))

        assert new_rows(ms.frame(ROWS), home, "loop") == 0
        assert new_rows(ms.frame(pl.concat([ROWS, ROWS])), home, "loop") == 100

    def test_the_position_changes_with_rows_and_with_labels(self, home: Home, database: Database) -> None:
        database.add(0, 3)
        positions = [position(database.source, home, "loop")]
        database.add(3, 4)
        positions.append(position(database.source, home, "loop"))
        label(home, 1, label=True)
        positions.append(position(database.source, home, "loop"))

        assert len({str(where) for where in positions}) == 3
        assert position(ms.source(lambda: ROWS), home, "loop") is None


@pytest.mark.parametrize(("prices", "told"), [("1.234;12.5", 0), ("1.234;1.127", 1), ("1.234;0.118", 0)])
def test_points_that_may_group_digits_in_a_file_of_semicolons_are_told(
    home: Home, tmp_path: Path, prices: str, told: int
) -> None:
    path, two = tmp_path / "prices.csv", prices.split(";")
    path.write_text("price;late\n" + "".join(f"{two[place % 2]};{place % 2}\n" for place in range(40)))

    dataset = ingest(source=ms.csv(str(path), separator=";"), roles=Roles("late"), home=home, loop="loop")

    said = "column 'price' is read as decimals such as 1.234; where the point groups digits, say decimal=','"
    assert [note.startswith(said) for note in dataset.notes] == [True] * told


class TestQuarantine:
    @pytest.mark.parametrize("marks", [1, 20])
    def test_a_few_whole_numbers_that_no_float_holds_are_mistakes_and_many_make_text(
        self, home: Home, tmp_path: Path, marks: int
    ) -> None:
        delays = [str(2**63 - 1) if n < marks else f"{n}.5" for n in range(100)]
        ROWS.with_columns(delay=pl.Series(delays)).write_csv(tmp_path / "rows.csv")

        dataset = ingest(source=ms.csv(str(tmp_path / "rows.csv")), roles=ROLES, home=home, loop="loop")

        assert str(dataset.schema["delay"].type) == ("float" if marks == 1 else "text")
        assert (dataset.rows, dataset.quarantined_rows) == ((99, 1) if marks == 1 else (100, 0))
        assert "column 'delay' is " in dataset.notes[0]

    def test_bad_rows_are_kept_with_reason_and_place_and_good_ones_used(self, home: Home, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv"
        text = ROWS.write_csv().replace("\n7,0.7,", "\n7,oops,").replace("\n9,", "\n,")
        path.write_text(text)

        dataset = ingest(source=ms.csv(str(path)), roles=ROLES, home=home, loop="loop")

        assert (dataset.rows, dataset.quarantined_rows) == (98, 2)
        assert rows(home, "quarantine").select("position", "reason").rows() == [
            ("row 8", "column 'delay': 'oops' is no float"),
            ("row 10", "column 'id' is empty but names the row"),
        ]
        assert '"oops"' in rows(home, "quarantine")["row"][0]
        assert dataset.notes[0] == "column 'delay' is read as float; 1 value such as 'oops' can't be"
        assert dataset.notes[-1].startswith("2 of 100 rows went to quarantine, the first because column 'delay'")

    def test_the_same_bad_rows_are_kept_once(self, home: Home, ingested: Any) -> None:
        bad = ROWS.with_columns(id=pl.when(pl.col("id") == 3).then(None).otherwise("id"))
        for source in (bad, bad, bad.head(90)):
            ingested(ms.frame(source), ROLES)

        assert rows(home, "quarantine").height == 1
        ingested(ms.frame(ROWS), ROLES)
        assert rows(home, "quarantine").height == 0

    def test_too_many_bad_rows_stop_before_anything_is_committed(self, home: Home, ingested: Any) -> None:
        bad = ROWS.with_columns(id=pl.when(pl.col("id") < 6).then(None).otherwise("id"))

        with pytest.raises(TooManyBadRows, match=r"6 of 100 rows of the frame .* more than 5 %: row 1: column 'id' is"):
            ingested(ms.frame(bad), ROLES)

        assert Table(home, "loop", "rows").version() is None is contract.load(home, "loop")
        assert Table(home, "loop", "quarantine").version() is None
        assert ingested(ms.frame(bad), ROLES, max_bad=0.06).rows == 94


class TestLabelledPredictions:
    def test_they_join_the_source_rows_once(self, home: Home, ingested: Any) -> None:
        label(home, 200, label=True, delay=9.5)
        first = ingested(ms.frame(ROWS), ROLES)
        label(home, 201, label=False, delay=0.5)
        second = ingested(ms.frame(ROWS), ROLES)

        assert (first.rows, first.new_rows, first.labelled_rows) == (101, 100, 1)
        assert (second.rows, second.new_rows, second.labelled_rows) == (102, 0, 1)
        assert rows(home).tail(2).rows() == [(200, 9.5, True), (201, 0.5, False)]
        assert ingested(ms.frame(ROWS), ROLES) == second

    def test_the_order_in_which_clients_asked_changes_no_version(self, home: Home, ingested: Any) -> None:
        for key in (203, 201, 202):
            label(home, key, label=True, delay=9.5)
        ingested(ms.frame(ROWS), ROLES)

        assert rows(home).tail(3)["id"].to_list() == [201, 202, 203]

    def test_a_corrected_label_takes_the_place_of_the_first(self, home: Home, ingested: Any) -> None:
        label(home, 200, label=True, delay=9.5)
        first = ingested(ms.frame(ROWS), ROLES)
        later = datetime(2020, 1, 2, tzinfo=UTC)
        Records(home, "loop").append_feedback([FeedbackRecord(id="p-200", label=False, at=later, corrects=True)])
        second = ingested(ms.frame(ROWS), ROLES)

        assert (first.rows, second.rows, second.labelled_rows) == (101, 101, 0) and second.digest != first.digest
        assert rows(home).tail(1).rows() == [(200, 9.5, False)]
        assert ingested(ms.frame(ROWS), ROLES) == second

    def test_the_source_wins_but_takes_a_label_that_it_lacks(self, home: Home, ingested: Any) -> None:
        label(home, 3, label=False, delay=-1.0)  # the source says True
        label(home, 5, label=True, delay=-1.0)  # the source doesn't know yet
        source = ROWS.with_columns(late=pl.when(pl.col("id") == 5).then(None).otherwise("late"))

        dataset = ingested(ms.frame(source), ROLES)

        assert (dataset.rows, dataset.labelled_rows) == (100, 0)
        assert rows(home).filter(pl.col("id").is_in([3, 5])).rows() == [(3, 0.3, True), (5, 0.5, True)]

    def test_a_labelled_row_gives_way_to_the_sources_own(self, home: Home, ingested: Any, database: Database) -> None:
        database.add(0, 20)
        label(home, 30, label=0, delay=-1.0)
        assert ingested(database.source, ROLES).rows == 21
        database.add(20, 31)

        dataset = ingested(database.source, ROLES)

        assert dataset.rows == 31
        assert rows(home)["delay"].to_list() == [i / 10 for i in range(31)]

    def test_without_a_key_each_prediction_is_a_row(self, home: Home, ingested: Any) -> None:
        for identity in ("p-1", "p-2"):
            label(home, None, label=True, identity=identity)
        roles = Roles("late", ignore=("id",))
        first = ingested(ms.frame(ROWS), roles)

        assert first.rows == 102 and rows(home)["id"].tail(2).to_list() == [None, None]
        assert ingested(ms.frame(ROWS), roles) == first

    def test_a_label_that_is_no_value_of_the_target_and_a_row_without_time_are_left_out(
        self, home: Home, ingested: Any
    ) -> None:
        label(home, 300, label="perhaps")
        source = ms.frame(ROWS.with_columns(at=pl.datetime(2020, 1, 1) + pl.duration(hours=pl.col("id"))))

        assert ingested(source, ROLES).rows == 100
        label(home, 301, label=True)
        assert ingested(source, Roles("late", key="id", time="at")).rows == 100


class TestFaults:
    @pytest.mark.parametrize(
        ("source", "roles", "error", "said"),
        [
            (ROWS.head(0), ROLES, SourceEmpty, "the frame has no rows, only a header: id, delay, late; give it some"),
            (ROWS, Roles("lat"), DeclarationError, "target='lat' is no column of the frame; did you mean 'late'"),
            (
                ROWS,
                Roles("late", key="number"),
                DeclarationError,
                "key='number' is no column .*the columns are id, delay",
            ),
            (ROWS, Roles("late", ignore=("delai",)), DeclarationError, "ignore='delai' is no .*did you mean 'delay'"),
            (
                pl.concat([ROWS, ROWS.head(2)]),
                ROLES,
                DuplicateKeys,
                r"2 keys in 'id' of the frame come more than once \(2 rows too many\), such as id 0 and id 1; .*time=",
            ),
            (
                ROWS.with_columns(Delay=1),
                ROLES,
                SchemaMismatch,
                "columns 'delay' and 'Delay' of the frame differ by upper",
            ),
            (ROWS.with_columns(_row=1), ROLES, SchemaMismatch, "column '_row' of the frame has a name that mainspring"),
        ],
    )
    def test_a_fault_is_one_line_and_commits_nothing(
        self, home: Home, ingested: Any, source: pl.DataFrame, roles: Roles, error: type[Exception], said: str
    ) -> None:
        with pytest.raises(error, match=said) as raised:
            ingested(ms.frame(source), roles)

        assert "\n" not in str(raised.value)
        assert Table(home, "loop", "rows").version() is None

    def test_a_key_may_repeat_at_other_times_only(self, ingested: Any) -> None:
        times = ROWS.with_columns(id=pl.lit(7), at=pl.datetime(2020, 1, 1) + pl.duration(hours=pl.col("id")))
        roles = Roles("late", key="id", time="at")

        with pytest.raises(DuplicateKeys, match=r"1 key in 'id' and 'at' .* such as id 7 with at 2020-01-01 00:00:00"):
            ingested(ms.frame(pl.concat([times, times.head(1)])), roles)
        assert ingested(ms.frame(times), roles).rows == 100

    def test_a_later_batch_of_another_shape_names_what_accepts_it(self, home: Home, ingested: Any) -> None:
        ingested(ms.frame(ROWS), ROLES)
        file = contract.path(home, "loop")
        with pytest.raises(
            SchemaMismatch, match=r"column 'delay' of the contract is gone.*mainspring schema loop accept"
        ):
            ingested(ms.frame(ROWS.drop("delay")), ROLES)
        with pytest.raises(
            SchemaMismatch, match=r"weight='w' is no column of the contract.*mainspring schema loop accept"
        ):
            ingested(ms.frame(ROWS.with_columns(w=1.0)), Roles("late", key="id", weight="w"))
        file.unlink()

        assert ingested(ms.frame(ROWS.drop("delay")), ROLES).schema.names == ("id", "late")

    def test_a_new_column_that_the_contract_leaves_out_may_be_named_like_another(self, ingested: Any) -> None:
        ingested(ms.frame(ROWS), ROLES)

        assert ingested(ms.frame(ROWS.with_columns(Delay=1)), ROLES).schema.names == ("id", "delay", "late")

    def test_rows_that_changed_on_disk_are_noticed(self, home: Home, ingested: Any) -> None:
        ingested(ms.frame(ROWS), ROLES)
        table = Table(home, "loop", "rows")
        table.replace(table.read().with_columns(delay=0.0), metadata=table.metadata())

        dataset = ingested(ms.frame(ROWS.with_columns(delay=1.0)), ROLES)
        table.replace(table.read().with_columns(delay=0.0), metadata=table.metadata())

        with pytest.raises(HomeDamaged, match=r"version 3 of .* isn't what was committed"):
            Versions(home, "loop").rows(ingested(ms.frame(ROWS.with_columns(delay=1.0)), ROLES))
        assert Versions(home, "loop").rows(dataset).height == 100


def test_rows_that_another_source_gives_again_stay_the_version_that_they_are(
    tmp_path: Path, database: Database, ingested: Any, home: Home
) -> None:
    database.add(0, 60)
    given = pl.DataFrame({"id": range(60), "seen": range(60), "delay": [n / 10 for n in range(60)]}).with_columns(
        late=(pl.col("id") % 3 == 0).cast(pl.Int64)
    )
    given.write_csv(tmp_path / "flights.csv")
    given.write_parquet(tmp_path / "flights.parquet")
    sources = [ms.csv(str(tmp_path / "flights.csv")), ms.parquet(str(tmp_path / "flights.parquet")), database.source]

    first, *others = [ingested(source, ROLES) for source in sources]
    listed = list(Versions(home, "loop").all())

    assert others == [first, first] and first.version == 0
    assert [(each.version, each.cursor, each.source) for each in listed] == [
        (0, 59, f"database {str(database.path)!r}")
    ]
    database.run("delete from flights where id < 30")  # a cursor that was lost would read the rest as all there is
    database.add(60, 70)
    assert new_rows(database.source, home, "loop") == 10
    grown = ingested(database.source, ROLES)
    assert (grown.rows, grown.new_rows) == (70, 10)
    assert (
        rows(home).head(60).equals(rows(home).filter(pl.col("id") < 60)) and ingested(None, ROLES, version=0) == first
    )
    assert [each.version for each in Versions(home, "loop").all()] == [grown.version, 0]
    with pytest.raises(NotInStore, match="loop has no data version 1; "):
        ingested(None, ROLES, version=1)


def test_a_number_is_no_time_by_which_rows_are_too_old(home: Home, ingested: Any) -> None:
    with pytest.raises(SchemaMismatch, match="time column 'id' is int64, not a time: how old a row is can't be told"):
        ingested(ms.frame(ROWS), Roles("late", time="id"), privacy=ms.Privacy(retention="1d"))

    assert list(Versions(home, "loop").all()) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=3), st.booleans()),
            st.one_of(st.none(), st.integers(-(2**70), 2**70), st.text(max_size=3)),
        ),
        max_size=8,
    )
)
def test_any_data_end_in_a_version_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[Any, Any]]
) -> None:
    home = Home.open(tmp_path_factory.mktemp("home") / ".mainspring")
    source = ms.frame(
        pl.DataFrame([pl.Series(n, v, strict=False) for n, v in zip("ab", zip(*values, strict=True), strict=False)])
    )

    try:
        dataset = ingest(source=source, roles=Roles("a"), home=home, loop="loop")
    except MainspringError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert dataset.rows + dataset.quarantined_rows == len(values)


def test_a_table_of_many_columns_is_described_as_often_as_one_of_few(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[pl.DataFrame] = []
    schema: property = vars(pl.DataFrame)["schema"]

    def seen(frame: pl.DataFrame) -> Any:
        described.append(frame)
        return schema.__get__(frame)

    monkeypatch.setattr(pl.DataFrame, "schema", property(seen))
    counts = []
    for width in (10, 300):
        described.clear()
        columns = {f"c{place}": ["a", "b"] if place % 2 else [place, 1] for place in range(width)}
        ingest(source=ms.frame(pl.DataFrame({**columns, "y": [0, 1]})), roles=Roles("y"), home=home, loop=f"of{width}")
        counts.append(len(described))

    assert counts[0] == counts[1]
