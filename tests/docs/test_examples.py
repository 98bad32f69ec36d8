"""Every code block and every command of README and docs, run in a temporary folder in the order of its page.

A ```python block whose first line is a comment with a file's name is written as that file; others are executed. In a
```console block the lines after "$ " are run; `mainspring up` runs until the page ends; `make` targets must exist.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")


@dataclass(frozen=True)
class Block:
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(page.read_text(encoding="utf-8"))]


def test_every_block_says_how_it_is_run() -> None:
    for page in PAGES:
        unknown = {block.language for block in blocks(page)} - {"python", "console", "text", "pycon", "json", "toml"}
        assert not unknown, f"{page.name}: {unknown}"


RUN = [page for page in PAGES if any(block.language in ("python", "console") for block in blocks(page))]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    with Reader(tmp_path) as reader:
        for block in blocks(page):
            reader.follow(block)
    assert reader.followed


class Reader:
    """A person who types a page's blocks into a fresh folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        (folder / "examples").symlink_to(ROOT / "examples")
        self.followed = 0
        self.service: subprocess.Popen[bytes] | None = None
        bin_folder = Path(sys.executable).parent
        self.environment = {
            **os.environ,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(folder)]),
            "COLUMNS": "140",
            "MAINSPRING_PORT": str(self.port),
            "MAINSPRING_CONTROL_PORT": str(_free_port()),
        }

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        if self.service is not None:
            self.service.terminate()
            self.service.wait(30)

    def follow(self, block: Block) -> None:
        text = block.text.replace("127.0.0.1:8700", f"127.0.0.1:{self.port}")
        if block.language == "python":
            self._python(text)
        elif block.language == "console":
            for command in _commands(text):
                self._command(command)

    def _python(self, text: str) -> None:
        named = FILE.match(text)
        if named:
            path = self.folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            self.followed += 1
            return
        self._run([sys.executable, "-W", "ignore", "-c", text], text)

    def _command(self, command: str) -> None:
        words = shlex.split(command, comments=True)
        if words[0] == "make":
            targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(words[1:]) <= set(targets), command
        elif words[:2] == ["mainspring", "up"] and "--once" not in words:
            self._start(words)
        elif words[0] in ("git", "cd", "pip"):
            pass  # getting the checkout: whoever runs this test has it
        else:
            self._run(["bash", "-euo", "pipefail", "-c", command], command)
        self.followed += 1

    def _run(self, arguments: list[str], text: str) -> None:
        done = subprocess.run(
            arguments, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode in (0, 3), (
            f"{text}\n--- exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        self.followed += 1

    def _start(self, words: list[str]) -> None:
        assert self.service is None, "one service a page"
        self.service = subprocess.Popen(words, cwd=self.folder, env=self.environment)
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            assert self.service.poll() is None, f"{' '.join(words)} ended with {self.service.returncode}"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError(f"{' '.join(words)} was not ready within 180 s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _commands(text: str) -> Iterator[str]:
    """The lines after "$ ", with those that a backslash continues."""
    command = ""
    for line in text.splitlines():
        if command or line.startswith("$ "):
            command += line.removeprefix("$ ") if not command else line
            if command.endswith("\\"):
                command = command[:-1]
                continue
            yield command
            command = ""
