"""Files, queries, frames, functions and plug-ins as readers."""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from mainspring.core import declarations as ms
from mainspring.core.errors import SchemaMismatch, SourceEmpty, SourceError, SourceNotFound
from mainspring.core.sources import json
from mainspring.data.sources import reader

ROWS = pl.DataFrame({"id": [1, 2, 3], "name": ["a", "b", None]})


def rows_of(source: Any, since: Any = None, **options: Any) -> pl.DataFrame:
    return pl.concat([part for part, _ in reader(source, **options).read(since)], how="diagonal_relaxed")


BIG = 2**53 + 1
"""No float holds it."""


def _csv(folder: Path, text: str, **how: Any) -> Any:
    (folder / "rows.csv").write_text(text)
    return ms.csv(str(folder / "rows.csv"), **how)


def _json(folder: Path) -> Any:
    (folder / "rows.jsonl").write_text(f'{{"x": {BIG}}}\n{{"x": 0.5}}\n')
    return json(str(folder / "rows.jsonl"))


def _sqlite(folder: Path) -> Any:
    with closing(sqlite3.connect(folder / "rows.db")) as database:
        database.execute("create table t (x)")
        database.executemany("insert into t values (?)", [(BIG,), (0.5,)])
        database.commit()
    return ms.sql(str(folder / "rows.db"), "t")


@pytest.mark.parametrize(
    "made",
    [
        lambda folder: _csv(folder, f"x,y\n{BIG},a\n0.5,b\n"),
        lambda folder: _csv(folder, f"x;y\n{BIG};a\n0,5;b\n", separator=";", decimal=","),
        _json,
        _sqlite,
        lambda folder: ms.source(lambda: [{"x": BIG}, {"x": 0.5}]),
        lambda folder: ms.source(pd.DataFrame({"x": pd.Series([BIG, 0.5], dtype=object)})),
    ],
    ids=["csv", "decimal comma", "json", "sqlite", "dicts", "pandas"],
)
def test_whole_numbers_that_no_float_holds_keep_their_digits_beside_fractions(made: Any, tmp_path: Path) -> None:
    assert rows_of(made(tmp_path))["x"].to_list() == [str(BIG), "0.5"]


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


class TestMemoryAndFunctions:
    @pytest.mark.parametrize("data", [ROWS, ROWS.lazy(), ROWS.to_pandas(), ROWS.to_arrow()])
    def test_frames_of_every_kind_are_the_same_rows(self, data: Any) -> None:
        source = ms.frame(data)

        assert rows_of(source).rows() == ROWS.rows()

    def test_equal_frames_have_equal_positions_and_others_not(self) -> None:
        one, same = reader(ms.frame(ROWS)).position(), reader(ms.frame(ROWS.clone())).position()

        assert one == same != reader(ms.frame(ROWS.reverse())).position()

    def test_a_column_of_mixed_objects_leaves_the_others_of_a_pandas_frame_as_they_are(self) -> None:
        index = pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["id", "part"])
        frame = pd.DataFrame({"mixed": [1, "x"], "n": pd.array([7, None], dtype="Int64")}, index=index)

        assert rows_of(ms.frame(frame)).rows() == [(1, "a", "1", 7), (2, "b", "x", None)]

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
        for wrong in (3, pd.Series([1, 2])):
            with pytest.raises(
                SourceError, match=r"gave (int that is no table of rows: give a|Series that .* it is one column)"
            ):
                rows_of(ms.source(lambda: wrong))  # noqa: B023

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
