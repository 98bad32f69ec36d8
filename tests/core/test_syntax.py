"""Parsing in several threads: CPython 3.11 by itself fails when another thread gets its turn amid a tree."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mainspring.core.syntax import parsed


def test_many_threads_may_parse_at_once() -> None:
    source = Path(__file__).read_text(encoding="utf-8") * 10

    def turn(*told: Any) -> None:
        time.sleep(0)

    gc.callbacks.append(turn)
    try:
        with ThreadPoolExecutor(4) as threads:
            trees = list(threads.map(parsed, [source] * 20))
    finally:
        gc.callbacks.remove(turn)

    assert {len(tree.body) for tree in trees} == {len(parsed(source).body)}


def test_a_text_that_is_not_python_says_so() -> None:
    with pytest.raises(SyntaxError):
        parsed("def (")
