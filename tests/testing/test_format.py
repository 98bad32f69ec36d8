"""The contract suite of formats names what is wrong with one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mainspring.store import formats
from mainspring.store.formats import register_format
from mainspring.testing import check_format


class Palette:
    def __init__(self, colours: dict[str, str]) -> None:
        self.colours = colours

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Palette) and self.colours == other.colours

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return f"Palette({self.colours})"


VALUES = [Palette({"a": "red", "b": "blue"}), Palette({})]
count = itertools.count()


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    yield
    formats._registered.clear(), formats._by_name.clear()


def write(palette: Palette) -> bytes:
    return json.dumps(palette.colours).encode()


def read(content: bytes) -> Palette:
    return Palette(json.loads(content))


def test_a_sound_format_passes() -> None:
    register_format(Palette, "palette", write, read)
    check_format(Palette, VALUES)


@pytest.mark.parametrize(
    ("write", "read", "words"),
    [
        (lambda palette: "text", read, "write= gave str; return bytes"),
        (lambda palette: f"{next(count)}".encode(), read, "other bytes for the same value"),
        (write, json.loads, "read= gave dict, not Palette"),
        (write, lambda content: Palette({}), r"read= gave Palette\({}\) for"),
        (write, lambda content: Palette(dict(reversed(json.loads(content).items()))), "other bytes than the fresh one"),
    ],
)
def test_a_format_that_breaks_its_promise_is_named(write: Any, read: Callable[[bytes], Any], words: str) -> None:
    register_format(Palette, "palette", write, read)
    with pytest.raises(AssertionError, match=words):
        check_format(Palette, VALUES)


def test_values_that_differ_have_bytes_that_differ() -> None:
    register_format(Palette, "palette", lambda palette: b"", lambda content: Palette({}))
    with pytest.raises(AssertionError, match="values 0 and 1 differ but have the same bytes"):
        check_format(Palette, VALUES, same=lambda back, value: back is not VALUES[0] or value is VALUES[0])


def test_a_type_without_a_format_and_too_few_values_are_told() -> None:
    with pytest.raises(AssertionError, match="Palette has no format"):
        check_format(Palette, VALUES)
    register_format(Palette, "palette", write, read)
    with pytest.raises(AssertionError, match="give at least 2"):
        check_format(Palette, VALUES[:1])
