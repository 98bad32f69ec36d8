"""Files of every kind: dialects, nested columns, hostile content, and only new files on the next run."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import sqlite3
import sys
import zipfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core import sources as ms
from mainspring.core.declarations import Roles
from mainspring.core.errors import DeclarationError, SourceEmpty, SourceError, SourceNotFound
from mainspring.data import csv_rows, stored
from mainspring.data.ingest import ingest
from mainspring.data.sources import beyond, reader
from mainspring.pipeline.fingerprint import digest
from mainspring.store.home import Home

ROWS = pl.DataFrame({"id": [1, 2, 3], "name": ["a", "Zürich", None], "at": [0.5, None, 2.25]})


def rows_of(source: Any, since: Any = None, **options: Any) -> pl.DataFrame:
    return pl.concat([part for part, _ in reader(source, **options).read(since)], how="diagonal_relaxed")


def end_of(source: Any) -> Any:
    return [cursor for _, cursor in reader(source).read(None)][-1]


def csv_of(folder: Path, content: str | bytes, **dialect: Any) -> pl.DataFrame:
    path = folder / "rows.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return rows_of(ms.csv(str(path), **dialect))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few rows are read in many parts, as large ones are."""
    monkeypatch.setattr(stored, "BLOCK_BYTES", 64)
    monkeypatch.setattr(csv_rows, "_INFERRED_BYTES", 48)


