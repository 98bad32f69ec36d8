"""Delta and Iceberg tables as sources: of what only grew, only new rows."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from mainspring.core import sources as ms
from mainspring.core.errors import SourceError, SourceNotFound
from mainspring.data.sources import beyond, reader

ROWS = pl.DataFrame({"id": [1, 2, 3], "month": ["01", "01", "02"], "a": [{"b": 1}, {"b": 2}, {"b": None}]})


def rows_of(source: Any, since: Any = None) -> pl.DataFrame:
    return pl.concat([part for part, _ in reader(source).read(since)], how="diagonal_relaxed")


class TestDelta:
    @pytest.fixture(params=["table", "Zürich's table 100%"])
    def table(self, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
        path = tmp_path / request.param
        write_deltalake(path, ROWS, partition_by=["month"])
        return path

    def test_rows_are_read_with_their_partitions_and_records_flat(self, table: Path) -> None:
        found = rows_of(ms.delta(str(table))).sort("id")

        assert found.select("id", "month", "a_b").rows() == [(1, "01", 1), (2, "01", 2), (3, "02", None)]

    def test_after_an_append_only_its_rows_are_read(self, table: Path) -> None:
        source = ms.delta(str(table))
        before = reader(source).position()
        cursor = json.loads(json.dumps([cursor for _, cursor in reader(source).read(None)][-1]))
        assert cursor == before == reader(source).position()
        assert beyond(reader(source), cursor) == cursor and rows_of(source, cursor).height == 0

        write_deltalake(table, ROWS.with_columns(pl.col("id") + 10), mode="append")

        assert reader(source).position() != before and beyond(reader(source), cursor) == cursor
        assert sorted(rows_of(source, cursor)["id"].to_list()) == [11, 12, 13]

    def test_after_a_deletion_or_another_table_all_is_read(self, table: Path) -> None:
        source = ms.delta(str(table))
        cursor = [cursor for _, cursor in reader(source).read(None)][-1]
        DeltaTable(table).delete("id = 1")
        assert beyond(reader(source), cursor) is None and rows_of(source).height == 2

        write_deltalake(table, ROWS, mode="overwrite")
        assert beyond(reader(source), cursor) is None

    def test_what_is_no_table_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFound, match=r"no such folder: .*none.; give the folder of a Delta table"):
            reader(ms.delta(f"{tmp_path}/none")).position()
        with pytest.raises(SourceNotFound, match="holds no Delta table"):
            reader(ms.delta(str(tmp_path))).position()

    def test_a_damaged_table_is_named(self, table: Path) -> None:
        for file in table.rglob("*.parquet"):
            file.write_bytes(b"PAR1")
        with pytest.raises(SourceError, match="can't be read"):
            rows_of(ms.delta(str(table)))


class TestIceberg:
    @pytest.fixture
    def catalog(self, tmp_path: Path) -> Any:
        from pyiceberg.catalog.sql import SqlCatalog

        catalog = SqlCatalog("own", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=tmp_path.as_uri())
        catalog.create_namespace("air")
        yield catalog
        catalog.close()

    def test_the_newest_snapshot_is_read(self, tmp_path: Path, catalog: Any) -> None:
        table = catalog.create_table("air.flights", schema=ROWS.to_arrow().schema)
        table.append(ROWS.to_arrow())
        folder = table.location().removeprefix("file://")
        source = ms.iceberg(folder)
        before = reader(source).position()
        assert rows_of(source).select("id", "a_b").rows() == [(1, 1), (2, 2), (3, None)]
        assert rows_of(ms.iceberg(table.metadata_location)).height == 3

        table.append(ROWS.to_arrow())

        assert reader(source).position() != before and beyond(reader(source), before) is None
        assert rows_of(source).height == 6

    def test_a_column_renamed_without_a_new_snapshot_is_noticed(self, catalog: Any) -> None:
        table = catalog.create_table("air.flights", schema=ROWS.to_arrow().schema)
        table.append(ROWS.to_arrow())
        source = ms.iceberg(table.location().removeprefix("file://"))
        before = reader(source).position()

        with table.update_schema() as schema:
            schema.rename_column("month", "mon")

        assert reader(source).position() != before and "mon" in rows_of(source).columns

    def test_a_copy_whose_files_have_other_times_gives_the_newest_snapshot(self, tmp_path: Path, catalog: Any) -> None:
        table = catalog.create_table("air.flights", schema=ROWS.to_arrow().schema)
        table.append(ROWS.to_arrow())
        copy = shutil.copytree(table.location().removeprefix("file://"), tmp_path / "copy")
        for age, file in enumerate(sorted(copy.glob("metadata/*.metadata.json"))):
            file = file.rename(file.with_name(f"v{age + 9}.metadata.json"))
            os.utime(file, (1e9 - age, 1e9 - age))

        assert rows_of(ms.iceberg(str(copy))).height == 3

    def test_what_metadata_say_of_how_files_are_read_runs_no_code(self, tmp_path: Path, catalog: Any) -> None:
        mark = tmp_path / "ran"
        hostile = {shutil.which("touch"): "", str(mark): "", "py-io-impl": "subprocess.Popen"}
        table = catalog.create_table("air.flights", schema=ROWS.to_arrow().schema)
        table.append(ROWS.to_arrow())
        for file in Path(table.location().removeprefix("file://")).glob("metadata/*.metadata.json"):
            file.write_text(json.dumps(json.loads(file.read_text()) | {"properties": hostile}))

        assert rows_of(ms.iceberg(table.location().removeprefix("file://"))).height == 3
        assert not mark.exists() and not Path("py-io-impl").exists()

    def test_a_table_whose_current_snapshot_is_gone_is_not_taken_for_an_empty_one(self, catalog: Any) -> None:
        table = catalog.create_table("air.flights", schema=ROWS.to_arrow().schema)
        table.append(ROWS.to_arrow())
        newest = Path(table.metadata_location.removeprefix("file://"))
        newest.write_text(json.dumps(json.loads(newest.read_text()) | {"current-snapshot-id": 7}))

        with pytest.raises(SourceError, match="has no snapshot 7, which it names as the current one"):
            rows_of(ms.iceberg(str(newest)))

    def test_metadata_open_no_files_elsewhere(self, catalog: Any) -> None:
        table = catalog.create_table("air.flights", schema=ROWS.to_arrow().schema)
        table.append(ROWS.to_arrow())
        newest = Path(table.metadata_location.removeprefix("file://"))
        metadata = json.loads(newest.read_text())
        metadata["snapshots"][-1]["manifest-list"] = "hdfs://inside.example/list.avro"
        newest.write_text(json.dumps(metadata))

        with pytest.raises(SourceError, match=r"names 'hdfs://inside.example/list.avro', which isn't here or in S3"):
            rows_of(ms.iceberg(str(newest)))

    @pytest.mark.parametrize(
        "wrong", [{"properties": 7}, {"properties": None}, {"schemas": []}, {"format-version": "x"}]
    )
    def test_metadata_that_are_none_are_named(self, catalog: Any, wrong: dict[str, Any]) -> None:
        table = catalog.create_table("air.flights", schema=ROWS.to_arrow().schema)
        table.append(ROWS.to_arrow())
        for file in Path(table.location().removeprefix("file://")).glob("metadata/*.metadata.json"):
            file.write_text(json.dumps(json.loads(file.read_text()) | wrong))

        with pytest.raises(SourceError, match="can't be read"):
            rows_of(ms.iceberg(table.location().removeprefix("file://")))

    def test_what_is_no_table_or_lacks_the_extra_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(SourceNotFound, match="holds no Iceberg table"):
            reader(ms.iceberg(str(tmp_path))).position()
        monkeypatch.setitem(sys.modules, "pyiceberg", None)
        with pytest.raises(SourceError, match=r"pip install 'mainspring\[iceberg\]'"):
            reader(ms.iceberg(str(tmp_path)))
