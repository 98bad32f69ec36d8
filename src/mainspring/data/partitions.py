"""Columns that the folders of files name, as Hive and Spark write them: year=2013/month=01/rows.parquet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import polars as pl

_NULL = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")


class Partitions:
    """What the folders of *names* say, from where *path*, a folder or a pattern, no longer says it itself.

    A column is whole numbers where all its values are, else text. text_columns: columns that are text all the same.

    >>> Partitions("rows", ["rows/year=2013/a.csv", "rows/year=2014/b.csv"]).of("rows/year=2014/b.csv")
    {'year': 2014}
    """

    def __init__(self, path: str, names: Sequence[str], text_columns: Sequence[str] = ()) -> None:
        base = re.split(r"[*?\[]", path)[0]
        base = base.rpartition("/")[0] if base != path else path.rstrip("/")
        self._told = {name: _told(name[len(base) :]) for name in names if name.startswith(base)}
        values: dict[str, set[str]] = {}
        for told in self._told.values():
            for column, value in told.items():
                values.setdefault(column, set()).add(value)
        self._numbers = {
            column
            for column, found in values.items()
            if column not in text_columns and all(_WHOLE.fullmatch(value) for value in found - {_NULL})
        }

    def of(self, name: str) -> dict[str, int | str | None]:
        """The columns of the file *name*."""
        return {column: self._value(column, value) for column, value in self._told.get(name, {}).items()}

    def _value(self, column: str, text: str) -> int | str | None:
        if text == _NULL:
            return None
        return int(text) if column in self._numbers else text


def with_columns(frame: pl.DataFrame, told: Mapping[str, int | str | None]) -> pl.DataFrame:
    """*frame* with the columns that its file's folders tell, where it hasn't got them itself."""
    new = [pl.lit(value).alias(column) for column, value in told.items() if column not in frame.columns]
    return frame.with_columns(new) if new else frame


def _told(inside: str) -> dict[str, str]:
    folders = inside.replace("\\", "/").split("/")[:-1]
    return {unquote(name): unquote(value) for name, mark, value in (part.partition("=") for part in folders)
            if mark and name}  # fmt: skip