class TestDialects:
    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
    def test_encodings_are_read_and_a_mark_of_the_byte_order_tells_its_own(self, tmp_path: Path, encoding: str) -> None:
        marked = encoding in ("utf-8-sig", "utf-16")

        rows = csv_of(tmp_path, "id,name\n1,Zürich\n".encode(encoding), **{} if marked else {"encoding": encoding})

        assert rows.rows() == [(1, "Zürich")] and rows.columns == ["id", "name"]

    @pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst", "zip"])
    def test_packed_files_are_known_by_their_bytes(self, tmp_path: Path, suffix: str) -> None:
        content, path = ROWS.write_csv().encode(), tmp_path / "rows.csv.renamed"
        packers = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
        if suffix == "zst":
            with pa.CompressedOutputStream(str(path), "zstd") as file:
                file.write(content)
        elif suffix == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("rows.csv", content)
        else:
            path.write_bytes(packers[suffix](content))

        assert rows_of(ms.csv(str(path))).equals(ROWS)

    @pytest.mark.parametrize("suffix", ["gz", "bz2", "xz", "zst"])
    def test_a_packed_file_that_was_cut_off_is_an_error_and_no_subset(self, tmp_path: Path, suffix: str) -> None:
        content, path = b"id\n" + b"".join(b"%d\n" % n for n in range(50_000)), tmp_path / f"rows.csv.{suffix}"
        if suffix == "zst":
            with pa.CompressedOutputStream(str(path), "zstd") as file:
                file.write(content)
        else:
            path.write_bytes({"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[suffix](content))
        os.truncate(path, path.stat().st_size // 2)

        with pytest.raises(SourceError, match=r"can't be read"):
            rows_of(ms.csv(str(path)))

    @pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
    def test_the_separator_is_found_where_that_is_asked_for(self, tmp_path: Path, mark: str) -> None:
        lines = [["id", "a,b;c", "x"], ["1", "p|q", "2"], ["3", "\t,;", "4"]]
        content = "\n".join(mark.join(f'"{field}"' for field in line) for line in lines)

        assert csv_of(tmp_path, content, separator="auto").rows() == [(1, "p|q", 2), (3, "\t,;", 4)]

    def test_decimal_and_thousands_signs_are_read(self, tmp_path: Path) -> None:
        content = 'n;x;code;flag\n1.234;1.000,5;007;true\n5;-0,25;012;false\n12;"1.234.567,125";100;true\n'

        rows = csv_of(tmp_path, content, separator=";", decimal=",", thousands=".")

        assert rows.rows() == [
            (1234, 1000.5, "007", True), (5, -0.25, "012", False), (12, 1234567.125, "100", True)
        ]  # fmt: skip
        assert csv_of(tmp_path, "n\n1'000\n2'500'000\n", thousands="'")["n"].to_list() == [1000, 2_500_000]
        assert csv_of(tmp_path, "v\n1.2.3\n4.5.6\n", thousands=",")["v"].to_list() == ["1.2.3", "4.5.6"]

    def test_a_number_that_isnt_one_stays_for_the_contract_to_judge(self, tmp_path: Path) -> None:
        rows = csv_of(tmp_path, 'x\n"1,5"\n"2,5"\noops\n', decimal=",")

        assert rows["x"].to_list() == ["1.5", "2.5", "oops"]

    def test_dates_are_read_as_they_are_told_to_be_written(self, tmp_path: Path) -> None:
        content = "day,at,note\n31.12.2013,2013-01-31 05:15,x\n01.02.2013,2013-02-01 23:59,y\n"

        everywhere = csv_of(tmp_path, content, dates="%d.%m.%Y")
        told = csv_of(tmp_path, content, dates={"day": "%d.%m.%Y", "at": "%Y-%m-%d %H:%M"})

        assert everywhere.schema["day"] == pl.Date and everywhere.schema["at"] == pl.String
        assert told.select(pl.col("day", "at").dt.to_string("iso")).rows()[0] == (
            "2013-12-31", "2013-01-31 05:15:00.000000"
        )  # fmt: skip
        with pytest.raises(
            SourceError, match=r"column 'at' of .* has 2 values such as '2013-01-31 05:15', which aren't"
        ):
            csv_of(tmp_path, content, dates={"at": "%d/%m/%Y"})
        with pytest.raises(SourceError, match=r"dates= names column 'when', .* it has day, at, note"):
            csv_of(tmp_path, content, dates={"when": "%d/%m/%Y"})

    @pytest.mark.parametrize(
        ("cells", "dialect", "said"),
        [
            (["1,5", "999", "-1.234"], {"decimal": ","}, "1 value such as '-1.234'.* say thousands='.' where"),
            (["1.234"], {"decimal": ","}, "1 value such as '1.234', which aren't numbers by decimal=','"),
            (
                ["1,5", "2.345,5", "1.2345"],
                {"decimal": ",", "thousands": "."},
                "'1.2345', .* thousands='.' but .* mend",
            ),
            (["31.12.2020", "12.01.2020", "24.12.2020"], {"dates": {"a": "%m.%d.%Y"}}, "2 values .*'31.12.2020'"),
            (["31.12.70", "01.02.71"], {"dates": {"a": "%d.%m.%Y"}}, "2 values such as '31.12.70', which aren't"),
        ],
    )
    def test_what_would_be_read_as_another_value_is_refused(
        self, tmp_path: Path, cells: list[str], dialect: Any, said: str
    ) -> None:
        with pytest.raises(SourceError, match=said):
            csv_of(tmp_path, "a;b\n" + "".join(f"{cell};x\n" for cell in cells), separator=";", **dialect)

    def test_text_that_a_contract_knows_is_no_number_of_a_dialect(self, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text("a;version\n1,5;1.234\n2,5;1.235\n")

        rows = rows_of(ms.csv(f"{tmp_path}/rows.csv", separator=";", decimal=","), text_columns=["version"])

        assert rows.rows() == [(1.5, "1.234"), (2.5, "1.235")]

    def test_a_date_here_and_there_that_isnt_written_as_told_stays_for_the_contract_to_judge(
        self, tmp_path: Path
    ) -> None:
        rows = csv_of(tmp_path, "at\n" + "01/02/2020\n" * 3 + "01/31/2020\n", dates="%d/%m/%Y")

        assert rows["at"].to_list() == ["2020-02-01"] * 3 + ["01/31/2020"]

    def test_without_quotes_a_quote_is_a_character(self, tmp_path: Path) -> None:
        assert csv_of(tmp_path, 'id,size\n1,5"\n2,"7\n', quote="").rows() == [(1, '5"'), (2, '"7')]

    @pytest.mark.parametrize(
        "wrong", [{"separator": ";;"}, {"quote": "''"}, {"decimal": ";"}, {"decimal": ",", "thousands": ","}]
    )
    def test_a_dialect_that_makes_no_sense_is_refused_when_it_is_declared(self, wrong: Any) -> None:
        with pytest.raises(DeclarationError):
            ms.csv("rows.csv", **wrong)


class TestPartsOfLargeFiles:
    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_a_file_read_in_parts_has_the_rows_that_it_has_as_a_whole(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        cell = st.text(st.sampled_from('ab,"\n\r 0é'), max_size=6)
        rows = data.draw(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), cell), min_size=1, max_size=60))
        path = tmp_path_factory.mktemp("rows") / "rows.csv"
        quoted = ['{},"{}"'.format(number, text.replace('"', '""')) for number, text in rows]
        path.write_bytes(("n,text\n" + "\n".join(quoted) + "\n").encode())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stored, "BLOCK_BYTES", data.draw(st.integers(8, 200)))
            patch.setattr(csv_rows, "_INFERRED_BYTES", 40)
            found = rows_of(ms.csv(str(path)))

        assert found["n"].to_list() == [number for number, _ in rows]
        assert found.height == len(rows)
        texts = found["text"].to_list() if found.schema["text"] == pl.String else None
        assert texts is None or texts == [text or None for _, text in rows]

    def test_a_type_that_turns_out_too_narrow_is_widened_for_the_rest(self, tmp_path: Path, small_blocks: None) -> None:
        numbers = [*map(str, range(40)), "40.5", *map(str, range(41, 60)), "late", "NA", "007"]
        content = "n,m,empty\n" + "".join(
            f"{n},{place},{'x' if place > 50 else ''}\n" for place, n in enumerate(numbers)
        )

        rows = csv_of(tmp_path, content)

        assert [float(value) for value in rows["n"].to_list()[:60]] == [float(n) for n in numbers[:60]]
        assert rows["n"].to_list()[60:] == ["late", None, "007"]
        assert rows["m"].to_list() == list(range(63)) and rows["empty"].null_count() == 51

    def test_codes_are_text_from_the_first_one_on(self, tmp_path: Path, small_blocks: None) -> None:
        codes = [*map(str, range(100, 150)), "007", "8"]

        assert csv_of(tmp_path, "zip\n" + "\n".join(codes) + "\n")["zip"].to_list() == codes

    def test_missing_values_are_missing_in_every_part(self, tmp_path: Path, small_blocks: None) -> None:
        content = "n,x,s\n" + "".join(f"{i},{i}.5,w{i}\n" for i in range(30)) + "NA,nan,null\nNone,n/a,\n"

        assert csv_of(tmp_path, content).tail(2).rows() == [(None, None, None)] * 2


class TestHostileCsv:
    def test_quotes_line_feeds_and_separators_inside_fields_are_kept(self, tmp_path: Path, small_blocks: None) -> None:
        random.seed(3)
        texts = ["".join(random.choices('a",\n\r;é', k=random.randint(1, 90))) + "." for _ in range(200)]
        content = 'id,"the ""text"""\r\n' + "".join(
            '{},"{}"\r\n'.format(place, text.replace('"', '""')) for place, text in enumerate(texts)
        )

        rows = csv_of(tmp_path, content)

        assert rows.columns == ["id", 'the "text"'] and rows['the "text"'].to_list() == texts

    @pytest.mark.parametrize("rows", ["1,a,x\n2", '1,a,x\n2,"b,c"', "1,a,x\n" * 40 + "3,b"])
    def test_a_last_row_that_was_cut_off_is_an_error(self, tmp_path: Path, small_blocks: None, rows: str) -> None:
        with pytest.raises(SourceError, match=r"ends within a row: the last has \d fields? of 3; run again"):
            csv_of(tmp_path, "id,name,more\n" + rows)
        assert csv_of(tmp_path, f"id,name,more\n{rows}\n").height == rows.count("\n") + 1
        assert csv_of(tmp_path, 'id,name,more\n1,a,"x,\ny"').height == 1

    def test_nul_bytes_stay_in_their_fields(self, tmp_path: Path) -> None:
        assert csv_of(tmp_path, b"id,name\n1,a\x00b\n2,\x00\n").rows() == [(1, "a\x00b"), (2, "\x00")]

    def test_mixed_encodings_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"rows.csv' can't be read: invalid utf-8"):
            csv_of(tmp_path, "id,name\n1,Zürich\n".encode() + "2,Genève\n".encode("latin-1"))

    def test_ten_thousand_columns_are_read(self, tmp_path: Path) -> None:
        names = [f"column {place}" for place in range(10_000)]
        content = ",".join(names) + "\n" + "\n".join([",".join(map(str, range(10_000)))] * 3)

        rows = csv_of(tmp_path, content)

        assert rows.shape == (3, 10_000) and rows.columns == names and rows.row(2) == tuple(range(10_000))

    def test_a_field_of_fifty_megabytes_is_one_field(self, tmp_path: Path) -> None:
        long = "line\n" * (10 << 20)

        rows = csv_of(tmp_path, f'id,text\n1,"{long}"\n2,short\n')

        assert rows["text"].to_list() == [long, "short"]

    def test_a_quote_that_never_closes_is_named_before_memory_ends(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stored, "MOST_BYTES_OF_A_ROW", 1 << 20)
        monkeypatch.setattr(stored, "BLOCK_BYTES", 1 << 18)

        with pytest.raises(SourceError, match=r"a row of more than 1 MB; a quote seems never to be closed"):
            csv_of(tmp_path, 'id,text\n1,"open\n' + "2,row\n" * 400_000)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "is empty"),
            (b"\n\n", "is empty"),
            (b"id,id\n1,2\n", "column 'id' twice"),
            (b"id,name\n1,a,b\n", "more fields than the header"),
            (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xd8", "can't be read"),
            (b"ARROW1\x00\x00rest", "is an Arrow file"),
        ],
    )
    def test_what_is_no_csv_file_is_named(self, tmp_path: Path, content: bytes, said: str) -> None:
        with pytest.raises(SourceError, match=said):
            csv_of(tmp_path, content)

    @given(st.binary(max_size=300))
    @settings(max_examples=150, deadline=None)
    def test_any_bytes_give_rows_or_a_source_error(
        self, tmp_path_factory: pytest.TempPathFactory, content: bytes
    ) -> None:
        path = tmp_path_factory.mktemp("bytes") / "rows"
        path.write_bytes(content)
        for declare in (ms.csv, ms.json, ms.parquet, ms.arrow, ms.excel):
            try:
                rows_of(declare(str(path)))
            except SourceError as error:
                assert "\n" not in str(error)


