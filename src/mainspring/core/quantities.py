"""What a user writes as text or number: names, durations, sizes, numbers within bounds."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any

from mainspring.core.errors import DeclarationError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
"""Of a Loop or Pipeline."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w|y)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B", re.IGNORECASE)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31557600.0}


def seconds(duration: str | float | timedelta) -> float:
    """The seconds in *duration*: a number of seconds, a timedelta, or text such as "5ms", "10m", "6h", "30d".

    >>> seconds("6h")
    21600.0
    """
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, int | float) and not isinstance(duration, bool) and duration >= 0:
        return float(duration)
    match = _DURATION.fullmatch(duration.strip()) if isinstance(duration, str) else None
    if match is None:
        raise DeclarationError(
            f"{duration!r} is not a duration; write a number and a unit, such as '5ms', '6h' or '30d'"
        )
    return float(match[1]) * _UNITS[match[2]]


def number_of_bytes(size: str | int) -> int:
    """The bytes in *size*: a whole number of bytes, or text such as "500MB", "2GB", "1.5GiB".

    >>> number_of_bytes("1.5GiB")
    1610612736
    """
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    match = _SIZE.fullmatch(size.strip()) if isinstance(size, str) else None
    if match is None:
        raise DeclarationError(f"{size!r} is not a size; write a number and a unit, such as '500MB' or '2GB'")
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " KMGT".index(match[2].upper() or " "))


def check_number(
    argument: str, value: Any, *, least: float = -math.inf, above: float = -math.inf, below: float = math.inf,
    whole: bool = False,
) -> None:  # fmt: skip
    """Raise DeclarationError unless *value* is a (*whole*) number, *least* or more, between *above* and *below*."""
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not (value >= least and above < value < below):
        kind = "a whole number" if whole else "a number"
        bounds = [f"{least:g} or more"] if least > -math.inf else []
        bounds += [f"above {above:g}"] if above > -math.inf else []
        bounds += [f"below {below:g}"] if below < math.inf else []
        raise DeclarationError(f"{argument}={value!r} must be {kind}{', ' if bounds else ''}{' and '.join(bounds)}")
