"""How figures are written in sentences that people read: numbers, shares, counts, bounds."""

from __future__ import annotations

import math
import os
import re
import traceback
from pathlib import Path, PurePath

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_SMALL, _LARGE = 1e-6, 1e12
_OURS = str(Path(__file__).parents[1]) + os.sep


def number(value: float | None, digits: int = 3) -> str:
    """A figure with significant digits, thousands separated; a dash for nothing.

    >>> number(0.84371), number(12345.678), number(20.0), number(float("nan"))
    ('0.844', '12,346', '20', '–')
    >>> number(0.0000000123), number(1e200)
    ('1.2e-8', '1e200')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or (value == round(value) and abs(value) < _LARGE):
        return f"{value + 0.0:,.0f}"  # -0.0 is 0
    if not _SMALL <= abs(value) < _LARGE:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def percent(share: float, digits: int = 3) -> str:
    """A share in percent, without needless zeros.

    >>> percent(0.05), percent(0.99762)
    ('5 %', '99.8 %')
    """
    shown = number(100 * share, digits)
    return f"{shown.rstrip('0').rstrip('.') if '.' in shown else shown} %"


def evidence(value: float) -> str:
    """An e-value in words; what is far beyond any threshold needs no digits.

    >>> evidence(41.27), evidence(0.0000041), evidence(1e200)
    ('41.3', '< 0.01', '> 10⁶')
    """
    if 0 < value < 0.01:
        return "< 0.01"
    return number(value) if value <= 1e6 else "> 10⁶"


def duration(seconds: float) -> str:
    """A length of time in the largest unit that says it well.

    >>> duration(216000), duration(90000), duration(3600), duration(14.04), duration(0)
    ('2.5 days', '25 hours', '1 hour', '14 seconds', '0 seconds')
    """
    for name, size in (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0)):
        if seconds == size or abs(seconds) >= 2 * size or name == "second":
            break
    shown = f"{round(seconds / size, 3 if abs(seconds) < 1 else 1):,g}"
    return f"{shown} {name if shown == '1' else name + 's'}"


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


def brief(value: object, most: int = 60) -> str:
    """A value on one line, cut where it is long, without its address.

    >>> brief([1, 2]), brief("a" * 9, 8)
    ('[1, 2]', "'aaaa...")
    """
    text = _ADDRESS.sub("", " ".join(repr(value).split()))
    return text if len(text) <= most else f"{text[: most - 3]}..."


def place(error: BaseException) -> str:
    """Where in the user's own code *error* came up: the innermost line that belongs to no installed library."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    foreign = (_OURS, "<frozen")
    own = [frame for frame in frames if "/lib/python" not in frame.filename and not frame.filename.startswith(foreign)]
    written = [frame for frame in own if not frame.filename.startswith("<")] or own  # not what a library made by exec
    return f"{PurePath(written[-1].filename).name.strip('<>')}, line {written[-1].lineno}" if own else ""
