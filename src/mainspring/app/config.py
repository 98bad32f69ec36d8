"""Settings: `mainspring.toml` (or `[tool.mainspring]`), of which the table of the environment that MAINSPRING_ENV names
comes after the rest, then MAINSPRING_* variables, then flags. Read once, here."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mainspring.core.errors import NotInStore, SettingsError, UsageError
from mainspring.store.home import FOLDER, Home, find
from mainspring.store.ledger import Durability


@dataclass(frozen=True, slots=True)
class Settings:
    """What an installation is told about its surroundings.

    home: the state's folder. mlflow: a tracking server's URI (None: SQLite in the home). host, port: the data plane;
    control_port: the API. max_rows: of one request. workers: processes that serve the data plane. executor: where steps
    run (None: worker processes for the commands, the caller's own process for `run()` in Python). durability: what a
    finished step survives: "durable" a loss of power, "fast" the death of the process. token: of the endpoint, a
    reference, "env:NAME" or "file:PATH"; cert, key: PEM files of its TLS; tls: "own", or "proxy" where a proxy in front
    of it encrypts.
    """

    home: Path
    mlflow: str | None = None
    host: str = "127.0.0.1"
    port: int = 8700
    control_port: int = 8701
    max_rows: int = 100_000
    workers: int = 1
    executor: str | None = None
    durability: Durability = "durable"
    token: str | None = None
    cert: str | None = None
    key: str | None = None
    tls: str = "own"


ENVIRONMENT = "MAINSPRING_ENV"
_NO_SETTINGS = ("MAINSPRING_HOME", ENVIRONMENT)
_RANGES = {"port": (0, 65_535), "control_port": (0, 65_535), "max_rows": (1, 10_000_000), "workers": (1, 64)}


def read(folder: Path | None = None, *, environment: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """The settings for work in *folder*; *flags* that are None are not given.

    >>> read(Path("/tmp"), environment={}, port=9000).port
    9000
    """
    folder = (folder or Path.cwd()).resolve()
    environment = os.environ if environment is None else environment
    given = {name: value for name, value in flags.items() if value is not None}
    found = find(folder)
    named = given.pop("home", None) or environment.get("MAINSPRING_HOME")
    home = (folder / Path(named).expanduser()).resolve() if named else found
    settings = Settings(home)
    for origin, values in _layers(home.parent if home.name == FOLDER else found.parent, environment):
        settings = _apply(settings, values, origin)
    return _apply(settings, given, "the command line")


def existing(home: str | None) -> Home:
    """The home that is there already: who only reads makes none."""
    path = read(home=home).home
    if path.exists() and not path.is_dir():
        raise UsageError(f"home {path} is a file; name a folder")
    if not path.is_dir():
        raise NotInStore(f"nothing has been run here yet: {path} doesn't exist; `mainspring run FILE` makes it")
    return Home.open(path)


def _layers(project: Path, environment: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    layers = _in_environment(_files(project), environment.get(ENVIRONMENT))
    named = {
        name.removeprefix("MAINSPRING_").lower(): value
        for name, value in environment.items()
        if name.startswith("MAINSPRING_") and name not in _NO_SETTINGS
    }
    if uri := environment.get("MLFLOW_TRACKING_URI"):
        named.setdefault("mlflow", uri)
    return [*layers, ("environment", named)]


def _in_environment(files: list[tuple[Path, dict[str, Any]]], chosen: str | None) -> list[tuple[str, dict[str, Any]]]:
    """What the files say for everywhere, and after it what they say for the environment *chosen*; every table is
    checked, so that a slip in one for production is told at home."""
    general, special, known = [], [], set()
    for path, values in files:
        tables = values.get("env", {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise SettingsError(f"{path}: env must have a table for each environment, such as [env.prod]")
        for name, table in tables.items():
            _changes(table, f"{path} [env.{name}]")
        general.append((str(path), {name: value for name, value in values.items() if name != "env"}))
        special += [(f"{path} [env.{chosen}]", tables[chosen])] if chosen in tables else []
        known |= set(tables)
    if chosen and chosen not in known:
        near = get_close_matches(chosen, known, n=1)
        mend = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known)) or 'none'}"
        raise SettingsError(f"environment {chosen!r} has no table in mainspring.toml or pyproject.toml; {mend}")
    return [*general, *special]


def _files(project: Path) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for name, table in (("pyproject.toml", ("tool", "mainspring")), ("mainspring.toml", ())):
        path = project / name
        if not path.is_file():
            continue
        try:
            values: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path} is not TOML: {error}") from error
        for part in table:
            values = values.get(part, {})
            if not isinstance(values, dict):
                raise SettingsError(f"{path}: {part} = {values!r} must be a table, such as [tool.mainspring]")
        found.append((path, values))
    return found


def _apply(settings: Settings, values: Mapping[str, Any], origin: str) -> Settings:
    return replace(settings, **_changes(values, origin))


def _changes(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """*values*, each parsed as its setting asks."""
    known = {field.name: field.type for field in fields(Settings)}
    changes = {}
    for name, value in values.items():
        if name == "home":
            raise SettingsError(
                f"{origin}: home can't be set here, it is beside this file; --home or MAINSPRING_HOME name another"
            )
        if name not in known:
            near = get_close_matches(name, [*known, "env"], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"
            raise SettingsError(f"{origin}: setting {name!r} is unknown{hint}")
        changes[name] = _parse(name, value, str(known[name]), origin)
    return changes


def _parse(name: str, value: Any, type_name: str, origin: str) -> Any:
    if name == "durability" and value not in ("durable", "fast"):
        raise SettingsError(f"{origin}: durability = {value!r} must be durable or fast")
    if name == "tls" and value not in ("own", "proxy"):
        raise SettingsError(f"{origin}: tls = {value!r} must be own or proxy")
    if type_name != "int":
        if isinstance(value, str) and value:
            return value
        raise SettingsError(f"{origin}: {name} = {value!r} must be text")
    low, high = _RANGES[name]
    if isinstance(value, int | str) and str(value).isdecimal() and low <= int(value) <= high:
        return int(value)
    raise SettingsError(f"{origin}: {name} = {value!r} must be a whole number from {low} to {high}")
