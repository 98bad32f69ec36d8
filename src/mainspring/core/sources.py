"""Where rows come from, as a user declares it: files, addresses, databases, tables of a lake, frames, functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mainspring.core.errors import DeclarationError
from mainspring.core.object_stores import S3, ObjectStore, check_reference
from mainspring.core.protocols import UNCOUNTED
from mainspring.core.quantities import check_number, number_of_bytes, seconds

_PACKED = r"(?:\.(?:gz|bz2|xz|zst|zip))?"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_KIND = re.compile(r"[a-z][a-z0-9_-]*")
STORES = ("s3", "gs", "az", "abfs", "abfss")
"""The schemes of addresses in object stores."""
_IN_A_FILE = re.compile(r"(?:sqlite|duckdb):///")


def _folder() -> Any:
    """Where a relative path begins, "" for the current folder: the same project elsewhere asks for the same rows."""
    return field(default="", compare=False, repr=False, metadata={UNCOUNTED: True})


def relative(address: str) -> tuple[str, str]:
    """What comes before the relative path in an address of data, and the path; "" where there is none.

    >>> relative("sqlite:///shop.db"), relative("/rows.csv")
    (('sqlite:///', 'shop.db'), ('', ''))
    """
    prefix = found[0] if (found := _IN_A_FILE.match(address)) else ""
    path = address.removeprefix(prefix)
    absolute = path.startswith(("/", "~", "env:", "file:")) or "://" in path
    return prefix, "" if absolute else path


def opened_at(address: str, folder: str) -> str:
    """*address*, with its relative path made one from *folder*.

    >>> opened_at("sqlite:///shop.db", "/data"), opened_at("rows.csv", "")
    ('sqlite:////data/shop.db', 'rows.csv')
    """
    prefix, path = relative(address)
    return f"{prefix}{folder.rstrip('/')}/{path}" if folder and path else address


@dataclass(frozen=True, slots=True)
class Http:
    """How an address is asked: at most one way to say who asks, and limits.

    bearer: a token. basic: (user, password). header, query: (name, key). oauth2: (token address, client id, client
    secret), with *scope*. Tokens, passwords, keys and client secrets are references, "env:NAME" or "file:PATH".
    timeout: without any answer; max_time: of one answer as a whole, and the longest wait that a server may ask for.
    max_size: of one answer. private: addresses of the own network may be asked, such as 10.0.0.7 or localhost.
    """

    bearer: str | None = None
    basic: tuple[str, str] | None = None
    header: tuple[str, str] | None = None
    query: tuple[str, str] | None = None
    oauth2: tuple[str, str, str] | None = None
    scope: str = ""
    timeout: str | float = "30s"
    max_time: str | float = "10m"
    max_size: str | int = "2GB"
    private: bool = False

    def __post_init__(self) -> None:
        ways = [name for name in ("bearer", "basic", "header", "query", "oauth2") if getattr(self, name) is not None]
        if len(ways) > 1:
            raise DeclarationError(f"Http has {' and '.join(ways)}; a server is told in one way who asks: keep one")
        for name in ways:
            value = getattr(self, name)
            length = {"bearer": 0, "oauth2": 3}.get(name, 2)
            if length and (not isinstance(value, tuple) or len(value) != length):
                raise DeclarationError(f"Http({name}=...) must have {length} parts, the last of them a reference")
            check_reference(f"Http({name}=...)", value[-1] if length else value)
        for duration in (self.timeout, self.max_time):
            if seconds(duration) <= 0:
                raise DeclarationError(f"Http has a limit of {duration!r}; it must be longer than 0, such as '30s'")
        number_of_bytes(self.max_size)


@dataclass(frozen=True, slots=True)
class Paging:
    """How an API is asked for its next rows.

    by: "page" counts pages from *start* in *parameter*, "offset" the rows so far; "cursor" repeats in *parameter* what
    the answer has at *next*, "link" follows the address at *next*, or in the Link header. size, rows: the parameter
    that asks for so many rows at once.
    """

    by: Literal["page", "offset", "cursor", "link"]
    parameter: str = ""
    next: str = ""
    size: str = ""
    rows: int = 100
    start: int = 1

    def __post_init__(self) -> None:
        if self.by not in ("page", "offset", "cursor", "link"):
            raise DeclarationError(f"Paging(by={self.by!r}) is unknown; choose page, offset, cursor or link")
        if self.by != "link" and not self.parameter:
            raise DeclarationError(f"Paging(by={self.by!r}) needs the name of the parameter: parameter='{self.by}'")
        if self.by == "cursor" and not self.next:
            raise DeclarationError("Paging(by='cursor') needs next=, where an answer has the next cursor: 'meta.next'")
        check_number("Paging rows", self.rows, least=1, whole=True)
        check_number("Paging start", self.start, least=0, whole=True)


@dataclass(frozen=True, slots=True)
class CsvSource:
    """Rows of CSV files; see `csv`."""

    path: str
    separator: str = ","
    encoding: str = "utf8"
    quote: str = '"'
    decimal: str = "."
    thousands: str = ""
    dates: str | tuple[tuple[str, str], ...] = ""
    access: ObjectStore | Http | None = None
    folder: str = _folder()

    def __post_init__(self) -> None:
        if self.separator != "auto" and len(self.separator.encode()) != 1:
            raise DeclarationError(f"separator={self.separator!r} must be one ASCII character, or 'auto'")
        if len(self.quote.encode()) > 1:
            raise DeclarationError(f"quote={self.quote!r} must be one ASCII character, or '' where nothing is quoted")
        if self.decimal not in (".", ",") or self.thousands not in ("", ".", ",", " ", "'", "_", "\u00a0", "\u202f"):
            raise DeclarationError(
                f"decimal={self.decimal!r} must be '.' or ',', thousands={self.thousands!r} one of . , space ' _"
            )
        if self.decimal == self.thousands:
            raise DeclarationError(f"decimal={self.decimal!r} and thousands={self.thousands!r} must differ")


@dataclass(frozen=True, slots=True)
class JsonSource:
    """Rows of JSON or JSON-lines files; see `json`."""

    path: str
    rows: str = ""
    encoding: str = "utf8"
    access: ObjectStore | Http | None = None
    folder: str = _folder()


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """Rows of Parquet files; see `parquet`."""

    path: str
    access: ObjectStore | Http | None = None
    folder: str = _folder()


@dataclass(frozen=True, slots=True)
class ArrowSource:
    """Rows of Arrow IPC files; see `arrow`."""

    path: str
    access: ObjectStore | Http | None = None
    folder: str = _folder()


@dataclass(frozen=True, slots=True)
class ExcelSource:
    """Rows of a sheet; see `excel`."""

    path: str
    sheet: str = ""
    access: ObjectStore | Http | None = None
    folder: str = _folder()


@dataclass(frozen=True, slots=True)
class RestSource:
    """Rows that an API answers with; see `rest`."""

    url: str
    rows: str = ""
    paging: Paging | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    since: tuple[str, str] | None = None
    total: str | None = ""
    unique: str = ""
    access: Http = field(default_factory=Http)

    def __post_init__(self) -> None:
        if not self.url.lower().startswith(("http://", "https://")):
            raise DeclarationError(f"ms.rest needs an address that begins with https:// or http://, not {self.url!r}")
        if re.match(r"[^/]*//[^/]*@", self.url):
            raise DeclarationError("the address of ms.rest holds a password; give it by access=ms.Http(basic=...)")
        if self.since is not None and (not isinstance(self.since, tuple) or len(self.since) != 2):
            raise DeclarationError(
                f"since={self.since!r} must be (parameter, column), such as ('updated_after', 'updated_at')"
            )


@dataclass(frozen=True, slots=True)
class DeltaSource:
    """Rows of a Delta table; see `delta`."""

    path: str
    access: ObjectStore | None = None
    folder: str = _folder()


@dataclass(frozen=True, slots=True)
class IcebergSource:
    """Rows of an Iceberg table; see `iceberg`."""

    path: str
    access: S3 | None = None
    folder: str = _folder()


@dataclass(frozen=True, slots=True)
class SqlSource:
    """Rows of a query; see `sql`."""

    url: str
    query: str
    cursor: str | None = None
    changes: Literal["all", "compare"] = "all"
    folder: str = _folder()

    def __post_init__(self) -> None:
        if self.changes not in ("all", "compare"):
            raise DeclarationError(f"changes={self.changes!r} is unknown; choose 'all' or 'compare'")
        if self.cursor is not None and self.changes == "compare":
            raise DeclarationError(
                "changes='compare' reads all rows, and a cursor only new ones; leave one of them out"
            )


@dataclass(frozen=True, slots=True, eq=False)
class FrameSource:
    """Rows of a polars, pandas or Arrow table in memory."""

    data: Any


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """Rows that a plain function returns: a frame, an Arrow table, a list of dicts, or an iterator of those."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class NamedSource:
    """Rows of a plug-in that an installed package registers as *kind*, called with *address*."""

    kind: str
    address: str


