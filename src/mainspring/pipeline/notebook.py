"""A notebook's cells as one module: those that ran so far, in the order in which they ran."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from mainspring.core.syntax import parsed

NOTEBOOK = "notebook"
_MAGIC = re.compile(r"^\s*([%!].*|.*\?{1,2}\s*)$")
_HARMLESS_CELL_MAGICS = ("%%time", "%%timeit", "%%capture")


def is_notebook(namespace: Mapping[str, Any]) -> bool:
    """Whether these are the globals of a notebook or an IPython shell."""
    return namespace.get("__name__") == "__main__" and isinstance(namespace.get("In"), list)


def cells(namespace: Mapping[str, Any]) -> str:
    """The text of the cells; magics are left out, and cells that aren't Python."""
    found = [_without_magics(str(cell)) for cell in namespace["In"]]
    return "\n".join(cell for cell in found if _parses(cell))


def _without_magics(cell: str) -> str:
    if cell.lstrip().startswith("%%"):
        first, _, rest = cell.lstrip().partition("\n")
        return _without_magics(rest) if first.startswith(_HARMLESS_CELL_MAGICS) else ""
    if _parses(cell):
        return cell
    return "\n".join("" if _MAGIC.match(line) else line for line in cell.splitlines())


def _parses(cell: str) -> bool:
    try:
        parsed(cell, "<cell>", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError):
        return False
    return True
