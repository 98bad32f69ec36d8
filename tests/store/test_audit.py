"""The audit log: who did what by hand and why; whatever is changed behind its back shows."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.store.audit import Audit
from mainspring.store.home import Home
from mainspring.store.traces import erase_traces


@pytest.fixture
def log(tmp_path: Path) -> Audit:
    found = Audit(Home.open(tmp_path / "home"))
    for number, act in enumerate(("promote", "hold", "reject", "rollback")):
        found.add(act, "late", number or None, by="ada", reason=f"reason of Anna Kowalska, {number}")
        found.witness()
    return found


def rewrite(log: Audit, *statements: str) -> None:
    """What somebody does who can write the file."""
    with closing(sqlite3.connect(log._home.database.path)) as connection, connection:
        connection.executescript("; ".join(["drop trigger audit_stays", "drop trigger audit_is_kept", *statements]))


def test_acts_are_kept_in_order_with_who_when_what_and_why(log: Audit) -> None:
    told = log.entries()

    assert [(each.number, each.by, each.act, each.loop, each.version) for each in told] == [
        (1, "ada", "promote", "late", None), (2, "ada", "hold", "late", 1), (3, "ada", "reject", "late", 2),
        (4, "ada", "rollback", "late", 3),
    ]  # fmt: skip
    assert told[1].reason.endswith(", 1") and datetime.now(UTC) - told[0].at < timedelta(minutes=5)
    assert log.faults() == [] and log.is_witnessed


def test_entries_can_be_neither_changed_nor_removed_by_the_way(log: Audit) -> None:
    for statement in ("update audit set reason = 'x'", "delete from audit"):
        with (
            closing(sqlite3.connect(log._home.database.path)) as connection,
            pytest.raises(sqlite3.IntegrityError, match="append-only"),
        ):
            connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("update audit set reason = 'never mind' where number = 2", "the reason of entry 2 was changed"),
        ("update audit set person = 'eve' where number = 1", "entry 1 was changed"),
        ("update audit set at = '2020-01-01T00:00:00+00:00' where number = 4", "entry 4 was changed"),
        ("update audit set version = null where number = 3", "entry 3 was changed"),
        ("delete from audit where number = 2", "entries 2 to 2 are gone"),
        ("delete from audit where number = 1; update audit set number = number - 1", "entry 1 was changed"),
        ("delete from audit where number = 4", "cut off"),
        ("delete from audit where number > 1", "cut off"),
        ("delete from audit", "cut off"),
        ("drop table audit", "cut off"),
    ],
)
def test_a_change_behind_its_back_shows(log: Audit, statement: str, told: str) -> None:
    rewrite(log, statement)

    assert any(told in fault for fault in Audit(Home(log._home.path)).faults())


def test_an_end_that_was_cut_off_and_written_anew_shows_however_much_is_added(log: Audit) -> None:
    rewrite(log, "delete from audit where number > 2")
    for _ in range(5):
        log.add("promote", "late", 9, by="eve", reason="nothing to see")
        log.witness()

    assert any("cut off or written anew" in fault for fault in log.faults())


def test_who_restored_a_backup_is_told_how_the_log_goes_on(log: Audit, tmp_path: Path) -> None:
    home = tmp_path / "home"
    log._home.database.close()
    shutil.copytree(home, tmp_path / "backup")
    log.add("hold", "late", 9, by="ada", reason="lost with the disk")
    log.witness()
    log._home.database.close()
    shutil.rmtree(home)
    (tmp_path / "backup").rename(home)
    restored = Audit(Home.open(home))

    assert f"if you restored a backup, remove {log.witnessed}" in restored.faults()[0]
    log.witnessed.unlink()
    restored.witness()
    assert restored.faults() == [] and restored.is_witnessed


def test_words_that_an_erasure_takes_out_are_no_tampering_and_the_act_stays(log: Audit) -> None:
    erase_traces(log._home, ["Anna Kowalska"])
    assert log.faults()  # nobody has said so

    log.add("erase", "late", None, by="ada", reason="1 row")

    assert log.entries()[0].reason == "reason of (erased), 0" and log.faults() == []


def test_an_installation_that_never_added_to_it_knows_no_end_but_a_chain(log: Audit, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "home", tmp_path / "elsewhere")
    moved = Audit(Home.open(tmp_path / "elsewhere"))

    assert not moved.is_witnessed and moved.faults() == []
    rewrite(moved, "update audit set act = 'approve' where number = 3")
    assert moved.faults()


def test_a_note_of_its_end_that_cannot_be_read_is_told(log: Audit) -> None:
    log.witnessed.write_text("{")

    assert [str(log.witnessed) in fault and "can't be read" in fault for fault in log.faults()] == [True]


def test_where_there_is_no_configuration_folder_nothing_says_how_far_it_went(
    log: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    log.witness()

    assert log.faults() == [] and not log.is_witnessed


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=40), st.text(max_size=20))
def test_any_text_is_kept_as_it_is(tmp_path_factory: pytest.TempPathFactory, reason: str, by: str) -> None:
    log = Audit(Home.open(tmp_path_factory.mktemp("any") / "home"))
    log.add("hold", "late", 1, by=by, reason=reason)

    assert (log.entries()[0].reason, log.entries()[0].by) == (reason, by) and log.faults() == []
