"""Rows of an API that answers with JSON, page by page: the whole set, or an error that says why not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from urllib.parse import urljoin

import httpx
import polars as pl

from mainspring.core.errors import SourceError, SourceNotFound
from mainspring.core.instants import instant
from mainspring.core.sources import RestSource
from mainspring.core.wording import count
from mainspring.data import told
from mainspring.data.declared import identity
from mainspring.data.json_rows import at, objects, parsed
from mainspring.data.nested import frame_of
from mainspring.data.outbound import Answer, Outbound, shown

_Rows = list[dict[str, Any]]
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_ORDERED = re.compile(r"\w+|\d{4}([-/.])[0-9A-Z]\d\b.*|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""Text whose order is that of its characters: ids of one word, dates that begin with the year, UUIDs."""


class Api:
    """A source that is an API. With since= only rows beyond the last one seen are asked for.

    The cursor is the greatest value seen, and digests of the rows that have it: whether the server gives those again
    or not, each row comes once.
    """

    def __init__(self, source: RestSource) -> None:
        self._source, self.name = source, shown(source.url)
        self.incremental = source.since is not None

    @property
    def identity(self) -> Any:
        return identity(self._source)

    def position(self) -> Any:
        """Only reading can tell."""
        return None

    def read(self, since: Any) -> Iterator[tuple[pl.DataFrame, Any]]:
        """The rows, page by page; the cursor moves with the last page, as only then nothing can be missing."""
        newest = _Newest(self._source, since)
        known = 0 if since is None else since.get("count")
        with Outbound(self._source.url, self._source.access) as server:
            walk = _Walk(self._source, server, known)
            held: pl.DataFrame | None = None
            for rows in walk.pages(newest.value):
                if held is not None:
                    yield held, since
                held = frame_of(newest.beyond(rows), self.name)
        if held is not None:
            yield held, newest.cursor(walk.count)