FileSource = CsvSource | JsonSource | ParquetSource | ArrowSource | ExcelSource
AnySource = (
    FileSource | RestSource | DeltaSource | IcebergSource | SqlSource | FrameSource | FunctionSource | NamedSource
)


def csv(
    path: str, *, separator: str = ",", encoding: str = "utf8", quote: str = '"', decimal: str = ".",
    thousands: str = "", dates: str | Mapping[str, str] = "", access: ObjectStore | Http | None = None,
) -> CsvSource:  # fmt: skip
    """Rows of CSV files; *path* may be a glob such as "data/*.csv", a folder, or an address: https://, or one of an
    object store: s3://, gs://, az://, abfss://.

    A relative path is one from the folder of the FILE that the command line names, or else from the current folder.
    Whole numbers with leading zeros, such as zip codes, are text. Files may be compressed: gz, bz2, xz, zst, zip.
    Folders within *path* that name a value, such as year=2013, are columns.

    separator: "auto" finds it in the first lines. encoding: a byte order mark goes before it. quote: "" where nothing
    is quoted. dates: how they are written, such as "%d.%m.%Y", for every column that is, or {column: format}.
    """
    told = dates if isinstance(dates, str) else tuple(sorted(dates.items()))
    return CsvSource(str(path), separator, encoding, quote, decimal, thousands, told, access)


