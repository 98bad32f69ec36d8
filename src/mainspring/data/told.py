"""What an answer of an API tells of rows and pages beyond itself: where they go on, and how many there are."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

_MORE = frozenset({
    "next", "nextpage", "nexturl", "nextlink", "nexthref", "nextcursor", "nexttoken", "nextpagetoken", "nextpageurl",
    "continuationtoken", "hasmore", "hasnext", "hasnextpage",
})  # fmt: skip
_EARLIER = frozenset({
    "previous", "prev", "previouspage", "prevpage", "previousurl", "prevurl", "previouslink", "prevlink",
    "previoushref", "prevhref", "hasprevious", "hasprev", "haspreviouspage", "hasprevpage",
})  # fmt: skip
_ROWS = frozenset({
    "total", "count", "totalcount", "totalresults", "totalrows", "totalitems", "totalrecords", "totalelements",
    "totalhits", "totalsize", "totalvalue", "recordcount", "recordstotal", "rowcount", "numfound",
})  # fmt: skip
_PAGES = frozenset({"totalpages", "pagecount", "pagestotal", "numpages", "lastpage"})
_ROW_HEADERS = ("x-total-count", "x-total", "x-wp-total", "x-pagination-total-count", "total-count")
_PAGE_HEADERS = ("x-total-pages", "x-wp-totalpages", "x-pagination-page-count")


_LINK = re.compile(r"""<([^>]*)>((?:[^,"]|"(?:[^"\\]|\\.)*")*)""")
_PARAMETER = re.compile(r""";\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))""")


@dataclass(frozen=True, slots=True)
class Total:
    """How many rows, or pages, there are in all, as an answer tells at *path*."""

    path: str
    number: int
    pages: bool


def more(document: Any, rows: str) -> str | None:
    """Where *document*, whose rows are at the path *rows*, tells of more pages behind it."""
    return next((path for path, value in around(document, rows) if value and _tells(path, _MORE)), None)


def earlier(document: Any, rows: str) -> str | None:
    """Where it tells of a page before it."""
    told = around(document, rows)
    return next(
        (path for path, value in told
         if (value and _tells(path, _EARLIER)) or (value is False and path.split(".")[-1] == "first")),
        None,
    )  # fmt: skip


def totals(document: Any, rows: str, headers: Mapping[str, str]) -> list[Total]:
    """What it and its *headers* tell of the number of all rows and pages."""
    found = [
        Total(path, number, _tells(path, _PAGES))
        for path, value in around(document, rows)
        if (number := _whole(value)) is not None and (_tells(path, _ROWS) or _tells(path, _PAGES))
    ]
    for names, pages in ((_ROW_HEADERS, False), (_PAGE_HEADERS, True)):
        found += [Total(name, number, pages) for name in names if (number := _whole(headers.get(name))) is not None]
    if match := re.fullmatch(r"\D*\d+-\d+/(\d+)", headers.get("content-range", "").strip()):
        found.append(Total("content-range", int(match[1]), False))
    return found


def around(document: Any, rows: str, path: str = "", depth: int = 4) -> Iterator[tuple[str, Any]]:
    """The single values around the rows, each with its path."""
    if isinstance(document, dict) and depth and (path != rows or not path):
        for name, value in document.items():
            yield from around(value, rows, f"{path}.{name}" if path else name, depth - 1)
    elif not isinstance(document, list | dict):
        yield path, document


def links(headers: httpx.Headers) -> dict[str, str]:
    """The addresses of the Link header, by what they are: one may be several things (RFC 8288, 3.3), in any case."""
    found: dict[str, str] = {}
    for address, parameters in _LINK.findall(", ".join(headers.get_list("link"))):
        said = {
            name.lower(): quoted or plain.strip("'") for name, quoted, plain in _PARAMETER.findall(parameters)[::-1]
        }
        for name in said.get("rel", "").lower().split():
            found.setdefault(name, address.strip())
    return found


def _tells(path: str, words: Collection[str]) -> bool:
    names = [re.sub(r"[^a-z]", "", name.lower()) for name in path.split(".")[-2:]]
    return names[-1] in words or "".join(names) in words


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
