"""How figures are written in sentences that people read: numbers, shares, counts, bounds."""

from __future__ import annotations

import math
import os
import traceback
from pathlib import Path, PurePath

_OURS = str(Path(__file__).parents[1]) + os.sep


def number(value: float | None, digits: int = 3) -> str:
    """A figure with significant digits, thousands separated; a dash for nothing.

    >>> number(0.84371), number(12345.678), number(float("nan"))
    ('0.844', '12,346', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = min(9, max(0, digits - 1 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{decimals}f}"


def percent(share: float, digits: int = 3) -> str:
    """A share in percent, without needless zeros.

    >>> percent(0.05), percent(0.99762)
    ('5 %', '99.8 %')
    """
    shown = number(100 * share, digits)
    return f"{shown.rstrip('0').rstrip('.') if '.' in shown else shown} %"


def count(many: int, noun: str, plural: str = "") -> str:
    """How many there are of something.

    >>> count(1, "row"), count(12345, "row")
    ('1 row', '12,345 rows')
    """
    return f"{many:,} {noun if many == 1 else plural or noun + 's'}"


def listed(words: list[str], most: int = 8) -> str:
    """Words in a sentence; of many only the first.

    >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], most=2)
    ('a, b and c', 'a, b and 1 more')
    """
    if len(words) > most:
        words = [*words[:most], f"{len(words) - most} more"]
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def one_line(text: object) -> str:
    """*text* on one line, without what a terminal would act on.

    >>> one_line("no column 'a\\x1b[2J';\\n  mend it")
    "no column 'a [2J'; mend it"
    """
    return " ".join("".join(mark if mark.isprintable() else " " for mark in str(text)).split())


def place(error: BaseException) -> str:
    """Where in the user's own code *error* came up: the innermost line that belongs to no installed library."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    foreign = (_OURS, "<frozen")
    own = [frame for frame in frames if "/lib/python" not in frame.filename and not frame.filename.startswith(foreign)]
    return f"{PurePath(own[-1].filename).name.strip('<>')}, line {own[-1].lineno}" if own else ""
