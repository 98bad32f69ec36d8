"""Rows of CSV and Parquet files, compressed ones and several at once included."""

from __future__ import annotations

import glob
import io
import mmap
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from mainspring.core.declarations import CsvSource, ParquetSource
from mainspring.core.errors import SchemaMismatch, SourceEmpty, SourceError, SourceNotFound
from mainspring.core.wording import listed

MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null", "NaT",
)  # fmt: skip
"""What stands for a missing value in a CSV file: pandas' list, so that a script and its Loop read the same."""
_INFERRED_ROWS = 10_000
_CODE = re.compile(rb"""(?:^|[\s,;|"])0\d+(?:[\s,;|"]|$)""")
_GZIP = b"\x1f\x8b"


class Files:
    """A source of files. Any change of a file reads them all again.

    text_columns: columns of CSV files that are read as text even if all values look like numbers.
    """

    incremental = False

    def __init__(self, source: CsvSource | ParquetSource, text_columns: Sequence[str] = ()) -> None:
        self._source = source
        self._text_columns = text_columns

    @property
    def name(self) -> str:
        return self._source.path

    @property
    def identity(self) -> Any:
        return [type(self._source).__name__, self._source.path]

    def position(self) -> Any:
        """Path, size and time of change of each file."""
        return [[str(path), (stat := path.stat()).st_size, stat.st_mtime_ns] for path in self._paths()]

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        """All rows, file by file; files have no cursor."""
        names: list[str] = []
        for path in self._paths():
            frame = self._frame(path)
            names = names or frame.columns
            _refuse_gap(path, frame, names)
            yield frame, None

    def _paths(self) -> list[Path]:
        path = Path(self._source.path).expanduser()
        if path.is_file():
            return [path]
        found = sorted(found for name in glob.glob(str(path), recursive=True) if (found := Path(name)).is_file())
        if found:
            return found
        if path.is_dir():
            raise SourceNotFound(f"{self.name!r} is a folder; name its files, such as '{self.name.rstrip('/')}/*.csv'")
        raise SourceNotFound(f"no such file: {self.name!r}{_beside(path)}; mend the path")

    def _frame(self, path: Path) -> pl.DataFrame:
        try:
            return pl.read_parquet(path) if isinstance(self._source, ParquetSource) else self._csv(path, self._source)
        except pl.exceptions.NoDataError:
            raise SourceEmpty(f"{str(path)!r} is empty; it needs a header and rows") from None
        except (pl.exceptions.PolarsError, OSError, zipfile.BadZipFile) as error:
            raise SourceError(f"{str(path)!r} can't be read: {_reason(error)}") from error

    def _csv(self, path: Path, source: CsvSource) -> pl.DataFrame:
        content = _content(path, source.encoding)
        separator = "\t" if source.separator == "," and ".tsv" in path.name.lower() else source.separator
        _refuse_parquet(path, content, source.path)
        frame = _named_once(_parsed(content, separator, self._text_columns), path, content, separator)
        if frame.width == 1 and (other := next((mark for mark in ";\t|" if mark in frame.columns[0]), "")):
            raise SourceError(
                f"{str(path)!r} has one column, {frame.columns[0]!r}; its values seem to be divided by {other!r}: "
                f"write ms.csv({source.path!r}, separator={other!r})"
            )
        return frame.rename({"": "Unnamed: 0"}) if "" in frame.columns else frame  # as pandas calls an index column


def _content(path: Path, encoding: str) -> Path | bytes:
    """A path that polars reads by itself, or UTF-8 bytes."""
    content: Path | bytes = path
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            members = [
                name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")
            ]
            if len(members) != 1:
                raise SourceError(f"{str(path)!r} holds {len(members)} files ({listed(members)}); it must hold one")
            content = archive.read(members[0])
    if encoding.lower().replace("-", "") == "utf8":
        return content
    raw = path.read_bytes() if isinstance(content, Path) else content
    try:
        return raw.decode(encoding).encode()
    except (LookupError, UnicodeDecodeError) as error:
        raise SourceError(f"{str(path)!r} isn't {encoding!r} text ({error}); give ms.csv another encoding=") from error


