"""Who takes whose output, in which order."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import DeclarationError, UsageError
from mainspring.pipeline.graph import Graph, Selection
from mainspring.pipeline.step import Step, at_least, step


def rows() -> list[int]:
    return [1]


def clean(rows: list[int]) -> list[int]:
    return rows


def model(clean: list[int], trees: int = 100, loud: bool = False, name: str = "m") -> int:
    return trees


def report(model: int, rows: list[int]) -> str:
    return ""


def graph() -> Graph:
    return Graph([report, model, clean, rows])


def test_steps_come_after_their_inputs_and_else_as_declared() -> None:
    def beside() -> int:
        return 1

    assert graph().names == ("rows", "clean", "model", "report")
    assert Graph([beside, rows, clean]).names == ("beside", "rows", "clean")
    assert Graph([rows, clean, beside]).names == ("rows", "clean", "beside")


def test_upstream_and_downstream_know_no_distance() -> None:
    assert graph().upstream("model") == {"rows", "clean", "model"}
    assert graph().downstream("clean") == {"clean", "model", "report"}


def test_a_missing_input_names_the_function_and_the_nearest_name() -> None:
    def fit(claen: list[int]) -> int:
        return 1

    with pytest.raises(DeclarationError) as error:
        Graph([rows, clean, fit])
    assert "step 'fit': parameter 'claen' is no step (did you mean 'clean'?) and has no default" in str(error.value)

    with pytest.raises(DeclarationError, match="its inputs name 'splitt', which is no step"):
        Graph([Step("train", "a:b", inputs=("splitt",)), Step("split", "a:c", inputs=())])
    with pytest.raises(DeclarationError, match="its condition needs 'accuracy', which is no step"):
        Graph([step(when=at_least("accuracy", 0.5))(rows_again)])
    with pytest.raises(DeclarationError, match="no parameter 'mont'"):
        Graph([step(each={"mont": [1]})(rows_again)])


def rows_again(month: int = 1) -> int:
    return month


def test_two_steps_of_one_name_are_refused() -> None:
    with pytest.raises(DeclarationError, match="two steps are called 'rows'"):
        Graph([rows, clean, rows])


def test_a_circle_is_named() -> None:
    def first(third: int) -> int:
        return third

    def second(first: int) -> int:
        return first

    def third(second: int, rows: list[int]) -> int:
        return second

    with pytest.raises(DeclarationError, match="first -> second -> third -> first"):
        Graph([rows, first, second, third])


def test_parameters_that_no_step_gives_are_run_parameters() -> None:
    assert dict(graph().parameters) == {"trees": 100, "loud": False, "name": "m"}
    with pytest.raises(UsageError, match=r"no run parameter 'tree' \(did you mean 'trees'\?\)"):
        graph().check({"tree": 3})


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("trees", "50", 50), ("loud", "yes", True), ("loud", "0", False), ("name", "7", "7")],
)
def test_typed_text_follows_the_annotation(name: str, text: str, value: Any) -> None:
    parsed = graph().parse(name, text)

    assert (type(parsed), parsed) == (type(value), value)


class Colour(Enum):
    RED = 1
    BLUE = 2


def typed(
    day: date = date(2020, 1, 1),
    at: datetime | None = None,
    folder: Path = Path("a"),
    most: int | None = None,
    least: Optional[float] = 0.5,  # noqa: UP045
    kind: Literal["a", "b", 3] = "a",
    colour: Colour = Colour.RED,
    sizes: list[int] = [1],  # noqa: B006
    days: tuple[date, ...] = (),
    pair: tuple[str, int] = ("a", 1),
    other: int | str = 1,
    noted: Annotated[int, "many"] = 1,
    free: Any = None,
    span: timedelta = timedelta(1),
    price: Decimal = Decimal(1),
    rates: dict[str, float] = {},  # noqa: B006
    names: list = [],  # type: ignore[type-arg]  # noqa: B006
    lists: dict[str, list] = {},  # type: ignore[type-arg]  # noqa: B006
    codes: dict[str, int | str] = {},  # noqa: B006
    things: dict[str, object] = {},  # noqa: B006
    notes: dict[str, str | None] = {},  # noqa: B006
    words: dict[str, str] = {},  # noqa: B006
    nothing: tuple[()] = (),
) -> None: ...


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("day", "2026-02-28", date(2026, 2, 28)),
        ("at", "2026-02-28T12:30", datetime(2026, 2, 28, 12, 30)),
        ("at", "none", None),
        ("folder", "b/c", Path("b/c")),
        ("most", "7", 7),
        ("most", "None", None),
        ("least", "2", 2.0),
        ("kind", "b", "b"),
        ("kind", "3", 3),
        ("colour", "BLUE", Colour.BLUE),
        ("colour", "2", Colour.BLUE),
        ("sizes", "1,2, 3", [1, 2, 3]),
        ("sizes", "[4, 5]", [4, 5]),
        ("sizes", "", []),
        ("days", "2026-01-01,2026-01-02", (date(2026, 1, 1), date(2026, 1, 2))),
        ("pair", "x,2", ("x", 2)),
        ("other", "x", "x"),
        ("other", "3", 3),
        ("noted", "3", 3),
        ("free", '{"a": 1}', {"a": 1}),
        ("span", "12h", timedelta(hours=12)),
        ("span", "1:30:00", timedelta(minutes=90)),
        ("span", "-0:00:00.5", timedelta(milliseconds=-500)),
        ("price", "1.10", Decimal("1.10")),
        ("rates", '{"a": 1}', {"a": 1}),
        ("names", "a,b", ["a", "b"]),
        ("names", '["01234", "1234"]', ["01234", "1234"]),
        ("lists", '{"zip": ["01234", "1234"]}', {"zip": ["01234", "1234"]}),
        ("codes", '{"zip": "1234", "count": 5}', {"zip": "1234", "count": 5}),
        ("things", '{"a": "5", "b": null}', {"a": "5", "b": None}),
        ("notes", '{"a": "none", "b": null}', {"a": "none", "b": None}),
        ("words", '{"a": 5}', {"a": "5"}),
        ("nothing", "", ()),
    ],
)
def test_typed_text_follows_any_annotation(name: str, text: str, value: Any) -> None:
    parsed = Graph([typed]).parse(name, text)

    assert (type(parsed), parsed) == (type(value), value)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("most", "abc", "run parameter most='abc' is no int or None; write --set most=3 or --set most=none"),
        ("day", "May", "run parameter day='May' is no date; write --set day=2026-01-31"),
        (
            "kind",
            "c",
            "run parameter kind='c' is no 'a' or 'b' or 3; write --set kind=a or --set kind=b or",
        ),
        ("colour", "x", "run parameter colour='x' is no Colour; write --set colour=RED or --set colour=BLUE"),
        ("sizes", "1,x", "run parameter sizes='1,x' is no list of int; write --set sizes=3"),
        ("pair", "x", "run parameter pair='x' is no tuple of str and int; write --set pair=...,3"),
        ("span", "soon", "run parameter span='soon' is no timedelta; write --set span=5d"),
        ("price", "dear", "run parameter price='dear' is no Decimal; write --set price=1.50"),
        ("words", '{"a": null}', "run parameter words='{\"a\": null}' is no dict of str to str; write"),
        ("nothing", "1", "run parameter nothing='1' is no tuple of nothing; write --set nothing="),
        ("rates", "[1]", "run parameter rates='[1]' is no dict of str to float; write --set rates="),
        ("rates", '{"a": "x"}', 'run parameter rates=\'{"a": "x"}\' is no dict of str to float; write'),
    ],
)
def test_typed_text_that_fits_no_annotation_is_refused_with_an_example(name: str, text: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        Graph([typed]).parse(name, text)

    assert str(refused.value).startswith(words)


@pytest.mark.parametrize(("name", "text"), [("trees", "many"), ("loud", "perhaps"), ("loud", "[1]")])
def test_typed_text_that_doesnt_fit_is_refused(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"run parameter {name}="):
        graph().parse(name, text)


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (Selection(), {"rows", "clean", "model", "report"}),
        (Selection(start="clean"), {"clean", "model", "report"}),
        (Selection(until="clean"), {"rows", "clean"}),
        (Selection(start="clean", until="model"), {"clean", "model"}),
        (Selection(only=("model",)), {"model"}),
    ],
)
def test_a_part_of_the_graph_can_be_chosen(selection: Selection, chosen: set[str]) -> None:
    assert graph().select(selection) == chosen


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (Selection(start="clen"), "did you mean 'clean'"),
        (Selection(force=("x",)), "no step 'x'"),
        (Selection(start="model", until="rows"), "no step lies between"),
        (Selection(start="model", only=("rows",)), "can't be combined"),
    ],
)
def test_a_wrong_choice_is_refused(selection: Selection, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        graph().select(selection)


def test_ten_thousand_steps_in_a_chain_are_no_problem() -> None:
    steps = [Step(f"s{n}", "a:b", inputs=(f"s{n - 1}",) if n else ()) for n in range(10_000)]
    chain = Graph(reversed(steps))

    assert chain.names[0] == "s0" and chain.names[-1] == "s9999"
    assert len(chain.upstream("s9999")) == 10_000


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(st.permutations(range(n)), st.lists(st.sets(st.integers(0, 11)), min_size=n, max_size=n))
    )
)
def test_any_graph_without_a_circle_is_ordered(drawn: tuple[list[int], list[set[int]]]) -> None:
    order, wishes = drawn
    steps = [Step(f"s{n}", "a:b", inputs=tuple(f"s{m}" for m in sorted(wishes[n]) if m < n)) for n in order]
    names = Graph(steps).names

    assert sorted(names) == sorted(each.name for each in steps)
    assert all(names.index(source) < names.index(each.name) for each in steps for source in each.inputs or ())
