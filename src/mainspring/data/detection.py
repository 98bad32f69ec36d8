"""Columns that look personal: by how their values are written, by checksums, and by a small dictionary of names.

Said of a column is the kind and the share of values, never a value. A number is personal only where its checksum says
so in nearly all rows: ids, times and codes pass one now and then.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import polars as pl

from mainspring.core.errors import PersonalData
from mainspring.core.hiding import is_card, is_iban
from mainspring.core.privacy import Privacy
from mainspring.core.schema import Schema
from mainspring.core.wording import percent

ROWS = 1_000
"""How many rows of a reading are looked at."""
LONGEST = 300
"""So many characters of a value are looked at: searching a text takes time that grows with its square."""
_LEAST = 5
"""Fewer distinct values tell nothing of a column."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A column that looks personal: *share* of its distinct values are of *kind*."""

    column: str
    kind: str
    share: float

    def __str__(self) -> str:
        return f"column {self.column!r} holds {self.kind} ({percent(self.share)} of its distinct values)"


class Looking:
    """Looks at the first rows of a reading, for columns of which neither *privacy* nor the *contract* knows that they
    are personal. notes, columns: what there is to say of them, and their names."""

    def __init__(self, privacy: Privacy, contract: Schema | None) -> None:
        self.notes: tuple[str, ...] = ()
        self.columns: tuple[str, ...] = ()
        self._detect, self._looked = privacy.detect, privacy.detect == "off"
        self._known = {*privacy.rules, *privacy.personal, *(c.name for c in contract or () if c.personal)}

    def at(self, rows: pl.DataFrame) -> None:
        """Look at *rows* if they are the first; raises PersonalData where detect="block"."""
        if not self._looked:
            self._looked = True
            found = personal(rows.gather_every(max(1, rows.height // ROWS)), self._known)
            self.notes, self.columns = told(found, self._detect), tuple(finding.column for finding in found)


def personal(rows: pl.DataFrame, known: Collection[str] = ()) -> list[Finding]:
    """The columns of *rows*, but those that are *known* to be personal, that look so.

    >>> personal(pl.DataFrame({"contact": [f"{name}@example.org" for name in "abcdef"], "fare": [1, 2, 3, 4, 5, 6]}))
    [Finding(column='contact', kind='e-mail addresses', share=1.0)]
    """
    found = [_finding(rows[name]) for name in rows.columns if name not in known]
    return [finding for finding in found if finding is not None]


def told(found: Sequence[Finding], detect: str) -> tuple[str, ...]:
    """What to say of the columns *found*; raises PersonalData where detect="block"."""
    if not found:
        return ()
    names = [finding.column for finding in found]
    what = "; ".join(map(str, found))
    if detect == "block":
        raise PersonalData(
            f"{what}; nothing was kept: write privacy=ms.Privacy(drop={names!r}), mask= or pseudonymize=, or mark the "
            "column personal = true in the contract"
        )
    return tuple(f"{each}; say what becomes of it: privacy=ms.Privacy(drop=[{each.column!r}])" for each in found)


def _finding(values: pl.Series) -> Finding | None:
    if values.dtype.is_float():
        values = _whole(values)
    if not (values.dtype == pl.String or values.dtype.is_integer()):
        return None
    texts = values.drop_nulls().cast(pl.String).str.strip_chars().str.head(LONGEST).unique().to_list()
    texts = [text for text in texts if text]
    if len(texts) < _LEAST:
        return None
    numbers = values.dtype.is_integer()
    for kind, least, for_numbers, is_one in _KINDS:
        if numbers and not for_numbers:
            continue
        share = sum(map(is_one, texts)) / len(texts)
        if share >= least:
            return Finding(values.name, kind, share)
    return None


def _whole(values: pl.Series) -> pl.Series:
    """Floats as integers where all are: pandas holds numbers so where some are missing."""
    known = values.drop_nulls().drop_nans()
    whole = len(known) and ((known == known.round()) & (known.abs() < 2**53)).all()
    return known.cast(pl.Int64) if whole else values


# ---------------------------------------------------------------------------------------------------------- the kinds

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*[A-Za-z]{2,}")
_PHONE = re.compile(
    r"\+\d[\d ()./-]{6,18}\d|00[1-9]\d{0,2}[ /-][\d ()./-]{5,16}\d|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}"
    r"|0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,5}|0\d(?:[ .-]\d\d){4}|0\d\d \d{3} \d\d \d\d"
)
_SSN = re.compile(r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}")
_NINO = re.compile(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]")
_NAME = re.compile(r"[^\W\d_][\w'’.-]*(?:,? [(\"]?[^\W\d_][\w'’.-]*[)\"]?){0,6}")
_SPANISH = re.compile(r"(\d{8})-?([A-Z])")
_DNI = "TRWAGMYFPDXBNJZSQVHLCKE"


def _email(text: str) -> bool:
    return _EMAIL.search(text) is not None


def _phone(text: str) -> bool:
    return _PHONE.fullmatch(text) is not None and 8 <= sum(map(str.isdigit, text)) <= 15


def _address(text: str) -> bool:
    """With a port or a prefix's length behind it, too."""
    plain = text.partition("/")[0]
    try:
        ipaddress.ip_address(plain.partition(":")[0] if plain.count(":") == 1 else plain)
    except ValueError:
        return False
    return True


def _national(text: str) -> bool:
    """Of the USA, the United Kingdom, and by their checksums Germany, France, the Netherlands, Spain and Poland."""
    plain = text.replace(" ", "").upper()
    return bool(_SSN.fullmatch(text) or _NINO.fullmatch(plain)) or _checked(plain)


def _checked(text: str) -> bool:
    if found := _SPANISH.fullmatch(text):
        return _DNI[int(found[1]) % 23] == found[2]
    if not text.isdecimal() or not text.isascii():
        return False
    return {9: _dutch, 11: _german_or_polish, 15: _french}.get(len(text), _never)(text)


def _never(text: str) -> bool:
    return False


def _dutch(text: str) -> bool:
    total = sum(int(digit) * weight for digit, weight in zip(text, (9, 8, 7, 6, 5, 4, 3, 2, -1), strict=True))
    return total % 11 == 0 and total > 0


def _german_or_polish(text: str) -> bool:
    weights = zip(text, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1), strict=True)
    polish = sum(int(digit) * weight for digit, weight in weights) % 10 == 0
    return (polish and 1 <= int(text[2:4]) % 20 <= 12 and 1 <= int(text[4:6]) <= 31) or _german(text)


def _german(text: str) -> bool:
    """ISO 7064, MOD 11,10; of the first ten digits one comes twice or three times, and the first is no zero."""
    product = 10
    for digit in text[:10]:
        total = (int(digit) + product) % 10 or 10
        product = 2 * total % 11
    repeated = [text[:10].count(digit) for digit in set(text[:10])]
    return text[0] != "0" and (11 - product) % 10 == int(text[10]) and sum(count > 1 for count in repeated) == 1


def _french(text: str) -> bool:
    return text[0] in "12" and 1 <= int(text[3:5]) <= 12 and 97 - int(text[:13]) % 97 == int(text[13:])


def _name(text: str) -> bool:
    if not _NAME.fullmatch(text):
        return False
    words = [word.strip(".,").lower() for word in text.split()]
    return not _given_names().isdisjoint(words)


@cache
def _given_names() -> frozenset[str]:
    return frozenset((files("mainspring.data") / "given_names.txt").read_text(encoding="utf-8").split())


_KINDS: tuple[tuple[str, float, bool, Callable[[str], bool]], ...] = (
    ("e-mail addresses", 0.05, False, _email),
    ("IBANs", 0.5, False, is_iban),
    ("card numbers", 0.8, True, is_card),
    ("IP addresses", 0.5, False, _address),
    ("national ids", 0.9, True, _national),
    ("phone numbers", 0.5, False, _phone),
    ("names of people", 0.5, False, _name),
)
"""Kind, the share of distinct values from which a column holds it, whether whole numbers may be of it, and the test."""
