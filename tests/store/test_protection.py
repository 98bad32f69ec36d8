"""Rules of privacy: the same for tables, requests and keys, and done twice they are done once."""

from __future__ import annotations

import stat
from datetime import date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mainspring as ms
from mainspring.core.errors import DeclarationError, SettingsError, SourceNotFound
from mainspring.core.schema import Column, Schema, Type
from mainspring.store.places import configuration
from mainspring.store.protection import PSEUDONYM, SECRET, Protection, erased_digest, protection_of, pseudonym

RULES: dict[str, Any] = {
    "bands": ("bands", 10), "halves": ("bands", 0.5), "edges": ("edges", 0, 18, 65), "prefix": ("prefix", 3),
    "month": ("month",), "year": ("year",), "all": ("mask", "all"), "mail": ("mask", "email"),
    "last": ("mask", "last:2"),    "first": ("mask", "first:2"), "who": ("pseudonym",),
}  # fmt: skip
VALUES = {
    "bands": st.integers(-500, 500), "halves": st.floats(-50, 50), "edges": st.integers(-5, 99), "prefix": st.text(),
    "month": st.dates(), "year": st.datetimes(), "all": st.text(), "mail": st.emails(), "last": st.text(),
    "first": st.text(), "who": st.one_of(st.text(), st.integers()),
}  # fmt: skip


@given(st.fixed_dictionaries(VALUES))
def test_done_twice_is_done_once_and_a_row_is_a_table_of_one(row: dict[str, Any]) -> None:
    protection = Protection(RULES)

    (once,) = protection.rows([row])

    assert protection.rows([once]) == [once]
    (tabled,) = protection.frame(pl.DataFrame([row])).to_dicts()
    assert once == {name: value.isoformat() if isinstance(value, date) else value for name, value in tabled.items()}


def test_values_become_coarser() -> None:
    row = {"bands": 37, "edges": 64.5, "prefix": "10115", "month": "2014-05-17T10:00:00", "year": date(2014, 5, 17),
           "mail": "ada@example.org", "last": "DE8937", "first": "DE8937", "all": "x"}  # fmt: skip

    assert Protection(RULES).rows([row])[0] == {
        "bands": 30, "edges": 18, "prefix": "101", "month": "2014-05-01", "year": "2014-01-01",
        "mail": "***@example.org", "last": "***37", "first": "DE***", "all": "***",
    }  # fmt: skip


def test_what_a_rule_cannot_read_is_missing_in_a_table_and_refused_by_the_contract_in_a_request() -> None:
    protection = Protection({"age": ("bands", 10)})

    assert protection.frame(pl.DataFrame({"age": ["41", "old", None]}))["age"].to_list() == [40, None, None]
    assert protection.rows([{"age": "old"}]) == [{"age": "old"}]


def test_a_pseudonym_needs_the_key_and_a_new_key_still_finds_old_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLD", "o" * 32)
    monkeypatch.setenv("NEW", "n" * 32)
    old, both = Protection({"who": ("pseudonym", "env:OLD")}), Protection({"who": ("pseudonym", "env:NEW", "env:OLD")})

    before, after = old.value("who", "Ada"), both.value("who", "Ada")

    assert before != after and PSEUDONYM.fullmatch(before) and before[:9] != after[:9]
    assert both.forms("who", "Ada") == [after, before]
    assert both.value("who", before) == before


def test_without_a_key_the_installation_has_its_own_that_only_its_owner_reads() -> None:
    made = Protection({"who": ("pseudonym",)}).value("who", "Ada")

    assert made == pseudonym("Ada", (configuration() / SECRET).read_bytes())
    assert stat.S_IMODE((configuration() / SECRET).stat().st_mode) == 0o600


def test_a_short_key_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAK", "hunter2")

    with pytest.raises(SettingsError, match="'env:WEAK' is shorter than 16 characters") as refused:
        Protection({"who": ("pseudonym", "env:WEAK")}).value("who", "Ada")

    assert "hunter2" not in str(refused.value)


def test_a_key_that_is_missing_is_told_before_a_request_comes() -> None:
    with pytest.raises(SourceNotFound, match="environment variable 'NOT_SET' of 'env:NOT_SET' isn't set"):
        Protection({"who": ("pseudonym", "env:NOT_SET")}).ready()


def test_rows_of_the_erased_are_left_out() -> None:
    protection = Protection({}, "who", {erased_digest("7")})

    assert protection.frame(pl.DataFrame({"who": [7, 8, None]}))["who"].to_list() == [8, None]
    under_another_key = Protection({"who": ("pseudonym",)}, "who", {erased_digest("7")})
    assert under_another_key.frame(pl.DataFrame({"who": [7, 8, None]})).height == 2


def test_the_rules_travel_in_the_contract_of_a_model() -> None:
    inputs = Schema((Column("age", Type.INTEGER, private=("bands", 10)), Column("fare", Type.FLOAT)))

    there = Schema.from_json(inputs.to_json())

    assert there == inputs and protection_of(there).rows([{"age": 37, "fare": 1.5}]) == [{"age": 30, "fare": 1.5}]
    assert "private" not in inputs.to_json()[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"drop": "name"}, r"must be a list: drop=\['name'\]"),
        ({"drop": ["a"], "mask": ["a"]}, "column 'a' twice"),
        ({"mask": {"a": "some"}}, "choose 'all', 'email'"),
        ({"generalize": {"age": "ten"}}, "give a width such as 10"),
        ({"generalize": {"age": [3, 1]}}, "growing edges"),
        ({"subject": "a", "drop": ["a"]}, "couldn't be found again by `mainspring erase`"),
        ({"pseudonymize": ["a"], "key": "my own secret"}, "must be a reference, env:NAME or file:PATH"),
        ({"key": "env:KEY"}, "does nothing without pseudonymize"),
        ({"retention": 0}, "must be longer than 0"),
        ({"detect": "maybe"}, "choose 'warn', 'block' or 'off'"),
    ],
)
def test_a_declaration_that_cannot_be_kept_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        ms.Privacy(**arguments)


def test_times_of_any_kind_are_one_value() -> None:
    key = b"k" * 32

    assert pseudonym(datetime(2014, 1, 1), key) == pseudonym("2014-01-01T00:00:00", key)