class TestJson:
    def test_lines_are_flattened_by_the_rule(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_text(
            '{"id": 1, "a": {"b": {"c": 2.5}}, "tags": ["x", {"y": 1}]}\n\n{"id": 2, "a": null, "late": true}\n'
        )

        rows = rows_of(ms.json(str(path)))

        assert rows.columns == ["id", "a_b_c", "tags", "a", "late"]
        assert rows.rows() == [(1, 2.5, '["x",{"y":1}]', None, None), (2, None, None, None, True)]

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    def test_a_document_has_its_rows_where_it_is_told(self, tmp_path: Path, encoding: str) -> None:
        (tmp_path / "rows.json").write_text(
            json.dumps({"data": {"items": [{"id": 1, "city": "Zürich"}]}}, indent=1, ensure_ascii=False), encoding
        )

        assert rows_of(ms.json(str(tmp_path / "rows.json"), rows="data.items")).rows() == [(1, "Zürich")]
        with pytest.raises(SourceError, match=r"nothing at 'data.rows': no 'rows', it has 'items'"):
            rows_of(ms.json(str(tmp_path / "rows.json"), rows="data.rows"))
        with pytest.raises(SourceError, match=r"has no list of rows; its keys are 'data'; say where it is"):
            rows_of(ms.json(str(tmp_path / "rows.json")))

    def test_lines_and_a_list_of_the_same_objects_are_the_same_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mainspring.data.json_rows._LINES_BYTES", 100)
        objects = [{"id": n, "x": n / 7, "s": "é" * n, "o": {"k": [n]}} for n in range(50)]
        (tmp_path / "a.json").write_text(json.dumps(objects))
        (tmp_path / "b.jsonl").write_text("\n".join(json.dumps(each, ensure_ascii=False) for each in objects))

        assert rows_of(ms.json(str(tmp_path / "a.json"))).equals(rows_of(ms.json(str(tmp_path / "b.jsonl"))))

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ('{"id": 1, "id": 2}', r"key 'id' comes twice"),
            ('{"id": NaN}', r"NaN is no number of JSON"),
            ('{"id": -Infinity}', r"-Infinity is no number"),
            ('{"id": 1e999}', r"too large for a number"),
            ('{"id": 1', r"isn't JSON"),
            ("[1, 2]", r"is a list, not an object"),
            ("3", r"is a number, not an object"),
            ('{"a": {"b": 1}, "a_b": 2}', r"'a.b' and 'a_b', which both make column 'a_b'"),
            ('{"a":' * 100_000 + "1" + "}" * 100_000, r"nested too deeply"),
            ('{"a": ' + "9" * 5000 + "}", r"isn't JSON"),
        ],
    )
    def test_hostile_lines_are_named_by_their_number(self, tmp_path: Path, line: str, said: str) -> None:
        path = tmp_path / "rows.jsonl"
        path.write_text(f'{{"id": 0}}\n{line}\n')

        with pytest.raises(SourceError, match=said) as error:
            rows_of(ms.json(str(path)))

        assert "line 2 of" in str(error.value) or "both make" in said
        assert len(str(error.value)) < 500

    def test_mixed_kinds_and_huge_integers_become_exact_text(self, tmp_path: Path) -> None:
        path = tmp_path / "rows.jsonl"
        values = [1, "one", True, None, 2**70, 1.5, [1]]
        path.write_text("\n".join(json.dumps({"mixed": value, "huge": 2**64 + n}) for n, value in enumerate(values)))

        rows = rows_of(ms.json(str(path)))

        assert rows["mixed"].to_list() == ["1", "one", "true", None, str(2**70), "1.5", "[1]"]
        assert rows["huge"].to_list() == [str(2**64 + n) for n in range(7)]

    def test_empty_files_and_lists_are_told_apart_from_faults(self, tmp_path: Path) -> None:
        (tmp_path / "none.json").write_text(" \n")
        (tmp_path / "list.json").write_text("[]")

        with pytest.raises(SourceEmpty, match="is empty; it needs rows"):
            rows_of(ms.json(str(tmp_path / "none.json")))
        assert rows_of(ms.json(str(tmp_path / "list.json"))).height == 0