class _Walk:
    """One walk over all pages, and what they must have in common. known: so many rows came at earlier walks, from
    behind which since= goes on; None: nobody has counted them."""

    def __init__(self, source: RestSource, server: Outbound, known: int | None = 0) -> None:
        self._source, self._server, self._name = source, server, shown(source.url)
        self._paging, self._known = source.paging, known
        self._count = 0
        self._totals: list[told.Total] = []
        self._total: int | None = None
        self._sizes: list[int] = []
        self._seen: set[bytes] = set()
        self._keys: set[Any] = set()

    @property
    def count(self) -> int | None:
        """The rows of this walk and of those before it."""
        return None if self._known is None else self._known + self._count

    def pages(self, since: Any) -> Iterator[_Rows]:
        """Each page's rows, the first one's also if it has none."""
        url, parameters = self._source.url, self._parameters(since)
        first: _Rows = []
        place = self._paging.start if self._paging is not None and self._paging.by == "page" else 0
        while True:
            moving = self._moving(place)
            try:
                document, answer = self._server.ask(url, self._read, parameters=[*parameters, *moving])
            except SourceNotFound:
                if not self._sizes or not moving:
                    raise
                if self._all_told():  # some answer so behind the last page
                    break
                raise SourceError(
                    f"{self._name!r} has no page at {moving[0][0]}={place}; say where an answer has the number of all "
                    "rows: total='count', or the address of the next page: ms.Paging('link', next='next')"
                ) from None
            rows = objects(at(document, self._source.rows, self._name), repr(self._name), self._source.rows)
            if not self._sizes:
                self._refuse_earlier(document, answer)
                self._totals = told.totals(document, self._source.rows, answer.headers)
                first = rows
            self._check(rows, document)
            if rows or not self._sizes[1:]:
                yield rows
            place = self._next(place, rows, document, answer)
            if place is None and not self._complete():
                self._refuse_untold(rows, document)
            if place is None:
                break
            if self._paging is not None and self._paging.by == "link":
                url, parameters = place, []
        self._refuse_other_total()
        self._refuse_fewer()
        self._refuse_page_zero(parameters, first)

    def _parameters(self, since: Any) -> list[tuple[str, str]]:
        given = list(self._source.parameters)
        if self._paging is not None and self._paging.size:
            given.append((self._paging.size, str(self._paging.rows)))
        if self._source.since is not None and since is not None:
            given.append((self._source.since[0], str(since)))
        return given

    def _moving(self, place: Any) -> list[tuple[str, str]]:
        if self._paging is None or self._paging.by == "link" or (self._paging.by == "cursor" and place == 0):
            return []
        return [(self._paging.parameter, str(place))]

    def _read(self, body: bytes, answer: Answer) -> tuple[Any, Answer]:
        return parsed(body, f"the answer of {self._name!r}"), answer

    def _next(self, place: Any, rows: _Rows, document: Any, answer: Answer) -> Any:
        """Where the next page is; None behind the last one."""
        paging = self._paging
        if paging is None:
            if "next" in told.links(answer.headers):
                raise SourceError(
                    f"{self._name!r} has more pages than the one that was asked for; give paging=ms.Paging('link')"
                )
            return None
        if paging.by == "page":
            return None if not rows or self._complete() else place + 1
        if paging.by == "offset":
            return None if not rows or self._complete() else place + len(rows)
        if paging.by == "cursor":
            return self._unseen(_found(document, paging.next))
        link = _found(document, paging.next) if paging.next else told.links(answer.headers).get("next")
        if link is not None and not isinstance(link, str):
            raise SourceError(f"{self._name!r} has no address at {paging.next!r} but {link!r}; mend next=")
        return self._unseen(urljoin(answer.url, link) if link else None, link=True)

    def _unseen(self, value: Any, link: bool = False) -> Any:
        """The next cursor or address, which must be a new one, or there would be no end; None where there is none."""
        if value is None or value == "" or value is False:
            return None
        if link and _server(value) != _server(self._source.url):
            raise SourceError(f"{self._name!r} goes on at another server, {shown(value)!r}; give that server's address")
        self._refuse_repeat(str(value).encode(), "the same next page")
        return value

    def _refuse_earlier(self, document: Any, answer: Answer) -> None:
        """Raise where the first answer tells of a page before it: of an API whose pages count from 0."""
        if self._paging is None or self._paging.by != "page":
            return
        path = told.earlier(document, self._source.rows)
        if path is not None or "prev" in told.links(answer.headers):
            raise SourceError(
                f"{self._name!r} has a page before page {self._paging.start}: its answer tells of it at "
                f"{path or 'Link'!r}; give the number of its first one: start=0"
            )

    def _refuse_page_zero(self, parameters: Sequence[tuple[str, str]], first: _Rows) -> None:
        """Raise where nothing told how many rows there are, and page 0 has others than page 1, where the walk began."""
        if self._paging is None or self._paging.by != "page" or self._paging.start != 1 or not first:
            return
        if self._total is not None or self._totals:
            return
        try:
            document, _ = self._server.ask(self._source.url, self._read, parameters=[*parameters, *self._moving(0)])
            rows = objects(at(document, self._source.rows, self._name), repr(self._name), self._source.rows)
        except SourceError:  # it has none
            return
        if rows and rows[: len(first)] != first:
            raise SourceError(
                f"{self._name!r} has rows at {self._paging.parameter}=0, before the first page that was asked for; "
                "give the number of its first one: start=0, or say where it tells the number of all rows: total="
            )

    def _refuse_untold(self, rows: _Rows, document: Any) -> None:
        """Raise where the walk ends, but the answer tells of more pages elsewhere than where that was looked for."""
        if not rows or (self._paging is not None and self._paging.by in ("page", "offset")):
            return
        path = told.more(document, self._source.rows)
        if path is not None:
            mend = "say how: paging=ms.Paging(...)" if self._paging is None else f"mend next={self._paging.next!r}"
            raise SourceError(
                f"{self._name!r} has more pages than were read: its answer tells of them at {path!r}; {mend}, or say "
                "where it tells the number of rows: total="
            )

    def _complete(self) -> bool:
        return self._total is not None and self._count >= self._total

    def _check(self, rows: _Rows, document: Any) -> None:
        if rows and self._paging is not None and self._paging.by in ("page", "offset"):
            content = json.dumps(rows, sort_keys=True).encode()
            self._refuse_repeat(blake2b(content).digest(), "the same rows")
        if self._paging is not None and self._paging.by == "page" and rows:
            self._refuse_other_size(len(rows))
        self._sizes.append(len(rows))
        self._count += len(rows)
        self._refuse_same_keys(rows)
        if self._source.total:
            self._note_total(at(document, self._source.total, self._name))

    def _refuse_repeat(self, mark: bytes, what: str) -> None:
        if mark in self._seen:
            raise SourceError(
                f"{self._name!r} gives {what} twice (page {len(self._sizes) + 1}), so some may be missing; check "
                "paging= against the API's manual"
            )
        self._seen.add(mark)

    def _refuse_other_size(self, size: int) -> None:
        """A page numbered by a size that changes would leave rows out or repeat them; only the last may be shorter."""
        if self._sizes and (size > self._sizes[0] or self._sizes[-1] < self._sizes[0]):
            raise SourceError(
                f"{self._name!r} gives pages of {self._sizes[0]:,}, then {self._sizes[-1]:,}, then {size:,} rows, so "
                "some may be missing; page by offset or cursor, or ask for a size that it keeps: Paging(size=, rows=)"
            )

    def _refuse_same_keys(self, rows: _Rows) -> None:
        if not self._source.unique:
            return
        for row in rows:
            key = json.dumps(_found(row, self._source.unique))
            if key in self._keys:
                raise SourceError(
                    f"{self._name!r} gives {self._source.unique} {key} twice: its rows moved while they were read; run "
                    "again, or page by cursor"
                )
            self._keys.add(key)

    def _note_total(self, total: Any) -> None:
        if isinstance(total, str) and total.isdigit():
            total = int(total)
        if isinstance(total, bool) or not isinstance(total, int):
            raise SourceError(f"{self._name!r} has {total!r} at {self._source.total!r}, no number of rows; mend total=")
        if self._total is not None and total != self._total:
            raise SourceError(
                f"{self._name!r} had {self._total:,} rows in all, then {total:,}: they changed while they were read; "
                "run again"
            )
        self._total = total

    def _refuse_other_total(self) -> None:
        if self._total is not None and self._count != self._total:
            raise SourceError(
                f"{self._name!r} gave {self._count:,} rows but says that there are {self._total:,}; check paging="
            )

    def _all_told(self) -> bool:
        return any(not total.pages and total.number == self.count for total in self._totals)

    def _refuse_fewer(self) -> None:
        """Raise where the first answer told of more rows or pages than came: where paging= wasn't given or is wrong,
        or where the server stops giving."""
        if self._source.total != "" or self.count is None:
            return
        pages = sum(1 for size in self._sizes if size)
        for total in self._totals:
            if total.number > (pages if total.pages else self.count) and not (total.pages and self._known):
                what = f"{count(pages, 'page')}" if total.pages else f"{count(self._count, 'row')}"
                mend = "give paging=ms.Paging(...)" if self._paging is None else "check paging="
                raise SourceError(
                    f"{self._name!r} gave {what} but tells of {total.number:,} at {total.path!r}, so some are missing; "
                    f"{mend}; if that counts something else: total=None"
                )


