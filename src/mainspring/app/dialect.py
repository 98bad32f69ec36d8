"""How a CSV file is written: its separator, its encoding, its numbers and its dates, found by looking."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl

from mainspring.core.declarations import CsvSource
from mainspring.core.errors import SourceEmpty, SourceError, SourceNotFound
from mainspring.data import sources
from mainspring.data.casting import instants
from mainspring.data.written import moments

_COMMA = re.compile(r"^\s*[-+]?(\d+|\d{1,3}(\.\d{3})+),\d+\s*$|^\s*[-+]?\d{1,3}(\.\d{3})+\s*$")
_GROUPS = re.compile(r"^\s*[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?\s*$")
"""Numbers with a decimal comma, perhaps points between groups of three digits; and with commas between the groups."""
_WHOLE = r"^\s*[-+]?\d+\s*$"
_ORDERS = ("%d{0}%m{0}%Y", "%m{0}%d{0}%Y", "%Y{0}%m{0}%d", "%d{0}%b{0}%Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S")
_FORMS = tuple(order.format(mark) + clock for mark in "./-" for order in _ORDERS for clock in _CLOCKS)


def found(declared: CsvSource) -> CsvSource:
    """*declared* with the separator and the encoding by which the file has columns; as it is, where none gives any."""
    tried = [replace(declared, separator=mark, encoding=code) for code in ("utf8", "latin-1") for mark in ",;\t|"]
    return next((source for source in tried if _has_columns(source)), declared)


def told(source: CsvSource, table: pl.DataFrame) -> CsvSource:
    """*source* with the way in which the texts of *table*, its first rows, write numbers and dates. Of what could be
    read in two ways (01/02/2013; 1,234) nothing is told."""
    texts = [column for column in table if column.dtype == pl.String and instants(column).null_count()]
    forms = {column.name: form for column in texts if (form := _form(column))}
    numbers = [column for column in texts if column.name not in forms]
    dates = dict.fromkeys(forms.values())
    said = replace(source, dates=next(iter(dates), "") if len(dates) <= 1 else tuple(sorted(forms.items())))
    commas = [column for column in numbers if _written(column, _COMMA) and not _written(column, _GROUPS)]
    if commas:
        dotted = any(column.str.contains(r"\d\.\d{3}").any() for column in commas)
        if not (dotted and any(column.dtype.is_float() for column in table)):  # 43.657: a fraction, or groups?
            said = replace(said, decimal=",", thousands="." if dotted else "")
    elif any(_written(column, _GROUPS) and not _written(column, _COMMA) for column in numbers):
        said = replace(said, thousands=",")
    return said if said == source or _has_columns(said) else source


def _form(column: pl.Series) -> str:
    """The one form by which all of *column* are dates; "" without one, or with several."""
    text = column.drop_nulls()
    head = text.head(50)
    forms = [form for form in _FORMS if not moments(head, form).null_count() and not moments(text, form).null_count()]
    return forms[0] if len(forms) == 1 else ""


def _written(column: pl.Series, form: re.Pattern[str]) -> bool:
    """Whether *column* is numbers, most of them written in *form* and the others whole."""
    text = column.drop_nulls()
    such = text.str.contains(form.pattern)
    return bool(2 * such.sum() > len(text) and (such | text.str.contains(_WHOLE)).all())


def _has_columns(source: CsvSource) -> bool:
    try:
        return next(iter(sources.reader(source).read(None)))[0].width > 1
    except (SourceNotFound, SourceEmpty):
        raise
    except SourceError:
        return False
