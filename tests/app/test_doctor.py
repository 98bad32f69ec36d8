"""`mainspring doctor`: a healthy home is called healthy; what is damaged is named with its mend, and never raised."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from pathlib import Path

import pytest

from mainspring.app import doctor
from mainspring.app.config import Settings
from mainspring.app.doctor import Finding, examine
from mainspring.store.home import Home


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home that was used, and two ports that nobody has."""
    home = Home.open(tmp_path / ".mainspring")
    home.database.close()
    return Settings(home.path, port=_free_port(), control_port=_free_port())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wrong(settings: Settings) -> list[Finding]:
    return [finding for finding in examine(settings) if finding.state == "wrong"]


def test_a_healthy_home_has_nothing_wrong(settings: Settings) -> None:
    findings = {finding.subject: finding for finding in examine(settings)}

    assert {finding.state for finding in findings.values()} <= {"ok", "warning"}
    assert {"python", "polars", "scikit-learn", "disk", "home", "state", "runs"} <= set(findings)
    assert findings["state"].detail.endswith("is sound")


def test_a_home_that_is_not_there_yet_is_no_fault_and_is_not_made(tmp_path: Path) -> None:
    found = {finding.subject: finding for finding in examine(Settings(tmp_path / "new", port=_free_port()))}

    assert found["home"].state == "ok" and "not there yet" in found["home"].detail
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_home_s_place_is_named(tmp_path: Path) -> None:
    (tmp_path / ".mainspring").write_text("")

    (finding,) = wrong(Settings(tmp_path / ".mainspring"))

    assert finding.subject == "home" and "no folder" in finding.detail and finding.mend


def test_an_emptied_database_is_noticed(settings: Settings) -> None:
    database = settings.home / "mainspring.db"
    for part in settings.home.glob("mainspring.db*"):
        part.unlink()
    database.touch()

    (finding,) = wrong(settings)

    assert finding.subject == "state" and "is empty but" in finding.detail and "backup" in finding.mend


def test_another_home_s_database_is_noticed(settings: Settings, tmp_path: Path) -> None:
    other = Home.open(tmp_path / "other")
    other.database.close()
    for part in settings.home.glob("mainspring.db*"):
        part.unlink()
    shutil.copy(other.path / "mainspring.db", settings.home / "mainspring.db")

    (finding,) = wrong(settings)

    assert finding.subject == "state" and "belongs to another home" in finding.detail


def test_a_file_that_is_no_database_is_noticed(settings: Settings) -> None:
    for part in settings.home.glob("mainspring.db*"):
        part.unlink()
    (settings.home / "mainspring.db").write_bytes(b"not a database at all, but long enough to be looked at" * 100)

    (finding,) = wrong(settings)

    assert finding.subject == "state" and "is damaged (file is not a database)" in finding.detail
    assert "restore it from a backup" in finding.mend


@pytest.mark.parametrize("name", ["mainspring.db", "records/flights/compacted.db"])
def test_damage_inside_a_database_is_noticed(settings: Settings, name: str) -> None:
    path = settings.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("create table ballast (text)")
    connection.executemany("insert into ballast values (?)", [("x" * 500,)] * 500)
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = b"\x5a" * 20_000
    path.write_bytes(content)

    found = wrong(settings)

    assert found and all(finding.mend for finding in found)
    assert all("\n" not in finding.detail for finding in found)


def test_a_token_that_others_can_read_is_named_with_the_command(settings: Settings) -> None:
    token = settings.home / "run" / "token"
    token.write_text("secret")
    token.chmod(0o644)

    (finding,) = wrong(settings)
    assert finding.mend == f"chmod 600 {token}" and "secret" not in finding.detail

    token.chmod(0o600)
    assert not wrong(settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_in_use_is_a_warning(settings: Settings, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as other:
        other.bind((host, 0))
        other.listen()
        taken = Settings(settings.home, host=host, port=other.getsockname()[1], control_port=settings.control_port)

        warnings = [finding for finding in examine(taken) if finding.state == "warning" and finding.subject == "port"]

    assert len(warnings) == 1 and "is in use" in warnings[0].detail


def test_little_room_on_the_disk_is_a_warning(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOW_DISK_BYTES", 1 << 62)

    (disk,) = (finding for finding in examine(settings) if finding.subject == "disk")

    assert disk.state == "warning" and disk.mend


def test_a_library_that_is_missing_or_old_is_named_with_the_command(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "NEEDED", {"polars": "999", "no-such-library-at-all": "1"})

    found = {finding.subject: finding for finding in wrong(settings)}

    assert found["polars"].mend == "pip install 'polars>=999'"
    assert found["no-such-library-at-all"].detail == "not installed"
