"""Parsing in several threads: CPython 3.11 by itself fails within these tries."""

from __future__ import annotations

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mainspring.core.syntax import parsed


def test_many_threads_may_parse_at_once() -> None:
    source = Path(__file__).read_text(encoding="utf-8") * 20
    with ThreadPoolExecutor(8) as threads:
        trees = list(threads.map(parsed, [source] * 100))

    assert {ast.dump(tree) for tree in trees} == {ast.dump(ast.parse(source))}


def test_a_text_that_is_not_python_says_so() -> None:
    with pytest.raises(SyntaxError):
        parsed("def (")
