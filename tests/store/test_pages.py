"""Standalone pages: escaped, self-contained, legible on light and dark, the same bytes each time."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes

from mainspring.store import pages

HOSTILE = "<script>alert('x')</script> & \"quotes\""


class Reader(HTMLParser):
    """Collects tags and text as a browser would."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def line(axes: Axes) -> None:
    axes.plot([0, 1, 2], [1, 3, 2], color=pages.BLUE, label="a < b")
    axes.scatter([0, 1], [1, 2], color=pages.ORANGE)
    axes.set_title(HOSTILE.replace("$", ""))
    axes.legend()
    axes.grid(True)


def test_whatever_is_put_in_is_shown_as_text_and_never_as_markup() -> None:
    parts = [
        HOSTILE,
        pages.heading(HOSTILE),
        pages.text(HOSTILE),
        pages.bullets([HOSTILE]),
        pages.code(HOSTILE),
        pages.facts([(HOSTILE, HOSTILE, HOSTILE)]),
        pages.table([HOSTILE], [(HOSTILE,)], caption=HOSTILE),
        pages.figure(line, alt=HOSTILE, caption=HOSTILE),
    ]

    read = Reader(pages.page(HOSTILE, parts, subtitle=HOSTILE))

    assert "script" not in read.tags
    assert "".join(read.words).count(HOSTILE) == 16


@given(st.text())
def test_any_text_comes_back_from_the_page_as_it_was(words: str) -> None:
    shown = "".join(Reader(str(pages.text(words))).words)

    assert shown == words


def test_a_page_loads_nothing_from_elsewhere() -> None:
    page = pages.page("Report", [pages.figure(line, alt="a line")])

    read = Reader(page)

    assert "http://" not in page and "https://" not in page and "url(http" not in page
    assert all(address.startswith(("#", "data:")) for address in read.addresses)
    assert not {"script", "link", "iframe"} & set(read.tags) - {"link"}
    assert "default-src 'none'" in page


def test_a_figure_takes_its_colours_from_the_page_so_that_dark_mode_works() -> None:
    drawing = pages.figure(line, alt="a line")
    colours = set(re.findall(r"(?:fill|stroke): *(#[0-9a-fA-F]{3,6})", drawing))

    assert "var(--blue)" in drawing and "var(--ink)" in drawing
    assert colours <= {"#000000"}, f"colours outside the palette: {colours}"
    page = pages.page("Report", [drawing])
    assert "prefers-color-scheme: dark" in page and "@media print" in page and "width=device-width" in page


def test_the_same_drawing_gives_the_same_bytes_from_any_thread() -> None:
    with ThreadPoolExecutor(4) as threads:
        drawings = set(threads.map(lambda _: pages.figure(line, alt="a line"), range(8)))

    assert len(drawings) == 1
    assert "<metadata" not in drawings.pop()


def test_drawing_leaves_matplotlibs_settings_as_they_were() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError):
        pages.figure(lambda axes: 1 / 0, alt="fails")

    assert dict(matplotlib.rcParams) == before


def test_columns_of_numbers_are_aligned_and_a_table_scrolls_inside_itself() -> None:
    table = pages.table(["name", "rows", "share"], [("a", 1200, "5 %"), ("b", None, "-0.5")])

    assert '<div class="scroll"' in table
    assert table.count("class=number") == 6
    assert "1,200" in table and "<td class=number>–</td>" in table


def test_a_row_that_does_not_fit_the_headers_is_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        pages.table(["one", "two"], [("only",)])


def test_an_empty_table_shows_its_headers() -> None:
    assert "<th scope=col>loop</th>" in pages.table(["loop"], [])


@pytest.mark.parametrize(("passed", "word"), [(True, "passed"), (False, "failed"), (None, "open")])
def test_a_mark_says_its_outcome_in_a_word_and_not_by_colour_alone(passed: bool | None, word: str) -> None:
    assert f">{word}</span>" in pages.mark(passed)


def test_a_category_in_any_script_is_drawn_without_a_warning() -> None:
    drawn = pages.figure(lambda axes: axes.set_title("日本"), alt="a title")

    assert "<svg" in drawn