class TestColumnFiles:
    def test_nested_columns_follow_the_rule_of_json(self, tmp_path: Path) -> None:
        frame = pl.DataFrame({"id": [1, 2], "a": [{"b": 1, "c": [1, 2]}, {"b": None, "c": []}]})
        frame.write_parquet(tmp_path / "rows.parquet")
        frame.write_ipc(tmp_path / "rows.arrow")

        for source in (ms.parquet(str(tmp_path / "rows.parquet")), ms.arrow(str(tmp_path / "rows.arrow"))):
            assert rows_of(source).rows() == [(1, 1, "[1,2]"), (2, None, "[]")]
            assert rows_of(source).columns == ["id", "a_b", "a_c"]

    def test_arrow_files_and_streams_are_read_batch_by_batch(self, tmp_path: Path) -> None:
        with (tmp_path / "rows.arrows").open("wb") as file, pa.ipc.new_stream(file, ROWS.to_arrow().schema) as writer:
            writer.write_table(ROWS.to_arrow(), max_chunksize=2)
        ROWS.write_ipc(tmp_path / "rows.arrow")

        assert [part.height for part, _ in reader(ms.arrow(str(tmp_path / "rows.arrows"))).read(None)] == [2, 1]
        assert rows_of(ms.arrow(str(tmp_path / "rows.arrow"))).equals(ROWS)

    def test_an_arrow_stream_that_was_cut_between_two_batches_is_an_error(self, tmp_path: Path) -> None:
        path, table = tmp_path / "rows.arrow", ROWS.to_arrow()
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            for _ in range(3):
                stream.write_table(table)
        content = path.read_bytes()
        reading = pa.BufferReader(content)
        pa.ipc.open_stream(reading).read_next_batch()

        for end in (reading.tell(), len(content) - 8):
            path.write_bytes(content[:end])
            with pytest.raises(SourceError, match="ends without the mark that ends an Arrow stream: it was cut off"):
                rows_of(ms.arrow(str(path)))

    def test_a_large_parquet_file_comes_in_batches_and_an_empty_one_with_its_columns(self, tmp_path: Path) -> None:
        pl.DataFrame({"n": np.arange(600_000)}).write_parquet(tmp_path / "large.parquet")
        ROWS.head(0).write_parquet(tmp_path / "empty.parquet")

        parts = [part for part, _ in reader(ms.parquet(str(tmp_path / "large.parquet"))).read(None)]

        assert len(parts) > 2 and pl.concat(parts)["n"].to_list() == list(range(600_000))
        assert rows_of(ms.parquet(str(tmp_path / "empty.parquet"))).schema == ROWS.schema

    def test_a_date_in_the_first_row_of_a_sheet_is_a_name(self, tmp_path: Path) -> None:
        with xlsxwriter.Workbook(tmp_path / "rows.xlsx") as book:
            sheet = book.add_worksheet()
            dates = book.add_format({"num_format": "yyyy-mm-dd"})
            for column, day in ((0, 1), (1, 2), (2, 2)):
                sheet.write_datetime(2, column, datetime(2024, 1, day), dates)
            sheet.write_row(2, 3, [2023, "y", "", True])
            sheet.write_row(3, 0, range(1, 8))

        names = rows_of(ms.excel(str(tmp_path / "rows.xlsx"))).columns
        assert names == ["2024-01-01", "2024-01-02", "__UNNAMED__2", "2023", "y", "__UNNAMED__5", "true"]

    def test_sheets_of_excel_are_read_by_name(self, tmp_path: Path) -> None:
        import xlsxwriter

        with xlsxwriter.Workbook(tmp_path / "rows.xlsx") as book:
            ROWS.write_excel(book, "first")
            pl.DataFrame({"zip": ["007", None, "8001"], "n": [1.5, None, 2.5]}).write_excel(book, "second")

        first = rows_of(ms.excel(str(tmp_path / "rows.xlsx")))
        second = rows_of(ms.excel(str(tmp_path / "rows.xlsx"), sheet="second"), text_columns=["zip", "gone"])

        assert first.select("id", "name", "at").rows() == ROWS.rows() and first.schema["id"] == pl.Int64
        assert second.rows() == [("007", 1.5), ("8001", 2.5)]
        with pytest.raises(SourceError, match=r"has no sheet 'third'; it has 'first', 'second'"):
            rows_of(ms.excel(str(tmp_path / "rows.xlsx"), sheet="third"))

    def test_without_the_extra_the_message_names_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "rows.xlsx").write_bytes(b"PK")
        monkeypatch.setitem(sys.modules, "fastexcel", None)

        with pytest.raises(SourceError, match=r"pip install 'mainspring\[excel\]'"):
            rows_of(ms.excel(str(tmp_path / "rows.xlsx")))


class TestOnlyNewFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for month in (1, 2):
            pl.DataFrame({"month": [month] * 3, "n": [1, 2, 3]}).write_csv(tmp_path / f"2013-{month:02}.csv")
        return tmp_path

    @pytest.mark.parametrize("declared", ["", "/*.csv"])
    def test_a_new_file_alone_is_read(self, folder: Path, declared: str) -> None:
        source = ms.csv(f"{folder}{declared}")
        cursor = json.loads(json.dumps(end_of(source)))
        before = reader(source).position()
        assert beyond(reader(source), cursor) == cursor
        assert list(reader(source).read(cursor)) == []

        pl.DataFrame({"month": [3], "n": [1]}).write_csv(folder / "2013-03.csv")

        assert beyond(reader(source), cursor) == cursor and reader(source).position() != before
        assert rows_of(source, cursor)["month"].to_list() == [3]

    @pytest.mark.parametrize("change", ["grow", "replace", "remove"])
    def test_a_file_that_was_changed_or_removed_has_all_read_again(self, folder: Path, change: str) -> None:
        source = ms.csv(str(folder))
        cursor = end_of(source)
        file = folder / "2013-01.csv"
        if change == "grow":
            with file.open("a") as opened:
                opened.write("1,4\n")
        elif change == "replace":
            os.utime(file, ns=(1, 1))
        else:
            file.unlink()

        assert beyond(reader(source), cursor) is None

    def test_the_cursor_names_only_files_that_were_read_to_their_end(self, folder: Path, small_blocks: None) -> None:
        pl.DataFrame({"month": [3] * 100, "n": range(100)}).write_csv(folder / "2013-03.csv")
        told = [(part["month"][0], len(cursor)) for part, cursor in reader(ms.csv(str(folder))).read(None)]

        assert told[0] == (1, 1) and told[1] == (2, 2)
        assert {files for month, files in told[2:-1]} == {2} and told[-1] == (3, 3) and len(told) > 4

    def test_a_file_that_changes_while_it_is_read_is_refused(self, folder: Path, small_blocks: None) -> None:
        pl.DataFrame({"month": [1] * 100, "n": range(100)}).write_csv(folder / "2013-01.csv")
        parts = reader(ms.csv(str(folder))).read(None)
        next(parts)
        with (folder / "2013-01.csv").open("a") as file:
            file.write("1,4\n")

        with pytest.raises(SourceError, match=r"2013-01.csv' was changed while it was read; run again"):
            list(parts)

    def test_folders_that_name_a_value_are_columns(self, tmp_path: Path) -> None:
        for year, month, start in ((2013, "01", 1), (2013, "02", 4), (2014, "a%20b", 7)):
            folder = tmp_path / "run=7" / f"year={year}" / f"month={month}"
            folder.mkdir(parents=True)
            ROWS.with_columns(pl.col("id") + start - 1).write_parquet(folder / "rows.parquet")
        source = ms.parquet(f"{tmp_path}/run=7")
        cursor = end_of(source)
        found = rows_of(source)

        assert found.columns == [*ROWS.columns, "year", "month"]
        assert found.select("id", "year", "month").rows()[::3] == [(1, 2013, "01"), (4, 2013, "02"), (7, 2014, "a b")]
        assert rows_of(ms.parquet(f"{tmp_path}/run=*/year=2013/**/*.parquet"))["run"].to_list() == [7] * 6
        assert rows_of(source, text_columns=["year"])["year"][0] == "2013"
        folder = tmp_path / "run=7" / "year=__HIVE_DEFAULT_PARTITION__" / "month=03"
        folder.mkdir(parents=True)
        ROWS.with_columns(year=pl.lit(1)).write_parquet(folder / "rows.parquet")
        assert rows_of(source, beyond(reader(source), cursor)).select("year", "month").rows() == [(1, "03")] * 3

    def test_another_dialect_is_another_source(self) -> None:
        same, other = reader(ms.csv("rows.csv")).identity, reader(ms.csv("rows.csv", decimal=",")).identity

        assert reader(ms.csv("rows.csv", separator=",")).identity == same == ["CsvSource", "rows.csv"] != other
        assert json.loads(json.dumps(other)) == other


