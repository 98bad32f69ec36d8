"""The model card, as Markdown and as a page."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

from mainspring.core.declarations import Gate, Roles
from mainspring.evaluation.card import card
from mainspring.evaluation.card_page import card_html
from mainspring.evaluation.evaluate import evaluate

TREE = DecisionTreeClassifier(max_depth=2, random_state=0)


def evaluated(
    bench: Any, name: str, estimator: Any, champion: Any = None, slices: tuple[str, ...] = (), **extra: Any
) -> Any:
    split = bench.split(name, **extra)
    bundle = bench.bundle(estimator, split, "n" * 64)
    if champion is not None:
        bench.bundle(champion, split, "o" * 64)
    digest = None if champion is None else "o" * 64
    return evaluate(bundle, split, gate=Gate(slices=slices), champion_digest=digest, load=bench.load, seed=0)


def test_a_card_says_in_sentences_what_the_model_is_and_how_good(bench: Any) -> None:
    text = evaluated(bench, "cancer", TREE, DecisionTreeClassifier(max_depth=1), ("mean_area",)).card

    assert text.startswith("# Model card: clinic\n")
    assert "The model predicts whether target is malignant" in text
    assert "A row to predict has 30 columns: mean_radius" in text
    assert "It was trained on 341 rows of dataset version 3" in text and "228 rows that no fit saw" in text
    assert re.search(r"roc_auc \(higher is better\) is 0\.9\d+, with 95 % confidence between 0\.8\d+ and", text)
    assert "A dummy that knows only the training target has 0.5000. The champion has 0." in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## What it is",
        "## How good it is",
        "## Where it is weak",
        "## What it looks at",
        "## Limits",
    ]


def test_every_table_of_a_card_has_as_many_cells_as_headers(bench: Any) -> None:
    text = evaluated(bench, "wine", TREE, slices=("alcohol",)).card
    widths = [
        {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines() if line.startswith("|")}
        for block in text.split("\n\n")
    ]

    assert all(len(width) <= 1 for width in widths)
    assert sum(bool(width) for width in widths) == 4


def test_names_from_the_data_cannot_break_a_card(bench: Any) -> None:
    cities = ["<img src=x>|`*", "$a_b$", "plain\nlines"]
    city = pl.Series([cities[place % 3] for place in range(569)])
    found = evaluated(bench, "cancer", TREE, slices=("city",), city=city)

    page = card_html(found)
    assert r"\<img src=x\>\|\`\*" in found.card and "city = plain lines" in found.card
    assert "<img" not in page and "&lt;img src=x&gt;" in page


def test_the_page_has_the_plots_of_its_task_and_loads_nothing(bench: Any) -> None:
    pages = {
        "binary": card_html(evaluated(bench, "cancer", TREE, TREE, ("mean_area",))),
        "multiclass": card_html(evaluated(bench, "wine", TREE)),
        "regression": card_html(evaluated(bench, "diabetes", LinearRegression(), DummyRegressor())),
    }
    plots = {task: re.findall(r'role="img" aria-label="(\w+)', page) for task, page in pages.items()}

    assert plots == {
        "binary": ["ROC", "Calibration", "Confusion", "roc_auc", "Importance"],
        "multiclass": ["Calibration", "Confusion", "Importance"],
        "regression": ["Predicted", "Histogram", "Importance"],
    }
    for page in pages.values():
        assert "http://" not in page and "https://" not in page
        _well_formed(page)


def test_the_same_evaluation_gives_the_same_page(bench: Any) -> None:
    found = evaluated(bench, "cancer", TREE, slices=("mean_area",))

    assert card_html(found) == card_html(found)
    assert card(found) == found.card


def test_the_card_warns_where_little_is_known(bench: Any) -> None:
    found = evaluated(bench, "cancer", TREE, roles=Roles("target", ignore=("mean_area",)))

    assert "No slices were declared" in found.card
    assert "The holdout has 228 rows only" in found.card
    assert "It never sees the ignored columns: mean_area" in found.card


@pytest.mark.parametrize("name", ["cancer", "wine", "diabetes"])
def test_a_holdout_of_a_single_row_still_has_a_card(bench: Any, name: str) -> None:
    split = bench.split(name)
    small = replace(split, holdout=replace(split.holdout, data=split.holdout.data.head(1)))
    bundle = bench.bundle(LinearRegression() if name == "diabetes" else TREE, split, "n" * 64)
    found = evaluate(bundle, small, gate=Gate(), champion_digest=None, load=bench.load, seed=0)

    assert "The holdout has 1 row only" in found.card
    _well_formed(card_html(found))


def _well_formed(page: str) -> None:
    void = {"meta", "link", "br", "img", "hr", "input"}
    open_tags: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in void:
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: Any) -> None:
            pass

    Checker().feed(page)
    assert open_tags == []
