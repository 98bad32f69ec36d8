"""What objects hold is read without asking them, and is the same in every process."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from mainspring.pipeline import altered

SETS = """
from types import SimpleNamespace
from mainspring.pipeline import altered
print(altered.state(SimpleNamespace(ids={word: len(word) for word in {"x", "yy", "zzz", "four"}})))
"""


class Odd:
    """It answers for itself, and not as objects do."""

    __slots__ = ("__rate",)

    def __init__(self, rate: float) -> None:
        self.__rate = rate

    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


class Proxy:
    """As those of web frameworks, outside of a request."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no context")

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise RuntimeError("no context")


def test_a_dictionary_made_of_a_set_is_told_alike_in_every_process() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", SETS], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(told) == 1 and "zzz" in told.pop()


def test_objects_are_not_asked_and_private_slots_are_read() -> None:
    assert altered.state(SimpleNamespace(proxy=Proxy())) is not None
    assert altered.state(SimpleNamespace(odd=Odd(1))) != altered.state(SimpleNamespace(odd=Odd(2)))


@pytest.mark.parametrize(("one", "other"), [(math.sin, math.cos), ({1: 2}, {1: 3}), ([1, 2], [2, 1])])
def test_values_in_an_object_are_told_apart(one: Any, other: Any) -> None:
    assert altered.state(SimpleNamespace(value=one)) != altered.state(SimpleNamespace(value=other))


def test_what_holds_too_much_is_not_told() -> None:
    assert altered.state(SimpleNamespace(many=list(range(1_000_000)))) is None