@pytest.mark.parametrize("line", ["\n", "\r\n"])
def test_a_blank_line_is_no_row(tmp_path: Path, line: str) -> None:
    rows = csv_of(tmp_path, line.join(["id,x,word", "1,2,a", "", "2,3,b", "", ""]))
    assert rows.rows() == [(1, 2, "a"), (2, 3, "b")]
    assert csv_of(tmp_path, "x\n1\n\n3\n")["x"].to_list() == [1, None, 3]  # the only column may have gaps


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_lines_may_end_with_carriage_returns_alone_in_any_unicode(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "old.csv").write_bytes("id,word\r1,Ü\r2,b\r".encode(encoding))
    rows = pl.concat([part for part, _ in reader(ms.csv(str(tmp_path / "old.csv"))).read(None)])
    assert rows.rows() == [(1, "Ü"), (2, "b")]


@pytest.mark.parametrize("row", ['1,5" pipe', '1,"5', '1,"a"b'])
def test_a_stray_quote_is_named_as_such(tmp_path: Path, row: str) -> None:
    with pytest.raises(SourceError, match=r"a quote within a value, or one that is never closed; .* say quote=''"):
        csv_of(tmp_path, f"id,word\n{row}\n2,b\n")


@pytest.mark.parametrize("content", ['[{"x": "\\ud800"}]', '[{"\\udfff": 1}]'])
def test_half_a_character_in_json_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "half.json").write_text(content)
    with pytest.raises(SourceError, match=r"half.json' holds '.ud(800|fff)', which is no character"):
        rows_of(ms.json(str(tmp_path / "half.json")))


