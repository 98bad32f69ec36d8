"""What a step may be, and what is refused."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from mainspring.core.errors import DeclarationError
from mainspring.pipeline.step import Step, as_step, at_least, step


def test_a_marked_function_stays_a_plain_function() -> None:
    @step
    def rows() -> list[int]:
        return [1, 2]

    @step(retries=2, backoff="5s")
    def total(rows: list[int]) -> int:
        return sum(rows)

    assert total(rows()) == 3
    assert as_step(rows).name == "rows" and as_step(rows).function is rows
    assert (as_step(total).retries, as_step(total).backoff) == (2, 5.0)


def test_a_wrapper_doesnt_pass_for_the_marked_function_inside_it() -> None:
    @step(retries=2)
    def inner() -> int:
        return 1

    @functools.wraps(inner)
    def outer() -> int:
        return inner() + 1

    assert as_step(outer).function is outer


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout": "soon"}, "timeout='soon': 'soon' is not a duration"),
        ({"cpus": "two"}, "cpus='two' must be a number, 0 or more"),
        ({"memory": "1 gig"}, "'1 gig' is not a size; write a number and a unit, such as '500MB'"),
        ({"priority": 1.5}, "priority=1.5 must be a whole number"),
        ({"seed": -1}, "seed=-1 must be a whole number, 0 or more"),
        ({"retrys": 1}, "no option 'retrys'"),
        ({"retries": -1}, "retries=-1 must be a whole number, 0 or more"),
        ({"backoff": "soon"}, "'soon' is not a duration"),
        ({"when": "accuracy"}, "when='accuracy' is no condition"),
        ({"each": {"a": "b", "c": "d"}}, "must name one parameter"),
        ({"each": {"a": 3}}, "must be a list"),
        ({"each": {}}, "each={} must name one parameter"),
        ({"each": ["a"]}, r"each=\['a'\] must name one parameter"),
        ({"cache": "no"}, "cache='no' must be True or False"),
        ({"effects": 1}, "effects=1 must be True or False"),
    ],
)
def test_an_option_that_cant_be_used_is_refused(options: dict[str, Any], words: str) -> None:
    def rows(a: int = 1) -> int:
        return a

    with pytest.raises(DeclarationError, match=words.replace("(", r"\(")):
        step(**options)(rows)


async def later() -> None: ...


@pytest.mark.parametrize("thing", [lambda: 1, 3, int, None, later])
def test_what_is_no_named_function_is_no_step(thing: Any) -> None:
    with pytest.raises(DeclarationError):
        as_step(thing)


def test_a_function_given_as_text_needs_its_inputs() -> None:
    assert Step("train", "room.file:train", inputs=("split",)).inputs == ("split",)
    with pytest.raises(DeclarationError, match="inputs="):
        Step("train", "room.file:train")
    with pytest.raises(DeclarationError, match="module:function"):
        Step("train", "room.file.train", inputs=())


def test_a_condition_says_why_it_doesnt_hold() -> None:
    condition = at_least("accuracy", 0.8)

    assert condition.refuses({"accuracy": 0.8}) is None
    assert condition.refuses({"accuracy": float("nan")}) == "accuracy is nan, at least 0.8 is asked"
    with pytest.raises(DeclarationError, match="needs a number, but 'accuracy' gave 'good'"):
        condition.refuses({"accuracy": "good"})
    with pytest.raises(DeclarationError, match="such as at_least"):
        at_least("accuracy", "high")  # type: ignore[arg-type]
