"""Unpacked files stay as long as they are needed, and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mainspring.store.unpacked import unpacked

KILLED = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from mainspring.store.unpacked import unpacked
class Owner: pass
owner = Owner()
print(unpacked({"a": b""}, owner), flush=True)
os.kill(os.getpid(), 9)
"""


class Owner:
    """Whoever needs the files."""


def test_files_live_with_their_owner_and_those_of_the_killed_are_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    owner, next_owner = Owner(), Owner()
    folder = unpacked({"code/net.py": b"x"}, owner)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert killed.returncode == -signal.SIGKILL and left.exists()

    for old in folder, left:
        os.utime(old, (0, 0))
    unpacked({}, next_owner)

    assert (folder / "code" / "net.py").read_bytes() == b"x" and not left.exists()
    del owner
    assert not folder.exists()


def test_a_fork_that_ends_leaves_them(tmp_path: Path) -> None:
    fork = "sys.exit() if os.fork() == 0 else os.wait(); print(os.listdir(sys.argv[1]))"
    forking = KILLED.replace("os.kill(os.getpid(), 9)", fork)

    said = subprocess.run([sys.executable, "-c", forking, str(tmp_path)], capture_output=True, text=True)

    folder, left = said.stdout.splitlines()
    assert Path(folder).name in left
