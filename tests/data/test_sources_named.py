"""Sources that an installed package registers, and every kind of source in a run from the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from mainspring.core.errors import DeclarationError, SourceError
from mainspring.core.sources import NamedSource, source
from mainspring.data.sources import reader
from tests.data.web import answer, serving

CLI = ("-m", "mainspring.app.cli")
ROOT = Path(__file__).parents[2]
VISITS = pl.DataFrame({"visit": range(60), "minutes": [n % 7 for n in range(60)], "paid": [n % 2 for n in range(60)]})


def python(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT / 'src'}"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=90
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def versions(folder: Path, loop: str) -> list[tuple[int, int]]:
    """Rows and new rows of each version, the newest first."""
    told = json.loads(python(folder, *CLI, "data", loop, "--json"))
    return [(each["rows"], each["new"]) for each in told["versions"]]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The example of CONTRIBUTING.md, as it is when it's installed."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n# visits\.py\n(.*?)```", page, re.DOTALL)
    (line,) = re.findall(r'```toml\n\[project\.entry-points\."mainspring\.sources"\]\n(.*?)```', page, re.DOTALL)
    assert (code + line).count("\n") < 25
    (tmp_path / "visits.py").write_text(code)
    (tmp_path / "visits-1.0.dist-info").mkdir()
    (tmp_path / "visits-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: visits\nVersion: 1.0\n")
    told = line.replace('"', "").replace(" = ", "=")
    (tmp_path / "visits-1.0.dist-info" / "entry_points.txt").write_text(
        f"[mainspring.sources]\n{told}broken=visits:nothing\nloop=builtins:str\n"
    )
    VISITS.write_ndjson(tmp_path / "visits.jsonl")
    return tmp_path


def test_the_source_of_the_page_is_a_kind_of_its_own_by_one_line(package: Path) -> None:
    (package / "own.py").write_text(
        "import mainspring as ms\nfrom mainspring.testing import check_source\n"
        "loop = ms.Loop('own', data='lines://visits.jsonl', target='paid', key='visit')\n"
        "def grow():\n    open('visits.jsonl', 'a').write('{\"visit\": 60, \"minutes\": 1, \"paid\": 1}\\n')\n"
        "if __name__ == '__main__':\n    check_source('lines://visits.jsonl', grow)\n    print('kept')\n"
    )

    assert python(package, "own.py") == "kept\n"
    python(package, *CLI, "run", "own.py", "--until", "ingest")
    assert [rows for rows, _ in versions(package, "own")] == [61]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nothing://x", "no package registers sources of the kind 'nothing' .* installed are broken, lines and loop"),
        ("broken://x", "source 'broken', visits:nothing, raised AttributeError"),
        ("loop://x", "source 'loop', builtins:str, gives str without read and position"),
    ],
)
def test_a_kind_that_cant_be_had_is_named(package: Path, address: str, said: str) -> None:
    ask = (
        "from mainspring.core.errors import SourceError\nfrom mainspring.core.sources import source\n"
        "from mainspring.data.sources import reader\n"
        f"try:\n    reader(source({address!r}))\nexcept SourceError as error:\n    print(error)\n"
    )

    assert re.search(said, python(package, "-c", ask))


def test_addresses_declare_the_kind_that_their_suffix_or_scheme_says() -> None:
    kinds = {
        "rows.csv.zst": "CsvSource", "rows.TSV": "CsvSource", "rows.jsonl.gz": "JsonSource", "rows.pq": "ParquetSource",
        "rows.feather": "ArrowSource", "rows.xlsx": "ExcelSource", "s3://b/rows.csv": "CsvSource",
        "https://example.com/rows.parquet?version=3": "ParquetSource", "lines://rows": "NamedSource",
    }  # fmt: skip

    assert {text: type(source(text)).__name__ for text in kinds} == kinds
    assert reader_identity("lines://rows") == ["lines", "rows"]
    for wrong in ("rows.txt", "s3://bucket/rows", "https://example.com/rows"):
        with pytest.raises(DeclarationError, match="is no source"):
            source(wrong)


def reader_identity(text: str) -> list[str]:
    found = source(text)
    assert isinstance(found, NamedSource)
    with pytest.raises(SourceError, match="no package registers sources of the kind 'lines'"):
        reader(found)
    return [found.kind, found.address]


def test_each_kind_of_source_goes_through_a_run_and_only_new_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "months").mkdir()
    VISITS.head(30).write_csv(tmp_path / "months" / "1.csv")
    VISITS.write_parquet(tmp_path / "rows.parquet")
    VISITS.with_columns(pl.struct(at=pl.lit("home")).alias("seen")).write_ndjson(tmp_path / "rows.jsonl")
    with serving(lambda asked: answer(VISITS.to_dicts())) as server:
        (tmp_path / "loops.py").write_text(
            "import mainspring as ms\n"
            "roles = {'target': 'paid', 'key': 'visit'}\n"
            "months = ms.Loop('months', data=ms.csv('months'), **roles)\n"
            "lines = ms.Loop('lines', data='rows.jsonl', **roles)\n"
            f"api = ms.Loop('api', data=ms.rest('{server.url}', access=ms.Http(private=True)), **roles)\n"
        )
        python(tmp_path, *CLI, "run", "loops.py", "--until", "ingest")
        VISITS.tail(30).write_csv(tmp_path / "months" / "2.csv")
        python(tmp_path, *CLI, "run", "loops.py", "--until", "ingest")

    assert versions(tmp_path, "months") == [(60, 30), (30, 30)]
    assert versions(tmp_path, "lines") == versions(tmp_path, "api") == [(60, 60)]
