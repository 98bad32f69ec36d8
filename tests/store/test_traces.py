"""Texts of an erased subject: overwritten wherever they stand, and nothing that only looks like them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mainspring.store.deployments import Deployments
from mainspring.store.home import Home
from mainspring.store.traces import erase_traces


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home.open(tmp_path / ".mainspring")


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("Anna Kowalska", "xAnna Kowalskay", "x(erased)y"),
        ("user-77@example.org", "user-77@example.org's", "(erased)'s"),
        ("Grünwald", '{"who": "Gr\\u00fcnwald", "Grünwald": 1}', '{"who": "(erased)", "(erased)": 1}'),
        ("anna", "anna, joanna and anna.b of sklearn.anna", "(erased), joanna and (erased).b of sklearn.anna"),
        ("2007", '{"rows": 2007, "at": "2007-01-01"}', '{"rows": 2007, "at": "2007-01-01"}'),
        ("2007", r'{"all": "{\"2007\": 1}"}', r'{"all": "{\"(erased)\": 1}"}'),
        ("done", '{"status": "done"}', '{"status": "done"}'),
        ("trips", '{"loop": "trips"}', '{"loop": "trips"}'),
        ("Ann", "Ann and Annex", "Ann and Annex"),
    ],
)  # fmt: skip
def test_a_text_goes_and_what_only_looks_like_it_stays(home: Home, text: str, before: str, after: str) -> None:
    path = home.path / "said.json"
    path.write_text(before)

    erase_traces(home, {text}, own={"trips"})

    assert path.read_text() == after


def test_a_number_a_word_of_ours_and_a_day_leave_the_homes_database_readable(home: Home) -> None:
    deployments, now = Deployments(home), Deployments(home).now()
    deployments.save_state("trips", "told", {"number": 2007, "status": "done", "who": ["2007", "Anna Q"]})
    deployments.decide("trips", at=now, kind="release", decision="held", version=1, reason="Anna Q asked")

    erase_traces(home, {"2007", "done", "held", now.date().isoformat(), "Anna Q"})

    (told,) = deployments.decisions("trips")
    assert (told.at, told.decision, told.reason) == (now, "held", "(erased) asked")
    known = deployments.load_state("trips", "told")
    assert known == {"number": 2007, "status": "done", "who": ["(erased)", "(erased)"]}
    assert "Anna Q" not in json.dumps([told.reason, known])
