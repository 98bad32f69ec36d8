"""Any value as plain JSON, for who reads it in a card, over HTTP or in a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from typing import Any


def plain(value: Any) -> Any:
    """*value* as JSON: fields, mappings and sequences all the way down, times as ISO text, all else by its own text.

    >>> plain({"at": date(2013, 7, 1), "shares": (0.1, None), 3: range(2)})
    {'at': '2013-07-01', 'shares': [0.1, None], '3': 'range(0, 2)'}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
