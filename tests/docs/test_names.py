"""What exists is documented: commands, settings, errors, public names; and the reference is current."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import mainspring
from mainspring.app.cli import cli
from mainspring.app.config import Settings
from mainspring.core import errors

ROOT = Path(__file__).parents[2]
DOCS = "\n".join(page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def test_the_reference_is_current() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "build.py"), "--check"], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_setting_error_and_public_name_is_documented() -> None:
    classes = [name for name, value in vars(errors).items() if isinstance(value, type)]
    public = [name for name in mainspring.__all__ if not name.startswith("_")]
    names = [*cli.commands, *(field.name for field in fields(Settings)), *classes, *public]

    missing = [name for name in names if not re.search(rf"\b{re.escape(name)}\b", DOCS)]

    assert not missing


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert not broken