class TestWherever:
    """The same project counts the same from whatever folder it is run, and wherever it lies."""

    @pytest.mark.parametrize("named", ["data/year=2013/rows.csv", "data", "data/*/*.csv", "./data/../data/**", "."])
    def test_a_relative_path_is_the_same_rows_from_another_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
    ) -> None:
        home, places = Home.open(tmp_path / "home"), [tmp_path / "a [b]", tmp_path / "moved"]
        (places[0] / "data/year=2013").mkdir(parents=True)
        ROWS.write_csv(places[0] / "data/year=2013/rows.csv")
        monkeypatch.chdir(places[0])
        declared = [ms.csv(named)]
        there = reader(declared[0])
        told = [there.position()]
        rows = rows_of(declared[0])
        done = ingest(source=declared[0], roles=Roles("name", key="id"), home=home, loop="a")
        monkeypatch.chdir(tmp_path)
        for before, place in zip([None, places[0]], places, strict=True):
            if before is not None:
                before.rename(place)
            declared.append(replace(declared[0], folder=str(place)))
            told.append(reader(declared[-1]).position())
            assert rows_of(declared[-1]).equals(rows) and ("year" in rows.columns) == ("=" not in named)
            assert ingest(source=declared[-1], roles=Roles("name", key="id"), home=home, loop="a") == done
            assert reader(declared[-1]).identity == there.identity and beyond(reader(declared[-1]), told[0]) == told[0]

        assert told[0] == told[1] == told[2] and len({digest(source) for source in declared}) == 1
        os.utime(places[1] / "data/year=2013/rows.csv", (1, 1))
        assert reader(declared[-1]).position() != told[0]

    def test_a_database_in_a_file_is_the_same_from_another_folder(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        with sqlite3.connect(tmp_path / "in/shop.db") as database:
            database.execute("create table wines (id)")
        declared = ms.sql("sqlite:///in/shop.db", "wines")
        told = []
        for place in (tmp_path, tmp_path / "moved"):
            if place.name == "moved":
                place.mkdir()
                (tmp_path / "in").rename(place / "in")
            there = reader(replace(declared, folder=str(place)))
            told.append((there.position(), there.identity))
            with pytest.raises(SourceNotFound, match=f"{tmp_path}/gone/in/shop.db"):
                reader(replace(declared, folder=str(tmp_path / "gone"))).position()

        assert told[0] == told[1] and told[0][0][0][0] == "in/shop.db"
