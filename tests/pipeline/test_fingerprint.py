"""Equal values have equal digests, different ones different, in every process."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.declarations import Search, Split, csv, log
from mainspring.core.errors import DeclarationError
from mainspring.pipeline.fingerprint import Parts, Reason, digest, parts
from mainspring.pipeline.step import Step

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Equal with the same types all the way down; NaN is NaN, -0.0 isn't 0.0, and a dict has an order."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return (math.isnan(left) and math.isnan(right)) or (
            left == right and math.copysign(1, left) == math.copysign(1, right)
        )
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@given(plain, plain)
def test_digests_are_equal_exactly_when_values_are_the_same(left: Any, right: Any) -> None:
    assert (digest(left) == digest(right)) == same(left, right)


@given(plain)
def test_a_copy_has_the_digest_of_the_original(value: Any) -> None:
    assert digest(copy.deepcopy(value)) == digest(value)


@given(st.sets(st.integers() | st.text(max_size=3)))
def test_a_set_has_no_order(values: set[Any]) -> None:
    forward, backward = set[Any](), set[Any]()
    for value in sorted(values, key=repr):
        forward.add(value)
    for value in sorted(values, key=repr, reverse=True):
        backward.add(value)

    assert digest(forward) == digest(backward) == digest(values)
    assert digest(values) != digest(frozenset(values))


class Colour(Enum):
    RED = 1
    BLUE = 2


class Number(IntEnum):
    ONE = 1


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Place:
    x: int
    y: int


class Marked(Point):
    """A plain subclass, whose other attribute is no field."""

    def __init__(self, x: int, mark: str) -> None:
        super().__init__(x, 2)
        self.mark = mark

    @cached_property
    def slow(self) -> int:
        return self.x


class Slotted(Point):
    __slots__ = ("weight",)

    def __init__(self, weight: int) -> None:
        super().__init__(1, 2)
        self.weight = weight


class Day(datetime):
    """Its own text leaves the mark out."""

    mark = 0

    def marked(self, mark: int) -> Day:
        self.mark = mark
        return self


class Rights(Flag):
    READ = 1
    WRITE = 2


class Hidden:
    """An estimator that doesn't tell all."""

    def __init__(self, told: int, hidden: int) -> None:
        self.told, self.hidden = told, hidden

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"told": self.told}


class Forest:
    """Looks like a scikit-learn estimator."""

    def __init__(self, trees: int = 10, base: Any = None) -> None:
        self.trees, self.base = trees, base

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"trees": self.trees, "base": self.base}


def fitted(forest: Forest, value: int) -> Forest:
    forest.fitted_ = value  # type: ignore[attr-defined]
    return forest


def add(a: int, b: int) -> int:
    return a + b


DIFFERENT: list[Any] = [
    1, 1.0, True, "1", b"1", Number.ONE, Decimal(1), 1 + 0j, None, 0.0, -0.0, float("nan"), float("inf"), "",
    [], (), {}, set(), [1], (1,), [[1]], ["a", "b"], ["ab"], {"a": 1}, {"a": 2}, {"b": 1}, Path("a"), range(3),
    Marked(1, "a"), Marked(1, "b"), Slotted(1), Slotted(2), Hidden(1, 2), Hidden(1, 3), Rights.READ,
    Rights.READ | Rights.WRITE, Day(2020, 1, 1).marked(1), Day(2020, 1, 1).marked(2),
    Colour.RED, Colour.BLUE, Point(1, 2), Point(2, 1), Place(1, 2), add, partial(add, 1), partial(add, 2),
    Forest().get_params, Forest(20).get_params,
    Forest(), Forest(20), Forest(base=Forest()), fitted(Forest(), 1), fitted(Forest(), 2), Forest,
    datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC), Split(), Split(seed=1), csv("a.csv"), csv("b.csv"),
    Search({"depth": (3, 12)}), Search({"depth": [3, 12]}), Search({"depth": log(3, 12)}),
]  # fmt: skip


def test_different_things_have_different_digests() -> None:
    digests = [digest(value) for value in DIFFERENT]

    assert len(set(digests)) == len(DIFFERENT)
    assert digests == [digest(value) for value in DIFFERENT]


def test_what_an_object_only_remembers_to_be_quicker_does_not_count() -> None:
    asked, fresh = Marked(1, "a"), Marked(1, "a")

    assert asked.slow == 1 and digest(asked) == digest(fresh)


def test_another_process_with_another_hash_seed_gives_the_same_digests() -> None:
    code = (
        "from mainspring.pipeline.fingerprint import digest\n"
        "from mainspring.core.declarations import Search, log\n"
        "print(digest({'a': {'x', 'y', 'z', 3}, 'b': [1.5, None, Search({'d': log(1, 2)})]}))"
    )
    values = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip

    assert len(values) == 1


STEP = Step("model", "room.file:model", inputs=("clean",), parameters={"trees": 100})


def model_parts(**changes: Any) -> Parts:
    given = {
        "code_digest": "c1",
        "inputs": {"clean": "d1"},
        "state": None,
        "libraries": {"polars": "2.1"},
        "parameters": {"depth": 3},
    }
    return parts(STEP, **{**given, **changes})


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"code_digest": "c2"}, Reason("code", "model", "c1", "c2"), "code changed: model"),
        ({"inputs": {"clean": "d2"}}, Reason("input", "clean", "d1", "d2"), "input clean changed"),
        ({"state": {"rows": 3}}, Reason("state", "", None, {"rows": 3}), "state None -> {'rows': 3}"),
        ({"libraries": {"polars": "2.2"}}, Reason("library", "polars", "2.1", "2.2"), "polars 2.1 -> 2.2"),
        ({"parameters": {"depth": 4}}, Reason("parameter", "depth", "3", "4"), "depth 3 -> 4"),
        ({"parameters": {}}, Reason("parameter", "depth", "3", None), "depth 3 -> None"),
    ],
)
def test_each_part_counts_and_is_named(change: dict[str, Any], reason: Reason, words: str) -> None:
    old, new = model_parts(), model_parts(**change)

    assert old.fingerprint != new.fingerprint
    assert new.differences(old) == [reason]
    assert str(reason) == words


def test_parts_come_back_from_the_journal_as_they_were() -> None:
    kept = Parts.from_json(json.loads(json.dumps(model_parts().to_json())))

    assert kept.fingerprint == model_parts().fingerprint
    assert model_parts().differences(kept) == []


def test_the_fingerprint_is_that_of_its_parts() -> None:
    known = parts(STEP, "c1", {"clean": "d1"}, None, {"polars": "2.1"}, {"depth": 3}).fingerprint

    assert known == model_parts().fingerprint


def test_services_and_retries_dont_count() -> None:
    other = Step(
        "model", "room.file:model", inputs=("clean",), parameters={"trees": 100}, services=("home",), retries=3
    )

    assert parts(other, "c", {}).fingerprint == parts(STEP, "c", {}).fingerprint


def test_what_cant_be_fingerprinted_is_named() -> None:
    with pytest.raises(DeclarationError, match="step 'model': parameter guard="):
        parts(STEP, "c", {}, parameters={"guard": threading.Lock()})
