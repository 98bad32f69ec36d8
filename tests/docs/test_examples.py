"""Every code block and every command of README and docs, run in a temporary folder in the order of its page.

A ```python or ```toml block whose first line is a comment with a file's name is written as that file; other Python is
run. In a ```console block the lines after "$ " are run; what stands below one must be in what it prints. A command ends
with exit code 0, unless its comment says "exit 3" or another code. `mainspring up` runs until the page ends; `make`
targets must exist. A `mainspring ...` in a sentence must be one that the command line takes.

On the tutorial's page the first call of each command and the first Python block start from nothing, and so does what
needs a shell. The others are processes of their own too, but forked from one that has loaded the big libraries: that
saves two thirds of the time. In the soak all start from nothing.
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

import click
import pytest

from mainspring.app.cli import cli
from tests.execution.warm import Warm

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PROSE = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
INLINE = re.compile(r"`mainspring ([^`]+)`")
EXIT = re.compile(r"#.*\bexit (\d)\b")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = "|&;<>()$`*?{}~"
FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")


@dataclass(frozen=True)
class Block:
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(page.read_text(encoding="utf-8"))]


def test_every_command_in_a_sentence_is_one_that_the_command_line_takes() -> None:
    found = {
        (page.name, command) for page in PROSE for command in INLINE.findall(BLOCK.sub("", page.read_text("utf-8")))
    }
    wrong = {f"{page}: mainspring {command}: {fault}" for page, command in found if (fault := refused(command))}

    assert len(found) > 15 and not wrong


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("run FILE --form train", "No such option"),
        ("fly FILE", "No such command 'fly'"),
        ("status EXTRA", "unexpected extra argument"),
        ("up loop.py --clock sundial", "'sundial' is not one of"),
        ("rollback wine", ""),
        ("why", ""),
        ("--home DIR run FILE --set trees=200 ...", ""),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command: str, fault: str) -> None:
    assert (fault in refused(command)) if fault else not refused(command)


def refused(command: str) -> str:
    """What the command line has against *command*; that a sentence leaves arguments out is all right."""
    words = [word for word in shlex.split(command) if word not in ("...", "…")]
    context = click.Context(cli, allow_interspersed_args=False)
    try:
        _, rest, _ = cli.make_parser(context).parse_args(words)
        name, verb, arguments = cli.resolve_command(context, rest) if rest else (None, None, [])
        if verb is not None:
            verb.make_context(name, list(arguments))
    except (click.exceptions.Exit, click.MissingParameter):
        return ""
    except click.UsageError as error:
        return error.format_message()
    return ""


def test_a_newcomers_source_metric_and_drift_test_fit_on_half_a_screen() -> None:
    examples = [block.text for block in blocks(ROOT / "CONTRIBUTING.md") if "check_" in block.text]

    assert len(examples) == 3 and max(len(text.splitlines()) for text in examples) < 25


def test_every_block_says_how_it_is_run() -> None:
    for page in PAGES:
        unknown = {block.language for block in blocks(page)} - {"python", "console", "text", "pycon", "json", "toml"}
        assert not unknown, f"{page.name}: {unknown}"


RUN = [page for page in PAGES if any(block.language in ("python", "console") for block in blocks(page))]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, loaded: Warm) -> None:
    assert_followed(page, Reader(tmp_path, loaded, first_from_nothing=page.name == "tutorial.md"))


@pytest.mark.soak
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_a_page_does_what_it_says_with_all_its_commands_started_from_nothing(page: Path, tmp_path: Path) -> None:
    assert_followed(page, Reader(tmp_path))


def assert_followed(page: Path, reader: Reader) -> None:
    with reader:
        for block in blocks(page):
            reader.follow(block)
    assert reader.followed


class Reader:
    """A person who types a page's blocks into a fresh folder. warm: what forks the commands, None: they start from
    nothing, as the first call of each may do."""

    def __init__(self, folder: Path, warm: Warm | None = None, *, first_from_nothing: bool = False) -> None:
        self.folder, self.warm, self.first_from_nothing = folder, warm, first_from_nothing
        self.met: set[str] = set()
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
            "SEED_ROWS": "5000",
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
        if block.language == "python" or (block.language == "toml" and FILE.match(text)):
            self._python(text)
        elif block.language == "console":
            for command, shown in _commands(text):
                self._command(command, shown)

    def _python(self, text: str) -> None:
        named = FILE.match(text)
        if named:
            path = self.folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            self.followed += 1
            return
        self._run([sys.executable, "-W", "ignore", "-c", text], text, forked=["-c", text])

    def _command(self, command: str, shown: list[str]) -> None:
        words = shlex.split(command, comments=True)
        if words[0] == "make":
            targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(words[1:]) <= set(targets), command
        elif words[:2] == ["mainspring", "up"] and "--once" not in words:
            self._start(words)
        elif words[0] in ("git", "cd", "pip"):
            pass  # getting the checkout: whoever runs this test has it
        else:
            code = int(found[1]) if (found := EXIT.search(command)) else 0
            plain = words[0] == "mainspring" and not set(SHELL) & set("".join(words))
            said = self._run(["bash", "-euo", "pipefail", "-c", command], command, code, words[1:] if plain else None)
            missing = [line for line in shown if line not in said]
            assert not missing, f"{command} doesn't print {missing}, but\n{said}"
        self.followed += 1

    def _run(self, arguments: list[str], text: str, code: int = 0, forked: list[str] | None = None) -> list[str]:
        """What is printed. forked: the same for the warm process, where it can be asked."""
        name = "" if forked is None else forked[0]
        if self.warm is not None and forked is not None and (name in self.met or not self.first_from_nothing):
            environment = {**self.environment, "MAINSPRING_EXECUTOR": "here"}  # a worker would load everything anew
            answer = self.warm.run(self.folder, *forked, timeout=240, environment=environment)
            ended, out, err = answer.code, answer.out, answer.err
        else:
            self.met.add(name)
            done = subprocess.run(
                arguments, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=240,
                check=False,
            )  # fmt: skip
            ended, out, err = done.returncode, done.stdout, done.stderr
        assert ended == code, f"{text}\n--- exit {ended}\n{out[-3000:]}\n{err[-3000:]}"
        self.followed += 1
        return out.splitlines()

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


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The lines after "$ ", with those that a backslash continues, and the lines of output below each."""
    for part in re.split(r"^\$ ", text.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
        command, *shown = part.rstrip("\n").split("\n")
        yield command, shown
