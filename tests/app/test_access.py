"""Beyond loopback the endpoint is only for who has the token, and only over TLS."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from mainspring.app import config
from mainspring.app.access import access
from mainspring.core.errors import MainspringError, SettingsError, UsageError
from mainspring.serving.door import token_hash

TOKEN = "a-long-and-secret-token"


def settings(**given: str) -> config.Settings:
    return config.read(Path("/"), environment={}, **given)


def test_on_loopback_nothing_is_needed() -> None:
    assert access(settings()) == {"token_hash": None, "cert": None, "key": None}


@pytest.mark.parametrize("source", ["env:THE_TOKEN", "file:{folder}/token"])
def test_the_serving_process_learns_only_the_tokens_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("THE_TOKEN", TOKEN)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    told = access(settings(host="0.0.0.0", token=source.format(folder=tmp_path), tls="proxy"))

    assert told == {"token_hash": token_hash(TOKEN), "cert": None, "key": None} and TOKEN not in str(told)


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"host": "0.0.0.0"}, UsageError, "add --token env:NAME or file:PATH"),
        ({"host": "0.0.0.0", "tls": "proxy"}, UsageError, "add --token env:NAME or file:PATH"),
        ({"host": "::", "token": "env:THE_TOKEN"}, UsageError, "would travel in the clear; add --cert and --key"),
        ({"token": TOKEN}, SettingsError, "must be a reference"),
        ({"token": "env:NOT_SET"}, SettingsError, "'NOT_SET' of 'env:NOT_SET' isn't set"),
        ({"token": "env:SHORT"}, SettingsError, "at least 16 ASCII characters"),
        ({"token": "file:/nowhere"}, SettingsError, "can't be read"),
        ({"cert": "a.pem"}, UsageError, "--cert and --key go together"),
        ({"cert": "/nowhere.pem", "key": "/nowhere.pem"}, SettingsError, "can't be used: No such file"),
    ],
)
def test_what_would_leave_a_door_open_is_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], kind: type[MainspringError], said: str
) -> None:
    monkeypatch.setenv("THE_TOKEN", TOKEN)
    monkeypatch.setenv("SHORT", "abc")
    with pytest.raises(kind, match=said.replace("(", "\\(")) as raised:
        access(settings(**given))

    assert TOKEN not in str(raised.value) and "\n" not in str(raised.value)


def test_tls_is_own_or_by_a_proxy() -> None:
    with pytest.raises(SettingsError, match="tls = 'none' must be own or proxy"):
        settings(tls="none")


def test_serve_asks_for_the_token_and_never_shows_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mainspring.app.cli", "serve", "--port", "0"]
    beyond = ["--host", "0.0.0.0", "--token", "env:THE_TOKEN", "--tls", "proxy"]
    serving = subprocess.Popen(
        [*command, *beyond], env={**os.environ, "THE_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path,
    )  # fmt: skip
    assert serving.stdout is not None
    first = serving.stdout.readline()
    url = f"http://127.0.0.1:{first.split()[1].rpartition(':')[2]}"
    try:
        statuses = [_status(url + "/readyz", {}), _status(url + "/readyz", {"authorization": f"Bearer {TOKEN}"})]
        commands = Path(f"/proc/{serving.pid}/task/{serving.pid}/children").read_text().split()
        lines = [Path(f"/proc/{child}/cmdline").read_text() for child in commands]
    finally:
        serving.terminate()
        rest, _ = serving.communicate(timeout=20)

    assert statuses == [401, 200] and first.startswith("endpoint http://0.0.0.0:")
    assert TOKEN not in first + rest + "".join(lines)


def _status(url: str, headers: dict[str, str]) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            return httpx.get(url, headers=headers, timeout=5).status_code
        except httpx.HTTPError:
            time.sleep(0.05)
    raise AssertionError(f"{url} never answered")
