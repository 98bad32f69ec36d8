"""Processes that the system refuses to start: those that serve go on, and it is told."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mainspring.app import spare, supervisor
from mainspring.app.spare import Spare
from mainspring.app.supervisor import Child

REFUSALS = [errno.EAGAIN, errno.ENOMEM]
ENDLESS = [sys.executable, "-c", "import sys; sys.stdin.read()"]


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that were started meanwhile."""
    made: list[subprocess.Popen[bytes]] = []
    yield made
    for process in made:
        process.kill()
        process.communicate()


def refusing(made: list[subprocess.Popen[bytes]], times: int, number: int) -> Any:
    """As `begin`, but the system refuses the first *times*."""
    left = [number] * times

    def begin(*_: object) -> subprocess.Popen[bytes]:
        if left:
            raise OSError(left.pop(), os.strerror(number))
        made.append(subprocess.Popen(ENDLESS, stdin=subprocess.PIPE))
        return made[-1]

    return begin


@pytest.mark.parametrize("number", REFUSALS)
def test_a_reserve_that_cannot_be_started_is_told_and_tried_again_later(
    number: int, started: list[Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(spare, "begin", refusing(started, 1, number))
    monkeypatch.setattr(spare, "CALM_SECONDS", 0.0)
    kept = Spare("module", (), {}, {})

    kept.keep(0.0)
    kept.keep(0.0)
    assert not started and kept.take() is None
    assert capfd.readouterr().err.count(os.strerror(number)) == 1

    kept._began -= spare.RETRY_SECONDS
    kept.keep(0.0)
    assert kept.take() is started[0]


@pytest.mark.parametrize("number", REFUSALS)
def test_a_process_that_cannot_be_started_again_yet_ends_nothing(
    number: int, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "begin", refusing(started, 12, number))
    monkeypatch.setattr(supervisor, "BACKOFF_SECONDS", (0.0,) * 4)
    said: list[str] = []
    dead = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    dead.wait()
    with socket.socket() as listener:
        child = Child("serving", "module", {}, listener, process=dead)
        codes = [supervisor._restart_if_dead(child, said.append, final=False) for _ in range(13)]

    assert codes == [None] * 13 and child.process is started[0]
    assert sum(os.strerror(number) in each for each in said) == 12
