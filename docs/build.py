"""Write docs/reference.md from the docstrings, the commands' help, the settings and the error tree.

`make docs` runs it; with --check it only says whether the file is current.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import click

import mainspring
from mainspring.app.cli import cli
from mainspring.app.config import Settings
from mainspring.app.running import Run
from mainspring.core import errors

TARGET = Path(__file__).parent / "reference.md"


def reference() -> str:
    """The whole page."""
    parts = ["# Reference", "Written by `make docs` from the docstrings; don't edit.", "## Python"]
    parts += [_public(name) for name in sorted(mainspring.__all__) if not name.startswith("_")]
    names = ", ".join(f"`{field.name}`" for field in fields(Run))
    parts += [f"### `Run`\n\n{inspect.cleandoc(Run.__doc__ or '')} Its fields: {names}."]
    parts += ["## Commands", _commands(), "## Settings", _settings(), "## Errors", _errors()]
    return "\n\n".join(parts) + "\n"


def _public(name: str) -> str:
    thing = getattr(mainspring, name)
    signature = _signature(name, thing)
    text = f"### `{name}`\n\n```text\n{signature}\n```\n\n{_fenced(inspect.cleandoc(thing.__doc__ or ''))}"
    return "\n\n".join([text, *_methods(name, thing)])


def _methods(name: str, thing: Any) -> list[str]:
    """What a Loop or a Pipeline can do, and the value that its runs give."""
    if name not in ("Loop", "Pipeline"):
        return []
    found = []
    for method, function in vars(thing).items():
        if method in ("run", "plan", "predict"):
            arguments = ", ".join(
                _argument(each) for each in inspect.signature(function).parameters.values() if each.name != "self"
            )
            found.append(f"- `{name}.{method}({arguments})`: {inspect.cleandoc(function.__doc__ or '')}")
    return ["\n".join(found)]


def _signature(name: str, thing: Any) -> str:
    if isinstance(thing, type) and issubclass(thing, Exception):
        return name
    if is_dataclass(thing):
        arguments = [f"{field.name}={_default(field)}" for field in fields(thing)]
    else:
        arguments = [_argument(parameter) for parameter in inspect.signature(thing).parameters.values()]
        arguments = [argument for argument in arguments if argument not in ("**unknown", "**later")]
    line = f"{name}({', '.join(arguments)})"
    return line if len(line) <= 110 else f"{name}(\n    " + ",\n    ".join(arguments) + ",\n)"


def _argument(parameter: inspect.Parameter) -> str:
    prefix = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
    return f"{prefix}{parameter.name}{default}"


def _default(field: Any) -> str:
    if field.default is not MISSING:
        return repr(field.default)
    return "..." if field.default_factory is MISSING else repr(field.default_factory())


def _fenced(text: str) -> str:
    """Doctest lines of *text* as a code block."""
    out: list[str] = []
    inside = False
    for line in text.splitlines():
        starts = line.startswith(">>>")
        if starts and not inside:
            out += ["```pycon", line]
            inside = True
        elif inside and not line.strip():
            out += ["```", line]
            inside = False
        else:
            out.append(line)
    return "\n".join([*out, "```"] if inside else out)


def _commands() -> str:
    root = click.Context(cli, info_name="mainspring", max_content_width=100)
    parts = []
    for name, command in cli.commands.items():
        context = click.Context(command, info_name=name, parent=root, max_content_width=100)
        parts.append(f"### `mainspring {name}`\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(parts)


def _settings() -> str:
    rows = ["| setting | environment | default |", "| --- | --- | --- |"]
    for field in fields(Settings):
        default = "`.mainspring` here or above" if field.default is MISSING else f"`{field.default!r}`"
        rows.append(f"| `{field.name}` | `MAINSPRING_{field.name.upper()}` | {default} |")
    text = inspect.cleandoc(Settings.__doc__ or "")
    return (
        "In `mainspring.toml`, or `[tool.mainspring]` of `pyproject.toml`; then the table `[env.NAME]` "
        "(`[tool.mainspring.env.NAME]`) of the environment that `--env NAME` or `MAINSPRING_ENV` names; variables and "
        "flags come after."
        f"\n\n{text}\n\n" + "\n".join(rows)
    )


def _errors() -> str:
    return f"```text\n{inspect.cleandoc(errors.__doc__ or '')}\n```"


if __name__ == "__main__":
    text = reference()
    if "--check" in sys.argv:
        current = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text
        print("docs/reference.md is current" if current else "docs/reference.md is old: run `make docs`")
        sys.exit(not current)
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET}")
