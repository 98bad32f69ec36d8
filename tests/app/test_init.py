"""`mainspring init`: tables of several kinds become Loop files that a person would have written, and that load."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mainspring.app import files, init
from mainspring.app.project import Loop
from mainspring.core.declarations import CsvSource, ParquetSource
from mainspring.core.errors import SourceEmpty, SourceNotFound, TargetUnusable, UsageError

ROWS = 60
CUSTOMERS = pl.DataFrame(
    {
        "customer_id": [f"C{number:05}" for number in range(ROWS)],
        "born": [date(1980, 1, 1) + timedelta(days=number) for number in range(ROWS)],
        "plan": ["basic", "gold", "gold"] * (ROWS // 3),
        "spent": [number * 1.25 for number in range(ROWS)],
        "visits": [number % 40 for number in range(ROWS)],
        "churned": ["yes", "no", "no"] * (ROWS // 3),
    }
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a person would be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(data: str, target: str, output: str = "loop.py") -> tuple[str, Any]:
    """The text of the file and the declaration that it holds."""
    path = init.write(data, target=target, output=output, overwrite=True)
    (loop,) = files.load(str(path))
    assert isinstance(loop, Loop)
    return path.read_text(encoding="utf-8"), loop.declaration


def test_a_table_with_an_id_becomes_a_loop_with_a_key() -> None:
    CUSTOMERS.write_csv("customers.csv")

    text, declaration = written("customers.csv", "churned")

    assert declaration.name == "customers" and declaration.source == CsvSource("customers.csv")
    assert (declaration.roles.target, declaration.roles.key, declaration.roles.time) == ("churned", "customer_id", None)
    assert declaration.models == "auto" and declaration.search.trials == 12
    assert "target=\"churned\",  # 2 classes; 'yes' is the positive one\n" in text
    assert "customers = ms.Loop(" in text and "mainspring plan loop.py" in text


def test_times_are_found_in_text_too_and_a_day_of_birth_is_none() -> None:
    start = datetime(2024, 3, 1, 8)
    times = pl.Series("ordered", [start + timedelta(hours=number) for number in range(ROWS)])
    CUSTOMERS.with_columns(times.dt.strftime("%Y-%m-%d %H:%M")).write_csv("orders.csv")
    CUSTOMERS.with_columns(times).write_parquet("orders.parquet")

    for data in ("orders.csv", "orders.parquet"):
        text, declaration = written(data, "churned")
        assert declaration.roles.time == "ordered", text
    assert isinstance(declaration.source, ParquetSource)


def test_a_time_with_gaps_is_no_time_of_the_rows() -> None:
    ended = [None if number % 2 else datetime(2024, 3, 1) for number in range(ROWS)]
    CUSTOMERS.with_columns(pl.Series("ended", ended)).write_parquet("orders.parquet")

    assert written("orders.parquet", "churned")[1].roles.time is None


@pytest.mark.parametrize(
    ("target", "holds"), [("spent", "# numbers\n"), ("plan", "# 2 classes; 'gold' is"), ("visits", "# numbers\n")]
)
def test_the_comment_says_what_the_target_holds(target: str, holds: str) -> None:
    CUSTOMERS.write_csv("customers.csv")

    assert holds in written("customers.csv", target)[0]


def test_several_classes_are_counted() -> None:
    CUSTOMERS.with_columns(grade=pl.Series([1, 2, 3, 4, 5, 6] * 10)).write_csv("grades.csv")

    assert "# 6 classes\n" in written("grades.csv", "grade")[0]


@pytest.mark.parametrize(
    ("file", "name", "variable"),
    [
        ("my data (1).csv", "my-data-1", "my_data_1"),
        ("2024.csv", "2024", "loop"),
        ("class.csv", "class", "loop"),
        ("ms.csv", "ms", "loop"),
        ("Käufer Größen.csv", "kaufer-grossen", "kaufer_grossen"),
        ("購入.csv", "loop", "loop"),
        ('it\'s "quoted" {file} \\ data.csv', "it-s-quoted-file-data", "it_s_quoted_file_data"),
        ("Sales.Q1.TSV", "sales-q1", "sales_q1"),
        ("x" * 200 + ".csv", "x" * 100, "x" * 100),
    ],
)
def test_odd_file_names_give_sound_files(file: str, name: str, variable: str) -> None:
    CUSTOMERS.write_csv(file, separator="\t" if file.lower().endswith("tsv") else ",")

    text, declaration = written(file, "churned")

    assert declaration.name == name and f"\n{variable} = ms.Loop(" in text
    assert declaration.source.path == file


@pytest.mark.parametrize("column", ["is it so?", "naïve", "a'b", "back\\slash", "class", "{file}"])
def test_odd_columns_give_sound_files(column: str) -> None:
    CUSTOMERS.rename({"churned": column}).write_csv("rows.csv")

    assert written("rows.csv", column)[1].roles.target == column


def test_the_file_names_itself() -> None:
    CUSTOMERS.write_csv("rows.csv")

    assert "mainspring plan churn.py" in written("rows.csv", "churned", "churn.py")[0]


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (("1.234,50", "31.12.2013", "7"), 'separator=";", decimal=",", thousands=".", dates="%d.%m.%Y"'),
        (("0,125", "2013/12/31 08:30", "7"), 'decimal=",", dates="%Y/%m/%d %H:%M"'),
        (("1,234.5", "12/31/2013", "7"), 'separator=";", thousands=",", dates="%m/%d/%Y"'),
        (("1,234", "01/02/2013", "7"), 'separator=";"'),  # of either there are two readings
        (("12", "2013-12-31", "7,5 kg"), 'separator=";"'),
        (("3.830,70", "2013-12-31", "43.657"), 'separator=";"'),  # 43657 in a file whose points are groups
        (("3,5", "31.12.2013", "31-Dec-2013"), 'decimal=",", dates={"at": "%d.%m.%Y", "more": "%d-%b-%Y"}'),
    ],
)
def test_numbers_and_dates_are_told_as_the_file_writes_them(cells: tuple[str, str, str], told: str) -> None:
    lines = [f"{cells[0]};{cells[1]};{cells[2]};{number % 2}" for number in range(20)]
    Path("rows.csv").write_text("\n".join(["amount;at;more;y", *lines]))

    assert f"{told})" in written("rows.csv", "y")[0]


def test_compressed_and_separated_files_are_read() -> None:
    CUSTOMERS.write_csv("rows.csv.gz", compression="gzip")

    assert written("rows.csv.gz", "churned")[1].name == "rows"


@pytest.mark.parametrize(
    ("data", "target", "error", "said"),
    [
        ("customers.csv", "churn", TargetUnusable, "no column 'churn'; did you mean 'churned'? the columns"),
        ("customers.csv", "zzz", TargetUnusable, "no column 'zzz'; the columns are"),
        ("customers.csv", "customer_id", TargetUnusable, "has 60 classes in 60 rows"),
        ("customers.csv", "born", TargetUnusable, "holds times"),
        ("constant.csv", "y", TargetUnusable, "has only the value 3 in 2 rows"),
        ("nulls.csv", "y", TargetUnusable, "has no value in 2 rows"),
        ("customer.csv", "y", SourceNotFound, "no such file: 'customer.csv'; this folder has"),
        ("header.csv", "y", SourceEmpty, "no rows, only a header: x and y"),
        ("empty.csv", "y", SourceEmpty, "is empty"),
        ("rows.docx", "y", UsageError, "is neither CSV"),
    ],
)  # fmt: skip
def test_what_can_not_be_used_is_told_on_one_line(data: str, target: str, error: type, said: str) -> None:
    CUSTOMERS.write_csv("customers.csv")
    Path("constant.csv").write_text("x,y\n1,3\n2,3\n")
    Path("nulls.csv").write_text("x,y\n1,\n2,\n")
    Path("header.csv").write_text("x,y\n")
    Path("empty.csv").write_text("")

    with pytest.raises(error) as caught:
        init.write(data, target=target, output="loop.py", overwrite=False)

    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not Path("loop.py").exists()


@pytest.mark.parametrize(
    ("output", "said"), [("kept.py", "is there already"), ("loop.txt", "Python file"), ("no/loop.py", "no folder 'no'")]
)
def test_an_output_that_can_not_be_is_refused(output: str, said: str) -> None:
    CUSTOMERS.write_csv("customers.csv")
    Path("kept.py").write_text("mine = True\n")

    with pytest.raises(UsageError, match=said):
        init.write("customers.csv", target="churned", output=output, overwrite=False)

    assert Path("kept.py").read_text() == "mine = True\n"
