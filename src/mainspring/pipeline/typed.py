"""Text typed on a command line, as the value of the type that a parameter is declared to have."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

from mainspring.core.errors import DeclarationError
from mainspring.core.quantities import seconds

_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")
_NOTHING = ("none", "null", "")
_EXAMPLES: dict[Any, str] = {
    bool: "true", int: "3", float: "0.5", date: "2026-01-31", datetime: "2026-01-31T12:00", type(None): "none",
    time: "12:00", timedelta: "5d", Decimal: "1.50", dict: '{"a": 1}', list: "1,2", tuple: "1,2", set: "1,2",
}  # fmt: skip


def parsed(text: str, wanted: Any) -> Any:
    """The value of type *wanted* that *text* stands for; ValueError where it is none.

    >>> parsed("3", int | None), parsed("none", int | None), parsed("1,2", list[int])
    (3, None, [1, 2])
    """
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Annotated:
        return parsed(text, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _first(text, arguments)
    if origin is typing.Literal:
        return _found(each for each in arguments if str(each) == text)
    kind = origin or wanted
    if kind in (list, tuple, set, frozenset):
        return _several(text, kind, wanted)
    return _pairs(text, arguments) if kind is dict else _one(text, wanted)


def title(wanted: Any) -> str:
    """What *wanted* is called: `int or None`, `'a' or 'b'`, `list of date`."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Annotated:
        return title(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(title, arguments))
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    if origin in (list, tuple, set, frozenset):
        of = map(title, arguments if _is_fixed(wanted) else arguments[:1])
        return f"{origin.__name__} of {' and '.join(of) or 'nothing'}"
    if origin is dict:
        return f"dict of {' to '.join(map(title, arguments))}"
    return "None" if wanted is type(None) else str(getattr(wanted, "__name__", wanted))


def examples(wanted: Any) -> list[str]:
    """Texts that could be written for *wanted*."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return [example for each in arguments for example in examples(each)[:1]]
    if origin is typing.Literal:
        return [str(each) for each in arguments]
    if _is_fixed(wanted):
        return [",".join(examples(each)[0] for each in arguments)]
    if origin in (list, tuple, set, frozenset):
        return [",".join(examples(arguments[0])[:2])]
    if wanted is bool:
        return ["true", "false"]
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return [each.name for each in wanted]
    return [_EXAMPLES.get(origin or wanted, "...")]


def _is_fixed(wanted: Any) -> bool:
    """Whether it is a tuple whose items each have a type of their own."""
    return typing.get_origin(wanted) is tuple and typing.get_args(wanted)[-1:] != (...,)


def _one(text: str, wanted: Any) -> Any:
    if wanted is bool:
        return _found(value for value, words in ((True, _YES), (False, _NO)) if text.lower() in words)
    if wanted in _READERS:
        return _READERS[wanted](text)
    if isinstance(wanted, type) and issubclass(wanted, PurePath):
        return Path(text)
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return _found(each for each in wanted if text in (each.name, str(each.value)))
    try:
        return json.loads(text)
    except ValueError:
        return text


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError(text) from error


def _span(text: str) -> timedelta:
    """A number with a unit, or hours, minutes and seconds as Python writes them: 90m, 1:30:00."""
    clock = re.fullmatch(r"(-?)(\d+):([0-5]\d):([0-5]\d(?:\.\d{1,6})?)", text.strip())
    try:
        if clock is not None:
            sign, hours, minutes, rest = clock.groups()
            span = timedelta(hours=int(hours), minutes=int(minutes), seconds=float(rest))
            return -span if sign else span
        return timedelta(seconds=seconds(text))
    except (DeclarationError, OverflowError) as error:
        raise ValueError(text) from error


_READERS: dict[type, Callable[[str], Any]] = {
    str: str, int: int, float: float, date: date.fromisoformat, datetime: datetime.fromisoformat,
    time: time.fromisoformat, timedelta: _span, Decimal: _decimal,
}  # fmt: skip


def _pairs(text: str, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(text)
    if not arguments:
        return found
    keys, values = (
        [_item(each, wanted) for each in part] for part, wanted in zip((found, found.values()), arguments, strict=True)
    )
    return dict(zip(keys, values, strict=True))


def _item(item: Any, wanted: Any) -> Any:
    """What JSON gives for an item, as *wanted*: as it is where that fits, else what its text stands for."""
    if _fits(item, wanted):
        return item
    if item is None:
        raise ValueError(f"null is no {title(wanted)}")
    return parsed(item if isinstance(item, str) else json.dumps(item), wanted)


def _fits(item: Any, wanted: Any) -> bool:
    """Whether *item*, as JSON gives it, is of type *wanted* already."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Annotated:
        return _fits(item, arguments[0])
    if origin in (typing.Union, types.UnionType):
        return any(_fits(item, each) for each in arguments)
    if origin is typing.Literal:
        return any(type(item) is type(each) and item == each for each in arguments)
    if wanted in (Any, object):
        return True
    if type(item) is not (type(None) if wanted is None else origin or wanted):
        return False
    if isinstance(item, list):
        return all(_fits(each, of) for each in item for of in arguments)
    parts = zip((item, item.values()), arguments, strict=True) if isinstance(item, dict) and arguments else ()
    return all(_fits(each, of) for part, of in parts for each in part)


def _first(text: str, kinds: tuple[Any, ...]) -> Any:
    """The first of *kinds* that *text* can be; plain text comes last."""
    if type(None) in kinds and text.lower() in _NOTHING:
        return None
    for kind in sorted((kind for kind in kinds if kind is not type(None)), key=lambda kind: kind is str):
        try:
            return parsed(text, kind)
        except ValueError:
            continue
    raise ValueError(text)


def _several(text: str, kind: Callable[[list[Any]], Any], wanted: Any) -> Any:
    """A JSON list, or items between commas; each is of the first of *wanted*'s arguments, a tuple's of its own."""
    arguments = typing.get_args(wanted)
    read: Callable[[Any, Any], Any] = _item
    try:
        items = list(json.loads(text))
    except (ValueError, TypeError):
        items, read = [item.strip() for item in text.split(",")] if text.strip() else [], parsed
    if not _is_fixed(wanted):
        return kind([read(item, arguments[0] if arguments else Any) for item in items])
    if len(items) != len(arguments):
        raise ValueError(text)
    return tuple(read(item, each) for item, each in zip(items, arguments, strict=True))


def _found(values: Iterator[Any]) -> Any:
    """The first of *values*."""
    for value in values:
        return value
    raise ValueError("it is none of them")
