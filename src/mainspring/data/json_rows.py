"""Rows of JSON: a document with a list of objects, or an object on each line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import polars as pl

from mainspring.core.errors import SourceEmpty, SourceError
from mainspring.core.sources import JsonSource
from mainspring.data.nested import frame_of
from mainspring.data.stored import Stored, blocks, rows

MOST_BYTES_OF_A_DOCUMENT = 1 << 30
_LINES_BYTES = 4 << 20


def frames(stored: Stored, source: JsonSource, text_columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """The file's rows: lines in frames of some megabytes, a document as a whole."""
    parts = map(b"".join, rows(blocks(stored, source.encoding, _LINES_BYTES), "", stored.name))
    first = next(parts, b"")
    if not first.strip():
        raise SourceEmpty(f"{stored.name!r} is empty; it needs rows, as a list of objects or an object on each line")
    if source.rows or not _is_lines(first):
        yield _document(b"".join(_bounded(first, parts, stored.name)), source, stored.name)
        return
    line = 0
    for part in chain([first], parts):
        yield _lines(part, line, stored.name)
        line += part.count(b"\n")


def parsed(content: bytes | str, where: str) -> Any:
    """JSON that says one thing: no key twice in an object, no NaN or Infinity. *where* begins the message."""
    try:
        return json.loads(content, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise SourceError(f"{where} is nested too deeply; give flatter JSON") from None
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise SourceError(f"{where} isn't JSON: {reason}; mend it and run again") from None


def at(document: Any, path: str, where: str) -> Any:
    """What stands at *path*, such as "data.items"; the document itself where there is no path."""
    found = document
    for name in path.split(".") if path else ():
        if not isinstance(found, dict) or name not in found:
            has = f"it has {', '.join(map(repr, list(found)[:10]))}" if isinstance(found, dict) else "it is no object"
            raise SourceError(f"{where} has nothing at {path!r}: no {name!r}, {has}; mend the path")
        found = found[name]
    return found


def objects(found: Any, where: str, path: str = "") -> list[dict[str, Any]]:
    """*found* as a list of rows; raises where it is something else."""
    shown = f" at {path!r}" if path else ""
    if not isinstance(found, list):
        hint = f"; its keys are {', '.join(map(repr, list(found)[:10]))}" if isinstance(found, dict) else ""
        raise SourceError(f"{where} has no list of rows{shown}{hint}; say where it is: rows='data.items'")
    for place, row in enumerate(found):
        if not isinstance(row, dict):
            raise SourceError(f"{where}: row {place + 1:,}{shown} is {_kind(row)}, not an object; mend it")
    return found


def _bounded(first: bytes, parts: Iterator[bytes], name: str) -> Iterator[bytes]:
    size = 0
    for part in chain([first], parts):
        size += len(part)
        if size > MOST_BYTES_OF_A_DOCUMENT:
            most = MOST_BYTES_OF_A_DOCUMENT >> 20
            raise SourceError(f"{name!r} is one JSON document of more than {most:,} MB; write its rows as JSON lines")
        yield part


def _is_lines(first: bytes) -> bool:
    """Whether the first line with something on it is an object of its own."""
    line = next(line for line in first.split(b"\n") if line.strip())
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return line.lstrip().startswith(b"{") and line.rstrip().endswith(b"}")


def _document(content: bytes, source: JsonSource, name: str) -> pl.DataFrame:
    found = at(parsed(content, repr(name)), source.rows, repr(name))
    return frame_of(objects(found, repr(name), source.rows), name)


def _lines(part: bytes, before: int, name: str) -> pl.DataFrame:
    found = []
    for place, line in enumerate(part.split(b"\n")):
        if not line.strip():
            continue
        where = f"line {before + place + 1:,} of {name!r}"
        row = parsed(line, where)
        if not isinstance(row, dict):
            raise SourceError(f"{where} is {_kind(row)}, not an object; mend it")
        found.append(row)
    return frame_of(found, name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r} comes twice in one object")
    return made


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON; write null")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _kind(value: Any) -> str:
    names = {list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
