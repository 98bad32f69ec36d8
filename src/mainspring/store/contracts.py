"""Which file is the contract of a loop's rows: a person's beside FILE or the home, else the home's own. Only places."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mainspring.store.deployments import DECLARED, Deployments
from mainspring.store.home import Home


def contract_path(home: Home, loop: str) -> Path:
    """The file that is the loop's contract now, a person's or the home's; it needn't be there yet."""
    own = own_path(home, loop)
    return own if own.is_file() else kept_path(home, loop)


def own_path(home: Home, loop: str) -> Path:
    """Where a person's file is looked for, and written when asked for."""
    told: Any = Deployments(home).load_state(loop, DECLARED) or {}
    folders = [Path(folder) for folder in (told.get("folder"),) if folder] + [home.path.absolute().parent]
    files = [folder / f"{loop}.schema.toml" for folder in folders]
    return next((file for file in files if file.is_file()), files[0])


def kept_path(home: Home, loop: str) -> Path:
    """The home's file: what has been seen, and the contract where no person's file is."""
    return home.folder("tables") / loop / "schema.toml"


def said_by_people(home: Home, loop: str) -> list[str]:
    """The contract as it is written now, and the names of the repairs' commits."""
    try:
        text = contract_path(home, loop).read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        text = ""
    log = home.folder("tables") / loop / "repairs" / "_delta_log"
    return [text, *(sorted(os.listdir(log)) if log.is_dir() else [])]