def json(path: str, *, rows: str = "", encoding: str = "utf8", access: ObjectStore | Http | None = None) -> JsonSource:
    """Rows of JSON files (a list of objects) or of JSON lines (an object on each line), told apart by their content.

    path: as for `csv`. rows: where the list is, such as "data.items". Objects in a row become columns a_b of {"a":
    {"b": 1}}; lists stay as JSON text.
    """
    return JsonSource(str(path), rows, encoding, access)


def parquet(path: str, *, access: ObjectStore | Http | None = None) -> ParquetSource:
    """Rows of Parquet files; *path* may be a glob, a folder or an address, and is looked for as `csv` does."""
    return ParquetSource(str(path), access)


def arrow(path: str, *, access: ObjectStore | Http | None = None) -> ArrowSource:
    """Rows of Arrow IPC files (Feather version 2) or streams; *path* as for `csv`."""
    return ArrowSource(str(path), access)


def excel(path: str, *, sheet: str = "", access: ObjectStore | Http | None = None) -> ExcelSource:
    """Rows of a sheet (the first unless told), whose first row has the names. Needs the extra: mainspring[excel]."""
    return ExcelSource(str(path), sheet, access)


def rest(
    url: str, *, rows: str = "", paging: Paging | None = None, parameters: Mapping[str, Any] | None = None,
    since: tuple[str, str] | None = None, total: str | None = "", unique: str = "", access: Http | None = None,
) -> RestSource:  # fmt: skip
    """Rows that an API answers with as JSON, page by page; all of them, or the run fails.

    rows: where an answer has its list, such as "data.items". since: (parameter, column): the next run asks only for
    rows whose column is beyond the last seen. total: where an answer says how many rows there are (None: what answers
    tell of rows and pages counts something else); unique: a column that no two rows share. Both are checked.
    """
    given = tuple((str(name), str(value)) for name, value in (parameters or {}).items())
    return RestSource(str(url), rows, paging, given, since, total, unique, access or Http())


def delta(path: str, *, access: ObjectStore | None = None) -> DeltaSource:
    """Rows of a Delta table: a folder, or an address of an object store. Of a table that only grew, only new rows are
    read."""
    return DeltaSource(str(path), access)


def iceberg(path: str, *, access: S3 | None = None) -> IcebergSource:
    """Rows of an Iceberg table: its folder, here or in S3, whose newest metadata file counts, or one metadata file,
    which stands for one snapshot. Needs the extra: mainspring[iceberg]."""
    return IcebergSource(str(path), access)


def sql(url: str, query: str, *, cursor: str | None = None, changes: Literal["all", "compare"] = "all") -> SqlSource:
    """Rows of a query or a table.

    url: "sqlite:///file.db", a file's path, postgresql://, mysql+pymysql://, duckdb:///file, any SQLAlchemy URL, or a
    reference: "env:NAME", "file:PATH". cursor: a column that only grows (an id, a time stamp); the next run reads the
    rows from the last value seen on. changes: without a cursor every run reads all rows; "compare" finds by the key
    which are new, changed or deleted, whatever their order.
    """
    return SqlSource(str(url), query, cursor, changes)


def frame(data: Any) -> FrameSource:
    """Rows of a polars, pandas or Arrow table that is already in memory."""
    return FrameSource(data)


_SUFFIXES: tuple[tuple[str, Callable[[str], Any]], ...] = (
    (rf"\.(csv|tsv){_PACKED}", csv),
    (rf"\.(json|jsonl|ndjson){_PACKED}", json),
    (r"\.(parquet|pq)", parquet),
    (r"\.(arrow|feather|ipc)", arrow),
    (r"\.(xlsx|xlsm|xlsb|xls|ods)", excel),
)


def source(data: Any) -> Any:
    """*data* as a source: a source as it is, a function or a frame wrapped, a path by its suffix, a plug-in's
    "kind://address"."""
    if isinstance(data, AnySource) or (hasattr(data, "read") and hasattr(data, "position")):
        return data
    if isinstance(data, str):
        return _of_text(data)
    if hasattr(data, "columns") or hasattr(data, "column_names"):
        return FrameSource(data)
    if callable(data):
        return FunctionSource(data)
    raise DeclarationError(f"data={data!r} is no source; give ms.csv(path), ms.parquet, ms.sql, a frame or a function")


def _of_text(data: str) -> Any:
    scheme = _SCHEME.match(data)
    kind = scheme[1].lower() if scheme else ""
    if kind in ("", "http", "https", *STORES):
        path = data.partition("?")[0] if kind.startswith("http") else data
        for pattern, declare in _SUFFIXES:
            if re.search(f"{pattern}$", path, re.IGNORECASE):
                return declare(data)
    elif scheme and _KIND.fullmatch(kind):
        return NamedSource(kind, data[scheme.end() :])
    raise DeclarationError(f"data={data!r} is no source; give ms.csv(path), ms.parquet, ms.sql, a frame or a function")
