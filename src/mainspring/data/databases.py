"""Rows of a query: a table or a select, read as a whole, compared with what is known, or from a cursor on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl

from mainspring.core.errors import SourceError, SourceNotFound
from mainspring.core.sources import SqlSource, opened_at
from mainspring.data.declared import identity
from mainspring.data.doors import Door, existing, opened, sqlite_path
from mainspring.store.secrets import secret


class Query:
    """A source that is a query.

    With a cursor column only rows with the last value seen or a greater one are read, in its order: a row may come late
    with a value that others had before, and those others come again. A row that comes late with a smaller value is
    never seen; read such a table with changes="compare".
    """

    def __init__(self, source: SqlSource) -> None:
        self._source = source
        self._url, self.name = _resolved(opened_at(source.url, source.folder))
        self._written, self._called = _resolved(source.url)

    @property
    def incremental(self) -> bool:
        return self._source.cursor is not None

    @property
    def overlap(self) -> str | None:
        """The column whose rows at the cursor come again."""
        return self._source.cursor

    @property
    def identity(self) -> Any:
        """Which query of which database this is."""
        return [*identity(self._source)[:1], self._called, *identity(self._source)[2:]]

    def position(self) -> Any:
        """The greatest cursor and how many rows have it; without one, the state of the SQLite file, or None: other
        databases must be read."""
        if self._source.cursor is not None:
            with opened(self._url, self.name) as door:
                query = self._query(door)
                value, rows = door.newest(query, self._column(door, query))
                return [_to_json(value), rows]
        path, written = sqlite_path(self._url), sqlite_path(self._written)
        if path is None or written is None:
            return None
        files = (existing(path, self.name), path.with_name(path.name + "-wal"))
        return [
            [str(written.with_name(file.name)), file.stat().st_size, file.stat().st_mtime_ns]
            for file in files
            if file.is_file()
        ]

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        """The rows from cursor *since* on, or all of them, each batch with the cursor behind it."""
        with opened(self._url, self.name) as door:
            query = self._query(door)
            if self._source.cursor is None:
                yield from ((frame, None) for frame in door.frames(query, None, None))
                return
            cursor = self._column(door, query)
            beyond = None if since is None else (cursor, since)
            for frame in door.frames(query, beyond, cursor):
                known = frame[cursor].drop_nulls()
                since = _to_json(known[-1]) if len(known) else since
                yield frame, since

    def _query(self, door: Door) -> str:
        query = self._source.query.strip().rstrip(";").rstrip()
        if re.fullmatch(r"[\w$.]+", query):
            return "select * from " + ".".join(door.quoted(part) for part in query.split("."))
        return query

    def _column(self, door: Door, query: str) -> str:
        names, cursor = door.columns(query), str(self._source.cursor)
        if cursor not in names:
            raise SourceError(
                f"cursor={cursor!r} is no column of the query of {self.name}; it gives {', '.join(names)}"
            )
        return cursor


def _resolved(url: str) -> tuple[str, str]:
    """The address that *url* is or refers to, and how messages call it: never by what a reference stands for."""
    if url.startswith(("env:", "file:")):
        try:
            return secret(url), f"database {url!r}"
        except SourceNotFound as error:
            raise SourceNotFound(str(error).replace("the secret", "the address")) from None
    shown = re.sub(r"(//[^:/@]*):[^@]*@", r"\1:***@", url)
    return url, f"database {shown!r}"


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    return value if value is None or isinstance(value, int | float | str) else str(value)
