"""How a user declares that feature columns are cleaned. Fitting it is `store.cleaning`'s work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mainspring.core.errors import DeclarationError
from mainspring.core.quantities import check_number

PARTS = ("year", "quarter", "month", "week", "day", "weekday", "hour", "minute", "days")
STATISTICS = ("median", "mean", "most frequent")
_ELSEWHERE = {"mode": "most frequent", "mostfrequent": "most frequent", "average": "mean", "avg": "mean", "zero": 0}
"""What other libraries call what is filled in: here it would be a text of its own."""


@dataclass(frozen=True, slots=True)
class Clean:
    """How feature columns are cleaned: after the features functions, learnt from training rows only, part of the model.

    missing: "median", "mean" or "most frequent" of the column, or a value of your own (None leaves gaps to the model's
    encoding); with *indicator* a column beside tells where a value was missing. outliers: "clip" them, or "flag" them
    in a column beside; they lie further from the quartiles than *beyond* interquartile ranges. text: blanks, case and
    the width of letters are made alike. rare: levels with a smaller share of the rows become "other". dates: the parts
    that take a date's place, such as ("month", "weekday"). skew: numbers far from symmetric are bent (Yeo-Johnson).
    duplicates: "drop" leaves one of rows that are the same in every column. columns: only these, else all that fit.

    >>> Clean(missing="median", outliers="clip", columns=["fare"]).beyond
    3.0
    """

    missing: str | float | None = None
    indicator: bool = True
    outliers: Literal["clip", "flag"] | None = None
    beyond: float = 3.0
    text: bool = False
    rare: float | None = None
    dates: Sequence[str] = ()
    skew: bool = False
    duplicates: Literal["keep", "drop"] = "keep"
    columns: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.missing is not None and not isinstance(self.missing, str):
            check_number("Clean missing", self.missing)
        if isinstance(self.missing, str):
            _check_fill(self.missing)
        if self.outliers not in (None, "clip", "flag"):
            raise DeclarationError(f"Clean(outliers={self.outliers!r}) must be 'clip' or 'flag'")
        if self.duplicates not in ("keep", "drop"):
            raise DeclarationError(f"Clean(duplicates={self.duplicates!r}) must be 'keep' or 'drop'")
        check_number("Clean beyond", self.beyond, above=0)
        if self.rare is not None:
            check_number("Clean rare", self.rare, above=0, below=1)
        for name in ("dates", "columns"):
            if isinstance(getattr(self, name), str):
                raise DeclarationError(f"Clean({name}={getattr(self, name)!r}) must be a list")
        if unknown := [part for part in self.dates if part not in PARTS]:
            raise DeclarationError(f"Clean(dates=[{unknown[0]!r}]) is unknown; the parts are {', '.join(PARTS)}")
        done = self.outliers or self.text or self.dates or self.skew or self.duplicates == "drop"
        if not done and self.missing is None and self.rare is None:
            raise DeclarationError("Clean cleans nothing; say what: missing=, outliers=, text=, rare=, dates=, skew=")


def _check_fill(text: str) -> None:
    plain = "".join(filter(str.isalpha, text.lower()))
    meant = {"".join(filter(str.isalpha, name)): name for name in STATISTICS} | _ELSEWHERE
    if text not in STATISTICS and plain in meant:
        raise DeclarationError(f"Clean(missing={text!r}) would fill gaps with that word; write {meant[plain]!r}")