def _parsed(content: Path | bytes, separator: str, text_columns: Sequence[str]) -> pl.DataFrame:
    """Types come from the first rows, and from all of them where those don't tell."""

    def read(rows: int | None) -> pl.DataFrame:
        return pl.read_csv(
            content if isinstance(content, Path) else io.BytesIO(content),
            separator=separator,
            null_values=list(MISSING),
            schema_overrides=dict.fromkeys(text_columns, pl.String),
            infer_schema_length=rows,
        )

    try:
        frame = read(_INFERRED_ROWS)
    except pl.exceptions.ComputeError:
        frame = read(None)
    return _with_codes(frame, content, separator)


def _with_codes(frame: pl.DataFrame, content: Path | bytes, separator: str) -> pl.DataFrame:
    """*frame* with whole numbers that are written with leading zeros, such as a zip code, as the text that they are."""
    whole = [column.name for column in frame.iter_columns() if column.dtype.is_integer()]
    if not whole or not _has_codes(content):
        return frame
    text = pl.read_csv(
        content if isinstance(content, Path) else io.BytesIO(content),
        separator=separator,
        null_values=list(MISSING),
        columns=whole,
        infer_schema=False,
    )
    codes = [column for column in text.iter_columns() if column.str.contains(r"^0\d+$").any()]
    return frame.with_columns(codes)


def _has_codes(content: Path | bytes) -> bool:
    """Whether a number in the file begins with 0; of a compressed one, only reading it can tell."""
    if isinstance(content, bytes):
        return _CODE.search(content) is not None
    with open(content, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return mapped[:2] == _GZIP or _CODE.search(mapped) is not None


def _named_once(frame: pl.DataFrame, path: Path, content: Path | bytes, separator: str) -> pl.DataFrame:
    """*frame* under the names that its header has: polars renames a repeated one, and leaves quotes doubled."""
    if not any('"' in name or "_duplicated_" in name for name in frame.columns):
        return frame
    header = pl.read_csv(
        content if isinstance(content, Path) else io.BytesIO(content),
        separator=separator,
        has_header=False,
        n_rows=1,
        infer_schema=False,
    )
    names = [name or "" for name in header.row(0)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(f"{str(path)!r} has column {listed(list(map(repr, twice)))} twice; give each its own name")
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def _refuse_parquet(path: Path, content: Path | bytes, declared: str) -> None:
    if isinstance(content, bytes):
        head = content[:4]
    else:
        with open(content, "rb") as file:
            head = file.read(4)
    if head == b"PAR1":
        raise SourceError(f"{str(path)!r} is a Parquet file; write ms.parquet({declared!r})")


def _refuse_gap(path: Path, frame: pl.DataFrame, names: Sequence[str]) -> None:
    gone = [name for name in names if name not in frame.columns]
    if gone:
        raise SchemaMismatch(
            f"{str(path)!r} has no column {listed([repr(name) for name in gone])}, which the files before it have; "
            "add it, or leave the file out"
        )


def _reason(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0].rstrip(".")
    if "out of specification" in text:
        return "it isn't a Parquet file; write ms.csv(...) if it holds text"
    if "utf-8" in text.lower():
        return f"{text}; give its encoding, such as ms.csv(..., encoding='latin-1')"
    if "found more fields" in text:
        return "a row has more fields than the header; quote values that hold the separator, or name another separator="
    return text or type(error).__name__


def _beside(path: Path) -> str:
    """The nearest folder that exists and files there of the same kind, for a message."""
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    same = sorted(found.name for found in folder.glob(f"*{path.suffix}") if found.is_file() and path.suffix)
    return f"; {str(folder)!r} has {listed(same)}" if same else f"; there is none in {str(folder.resolve())!r}"
