"""Files, queries, frames, functions and plug-ins as readers."""

from __future__ import annotations

import os
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from mainspring.core import declarations as ms
from mainspring.core.errors import SchemaMismatch, SourceEmpty, SourceError, SourceNotFound
from mainspring.data.sources import reader

ROWS = pl.DataFrame({"id": [1, 2, 3], "name": ["a", "b", None]})


def rows_of(source: Any, since: Any = None, **options: Any) -> pl.DataFrame:
    return pl.concat([part for part, _ in reader(source, **options).read(since)], how="diagonal_relaxed")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "air line.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table flights (id integer, at text, delay real)")
        connection.executemany(
            "insert into flights values (?, ?, ?)", [(i, f"2013-01-0{i}", i / 2) for i in range(1, 6)]
        )
    connection.close()
    return path


class TestFiles:
    def test_a_csv_file_is_read_with_pandas_marks_for_missing_values(self, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text("id,name\n1,NA\n2,\nnan,b\n")

        rows = rows_of(ms.csv(str(tmp_path / "rows.csv")))

        assert rows.rows() == [(1, None), (2, None), (None, "b")]

    @pytest.mark.parametrize("suffix", [".csv.zip", ".csv.gz", ".tsv"])
    def test_compressed_and_tab_separated_files_are_read(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"rows{suffix}"
        ROWS.to_pandas().to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")

        assert rows_of(ms.csv(str(path))).equals(ROWS)

    def test_other_encodings_are_read_and_wrong_ones_named(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv"
        path.write_bytes("id,name\n1,Zürich\n".encode("latin-1"))

        assert rows_of(ms.csv(str(path), encoding="latin-1"))["name"].to_list() == ["Zürich"]
        with pytest.raises(SourceError, match=r"rows.csv' can't be read: invalid utf-8.*encoding='latin-1'"):
            rows_of(ms.csv(str(path)))

    def test_numbers_that_turn_to_text_late_in_a_file_make_the_column_text(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv"
        path.write_text("id\n" + "1\n" * 10_001 + "late\n")

        assert rows_of(ms.csv(str(path)))["id"][-1] == "late"

    def test_columns_known_as_text_keep_leading_zeros(self, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text("code\n007\n")

        assert rows_of(ms.csv(str(tmp_path / "rows.csv")), text_columns=["code"])["code"].to_list() == ["007"]

    def test_a_glob_reads_files_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        for number in (2, 1):
            ROWS.with_columns(file=number).write_parquet(tmp_path / f"part-{number}.parquet")

        assert rows_of(ms.parquet(str(tmp_path / "part-*.parquet")))["file"].to_list() == [1, 1, 1, 2, 2, 2]

    def test_a_file_that_lacks_a_column_of_the_others_is_named(self, tmp_path: Path) -> None:
        ROWS.write_csv(tmp_path / "a.csv")
        ROWS.drop("name").write_csv(tmp_path / "b.csv")

        with pytest.raises(SchemaMismatch, match=r"b.csv' has no column 'name'"):
            rows_of(ms.csv(str(tmp_path / "*.csv")))

    def test_a_missing_file_is_named_with_what_lies_beside_it(self, tmp_path: Path) -> None:
        ROWS.write_csv(tmp_path / "rows.csv")

        with pytest.raises(SourceNotFound, match=r"no such file: '.*row.csv'; '.*' has rows.csv"):
            rows_of(ms.csv(str(tmp_path / "row.csv")))

    def test_a_folder_gives_the_files_of_its_kind(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFound, match=r"has no file that ends with .csv and .csv.gz; name its files"):
            rows_of(ms.csv(str(tmp_path)))
        (tmp_path / "2013" / "_tmp").mkdir(parents=True)
        for name in ("2013/b.csv", "2013/a.CSV", ".hidden.csv", "2013/_tmp/c.csv", "notes.txt"):
            (tmp_path / name).write_text(f"file\n{name}\n")

        assert rows_of(ms.csv(str(tmp_path)))["file"].to_list() == ["2013/a.CSV", "2013/b.csv"]

    def test_an_empty_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text("")

        with pytest.raises(SourceEmpty, match=r"rows.csv' is empty; it needs a header and rows"):
            rows_of(ms.csv(str(tmp_path / "rows.csv")))

    def test_another_separator_is_guessed_for_the_message(self, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text("id;name\n1;a\n")

        with pytest.raises(SourceError, match=r"one column, 'id;name'.*separator=';'"):
            rows_of(ms.csv(str(tmp_path / "rows.csv")))

    def test_a_row_with_too_many_fields_is_an_error_and_not_lost(self, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text("id,name\n1,a\n2,b,c\n")

        with pytest.raises(SourceError, match="a row has more fields than the header"):
            rows_of(ms.csv(str(tmp_path / "rows.csv")))

    def test_an_index_column_of_pandas_gets_its_name(self, tmp_path: Path) -> None:
        ROWS.to_pandas().to_csv(tmp_path / "rows.csv")

        assert rows_of(ms.csv(str(tmp_path / "rows.csv"))).columns == ["Unnamed: 0", "id", "name"]

    def test_an_archive_of_two_files_and_a_broken_one_are_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "two.csv.zip", "w") as archive:
            archive.writestr("a.csv", "x\n1\n")
            archive.writestr("b.csv", "x\n1\n")
        (tmp_path / "broken.csv.zip").write_text("no archive")

        with pytest.raises(SourceError, match=r"holds 2 files \(a.csv and b.csv\)"):
            rows_of(ms.csv(str(tmp_path / "two.csv.zip")))
        with pytest.raises(SourceError, match=r"broken.csv.zip' can't be read"):
            rows_of(ms.csv(str(tmp_path / "broken.csv.zip")))

    def test_what_is_no_parquet_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "rows.parquet").write_text("id,name\n1,a\n")

        with pytest.raises(SourceError, match=r"rows.parquet' can't be read"):
            rows_of(ms.parquet(str(tmp_path / "rows.parquet")))

    def test_the_position_changes_with_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.csv"
        ROWS.write_csv(path)
        before = reader(ms.csv(str(path))).position()
        with path.open("a") as file:
            file.write("4,d\n")

        assert reader(ms.csv(str(path))).position() != before


class TestQueries:
    @pytest.mark.parametrize("address", ["{}", "sqlite:///{}", "env:MS_TEST_DB", "file:{}.address"])
    def test_every_way_to_name_a_database_reads_it(
        self, database: Path, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MS_TEST_DB", f"sqlite:///{database}")
        Path(f"{database}.address").write_text(f"{database}\n")

        rows = rows_of(ms.sql(address.format(database), "flights"))

        assert rows["id"].to_list() == [1, 2, 3, 4, 5]

    def test_a_cursor_reads_only_what_is_beyond_it_in_its_order(self, database: Path) -> None:
        source = ms.sql(str(database), "select * from flights where delay > 0;", cursor="at")
        cursors = [cursor for _, cursor in reader(source).read(None)]
        with sqlite3.connect(database) as connection:
            connection.execute("insert into flights values (7, '2013-01-07', 1), (6, '2013-01-06', 1)")
        connection.close()

        assert cursors == ["2013-01-05"]
        assert rows_of(source, cursors[-1])["id"].to_list() == [6, 7]
        assert reader(source).position() == "2013-01-07"
        assert list(reader(source).read("2013-01-07")) == []

    def test_a_cursor_is_bound_and_never_part_of_the_query(self, database: Path) -> None:
        source = ms.sql(str(database), "flights", cursor="at")

        assert list(reader(source).read("' or 1=1 --")) != []
        assert sum(part.height for part, _ in reader(source).read("9' or 1=1 --")) == 0

    def test_without_a_cursor_the_file_tells_its_position(self, database: Path) -> None:
        source = ms.sql(str(database), "flights")
        before = reader(source).position()
        os.utime(database, ns=(1, 1))

        assert not reader(source).incremental
        assert reader(source).position() != before

    def test_sqlalchemy_reads_any_other_address_the_same_way(self, database: Path) -> None:
        query = "select id, at, ':x' as colon from flights where id < 5"
        source = ms.sql(f"sqlite+pysqlite:///{database}", query, cursor="id")

        assert rows_of(source, 2).rows() == [(3, "2013-01-03", ":x"), (4, "2013-01-04", ":x")]
        assert reader(source).position() == 4
        assert reader(ms.sql(f"sqlite+pysqlite:///{database}", query)).position() is None
        with pytest.raises(SourceError, match="no such table: arrivals"):
            rows_of(ms.sql(f"sqlite+pysqlite:///{database}", "arrivals"))

    def test_reading_never_makes_or_changes_a_database(self, database: Path, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFound, match="no such file"):
            rows_of(ms.sql(str(tmp_path / "none.db"), "flights"))
        with pytest.raises(SourceError, match=r"attempt to write a readonly|syntax error"):
            rows_of(ms.sql(str(database), "delete from flights"))

        assert not (tmp_path / "none.db").exists()
        assert rows_of(ms.sql(str(database), "flights")).height == 5

    @pytest.mark.parametrize(
        ("query", "cursor", "said"),
        [
            ("flight", None, r"has no table 'flight'; it has flights"),
            ("select speed from flights", None, r"fails: no such column: speed; correct it"),
            ("select * from flights where", None, r"fails: .*syntax error"),
            ("flights", "idx", r"cursor='idx' is no column of the query .* it gives id, at, delay"),
        ],
    )
    def test_a_wrong_query_is_explained(self, database: Path, query: str, cursor: str | None, said: str) -> None:
        with pytest.raises(SourceError, match=said):
            rows_of(ms.sql(str(database), query, cursor=cursor))

    def test_a_file_that_is_no_database_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "rows.db").write_text("id,name\n" * 500)

        with pytest.raises(SourceError, match=r"is no SQLite database; write ms.csv"):
            rows_of(ms.sql(str(tmp_path / "rows.db"), "flights"))

    def test_secrets_behind_a_reference_or_in_an_address_are_never_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MS_TEST_DB", "sqlite+pysqlite:////nowhere/s3cret/hunter22.db")
        (tmp_path / "address").write_text("postgresql+nodriver://user:hunter22@s3cret/db")
        told = []
        for address in ("env:MS_TEST_DB", f"file:{tmp_path}/address", "nosuch://user:hunter22@s3cret:1/db"):
            with pytest.raises(SourceError) as error:
                rows_of(ms.sql(address, "flights"))
            told.append(str(error.value))

        assert all("hunter22" not in text for text in told)
        assert all("s3cret" not in text for text in told[:2])
        assert "user:***@s3cret" in told[2]

    def test_an_unset_reference_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFound, match="environment variable 'MS_NOT_SET' of 'env:MS_NOT_SET' isn't set"):
            reader(ms.sql("env:MS_NOT_SET", "flights"))
        with pytest.raises(SourceNotFound, match="can't be read"):
            reader(ms.sql(f"file:{tmp_path}/none", "flights"))


class TestMemoryAndFunctions:
    @pytest.mark.parametrize("data", [ROWS, ROWS.lazy(), ROWS.to_pandas(), ROWS.to_arrow()])
    def test_frames_of_every_kind_are_the_same_rows(self, data: Any) -> None:
        source = ms.frame(data)

        assert rows_of(source).rows() == ROWS.rows()

    def test_equal_frames_have_equal_positions_and_others_not(self) -> None:
        one, same = reader(ms.frame(ROWS)).position(), reader(ms.frame(ROWS.clone())).position()

        assert one == same != reader(ms.frame(ROWS.reverse())).position()

    def test_a_named_index_of_pandas_is_a_column(self) -> None:
        frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="key"))

        assert rows_of(ms.frame(frame)).rows() == [("a", 1), ("b", 2)]

    def test_mixed_objects_become_text_for_the_contract_to_judge(self) -> None:
        assert rows_of(ms.frame(pd.DataFrame({"x": [1, "oops", 3]})))["x"].to_list() == ["1", "oops", "3"]

    def test_a_function_may_return_rows_or_yield_them_in_parts(self) -> None:
        def parts() -> Iterator[Any]:
            yield ROWS
            yield ROWS.to_arrow()
            yield [{"id": 4, "name": "d"}]

        assert rows_of(ms.source(lambda: ROWS.to_dicts())).equals(ROWS)
        assert rows_of(ms.source(parts))["id"].to_list() == [1, 2, 3, 1, 2, 3, 4]
        assert reader(ms.source(parts)).position() is None

    def test_a_function_that_fails_or_gives_no_rows_is_named(self) -> None:
        def broken() -> Any:
            raise RuntimeError("the service is down")

        with pytest.raises(SourceError, match=r"broken' raised RuntimeError: the service is down"):
            rows_of(ms.source(broken))
        with pytest.raises(SourceError, match=r"gave int that is no table of rows"):
            rows_of(ms.source(lambda: 3))

    def test_a_plug_in_needs_only_position_and_read(self) -> None:
        class Counter:
            def position(self) -> int:
                return 3

            def read(self, since: Any) -> Iterator[Any]:
                yield from pa.table({"id": list(range(since or 0, 3))}).to_batches()

        assert rows_of(Counter())["id"].to_list() == [0, 1, 2]
        assert rows_of(Counter(), since=2)["id"].to_list() == [2]
        assert reader(Counter()).incremental

    def test_what_is_no_source_is_refused(self) -> None:
        with pytest.raises(SourceError, match="data=3 is no source"):
            reader(3)
