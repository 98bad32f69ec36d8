"""An instant as requests, records and files write it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

_OFFSET = re.compile(r"\s*(Z|[+-]\d{2}:?\d{2})$")


def instant(text: str) -> datetime:
    """The instant that *text* writes in ISO 8601, in UTC and without a zone. Spaces around it and before its offset
    don't count, as in columns of a source. Raises ValueError.

    >>> str(instant(" 2013-07-01 12:00:00 +0200 ")), str(instant("2013-07-01"))
    ('2013-07-01 10:00:00', '2013-07-01 00:00:00')
    """
    text = text.strip()
    if offset := _OFFSET.search(text, 10):
        midnight = "T00:00" if offset.start() == 10 else ""
        text = f"{text[: offset.start()]}{midnight}{offset[1]}"
    found = datetime.fromisoformat(text)
    zone = found.utcoffset()
    try:
        return found if zone is None else found.replace(tzinfo=None) - zone
    except OverflowError:
        raise ValueError(f"{text!r} is beyond the years 1 to 9999") from None


def moment(value: Any) -> datetime | None:
    """The instant that *value* writes; None where it writes none."""
    try:
        return instant(str(value))
    except ValueError:
        return None