class _Newest:
    """The greatest value seen of the column that since= names, and which rows have it."""

    def __init__(self, source: RestSource, since: Any) -> None:
        self._column = source.since[1] if source.since is not None else ""
        self._name, self._before = shown(source.url), since
        self.value = None if since is None else since["value"]
        self._at: list[str] = [] if since is None else list(since["rows"])
        self._seen = self._newest = self._order(self.value)

    def beyond(self, rows: _Rows) -> _Rows:
        """The rows that weren't there at the last reading."""
        if not self._column:
            return rows
        kept = []
        for row in rows:
            value = _found(row, self._column)
            if value is None or isinstance(value, bool | list | dict):
                raise SourceError(
                    f"a row of {self._name!r} has {value!r} as {self._column!r}, by which since= tells what is new; "
                    "name a column that every row has"
                )
            mark = blake2b(json.dumps(row, sort_keys=True).encode(), digest_size=12).hexdigest()
            place = self._order(value)
            if self._before is None or not self._was_seen(place, mark):
                kept.append(row)
            self._note(value, place, mark)
        return kept

    def cursor(self, count: int | None) -> Any:
        return None if self.value is None else {"value": self.value, "rows": sorted(self._at), "count": count}

    def _was_seen(self, place: Any, mark: str) -> bool:
        if self._is_later(place, self._seen):
            return False
        return mark in self._before["rows"] or self._is_later(self._seen, place)

    def _note(self, value: Any, place: Any, mark: str) -> None:
        if self.value is None or self._is_later(place, self._newest):
            self.value, self._newest, self._at = value, place, [mark]
        elif mark not in self._at and not self._is_later(self._newest, place):
            self._at.append(mark)

    def _is_later(self, place: Any, other: Any) -> bool:
        try:
            if isinstance(place, str) and isinstance(other, str) and len(place) != len(other):
                raise TypeError
            later: bool = place > other
        except TypeError:
            raise SourceError(
                f"{self._name!r} has {_written(other)!r} and {_written(place)!r} as {self._column!r}, which have no "
                "order; name a column of one kind in since="
            ) from None
        return later

    def _order(self, value: Any) -> Any:
        """Numbers by their size and instants by time, in text too; other text by its characters where all of one length
        are in the server's order by these: who can tell that of "1/2/2024"?"""
        if not isinstance(value, str):
            return value
        if _NUMBER.fullmatch(value):
            return Decimal(value)
        try:
            return instant(value)
        except ValueError:
            pass
        if not _ORDERED.fullmatch(value):
            raise SourceError(
                f"{self._name!r} has {value!r} as {self._column!r}, text in which nothing tells what is later; name a "
                "column of numbers, or of times such as 2013-01-31T15:00:00, in since="
            )
        return value


def _written(place: Any) -> Any:
    return str(place) if isinstance(place, Decimal | datetime) else place


def _found(document: Any, path: str) -> Any:
    """What stands at *path*; None where there is nothing."""
    for name in path.split("."):
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _server(url: str) -> tuple[str, str, int | None]:
    parsed_url = httpx.URL(url)
    return parsed_url.scheme, parsed_url.host, parsed_url.port
