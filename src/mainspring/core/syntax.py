"""Python's own parser, safe in several threads."""

from __future__ import annotations

import ast
import threading
from typing import Any

_PARSING = threading.Lock()


def parsed(source: str | bytes, filename: str = "<unknown>", mode: str = "exec", flags: int = 0) -> Any:
    """What `ast.parse` gives.

    CPython 3.11 keeps one count for all threads that build a tree, so that two of them fail at once with
    "SystemError: AST constructor recursion depth mismatch" (https://github.com/python/cpython/issues/106905). Ours
    wait for each other; when a library's thread was the other one, the text is parsed again.
    """
    with _PARSING:
        for _ in range(10):
            try:
                return compile(source, filename, mode, flags | ast.PyCF_ONLY_AST)
            except SystemError:
                continue
        return compile(source, filename, mode, flags | ast.PyCF_ONLY_AST)
