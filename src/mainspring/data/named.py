"""The source that a person names by one text, as on the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mainspring.core import declarations, sources
from mainspring.core.errors import UsageError


def named(text: str, query: str | None = None) -> Any:
    """The source that a person names: a file or address, the folder of a Delta table, or URL#TABLE of a database."""
    url, separator, table = text.rpartition("#")
    if query is not None:
        return sources.sql(text, query)
    if separator and ("://" in url or url.startswith("env:")):
        if not re.fullmatch(r"[\w.$]+", table):
            raise UsageError(f"{text!r}: what stands after # must be a table's name; write a select with --query")
        return sources.sql(url, table)
    if Path(text, "_delta_log").is_dir():
        return sources.delta(text)
    return declarations.source(text)
