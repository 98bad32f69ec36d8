"""Figures as people read them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.wording import duration, evidence, number, percent, place


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_figure_is_short_and_says_nothing_only_of_nothing(value: float) -> None:
    shown = number(value)

    assert len(shown) <= 20
    assert (shown == "0") == (value == 0) and (shown == "–") == (not math.isfinite(value))


@given(st.floats(1e-9, 1e15))
def test_a_figure_is_the_value_to_its_digits(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.05)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.004, "0.004 seconds"), (1, "1 second"), (90, "90 seconds"), (120, "2 minutes"), (5400, "90 minutes"),
        (86400, "1 day"), (90000, "25 hours"), (30 * 86400, "30 days"), (14.03, "14 seconds"),
    ],
)  # fmt: skip
def test_a_length_of_time_has_the_unit_a_person_would_choose(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_shares_and_evidence_need_no_needless_digits() -> None:
    assert (percent(0.5), percent(1e-12), percent(1 / 3)) == ("50 %", "1e-10 %", "33.3 %")
    assert (evidence(0.0), evidence(1.0), evidence(1e300)) == ("0", "1", "> 10⁶")


def test_the_place_of_an_error_is_in_a_file_and_not_in_what_a_library_made_by_exec(tmp_path: Path) -> None:
    file, made = tmp_path / "mine.py", dict[str, object]()
    exec("def made(): raise ValueError", made)
    with pytest.raises(ValueError) as caught:
        exec(compile("\nmade()", str(file), "exec"), made)

    assert place(caught.value) == "mine.py, line 2"
