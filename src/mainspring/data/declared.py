"""What a declared source asks for, as JSON: two that ask for the same rows have the same identity."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any


def identity(source: Any) -> list[Any]:
    """The kind, and everything that was said of it; how it is reached doesn't matter, nor who asks."""
    said: list[Any] = [type(source).__name__]
    for field in fields(source):
        value = getattr(source, field.name)
        if field.name not in ("access", "folder") and (field.default is MISSING or value != field.default):
            said += [plain(value)] if field.default is MISSING else [[field.name, plain(value)]]
    return said


def plain(value: Any) -> Any:
    """*value* as it comes back from JSON."""
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return identity(value) if hasattr(value, "__dataclass_fields__") else value
